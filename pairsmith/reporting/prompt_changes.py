"""Which prompts only one of two versions has, and which have other pairs: a changelog counts them, `diff` shows them.

Pairs differ where the ids of their completions do, which depend on their writer and text. Only hashes are kept, for
about `PASS_ROWS` rows at a time: larger versions are read several times.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pairsmith.storage.datafiles import File, at, beginning, code, column_batches, count

PASS_ROWS = 2_000_000  # of both versions together, about 100 bytes each
_KEYS = ("prompt_id", "chosen_id", "rejected_id")
_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no information is lost: https://doi.org/10.1145/2660193.2660195


@dataclass(frozen=True)
class Prompt:
    """A prompt to show: its id and its beginning."""

    prompt_id: str
    beginning: str


@dataclass(frozen=True)
class Changes:
    """Numbers of prompts: only in B, only in A, in both with other pairs, in both unchanged; and some to show."""

    added: int
    removed: int
    changed: int
    kept: int
    shown: dict[str, tuple[Prompt, ...]]


def changes(files_a: Sequence[File], files_b: Sequence[File], show: int = 0) -> Changes:
    """The changes from version A to version B, with the first `show` prompts of each kind, in their version's order.

    Raises DataError where a file is damaged or foreign.
    """
    n_passes = 1 + (count(files_a) + count(files_b)) // PASS_ROWS
    counts = dict.fromkeys(("added", "removed", "changed", "kept"), 0)
    first: dict[str, list[int]] = {"added": [], "removed": [], "changed": []}
    for number in range(n_passes):
        a, b = (_prompts(files, number, n_passes) for files in (files_a, files_b))
        _, in_a, in_b = np.intersect1d(a.prompts, b.prompts, assume_unique=True, return_indices=True)
        same = a.pairs[in_a] == b.pairs[in_b]
        found = {
            "added": np.delete(b.rows, in_b),
            "removed": np.delete(a.rows, in_a),
            "changed": b.rows[in_b][~same],
        }
        counts["kept"] += int(same.sum())
        for kind, rows in found.items():
            counts[kind] += len(rows)
            first[kind] = heapq.nsmallest(show, [*first[kind], *np.sort(rows)[:show].tolist()])
    sides = {"added": files_b, "removed": files_a, "changed": files_b}
    return Changes(**counts, shown={kind: _shown(sides[kind], rows) for kind, rows in first.items()})


@dataclass(frozen=True)
class _Prompts:
    """Three arrays, sorted by prompt: its hash, one hash of all its pairs in any order, and its first row."""

    prompts: Any
    pairs: Any
    rows: Any


def _prompts(files: Sequence[File], number: int, n_passes: int) -> _Prompts:
    """The prompts of a version that belong to pass `number`, by their hashes."""
    prompts, pairs, rows, start = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)], [np.empty(0, np.int64)], 0
    for columns in column_batches(files, _KEYS):
        size = len(columns[0])
        prompt, chosen, rejected = (np.fromiter(map(code, one.to_pylist()), np.uint64, size) for one in columns)
        of_this = np.flatnonzero(prompt % np.uint64(n_passes) == number)
        pair = (chosen * _MIX) ^ rejected
        prompts.append(prompt[of_this])
        pairs.append(((pair ^ (pair >> np.uint64(32))) * _MIX)[of_this])
        rows.append(start + of_this)
        start += size
    prompt, pair, row = np.concatenate(prompts), np.concatenate(pairs), np.concatenate(rows)
    order = np.argsort(prompt, kind="stable")
    unique, first = np.unique(prompt[order], return_index=True)
    sums = np.add.reduceat(pair[order], first) if len(first) else pair
    return _Prompts(unique, sums, row[order][first])


def _shown(files: Sequence[File], rows: Sequence[int]) -> tuple[Prompt, ...]:
    names, chats = at(files, "prompt_id", rows), at(files, "prompt", rows)
    return tuple(Prompt(names[row], beginning(chats[row])) for row in rows)
