"""Forget: take prompts out of everything that a data set keeps, as for an erasure request or a licence withdrawn.

What a prompt has left behind is found by its id: replies in the ledger, tables, versions. A shard that holds one of
them is dropped whole, since the next run makes it again from the ledger without asking a model. Spending stays: the
money was spent.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pairsmith.errors import ConfigError, DataError, TableError
from pairsmith.ledger.ledger import Ledger
from pairsmith.ledger.pruning import place_of
from pairsmith.publishing.redaction import Row, redact, searchable
from pairsmith.sources.forgotten import Forgotten
from pairsmith.storage.decisions import deciding, now, this_user
from pairsmith.storage.fence import Fence
from pairsmith.storage.formats import check_workspace
from pairsmith.storage.previews import PREVIEW, preview_of, remove_preview
from pairsmith.storage.pruning import remove_unnamed
from pairsmith.storage.store import Store, TableRef
from pairsmith.storage.versions import version_names

UNREACHED = (
    "copies that left this place: the Hub, exports, `cp`, what others downloaded",
    "back-ups, snapshots, earlier versions of objects and write-ahead archives of disk, bucket or database",
    "replies that the ledger could not take, in files of other machines until these run again",
    "gold files, and files for other tools, made of what people labelled; journals of labels hold ids and notes",
    "files of criteria, written by `pairsmith criteria` or by hand",
    "other ledgers, files of `ledger export`, and other data sets with the same prompts",
    "the source files themselves, and what the providers of models have kept",
)


@dataclass(frozen=True)
class Choice:
    """What is to be forgotten: prompts by id, sources by name, and all in which a regular expression finds something.

    `columns`: values of columns of the prompts table, or of columns that sources keep, by column.
    """

    prompts: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    matching: str | None = None
    columns: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.prompts or self.sources or self.matching or self.columns):
            raise ConfigError("forget: name prompts, sources, columns or a pattern; nothing was chosen")
        try:
            re.compile(self.matching or "")
        except re.error as error:
            raise ConfigError(f"forget: not a regular expression: {error}") from None

    @property
    def kinds(self) -> list[str]:
        return [name for name, value in vars(self).items() if value]

    def chooses(self, row: dict[str, Any]) -> bool:
        """Whether a row of a table or of a version is chosen by what it says itself."""
        if row.get("prompt_id") in self.prompts or row.get("source") in self.sources:
            return True
        if self.columns and any(_holds(row, name, value) for name, value in self.columns.items()):
            return True
        return self.matching is not None and any(re.search(self.matching, text) for text in texts_of(row))


def _holds(row: dict[str, Any], name: str, value: str) -> bool:
    """Whether a column of a row, or one that its source keeps, has a value, as text."""
    kept = json.loads(row.get("extras") or "{}").get("kept", {})
    found = row.get(name, kept.get(name))
    return found is not None and value == (found if isinstance(found, str) else json.dumps(found, ensure_ascii=False))


@dataclass(frozen=True)
class Forgetting:
    """What was found, and taken out if `done`. `unreached`: where copies may be that this cannot reach."""

    prompts: int
    shards: int
    replies: int
    versions: dict[str, int]
    done: bool
    unreached: tuple[str, ...] = UNREACHED


@dataclass(frozen=True)
class _Found:
    """What a search found. `shards`: their names; `keys`: of replies in the ledger; `versions`: name -> pairs."""

    prompts: set[str]
    shards: list[str]
    keys: set[str]
    versions: dict[str, int]


def forget(
    store: Store, ledger: Ledger, choice: Choice, yes: bool = False, may_return: bool = False, by: str | None = None
) -> Forgetting:
    """Take what is chosen out of a data set and its ledger; without `yes` it is only counted.

    A later load refuses the prompts, with the reason `forgotten`, unless they `may_return`. Killed in the middle it is
    done again with the same choice: what is left is found again. Holds the data set as a run does; raises RunError
    where a run holds it, and DataError, before anything is changed, where something cannot be searched.
    """
    check_workspace(store)
    if not (store.names_in("tables") or version_names(store)):
        raise DataError(f"{store.url('')}: no data set there; name the folder that has `tables` or `versions` in it")
    with store.lock(), ledger.lock(store.files) as fence, deciding(store):
        ledger.record_kept()
        before = Forgotten(store)
        is_meant, found = _search(store, ledger, choice, before)
        done = Forgetting(len(found.prompts), len(found.shards), len(found.keys), found.versions, yes)
        if yes:
            if not may_return:
                before.add(found.prompts)
            for name in found.versions:
                fence.check()
                if name == PREVIEW:
                    remove_preview(store)
                else:
                    redact(store, searchable(store, name), is_meant, yes)
            _take_out(store, ledger, found, fence)
            counts = {name: value for name, value in asdict(done).items() if name not in ("done", "unreached")}
            before.note({"at": now(), "by": by or this_user(), "chosen by": choice.kinds, **counts})
        return done


def _search(store: Store, ledger: Ledger, choice: Choice, before: Forgotten) -> tuple[Callable[[Row], bool], _Found]:
    """Whether a row of a version is to go, and all that was found. Raises DataError for what cannot be searched."""
    shards = {shard: _found(store, shard, choice) for shard in store.names_in("tables") if shard != "load"}
    prompts = {one for found in shards.values() for one in found}
    keys = {key for shard in shards for key in _keys(store, shard, prompts)} | set(_replies_with(ledger, choice))

    def is_meant(row: Row) -> bool:
        return row["prompt_id"] in prompts or row["prompt_id"] in before or choice.chooses(row)

    places = {name: searchable(store, name) for name in version_names(store)}
    if preview := preview_of(store):
        places[PREVIEW] = preview
    pairs = {name: redact(store, version, is_meant, yes=False) for name, version in places.items()}
    hit = [shard for shard, found in shards.items() if found]
    return is_meant, _Found(prompts, hit, keys, {name: count for name, count in pairs.items() if count})


def _take_out(store: Store, ledger: Ledger, found: _Found, fence: Fence) -> None:
    """Drop replies, shards and all remembered sources, and the files that no version names any more."""
    fence.check()
    remove_unnamed(store)
    ledger.uses.reopen(place_of(store), found.shards)  # until the next run, all replies of these shards are in use
    ledger.replies.drop(found.keys)
    ledger.erase()
    for folder in (*found.shards, "load"):
        _remove(store, f"tables/{folder}")
    if sources := store.files.local_path("sources"):
        shutil.rmtree(sources, ignore_errors=True)


def texts_of(value: Any) -> Iterator[str]:
    """Every text in a row: of its columns, and of what they hold as lists, mappings or JSON."""
    if isinstance(value, str):
        yield value
        if value[:1] in "[{":
            try:
                yield from texts_of(json.loads(value))
            except ValueError:
                return
    elif isinstance(value, dict):
        for part in value.values():
            yield from texts_of(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from texts_of(part)


def _found(store: Store, shard: str, choice: Choice) -> set[str]:
    """The ids of the prompts of a shard that are chosen: by their own row, or by one about them."""
    found = set()
    for ref in _refs(store, shard, ("prompts", "completions", "criteria", "ratings")):
        try:
            rows = store.read_arrow(ref).to_pylist()
        except TableError as error:
            raise TableError(f"{error}; run the recipe again, which makes it anew, and forget then") from None
        found |= {row["prompt_id"] for row in rows if choice.chooses(row)}
    return found


def _keys(store: Store, shard: str, prompts: set[str]) -> Iterator[str]:
    """The ledger's keys of all replies about these prompts that a shard's tables use."""
    for ref in _refs(store, shard, ("completions", "criteria", "ratings")):
        for row in store.read_arrow(ref).select(["prompt_id", "request"]).to_pylist():
            if row["prompt_id"] in prompts and row["request"]:
                yield row["request"]


def _replies_with(ledger: Ledger, choice: Choice) -> Iterator[str]:
    """The keys of replies in which the pattern is found: tables of an earlier recipe may have used them."""
    for row in ledger.replies.rows() if choice.matching else ():
        if choice.chooses({"reply": row["reply"]}):
            yield row["key"]


def _refs(store: Store, shard: str, kinds: Sequence[str]) -> list[TableRef]:
    names = [name.split(".") for name in store.names_in(f"tables/{shard}") if name.endswith(".parquet")]
    return [TableRef(kind, shard, ".".join(part)) for kind, *part, _ in names if kind in kinds]


def _remove(store: Store, folder: str) -> None:
    for name in store.names_in(folder):
        store.files.remove(f"{folder}/{name}")
