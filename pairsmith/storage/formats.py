"""Format numbers of stored files, so that what a newer pairsmith wrote is refused, never misread.

A number goes up when older code would misread what newer code writes. A file without one has format 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pairsmith.about import __version__
from pairsmith.errors import DataError
from pairsmith.storage.store import Store

WORKSPACE_FORMAT = 1  # of a data set's folder
OBJECTS_FORMAT = 2  # of a data set on object storage, whose versions are commits, which pairsmith up to 0.2.0 overlooks
VERSION_FORMAT = 1  # of a version's folder
FILE = "format.json"


def refuse_newer(place: str, found: object, known: int) -> None:
    """Raise DataError where the format number found is above the one that this code knows."""
    if isinstance(found, int) and found > known:
        newer = f"{place} is of format {found}, made by a newer pairsmith"
        raise DataError(f"{newer}; this is {__version__}: upgrade pairsmith")


def check_version(place: str, about: Mapping[str, Any]) -> None:
    """Raise DataError where a version.json is of a newer format."""
    refuse_newer(place, about.get("format"), VERSION_FORMAT)


def check_version_folder(folder: Path) -> None:
    """The same for a version's folder. Where version.json is absent or damaged there is no format to check."""
    about = Store(str(folder)).known_json("version.json")
    if isinstance(about, dict):
        check_version(str(folder), about)


def check_workspace(store: Store) -> None:
    """Raise DataError where the folder of a data set is of a newer format."""
    refuse_newer(store.root, _workspace_format(store), _format_of(store))


def mark_workspace(store: Store) -> None:
    """Check the format of a data set's folder, and write it where none or an older one stands, or it is damaged."""
    check_workspace(store)
    if _workspace_format(store) != _format_of(store):
        store.write_json(FILE, {"format": _format_of(store)})


def _format_of(store: Store) -> int:
    """The format in which this pairsmith writes the folder of a data set."""
    return WORKSPACE_FORMAT if store.files.local_path("") else OBJECTS_FORMAT


def _workspace_format(store: Store) -> object:
    """The number in a data set's folder; None where there is none, or the file is damaged."""
    about = store.known_json(FILE)
    return about.get("format") if isinstance(about, dict) else None
