"""Versions by what people type: a name within a data set, or an address, on a disk and on object storage alike."""

from __future__ import annotations

import os
import re

from pairsmith.errors import DataError
from pairsmith.storage.formats import check_workspace
from pairsmith.storage.previews import PREVIEW, preview_of
from pairsmith.storage.store import Store
from pairsmith.storage.versions import LATEST, Version, history, version_at, version_names


def store_at(folder: str) -> Store:
    """The store of a data set's folder; raises DataError where it holds no version."""
    store = Store(folder)
    check_workspace(store)
    if not version_names(store):
        if preview_of(store):
            raise DataError(f"{folder}: no version yet, only a preview, in {store.url(PREVIEW)}")
        raise DataError(f"{folder}: no version of a dataset there; name the folder that has `versions` in it")
    return store


def named_version(store: Store, name: str) -> Version:
    """A version by its name, or that of `latest`; raises DataError where there is none, or it cannot be read."""
    all_versions = history(store)
    found = all_versions.latest if name == LATEST else name
    if found is None:
        raise DataError(f"{store.url('').rstrip('/')}: nothing was released yet; name a version")
    if found not in all_versions.names:
        gone = " any more: it was pruned" if found in all_versions.pruned else ""
        raise DataError(f"{store.root}: no version {found}{gone}; there are {', '.join(all_versions.names)}")
    version = version_at(store, found)
    if version is None:
        raise DataError(f"{store.url(f'versions/{found}')}: its version.json cannot be read")
    return version


def addressed(place: str) -> tuple[Store, Version]:
    """The version at an address: a version's, the preview's, that of `latest`, or a data set's: its `latest`."""
    place = place.rstrip("/") if "://" in place else os.path.abspath(place)
    root, _, name = place.rpartition("/")
    if re.fullmatch(r"v\d+", name) and root.endswith("/versions"):
        root = root.removesuffix("/versions")
    elif name == PREVIEW and (preview := preview_of(Store(root))):
        return Store(root), preview
    elif name != LATEST:
        root, name = place, LATEST
    store = store_at(root)
    return store, named_version(store, name)
