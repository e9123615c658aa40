"""How a version comes to be there, whole or not at all, under a number that no other version has.

On a disk a version is a folder: it is built aside and renamed into place. On object storage no folder can be renamed,
so a version is a commit: its files go up under a name of their own, where nobody looks for them, and then one small
file that names them is put if absent. An upload that is cut short is thus no version, and of two publishers with the
same number one is refused and takes the next.

Files that did not change since the newest version are stored once: by a second name (a hard link) on a disk, and by
being named in both commits on object storage. Only the newest version's are shared, which is never pruned, so none goes
away before the new version is there.
"""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pairsmith.storage.disk import file_digest, link_or_copy
from pairsmith.storage.store import Store
from pairsmith.storage.versions import Version

log = logging.getLogger(__name__)
UPLOADS = "data"  # on object storage: the files of versions, in a folder for each upload
STAMP = "%Y%m%dT%H%M%S"  # with which the name of an upload's folder begins: when it began, in UTC


@dataclass
class Draft:
    """A version that is being made, in a folder on this machine. `uploaded`: file -> where it is stored already."""

    folder: Path
    uploaded: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> list[str]:
        """Its data files, which other versions may share, as against its pages."""
        return sorted(path.relative_to(self.folder).as_posix() for path in self.folder.glob("*/*"))


def commit(store: Store, draft: Draft, about: Mapping[str, Any], newest: Version | None) -> bool:
    """Make a draft the version that `about`, its version.json, describes; False where its number was just taken.

    `newest`: the version before it, whose files are shared where they are the same.
    """
    if store.files.local_path(""):
        _share(store, draft, about["files"], newest)
        _write_json(draft.folder / "version.json", about)
        store.install(draft.folder, f"versions/{about['version']}")
        return True
    parts = _named_by(store, about["files"], newest)
    parts |= _uploaded(store, draft, [file for file in _files(draft.folder) if file not in parts])
    return _put_new(
        store, f"versions/{about['version']}.json", json.dumps({**about, "parts": parts}, indent=1).encode()
    )


def _share(store: Store, draft: Draft, files: Mapping[str, str], newest: Version | None) -> None:
    """Replace files of a draft by hard links to the same ones of the newest version, where the disk has such links."""
    for file, old in _same(files, newest).items():
        source, target = store.files.local_path(old), draft.folder / file
        if source and source.is_file() and file_digest(source) == files[file]:
            link = target.with_name(f".{target.name}")
            try:
                os.link(source, link)
            except OSError as error:
                log.debug("%s: not shared with %s: %s", target, source, error)  # then the draft's own copy stays
                return
            os.replace(link, target)


def _named_by(store: Store, files: Mapping[str, str], newest: Version | None) -> dict[str, str]:
    """File -> where the newest version has the same, for those that are still there."""
    return {file: old for file, old in _same(files, newest).items() if store.exists(old)}


def _same(files: Mapping[str, str], newest: Version | None) -> dict[str, str]:
    """File -> the place of one with the same digest in the newest version."""
    known = {digest: newest.place(file) for file, digest in newest.files.items()} if newest else {}
    return {file: known[digest] for file, digest in files.items() if digest in known}


def _uploaded(store: Store, draft: Draft, files: list[str]) -> dict[str, str]:
    """Upload files of a draft, data only once -> where each is."""
    upload = new_upload()
    with store.files.scratch_folder() as scratch:
        for file in files:
            if file not in draft.uploaded:
                target = scratch / "upload" / file
                target.parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(draft.folder / file, target)
        store.install(scratch / "upload", upload)
    places = {file: f"{upload}/{file}" for file in files} | draft.uploaded
    draft.uploaded = {file: places[file] for file in draft.data if file in places}
    return {file: places[file] for file in files}


def new_upload() -> str:
    """The folder for a new upload, which no other has."""
    return f"{UPLOADS}/{datetime.now(UTC).strftime(STAMP)}-{uuid.uuid4().hex}"


def _put_new(store: Store, name: str, content: bytes) -> bool:
    """Store a file unless there is one of that name; where the storage cannot tell, as well as can be, and say so."""
    if store.files.keeps_conditions():
        return store.files.put_if_absent(name, content)
    log.warning(
        "%s: this storage does not refuse to create a file that is there already, so two publishers at once could "
        "replace each other's version: let one process at a time publish and decide",
        store.url("").rstrip("/"),
    )
    if store.exists(name):
        return False
    store.write_bytes(name, content)
    return True


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")
