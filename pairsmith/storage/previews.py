"""The preview of a data set: what a limited run makes, in a folder beside the versions that looks like one of them.

There is one at most, and each replaces the one before. It is no version: it has no number, nobody decides about it, and
`latest` never leads to it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pairsmith.errors import DamagedFile
from pairsmith.storage.store import Store
from pairsmith.storage.versions import Version, described, version_at

log = logging.getLogger(__name__)
PREVIEW = "preview"  # the folder, and its name where versions have theirs


def replace_preview(store: Store, folder: Path, about: Mapping[str, Any]) -> Version:
    """Let a finished folder of this machine be the preview; `about`: its version.json, without `parts`.

    On a disk the old one goes before the new one comes. On object storage files are added, then version.json says which
    of them count, then the others go. So what is there is whole or not there, also after a crash.
    """
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    whole = {**about, "parts": {file: f"{PREVIEW}/{file}" for file in sorted(files)}}
    if store.files.local_path(""):
        (folder / "version.json").write_text(json.dumps(whole, indent=1), encoding="utf-8")
        remove_preview(store)
        store.install(folder, PREVIEW)
    else:
        before = store.files.tree(PREVIEW)
        store.install(folder, PREVIEW)
        store.write_json(f"{PREVIEW}/version.json", whole)
        for file in before.keys() - {*files, "version.json"}:
            store.files.remove(f"{PREVIEW}/{file}")
    return described(store.url(PREVIEW), whole)


def preview_of(store: Store) -> Version | None:
    """The preview of a data set; None where there is none. Raises DamagedFile where its version.json says nothing."""
    try:
        return described(store.url(PREVIEW), store.read_json(f"{PREVIEW}/version.json"))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        place = store.url(f"{PREVIEW}/version.json")
        raise DamagedFile(
            f"{place}: damaged: {type(error).__name__}: {error}; a run with --limit makes it anew"
        ) from None


def version_or_preview(store: Store, name: str) -> Version | None:
    """What a run published, by its name: a version, or the preview; None where it is not there."""
    return preview_of(store) if name == PREVIEW else version_at(store, name)


def remove_preview(store: Store) -> None:
    """Remove the preview, if there is one."""
    if store.files.tree(PREVIEW):
        store.files.remove_folder(PREVIEW)
