"""File systems whose reads fail when told: one of fsspec's under a protocol of its own, and the local disk."""

from __future__ import annotations

import builtins
import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

KINDS = ("503", "timeout", "cut")


@dataclass
class Faults:
    """Counts reads of the state of a data set. The nth fails, once, or it and all that follow if `lasting`."""

    nth: int = 0
    lasting: bool = False
    count: int = 0
    failed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def kind_of_next(self) -> str | None:
        """How the read that comes now fails; None where it does not."""
        with self.lock:
            self.count += 1
            if not self.nth or not (self.count == self.nth or (self.lasting and self.count > self.nth)):
                return None
            self.failed += 1
            return KINDS[self.nth % len(KINDS)]

    def read(self, path: str, action: Callable[[], Any]) -> Any:
        kind = self.kind_of_next()
        if kind == "503":
            raise OSError(5, "An error occurred (503) when calling GetObject: Slow Down", path)
        if kind == "timeout":
            raise TimeoutError(110, "Connection timed out", path)
        done = action()
        if kind == "cut":
            if isinstance(done, bytes):
                return done[: len(done) // 2]  # without an error, as some proxies end a stream
            raise ConnectionResetError(104, "Connection reset by peer", path)
        return done


class Bucket(MemoryFileSystem):  # type: ignore[misc]
    """Object storage in the memory of this process, with the faults of `current`."""

    protocol = ("failing", "memory")
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    current = Faults()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("failing://")))

    def info(self, path: str, **words: Any) -> Any:
        return self.current.read(path, lambda: MemoryFileSystem.info(self, path, **words))

    def ls(self, path: str, detail: bool = True, **words: Any) -> Any:
        return self.current.read(path, lambda: MemoryFileSystem.ls(self, path, detail, **words))

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **words: Any) -> Any:
        return self.current.read(path, lambda: MemoryFileSystem.cat_file(self, path, start, end, **words))

    def _open(self, path: str, mode: str = "rb", **words: Any) -> Any:
        if "r" not in mode:
            return super()._open(path, mode, **words)
        content = self.current.read(path, lambda: memoryview(MemoryFileSystem.cat_file(self, path)))
        return _Opened(bytes(content), path, self.current)


class _Opened(io.BytesIO):
    def __init__(self, content: bytes, path: str, faults: Faults) -> None:
        super().__init__(content)
        self._read = lambda size: faults.read(path, lambda: io.BytesIO.read(self, size))

    def read(self, size: int | None = -1) -> bytes:
        return bytes(self._read(size))


fsspec.register_implementation("failing", Bucket, clobber=True)


class _Cut(io.FileIO):
    def readinto(self, buffer: Any) -> int:
        raise OSError(5, "Input/output error", self.name)

    def readall(self) -> bytes:
        raise OSError(5, "Input/output error", self.name)


@contextmanager
def local_reads(root: Path, faults: Faults) -> Iterator[None]:
    """Fail reads of files and folders below `root`, whoever reads them; those that a run only works with are spared."""
    real = {(owner, name): getattr(owner, name) for owner, name in _READING}

    def is_state(path: Any) -> bool:
        text = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
        inside = str(text).removeprefix(f"{root}/")
        return inside != text and not any(part.startswith(".") for part in str(inside).split("/"))

    def watch(owner: Any, name: str) -> None:
        def watched(path: Any, *words: Any, **more: Any) -> Any:
            mode = words[0] if words else more.get("mode", "r")
            action = partial(real[owner, name], path, *words, **more)
            if not is_state(path) or (name == "open" and ("r" not in mode or "+" in mode)):
                return action()
            if name == "open" and faults.nth % len(KINDS) == KINDS.index("cut"):
                return io.BufferedReader(_Cut(path)) if faults.kind_of_next() else action()
            return faults.read(os.fspath(path), action)

        setattr(owner, name, watched)

    for owner, name in _READING:
        watch(owner, name)
    try:
        yield
    finally:
        for (owner, name), function in real.items():
            setattr(owner, name, function)


_READING: tuple[tuple[Any, str], ...] = (
    (builtins, "open"),
    (io, "open"),
    (os, "stat"),
    (os, "listdir"),
    (os, "readlink"),
    (os, "scandir"),
)
