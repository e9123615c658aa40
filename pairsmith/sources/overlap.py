"""Overlap of texts by their words: n-grams shared with a benchmark, and near duplicates. Pure; knows no recipe.

Decontamination: a prompt that shares n words in a row with a benchmark is taken to be one of its items, as in GPT-3
(Brown et al. 2020, https://arxiv.org/abs/2005.14165, appendix C: words without punctuation and case, n = 13 at most).
Near duplicates: the similarity of two texts is the overlap of their sets of word pairs (Jaccard; Broder 1997, "On the
resemblance and containment of documents"). MinHash finds candidates, and each is then compared exactly. Word pairs are
used because with longer runs, a short prompt and the same prompt with one word changed would look different.

Nothing here depends on the machine, the process or the hash seed: words are hashed with BLAKE2b, and sketches have a
fixed seed.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import pairwise

import numpy as np
import rensa  # type: ignore[import-untyped]

SEED = 1
MISSED = 1e-3  # chance that LSH misses a pair exactly at the threshold, unless that takes more than MOST_BANDS
MOST_BANDS = 128
QUOTE = 100  # characters of shared words that are quoted

# Scripts without spaces between words (Kana, Han, Thai, Lao, Khmer, Burmese): each character counts as half a word.
_CHARACTERS = (
    "\u3005\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U000323af\u0e01-\u0e3a\u0e40-\u0e4e\u0e50-\u0e59\u0e81-\u0edf\u1000-\u1049\u1780-\u17d3\u17e0-\u17e9"
)
_MARKS = "\u0300-\u036f\u0591-\u05bd\u064b-\u065f\u0900-\u0963\u0966-\u0dff"  # belong to words, but \w misses them
_CHARACTER = re.compile(f"[{_CHARACTERS}]")
_WORDS = re.compile(rf"[{_CHARACTERS}]|[^\W{_CHARACTERS}]+(?:[{_MARKS}]+[^\W{_CHARACTERS}]*)*")
_BETWEEN = re.compile(f"(?<=[{_CHARACTERS}]) (?=[{_CHARACTERS}])")
_ASCII_WORDS = re.compile(r"\w+", re.ASCII)
_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufeff"))

Hashes = np.ndarray[tuple[int], np.dtype[np.uint64]]
Similarities = np.ndarray[tuple[int], np.dtype[np.float64]]


def words(text: str) -> list[str]:
    """The words of a text without case, punctuation and compatibility forms; single characters in scripts without
    spaces.

    >>> words("Don't PANIC: ２ 日本語!")
    ['don', 't', 'panic', '2', '日', '本', '語']
    """
    if text.isascii():
        return _ASCII_WORDS.findall(text.lower())
    folded = unicodedata.normalize("NFKC", text).casefold().translate(_INVISIBLE)
    return _WORDS.findall(unicodedata.normalize("NFKC", folded))


def user_texts(chat: Iterable[Mapping[str, str]]) -> tuple[str, ...]:
    """The user's texts in a chat: all user turns as one text and, if there are several, also the first turn alone.

    Only user turns count. A benchmark's items are questions; a system prompt is often the same in every row and would
    make all rows alike; an assistant's turn is written by a model and differs between copies of an item. A later turn
    alone does not count, since "Why?" or "Go on." says nothing about where a chat comes from.
    """
    turns = [message["content"] for message in chat if message["role"] == "user"]
    return tuple(turns) if len(turns) < 2 else ("\n\n".join(turns), turns[0])


def grams(tokens: Sequence[str], n: int) -> list[str]:
    """All runs of `n` words; a shorter text is one run. A character of a script without spaces counts as half a word.

    As whole words, 13 characters in a row would often be a common phrase (in IFEval's Japanese version, 129 of 172
    prompts share 13 with another one, 52 share 26; in the English one, 55 of 541 share 13 words).

    >>> grams(["a", "b", "c"], 2), grams(["a"], 2), grams([], 2)
    (['a b', 'b c'], ['a'], [])
    """
    return list(_runs(tokens, n)) or ([" ".join(tokens)] if tokens else [])


def _runs(tokens: Sequence[str], n: int) -> Iterator[str]:
    halves = [1 if not word.isascii() and _CHARACTER.match(word) else 2 for word in tokens]
    held = end = 0
    for start in range(len(tokens)):
        while held < 2 * n and end < len(tokens):
            held += halves[end]
            end += 1
        if held < 2 * n:
            return
        yield " ".join(tokens[start:end])
        held -= halves[start]


def _digests(runs: Iterable[str]) -> list[bytes]:
    """Digests of 8 bytes: with 10^7 runs of benchmarks and 10^8 of prompts, the chance of one false hit is 10^-4."""
    return [blake2b(run.encode(), digest_size=8).digest() for run in runs]


def _hashes(digests: Sequence[bytes]) -> Hashes:
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


class Benchmarks:
    """The n-grams of benchmarks. Each takes 12 bytes: a 64-bit hash, and the number of the first row that had it.

    `rows`: (place, text) of each item. `n`: words in an n-gram.
    """

    def __init__(self, rows: Iterable[tuple[str, str]], n: int) -> None:
        self._n, self._places = n, list[str]()
        found: list[Hashes] = []
        for place, text in rows:
            self._places.append(place)
            found.append(_hashes(_digests(grams(words(text), n))))
        owners = np.repeat(np.arange(len(found), dtype=np.int32), [len(hashes) for hashes in found])
        hashes = np.concatenate(found) if found else _hashes([])
        self._hashes, firsts = np.unique(hashes, return_index=True)
        self._owners = owners[firsts]

    def find(self, text: str) -> tuple[str, str] | None:
        """The first run of words that `text` shares with a benchmark: (place of its row, the run cut to `QUOTE`)."""
        runs = grams(words(text), self._n)
        if not runs or not len(self._hashes):
            return None
        asked = _hashes(_digests(runs))
        places = np.minimum(np.searchsorted(self._hashes, asked), len(self._hashes) - 1)
        hits = np.flatnonzero(self._hashes[places] == asked)
        if not len(hits):
            return None
        run = _BETWEEN.sub("", runs[hits[0]])
        quoted = run if len(run) <= QUOTE else run[:QUOTE].rstrip() + "…"
        return self._places[self._owners[places[hits[0]]]], quoted


class NearDuplicates:
    """The texts kept so far, in which near duplicates of a new text can be found.

    `threshold`: least Jaccard similarity, above 0 and up to 1. A pair is never reported by mistake. A pair exactly at
    the threshold is missed with a chance of about `MISSED`, a more similar one with less; for thresholds under 0.06,
    more are missed. A text without words, such as one of emoji, has no near duplicates.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        rows, bands = layout(threshold)
        self._permutations = rows * bands
        self._index = rensa.RMinHashLSH(threshold=threshold, num_perm=self._permutations, num_bands=bands)
        self._places: list[str] = []
        self._sets: list[Hashes] = []

    def find_or_keep(self, text: str, place: str) -> tuple[str, float] | None:
        """Place and similarity of the first kept text that reaches the threshold; if there is none, keep `text`."""
        tokens = words(text)
        if not tokens:
            return None
        digests = _digests({" ".join(pair) for pair in pairwise(tokens)} or tokens)
        hashes = np.sort(_hashes(digests))
        sketch = rensa.RMinHash(num_perm=self._permutations, seed=SEED)
        sketch.update(digests)
        if candidates := sorted(self._index.query(sketch)):
            similarities = _jaccard(hashes, [self._sets[number] for number in candidates])
            if len(alike := np.flatnonzero(similarities >= self._threshold)):
                return self._places[candidates[alike[0]]], float(similarities[alike[0]])
        self._index.insert(len(self._places), sketch)
        self._places.append(place)
        self._sets.append(hashes)
        return None


def _jaccard(one: Hashes, others: Sequence[Hashes]) -> Similarities:
    """Jaccard similarity of a sorted set with each of the others; none may be empty."""
    sizes = np.array([len(other) for other in others])
    members = np.concatenate(others)
    found = one[np.minimum(np.searchsorted(one, members), len(one) - 1)] == members
    both = np.add.reduceat(found.astype(np.int64), np.cumsum(sizes) - sizes)
    similarities: Similarities = both / (len(one) + sizes - both)
    return similarities


def layout(threshold: float) -> tuple[int, int]:
    """(rows, bands) of LSH: the most rows, up to 4, for which at most `MOST_BANDS` bands suffice, and the fewest bands
    with (1 - threshold^rows)^bands <= `MISSED`.

    Fewer bands take less memory; more rows give fewer candidates.

    >>> layout(0.8), layout(0.5), layout(0.3)
    ((4, 14), (4, 108), (2, 74))
    """
    for rows in (4, 3, 2, 1):
        hit = max(threshold**rows, 1e-9)
        bands = math.ceil(math.log(MISSED) / math.log1p(-hit)) if hit < 1 else 1
        if bands <= MOST_BANDS:
            return rows, bands
    return 1, MOST_BANDS
