"""Which code a recipe may name that came to a deployment: that of the modules which the operator listed, and no other.

Anyone who can log in to a server can fill in its form, so a deployment's recipe is held against the list before
anything that it names is imported. What a prefect.yaml says reaches a run in the same way and nothing tells the two
apart, so it is held against the list too. A run from the command line is its user's own and is not.
"""

from __future__ import annotations

import os
from pathlib import Path

from prefect.runtime import deployment

from pairsmith.config import Recipe
from pairsmith.config.plugins import Reference, references
from pairsmith.errors import ConfigError

VARIABLE = "PAIRSMITH_ALLOW_CODE"  # which the worker and its runs inherit from `pairsmith serve`


def check_code(recipe: Recipe) -> None:
    """Raise ConfigError where this run belongs to a deployment, and its recipe names code that is not listed."""
    if deployment.id is None:
        return
    listed = [entry for entry in os.environ.get(VARIABLE, "").split(",") if entry]
    for field, reference in references(recipe):
        if not is_listed(reference, listed):
            missing = reference.file or reference.module
            raise ConfigError(
                f"{field}: {reference} is code of {missing}, which this service does not allow; its operator can, with "
                f"`pairsmith serve --allow-code {missing}`, or for a worker of one's own with {VARIABLE}"
            )


def is_listed(reference: Reference, listed: list[str]) -> bool:
    """Whether a list names the module of a reference: by its name where it is on Python's path, by its file or a folder
    above it where it stands in the recipe's folder, which the recipe itself can choose."""
    if reference.file is None:
        return reference.module in listed
    file = Path(reference.file)
    if file != file.resolve():  # what stands beside a link is not what stands beside the file
        return False
    return any(Path(entry).is_absolute() and file.is_relative_to(entry) for entry in listed)


def absolute(entries: str) -> str:
    """A list as an operator writes it, with its files and folders as they are seen from anywhere."""
    found = [entry.strip() for entry in entries.split(",") if entry.strip()]
    return ",".join(str(Path(entry).resolve()) if is_path(entry) else entry for entry in found)


def is_path(entry: str) -> bool:
    return os.sep in entry or entry.endswith(".py")
