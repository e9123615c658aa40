"""What rows of tokens share: which beginnings to compute once, and for whom.

Rows in lexicographic order form a tree: those that begin alike stand next to each other. Each inner node of it is a
piece of tokens that is computed for one row and copied to the others; each leaf is what a row has for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

WORTHWHILE = 32  # tokens that need not be computed again; for fewer, a pass of its own costs more than it saves
FEWEST = 8  # tokens that many rows share


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
    return next((place for place in range(shorter) if one[place] != other[place]), shorter)


def shared_prefix(rows: Sequence[Sequence[int]]) -> int:
    """How many first tokens all rows share, if enough to be worth a pass of their own, else 0.

    At least one token of each row is left over, to predict the answer from.

    >>> shared_prefix([[7] * 8 + [row] for row in range(5)]), shared_prefix([[7] * 8 + [row] for row in range(4)])
    (8, 0)
    """
    if len(rows) < 2:
        return 0
    first, last = min(rows, key=list), max(rows, key=list)
    shared = min(common(first, last), min(map(len, rows)) - 1)
    return shared if shared >= FEWEST and shared * (len(rows) - 1) >= WORTHWHILE else 0


def pieces(rows: Sequence[Sequence[int]], known: int = 0) -> list[list[Piece]]:
    """What to compute for `rows`, level by level: a piece needs those of the levels before, and none of its own.

    `rows`: in lexicographic order, of which the first `known` tokens are computed already and alike. The last level
    holds the leaves, one for each row in its order; together the pieces hold each row's tokens once.

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
    """Neighbours of which each shares a worthwhile piece beyond `start` with the next, and has a token left over."""

    def beginning(place: int) -> tuple[int, ...]:
        needed = start + WORTHWHILE
        row = rows[place]
        return tuple(row[start:needed]) if len(row) > needed else (-1, place)

    groups = [list(group) for _, group in groupby(range(first, last), key=beginning)]
    return [(group[0], group[-1] + 1) for group in groups]
