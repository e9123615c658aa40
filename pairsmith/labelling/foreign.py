"""A label in another tool's file, and how what is wrong with such a file is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from pairsmith.errors import DataError
from pairsmith.worth.gold import VERDICTS, Better


@dataclass(frozen=True)
class ForeignLabel:
    """What a person said elsewhere of a pair. `at`: when; None where the tool does not say."""

    key: str
    who: str
    better: Better
    note: str = ""
    at: str | None = None
    drawn: str = "imported"


def verdict(value: Any, where: str) -> Better:
    """A verdict by its name. Raises DataError, with the place, for another value."""
    if value not in VERDICTS:
        raise DataError(f"{where}: {value!r:.60} is no verdict; one of {', '.join(VERDICTS)} is")
    return cast(Better, value)


def listed(value: Any, what: str) -> list[Any]:
    """A file's content as the list that it is. Raises DataError for another."""
    if not isinstance(value, list):
        raise DataError(f"it holds no list of {what}")
    return value


def part(value: Any, name: str, where: str) -> Mapping[str, Any]:
    """A mapping within a mapping; an absent one is empty. Raises DataError, with the place, for something else."""
    found = value.get(name) if isinstance(value, Mapping) else value
    if found is None and isinstance(value, Mapping):
        return {}
    if not isinstance(found, Mapping):
        raise DataError(f"{where}: {name} is no object")
    return found
