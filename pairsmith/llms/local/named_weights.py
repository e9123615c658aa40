"""Which weights a recipe names: where to load them from, and the revision that names exactly these in keys and cards.

A hub model's branch or tag is resolved to a commit: by the hub or, where that cannot be reached, by its cache. A model
of the local store has the revision in its record. A folder is named by what its files hold: so it is the same model
wherever it lies, and another one after further training.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pairsmith.errors import ModelNotFound
from pairsmith.ids import fingerprint
from pairsmith.llms.local.folder_content import content_of
from pairsmith.llms.local.hub_models import CARRIED, RECORD, stored_at
from pairsmith.protocol import BY_CONTENT
from pairsmith.storage.hub_answers import Lack, Why, why_not

log = logging.getLogger(__name__)
LOCAL = ("transformers", "vllm", "reward", "encoder")  # backends whose weights come from the hub or a folder
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SECONDS = 20  # to wait for the hub
_ABSENT = "and it is not on this machine: name a model that is, or its folder, or go online to fetch it"
_DIGITS = 40  # of a folder's hash
_LASTING = {
    Lack.NO_ID: "it is neither a folder nor the id of a model on the hub",
    Lack.NO_REPOSITORY: "the hub has no model of this id, or it is private: look at how it is written, or set HF_TOKEN",
    Lack.NO_REVISION: "the hub has the model, but no such revision",
}


@dataclass(frozen=True)
class Located:
    """Where weights are, and what names them. `earlier`: what else named exactly these, in earlier versions."""

    path: str
    revision: str | None
    earlier: str | None = None


@dataclass
class _Commits:
    """What branches and tags were resolved to: the commit, or why there is none."""

    known: dict[tuple[str, str | None], tuple[str | None, str]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


_commits = _Commits()


def located(model: str, revision: str | None) -> Located:
    """Where `model` is, and the revision that names exactly these weights. Loads nothing.

    A hub model whose commit cannot be found keeps the revision that the recipe gives it: its replies in the ledger are
    known, and `load_revision` refuses to load it.
    """
    if is_from_hub(model, revision):
        return Located(model, commit_of(model, revision)[0] or revision)
    folder = Path(model).expanduser()
    if not folder.is_dir():
        record = stored_at(model) / RECORD
        return Located(str(record.parent), json.loads(record.read_text())["revision"])
    if revision:
        return Located(str(folder), revision)
    return Located(str(folder), f"{BY_CONTENT}{content_of(folder)[:_DIGITS]}", _by_stat(folder))


def is_from_hub(model: str, revision: str | None) -> bool:
    """Whether a model is loaded from the hub: it is no folder, and the local store does not have it."""
    if Path(model).expanduser().is_dir():
        return False
    return revision is not None or not (stored_at(model) / RECORD).exists()


def is_commit(revision: str | None) -> bool:
    return revision is not None and _COMMIT.fullmatch(revision) is not None


def load_revision(path: str, revision: str | None) -> str | None:
    """The revision to load from the hub; none for a folder. Raises ModelNotFound where it is no commit, since two calls
    could then load different weights, and where the hub is needed and cannot be reached."""
    if Path(path).is_dir():
        return None
    why = _out_of_reach(path, str(revision)) if is_commit(revision) else commit_of(path, revision)[1]
    if why or not is_commit(revision):
        hint = "; `pairsmith models` fetches it without a hub" if path in CARRIED else ""
        raise ModelNotFound(f"{path}: revision {revision or 'main'} cannot be loaded: {why}{hint}")
    return revision


def _out_of_reach(model: str, commit: str) -> str:
    """Why weights that the hub's cache lacks cannot be fetched now. Where the hub cannot be reached its library would
    find that out file by file, in a minute."""
    from huggingface_hub import HfApi, try_to_load_from_cache

    try:
        if not isinstance(try_to_load_from_cache(model, "config.json", revision=commit), str):
            HfApi().model_info(model, revision=commit, timeout=_SECONDS)
    except Exception as error:
        why = why_not(error)
        if why.lack in (Lack.OFFLINE, Lack.UNREACHED):
            return f"{_no_answer(why)}, {_ABSENT}"
    return ""  # the hub can be reached: what it lacks is told when it is loaded


def commit_of(model: str, revision: str | None, anew: bool = False) -> tuple[str | None, str]:
    """The commit that a hub model's revision leads to, or None and why. Resolved once in a process, and `anew` once in
    a run: so a branch that moves meanwhile gives a run one commit."""
    if is_commit(revision):
        return revision, ""
    with _commits.lock:
        if anew or (model, revision) not in _commits.known:
            _commits.known[model, revision] = _resolved(model, revision)
        return _commits.known[model, revision]


def _resolved(model: str, revision: str | None) -> tuple[str | None, str]:
    from huggingface_hub import HfApi

    try:
        found: Any = HfApi().model_info(model, revision=revision, timeout=_SECONDS)
        _note(model, revision or "main", str(found.sha))
        return str(found.sha), ""
    except Exception as error:
        why = why_not(error)
    if why.lack in _LASTING:
        return None, _LASTING[why.lack]
    if why.lack is Lack.STATUS and why.status < 500:
        return None, f"the hub answered {why.status}, {why.words}"
    told = f"the hub answered {why.status}" if why.lack is Lack.STATUS else _no_answer(why)
    cached = _cached(model, revision or "main")
    if cached:
        log.info("%s: %s; the cache has commit %s", model, told, cached)
    return cached, f"{told}, {_ABSENT}"


def _cached(model: str, name: str) -> str | None:
    """The commit to which a branch or tag led when it was last fetched to this machine."""
    file = _ref_file(model, name)
    found = file.read_text(encoding="utf-8").strip() if file.is_file() else None
    return found if is_commit(found) else None


def _note(model: str, name: str, commit: str) -> None:
    """Note in the hub's cache to which commit a branch or tag leads, for when the hub cannot be reached: its library
    does so only where it is asked for that name itself."""
    file = _ref_file(model, name)
    scratch = file.with_name(f"{file.name}.{os.getpid()}")
    with suppress(OSError):  # a cache that cannot be written is the library's to report
        file.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(commit, encoding="utf-8")
        os.replace(scratch, file)


def _ref_file(model: str, name: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE, f"models--{model.replace('/', '--')}", "refs", name)


def _no_answer(why: Why) -> str:
    return f"the hub cannot be reached ({why.words})"


def _by_stat(folder: Path) -> str:
    """A folder's revision as earlier versions made it, of the names, sizes and times of its files: as long as none
    of them was touched, it still names these weights."""
    files = sorted((file.name, file.stat()) for file in folder.iterdir() if file.is_file())
    return f"folder-{fingerprint([[name, stat.st_size, stat.st_mtime_ns] for name, stat in files])[:12]}"
