"""A word-level diff of two texts, for people who compare a chosen answer with a rejected one.

Each text is returned as runs of words; joined, they are the text exactly. A run says whether the other text has it too.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import NamedTuple

from rapidfuzz.distance import LCSseq

MAX_CELLS = 400_000_000  # words of one text times words of the other: about 50 MB and a second at most
_WORD = re.compile(r"\s*\S+|\s+")


class Run(NamedTuple):
    """Consecutive words of one text that the other text has in the same order (`same`), or does not have."""

    same: bool
    text: str


def diff_words(first: str, second: str) -> tuple[list[Run], list[Run]]:
    """The runs of both texts. Words are compared without the space before them, and case counts.

    >>> diff_words("see the red fox", "see the fox")
    ([Run(same=True, text='see the '), Run(same=False, text='red'), Run(same=True, text=' fox')], \
[Run(same=True, text='see the fox')])
    """
    words = _WORD.findall(first), _WORD.findall(second)
    numbers: dict[str, int] = {}
    coded = [[numbers.setdefault(word.strip(), len(numbers)) for word in side] for side in words]
    same = [False] * len(words[0]), [False] * len(words[1])
    for start, other, size in _common_blocks(*coded):
        same[0][start : start + size] = [True] * size
        same[1][other : other + size] = [True] * size
    return _runs(words[0], same[0]), _runs(words[1], same[1])


def share_in_both(runs: list[Run]) -> float:
    """The share of a text's characters that the other text has too, 0 to 1."""
    total = sum(len(run.text) for run in runs)
    return sum(len(run.text) for run in runs if run.same) / total if total else 1.0


def _common_blocks(first: list[int], second: list[int]) -> list[tuple[int, int, int]]:
    """The blocks of words that both have: (position in the first, position in the second, number of words)."""
    if len(first) * len(second) > MAX_CELLS:
        return _common_ends(first, second)
    found = [
        (code.src_start, code.dest_start, code.src_end - code.src_start)
        for code in LCSseq.opcodes(first, second)
        if code.tag == "equal"
    ]
    return _without_chance(found, len(first), len(second))


def _common_ends(first: list[int], second: list[int]) -> list[tuple[int, int, int]]:
    """Only the common beginning and end, for texts so long that a full comparison would take too long."""
    shorter = min(len(first), len(second))
    head = next((i for i in range(shorter) if first[i] != second[i]), shorter)
    tail = next((i for i in range(shorter - head) if first[-1 - i] != second[-1 - i]), shorter - head)
    return [(0, 0, head), (len(first) - tail, len(second) - tail, tail)]


def _without_chance(blocks: list[tuple[int, int, int]], n_first: int, n_second: int) -> list[tuple[int, int, int]]:
    """The blocks longer than the changes on either side of them; two texts share shorter ones by chance.

    The rule is the "semantic cleanup" of diff-match-patch, in words: https://neil.fraser.name/writing/diff/
    """
    kept: list[tuple[int, int, int]] = []
    end_first = end_second = 0
    for number, (start, other, size) in enumerate(blocks):
        next_first, next_second, _ = blocks[number + 1] if number + 1 < len(blocks) else (n_first, n_second, 0)
        before = max(start - end_first, other - end_second)
        after = max(next_first - start - size, next_second - other - size)
        if size > min(before, after):
            kept.append((start, other, size))
            end_first, end_second = start + size, other + size
    return kept


def _runs(words: list[str], same: list[bool]) -> list[Run]:
    """Neighbouring words joined to runs; the space between a shared word and an unshared one joins the shared run."""
    runs: list[Run] = []
    for is_same, group in groupby(zip(same, words, strict=True), key=lambda item: item[0]):
        text = "".join(word for _, word in group)
        if runs and not is_same:
            bare = text.lstrip()
            runs[-1] = Run(True, runs[-1].text + text[: len(text) - len(bare)])
            text = bare
        if text:
            runs.append(Run(is_same, text))
    return runs
