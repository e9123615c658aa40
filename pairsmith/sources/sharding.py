"""Write the prompts of a run to shards. A shard is immutable and named by its content.

A run that reads the same prompts uses the same shards. A run that reads a few more uses those and one new shard, so
only what is new costs anything. If prompts have disappeared, the shards that held them are not used, and their other
prompts are put into new shards; the ledger still has every reply.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pairsmith.errors import DataError, TableError
from pairsmith.ids import fingerprint
from pairsmith.storage.schemas import frame, rows
from pairsmith.storage.store import Store
from pairsmith.storage.tables import LOAD_REJECTIONS, SHARD_INDEX, prompts_ref

_INDEX = pa.schema([("shard", pa.string()), ("file", pa.string()), ("prompts", pa.list_(pa.string()))])


@dataclass(frozen=True)
class Loaded:
    """What a run works on. `shards`: shard name -> number of prompts, in the order of the input.

    `merged`: number of rows that brought further completions for the prompt of an earlier row.
    """

    shards: dict[str, int]
    rejected: int
    new: int = 0
    merged: int = 0

    @property
    def accepted(self) -> int:
        return sum(self.shards.values())


@dataclass(frozen=True)
class Known:
    """Which prompts, by digest, the existing shards hold. `shards`: shard -> its prompts. `homes`: prompt -> its shard.

    `files`: shard -> digest of its file. `noted`: whether the index agrees with all of this.
    """

    shards: dict[str, list[str]]
    homes: dict[str, str]
    files: dict[str, str]
    noted: bool


def known_prompts(store: Store) -> Known:
    """The prompts of all shards. They are read from the index where it was made from the files that are there now."""
    index, shards = _index(store), {}
    files = {shard: store.file_digest(prompts_ref(shard).path) for shard in store.shards()}
    for shard, file in files.items():
        noted, digests = index.get(shard, ("", []))
        shards[shard] = digests if noted == file else [digest_of_row(row) for row in _prompts(store, shard)]
    homes = {digest: shard for shard, digests in shards.items() for digest in digests}
    return Known(shards, homes, files, {shard: file for shard, (file, _) in index.items()} == files)


def shard_prompts(read: Iterable[dict[str, Any]], store: Store, size: int, known: Known | None = None) -> Loaded:
    """Write prompts that are new to `store` in shards of `size`; returns the shards that hold exactly the prompts read.

    `read`: rows as `prompts.read_prompts` yields them. Raises DataError if no prompt was accepted.
    """
    known = known or known_prompts(store)
    homes = known.homes
    order: dict[str, int] = {}
    rejected: list[dict[str, Any]] = []
    waiting: list[dict[str, Any]] = []
    made: dict[str, list[str]] = {}
    merged = 0
    for row in read:
        merged += row.pop("rows", 1) - 1
        if "reason" in row:
            rejected.append(row)
            continue
        digest = digest_of_row(row)
        order[digest] = len(order)
        if digest not in homes:
            waiting.append(row)
            if len(waiting) == size:
                made |= _write(store, waiting)
                waiting = []
    new = len(waiting) + sum(len(digests) for digests in made.values())
    whole = _whole(known.shards, order)
    covered = {digest for digests in whole.values() for digest in digests}
    scattered = {digest: homes[digest] for digest in order if digest in homes and digest not in covered}
    for shard in sorted(set(scattered.values())):
        waiting += [row for row in _prompts(store, shard) if scattered.get(digest_of_row(row)) == shard]
    waiting.sort(key=lambda row: order[digest_of_row(row)])
    for start in range(0, len(waiting), size):
        made |= _write(store, waiting[start : start + size])
    store.write(LOAD_REJECTIONS, frame("rejections", rejected), "")
    if made or not known.noted:
        _write_index(store, known, made)
    used = sorted((whole | made).items(), key=lambda item: min(order[digest] for digest in item[1]))
    if not used:
        raise no_prompts(rejected)
    return Loaded({shard: len(digests) for shard, digests in used}, len(rejected), new, merged)


def no_prompts(rejected: Sequence[dict[str, Any]]) -> DataError:
    """The error for sources in which no row was accepted."""
    none = "the sources hold no rows, or none that meets their where"
    reasons = "; ".join(row["detail"] for row in rejected[:3]) or none
    return DataError(f"no prompts: {len(rejected)} rows read, none accepted. {reasons}")


def _whole(known: dict[str, list[str]], order: dict[str, int]) -> dict[str, list[str]]:
    """The known shards whose prompts were all read. The largest are taken first, and none that overlaps one taken."""
    taken: set[str] = set()
    whole = {}
    for shard, digests in sorted(known.items(), key=lambda item: (-len(item[1]), item[0])):
        if all(digest in order and digest not in taken for digest in digests):
            whole[shard] = digests
            taken.update(digests)
    return whole


def _index(store: Store) -> dict[str, tuple[str, list[str]]]:
    """The index: shard -> digest of its file, and digests of its prompts. Empty if it is absent or damaged."""
    try:
        found = store.read_arrow(SHARD_INDEX).to_pylist()
        return {row["shard"]: (row["file"], row["prompts"]) for row in found}
    except (TableError, KeyError):
        return {}


def _write_index(store: Store, known: Known, made: dict[str, list[str]]) -> None:
    """Write the index of all shards, with those in `made`, without damaged ones."""
    files = known.files | {shard: store.file_digest(prompts_ref(shard).path) for shard in made}
    held = sorted((shard, prompts) for shard, prompts in (known.shards | made).items() if prompts)
    rows = [{"shard": shard, "file": files[shard], "prompts": prompts} for shard, prompts in held]
    store.write_arrow(SHARD_INDEX, pa.Table.from_pylist(rows, schema=_INDEX))


def _prompts(store: Store, shard: str) -> list[dict[str, Any]]:
    """The prompts of a shard; none if its table is damaged. They then count as new, which costs no call to a model."""
    stored = store.fresh(prompts_ref(shard), shard)
    return rows(stored.data) if stored else []


def digest_of_row(row: dict[str, Any]) -> str:
    """Identity of a row of the prompts table: its own `digest` if it has one, otherwise a hash of its values."""
    return row.get("digest") or fingerprint({key: value for key, value in row.items() if value is not None})


def _write(store: Store, prompts: list[dict[str, Any]]) -> dict[str, list[str]]:
    digests = [digest_of_row(row) for row in prompts]
    shard = fingerprint(digests)[:16]
    store.write(prompts_ref(shard), frame("prompts", prompts), shard)
    return {shard: digests}
