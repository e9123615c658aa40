"""A version as a plain folder of this machine, wherever its files are."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pairsmith.errors import DataError
from pairsmith.storage.disk import file_digest
from pairsmith.storage.store import Store
from pairsmith.storage.versions import Version


def export(store: Store, version: Version, folder: Path) -> Path:
    """Copy a version to a new folder, which is there whole or not at all. Raises DataError where there is one."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: not empty; name a new folder to export to")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        made = Path(scratch, "version")
        _copy(store, version, made)
        os.replace(made, folder)
    return folder


@contextmanager
def plain_folder(store: Store, version: Version) -> Iterator[Path]:
    """The folder of a version on this machine, downloaded if it is elsewhere; callers must not change it."""
    here = store.files.local_path(f"versions/{version.name}")
    if here and here.is_dir():
        yield here
        return
    with store.files.scratch_folder() as scratch:
        yield export(store, version, scratch / version.name)


def _copy(store: Store, version: Version, folder: Path) -> None:
    """Copy all files of a version. Raises DataError where a data file is not as it was written."""
    places = version.parts or {
        file: version.place(file) for file in store.files.tree(f"versions/{version.name}") if file != "version.json"
    }
    for file, place in places.items():
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        store.files.fetch(place, target)
        if file in version.files and file_digest(target) != version.files[file]:
            raise DataError(f"{store.url(place)}: damaged: not as it was written")
    about = {name: value for name, value in version.about.items() if name != "parts"}
    (folder / "version.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
