"""Which texts of published pairs answer many prompts, counted while the pairs are written.

Memory holds the texts of a table and `2 * MOST` others, however many there are. Where there are more, the count that
`MOST` texts exceed is taken off all, and those with nothing left go. So a text that answers more than one prompt in
`MOST` is always found; its count is exact up to `2 * MOST` different texts, and beyond that too low by that share at
most: Misra & Gries 1982, https://doi.org/10.1016/0167-6423(82)90012-0; Agarwal et al. 2013,
https://doi.org/10.1145/2500128.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import pyarrow as pa

from pairsmith.ids import text_id
from pairsmith.judging.guard import REPEATED, excerpt
from pairsmith.reporting.summary import EXAMPLES, FlaggedText, Summary

MOST = 4096  # texts in memory
LEAST = 5  # prompts, or one in a thousand where that is more: fewer than that is no pattern
_SIDES = ("chosen", "rejected")


@dataclass
class _Text:
    """How often a text stands somewhere, as `prompts`, `completions`, `chosen` and `rejected`; and one place of it."""

    shown: FlaggedText
    counts: Counter[str] = field(default_factory=Counter)


class Repeats:
    """Counts the texts of tables of pairs. All pairs of a prompt are in one table."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._texts: dict[str, _Text] = {}
        self._prompts = 0

    def add(self, pairs: pa.Table) -> None:
        """Add the pairs of a table, which has the columns of published ones."""
        prompts = pairs["prompt_id"].to_pylist()
        self._prompts += len(set(prompts))
        places: dict[str, set[tuple[str, str]]] = defaultdict(set)
        for side in _SIDES:
            texts = pairs[side].combine_chunks().flatten().field("content").to_pylist()
            names, members = pairs[f"{side}_id"].to_pylist(), pairs[f"{side}_member"].to_pylist()
            keys = {name: text_id(text) for name, text in dict(zip(names, texts, strict=True)).items()}
            for prompt, name, member, text in zip(prompts, names, members, texts, strict=True):
                key = keys[name]
                if key not in self._texts:
                    shown = FlaggedText(
                        kind=REPEATED, completion_id=name, member=member or "", excerpt=excerpt(text or "")
                    )
                    self._texts[key] = _Text(shown)
                places[key] |= {("prompts", prompt), ("completions", name), (side, name)}
        for key, found in places.items():
            self._texts[key].counts.update(what for what, _ in found)
        if len(self._texts) > 2 * self._most:
            self._thin_out()

    def _thin_out(self) -> None:
        counts = sorted((text.counts["prompts"] for text in self._texts.values()), reverse=True)
        off = counts[self._most]
        for text in self._texts.values():
            text.counts["prompts"] -= off
        self._texts = {key: text for key, text in self._texts.items() if text.counts["prompts"] > 0}

    def counted_in(self, summary: Summary) -> Summary:
        """A summary with the texts that answer many prompts among its flags, the most frequent ones as examples."""
        least = max(LEAST, self._prompts // 1000)
        many = [text for text in self._texts.values() if text.counts["prompts"] >= least]
        many.sort(key=lambda text: (-text.counts["prompts"], text.shown["completion_id"]))
        flags = _summed((REPEATED, what, text.counts[what]) for text in many for what in ("completions", *_SIDES))
        return replace(
            summary,
            flags=summary.flags + flags,
            examples=[*summary.examples, *(text.shown for text in many[:EXAMPLES])],
        )


def _summed(counts: Iterable[tuple[str, str, int]]) -> Counter[tuple[str, str]]:
    made: Counter[tuple[str, str]] = Counter()
    for kind, what, count in counts:
        made[kind, what] += count
    return made
