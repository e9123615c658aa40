"""Pairs, labels and versions for the tests of labelling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pairsmith.labelling.drawing import Drawn
from pairsmith.labelling.journal import Label
from pairsmith.labelling.pairs import Draw, LabelPair, pair_of
from pairsmith.worth.gold import Better


def published(number: int, judges: Sequence[str] = ("judge",), gap: float = 1.0, **changes: Any) -> dict[str, Any]:
    """A published row whose judges all score the chosen answer higher by `gap`."""
    row: dict[str, Any] = {"prompt": [{"role": "user", "content": f"Question {number}?"}]}
    for side, more in (("chosen", gap), ("rejected", 0.0)):
        row[side] = [{"role": "assistant", "content": f"{side} answer {number}"}]
        row[f"{side}_id"] = f"{side[0]}{number:04}"
        row[f"{side}_ratings"] = [
            {"judge": judge, "aspect": "overall", "score": 3.0 + more, "rating": 3, "rationale": "because"}
            for judge in judges
        ]
    return row | changes


def pairs(count: int, mark: Drawn = "random") -> dict[str, LabelPair]:
    found = [pair_of(published(number), mark) for number in range(count)]
    return {pair.key: pair for pair in found}


def a_draw(count: int, seed: int = 0) -> Draw:
    return Draw("v0001", count, seed, pairs(count))


def label(pair: str, better: Better | None = "a", who: str = "ann", **changes: Any) -> Label:
    fields: dict[str, Any] = {"left": "a", "drawn": "random", "version": "v0001", "seed": 0, "asked": 10}
    return Label(pair, better, who, **(fields | {"at": "2026-01-01T00:00:00+00:00"} | changes))
