"""Which code a deployment's recipe may name: only that of modules which the operator listed.

Anyone who can log in to a server can fill in its form, so a deployment's recipe is checked against the list before
anything that it names is imported. A recipe from a prefect.yaml reaches a run in the same way and cannot be
distinguished, so it is checked too. A run from the command line belongs to its user and is not checked.
"""

from __future__ import annotations

import os
from pathlib import Path

from prefect.runtime import deployment

from pairsmith.config import Recipe
from pairsmith.config.plugins import Reference, references
from pairsmith.errors import ConfigError

VARIABLE = "PAIRSMITH_ALLOW_CODE"  # the worker and its runs inherit it from `pairsmith serve`


def check_code(recipe: Recipe) -> None:
    """Raise ConfigError where this run belongs to a deployment and its recipe names code that is not listed."""
    for field, reference in references(recipe):
        try:
            check_reference(reference)
        except ConfigError as error:
            raise ConfigError(f"{field}: {error}") from None


def check_reference(reference: Reference) -> None:
    """Raise ConfigError where this run belongs to a deployment and a reference is to code that is not listed."""
    if deployment.id is None:
        return
    listed = [entry for entry in os.environ.get(VARIABLE, "").split(",") if entry]
    if not is_listed(reference, listed):
        missing = reference.file or reference.module
        raise ConfigError(
            f"{reference} is code of {missing}, which this service does not allow; its operator can, with "
            f"`pairsmith serve --allow-code {missing}`, or for a worker of one's own with {VARIABLE}"
        )


def is_listed(reference: Reference, listed: list[str]) -> bool:
    """Whether the module of a reference is listed.

    A module on Python's path is listed by its name. One in the recipe's folder, which the recipe itself can choose, is
    listed by its file or a folder above it.
    """
    if reference.file is None:
        return reference.module in listed
    file = Path(reference.file)
    if file != file.resolve():  # a link's folder may hold other modules than the file's folder
        return False
    return any(Path(entry).is_absolute() and file.is_relative_to(entry) for entry in listed)


def absolute(entries: str) -> str:
    """An operator's list with its files and folders as absolute paths."""
    found = [entry.strip() for entry in entries.split(",") if entry.strip()]
    return ",".join(str(Path(entry).resolve()) if is_path(entry) else entry for entry in found)


def is_path(entry: str) -> bool:
    return os.sep in entry or entry.endswith(".py")
