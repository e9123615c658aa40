"""A hash of what a model's folder holds: weights, configuration, tokenizer, chat template.

Weights are large, so the hash of each file is kept in the user's cache, and is valid as long as the file's size, times
and inode are the same. What training leaves beside a model and what describes it for people is no part of the hash.
"""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

from pairsmith.ids import fingerprint
from pairsmith.storage.disk import file_digest

RECENT_NS = 2 * 10**9  # after a change so shortly before, another one could leave a file's times the same
_FOLDERS = (".", "additional_chat_templates")  # of a model: those that transformers reads
_NO_PART = (
    ".*", "*.md", "LICENSE*", "NOTICE*", "pairsmith-source.json", "optimizer*", "scheduler*", "rng_state*",
    "trainer_state.json", "training_args.bin",
)  # fmt: skip
_reading = threading.Lock()  # a file of many gigabytes is not hashed by several threads at once

Stamp = list[int]
Known = dict[str, tuple[Stamp, str]]  # a file's name -> its stamp and the sha256 of its bytes
_known: dict[Path, Known] = {}


def content_of(folder: Path) -> str:
    """The sha256 of the names and bytes of a model's files. Their times and the folder's own name are no part of it."""
    files = {file.relative_to(folder).as_posix(): file for file in _files(folder)}
    with _reading:
        where = folder.absolute()
        known = _known.setdefault(where, {}) or _read(where)
        fresh: Known = {}
        for name, file in files.items():
            stamp = _stamp(file)
            fresh[name] = known[name] if name in known and known[name][0] == stamp else (stamp, file_digest(file))
        digests = [[name, digest] for name, (_, digest) in sorted(fresh.items())]
        settled = {name: found for name, found in fresh.items() if max(found[0][1:3]) < time.time_ns() - RECENT_NS}
        if settled != known:
            _write(where, settled)
        _known[where] = settled
    return fingerprint(digests)


def _files(folder: Path) -> list[Path]:
    found = [file for name in _FOLDERS if (folder / name).is_dir() for file in (folder / name).iterdir()]
    return [file for file in found if file.is_file() and not any(fnmatch(file.name, one) for one in _NO_PART)]


def _stamp(file: Path) -> Stamp:
    found = file.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _file_for(folder: Path) -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return root / "pairsmith" / "folders" / f"{fingerprint(str(folder))[:24]}.json"


def _read(folder: Path) -> Known:
    try:
        found = json.loads(_file_for(folder).read_text(encoding="utf-8"))
        return {str(name): (list(map(int, stamp)), str(digest)) for name, (stamp, digest) in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):  # absent, or damaged: the files are hashed again
        return {}


def _write(folder: Path, known: Known) -> None:
    """Keep the hashes for other processes; where the cache cannot be written, each process hashes for itself."""
    file = _file_for(folder)
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        scratch = file.with_suffix(f".{os.getpid()}")
        scratch.write_text(json.dumps(known), encoding="utf-8")
        os.replace(scratch, file)
