"""A data set in a folder on a disk: files are written to a scratch folder, synced, and renamed into place.

So a reader sees the old file or the new one, never a part of it, and what is there survives a power cut.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG
from typing import IO, cast

from pairsmith.errors import ConfigError
from pairsmith.storage.disk import file_digest, naming, replace_file, sync_folder
from pairsmith.storage.files import FileState
from pairsmith.storage.local_swaps import compare_and_swap, put_if_absent
from pairsmith.storage.locks import hold_folder
from pairsmith.storage.reads import RetriedFile, make_folder, retried, writing_in

SCRATCH = ".scratch"  # unfinished files; what a crash left is deleted when the folder is locked


class LocalFiles:
    """The files below a folder. See `files.Files`."""

    def __init__(self, root: str) -> None:
        self.root = root

    def path(self, name: str) -> str:
        return f"{self.root}/{name}"

    url = path

    def link(self, name: str) -> str:
        return Path(self.path(name)).absolute().as_uri()

    def local_path(self, name: str) -> Path:
        return Path(self.path(name))

    def exists(self, name: str) -> bool:
        return self._stat(name) is not None

    def names_in(self, folder: str) -> list[str]:
        path = self.path(folder)
        try:
            return sorted(retried(path, lambda: os.listdir(path)))
        except FileNotFoundError:
            return []

    def tree(self, folder: str) -> dict[str, int]:
        root = self.local_path(folder)
        return {path.relative_to(root).as_posix(): path.stat().st_size for path in root.rglob("*") if path.is_file()}

    def listing(self, folder: str) -> dict[str, str]:
        paths = {name: f"{folder}/{name}".lstrip("/") for name in self.names_in(folder) if not name.startswith(".")}
        found = {name: self._stat(path) for name, path in paths.items()}
        return {name: self.digest(paths[name]) for name, about in found.items() if about and S_ISREG(about.st_mode)}

    def read(self, name: str) -> bytes:
        path = self.local_path(name)
        return retried(str(path), path.read_bytes)

    def read_with_etag(self, name: str) -> tuple[bytes, str]:
        content = self.read(name)
        return content, hashlib.sha256(content).hexdigest()

    def open(self, name: str) -> IO[bytes]:
        path = self.path(name)
        return cast("IO[bytes]", RetriedFile(path, lambda: open(path, "rb")))

    def digest(self, name: str) -> str:
        path = self.local_path(name)
        try:
            return retried(str(path), lambda: file_digest(path))
        except FileNotFoundError:
            return hashlib.sha256(b"").hexdigest()

    def state(self, name: str) -> FileState | None:
        found = self._stat(name)
        return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns) if found else None

    def write(self, name: str, content: bytes) -> None:
        target = self.local_path(name)
        with naming(target):
            make_folder(target.parent)
            replace_file(target, content, self._scratch())

    def put_if_absent(self, name: str, content: bytes) -> bool:
        return put_if_absent(Path(self.root), self.local_path(name), content)

    def compare_and_swap(self, name: str, content: bytes, etag: str | None) -> bool:
        if etag is None:
            return self.put_if_absent(name, content)
        return compare_and_swap(Path(self.root), self.local_path(name), content, etag)

    def keeps_conditions(self) -> bool:
        return True

    def remove(self, name: str) -> None:
        self.local_path(name).unlink()

    def remove_folder(self, name: str) -> None:
        with self.scratch_folder() as scratch:
            os.replace(self.path(name), scratch / "removed")
            sync_folder(self.local_path(name).parent)

    @contextmanager
    def scratch_folder(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self._scratch()) as folder:
            yield Path(folder)

    def install(self, folder: Path, name: str) -> None:
        target = self.local_path(name)
        with naming(target):
            # A file with another name belongs to an older version too, and was synced with that.
            for path in [file for file in folder.rglob("*") if file.is_file() and file.stat().st_nlink == 1]:
                with open(path, "rb+") as file:  # Windows syncs only files opened for writing
                    os.fsync(file.fileno())
            make_folder(target.parent)
            os.replace(folder, target)
            sync_folder(target.parent)

    def fetch(self, name: str, path: Path) -> None:
        shutil.copyfile(self.path(name), path)

    def point(self, pointer: str, name: str, seen: str | None) -> bool:
        with naming(self.local_path(pointer)):
            link = self.local_path(f".{pointer}")  # not in the scratch folder, which runs clear
            link.unlink(missing_ok=True)
            link.symlink_to(name)
            os.replace(link, self.path(pointer))
            sync_folder(Path(self.root))
        return True

    def points_to(self, pointer: str) -> str | None:
        path = self.path(pointer)
        if self._stat(pointer) is None or not os.path.islink(path):
            return None
        return retried(path, lambda: os.readlink(path))

    def url_through(self, pointer: str, name: str) -> str:
        return self.url(pointer)

    @contextmanager
    def lock(self, busy: str, wait: float | None = None) -> Iterator[None]:
        root = Path(self.root)
        writing_in(root, lambda: root.mkdir(parents=True, exist_ok=True))
        for folder in retried(self.root, lambda: [root, *root.glob("*"), *root.glob("tables/*")]):
            if folder.is_symlink() and folder.name not in ("latest", ".latest"):
                raise ConfigError(f"workspace: {folder} is a link; only the workspace itself may be one")
        with hold_folder(root, busy, wait):
            shutil.rmtree(root / SCRATCH, ignore_errors=True)
            try:
                yield
            finally:
                shutil.rmtree(root / SCRATCH, ignore_errors=True)

    def _stat(self, name: str) -> os.stat_result | None:
        """What the system says of a file or folder; None where there is none, or a link that leads nowhere."""
        path = self.path(name)
        try:
            return retried(path, lambda: os.stat(path))
        except FileNotFoundError:
            return None

    def _scratch(self) -> Path:
        folder = self.local_path(SCRATCH)
        make_folder(folder)
        return folder
