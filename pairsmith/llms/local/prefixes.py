"""Shared prefixes: which first tokens of several rows to compute once, and for which rows.

In lexicographic order, rows with the same first tokens are neighbours, so the rows form a tree. Each inner node is a
piece of tokens that is computed for one row and copied to the others; each leaf holds the tokens of one row alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

WORTHWHILE = 32  # tokens saved; for fewer, a separate pass costs more than it saves
FEWEST = 8  # tokens of a prefix, however many rows share it


@dataclass(frozen=True)
class Piece:
    """Tokens `start` to `end` of row `first`, which rows `first` to `last` - 1 share."""

    first: int
    last: int
    start: int
    end: int


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many first tokens two rows have in common.

    >>> common([1, 2, 3], [1, 2, 4, 5])
    2
    """
    shorter = min(len(one), len(other))
    return next((index for index in range(shorter) if one[index] != other[index]), shorter)


def shared_prefix(rows: Sequence[Sequence[int]]) -> int:
    """How many first tokens all rows share, if enough to be worth a separate pass, else 0.

    At least one token of each row is left out, to predict the answer from.

    >>> shared_prefix([[7] * 8 + [row] for row in range(5)]), shared_prefix([[7] * 8 + [row] for row in range(4)])
    (8, 0)
    """
    if len(rows) < 2:
        return 0
    first, last = min(rows, key=list), max(rows, key=list)
    shared = min(common(first, last), min(map(len, rows)) - 1)
    return shared if shared >= FEWEST and shared * (len(rows) - 1) >= WORTHWHILE else 0


def pieces(rows: Sequence[Sequence[int]], known: int = 0) -> list[list[Piece]]:
    """The pieces to compute for `rows`, level by level: a piece needs those of earlier levels, and none of its own.

    `rows`: in lexicographic order; their first `known` tokens are the same and computed already. The last level holds
    the leaves, one for each row in order; together the pieces hold each row's tokens once.

    >>> pieces([[7] * 40 + [1], [7] * 40 + [2]])
    [[Piece(first=0, last=2, start=0, end=40)], [Piece(first=0, last=1, start=40, end=41), \
Piece(first=1, last=2, start=40, end=41)]]
    """
    inner: list[list[Piece]] = []
    leaves: list[Piece] = []
    waiting = [(0, len(rows), known, 0)]
    while waiting:
        first, last, start, level = waiting.pop()
        alike = rows[first:last]
        if last - first == 1:
            leaves.append(Piece(first, last, start, len(alike[0])))
            continue
        shared = min(common(alike[0], alike[-1]), min(map(len, alike)) - 1)
        if shared - start >= WORTHWHILE:
            inner += [[]] if level == len(inner) else []
            inner[level].append(Piece(first, last, start, shared))
            start, level = shared, level + 1
        waiting += [(begin, end, start, level) for begin, end in _runs(rows, first, last, start)]
    return [*inner, sorted(leaves, key=lambda piece: piece.first)]


def _runs(rows: Sequence[Sequence[int]], first: int, last: int, start: int) -> list[tuple[int, int]]:
    """Groups of neighbours that share a worthwhile piece beyond `start`, and have a token left after it."""

    def beginning(index: int) -> tuple[int, ...]:
        needed = start + WORTHWHILE
        row = rows[index]
        return tuple(row[start:needed]) if len(row) > needed else (-1, index)

    groups = [list(group) for _, group in groupby(range(first, last), key=beginning)]
    return [(group[0], group[-1] + 1) for group in groups]
