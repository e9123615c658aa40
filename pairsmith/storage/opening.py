"""Opens a root: a folder on a disk, or object storage by its URL."""

from __future__ import annotations

import fsspec
from fsspec.implementations.local import LocalFileSystem

from pairsmith.errors import DataError
from pairsmith.storage.files import Files
from pairsmith.storage.local_files import LocalFiles
from pairsmith.storage.object_files import ObjectFiles


def datasets_in(workspace: str) -> list[str]:
    """The roots of the data sets in a workspace: a folder or an fsspec URL. Raises DataError where there is none."""
    fs, path = fsspec.core.url_to_fs(workspace)
    if not fs.isdir(path):
        raise DataError(f"{workspace}: no workspace there")
    folders = sorted(name.rstrip("/").rpartition("/")[2] for name in fs.ls(path, detail=False))
    return [f"{workspace.rstrip('/')}/{name}" for name in folders if fs.isdir(f"{path.rstrip('/')}/{name}/tables")]


def files_at(root: str) -> Files:
    """The files below a folder or an fsspec URL. Listings are never taken from a cache: other processes write too."""
    fs, path = fsspec.core.url_to_fs(root, use_listings_cache=False)
    return LocalFiles(path) if isinstance(fs, LocalFileSystem) else ObjectFiles(fs, path)
