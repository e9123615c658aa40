"""Completions with scores, and the pairs that are selected of them, as the tests of selection make them."""

from __future__ import annotations

from typing import Any

from pairsmith.config import Pairing
from pairsmith.judging.scoring import Scores
from pairsmith.pairing.candidates import Evidence
from pairsmith.pairing.select import Selection, select
from tests.runs import completion

WORDS = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "haven"]


def pool(*values: float | None, **fields: Any) -> tuple[list[dict[str, Any]], dict[str, Scores]]:
    """Completions c0, c1, ... of quite different texts, with these scores."""
    made = [completion(f"c{n}", member=f"m{n}", text=WORDS[n] * 9, **fields) for n in range(len(values))]
    return made, {f"c{n}": Scores(value) for n, value in enumerate(values)}


def selected(
    completions: list[dict[str, Any]], table: dict[str, Scores], pairing: Pairing, needs_scores: bool, **known: Any
) -> Selection:
    """What `select` makes of one prompt's completions with these scores."""
    return select("p", completions, pairing, Evidence(table, needs_scores=needs_scores, **known))


def ids(selection: Any) -> list[tuple[str, str]]:
    return [(pair["chosen_id"], pair["rejected_id"]) for pair in selection.pairs]


def reason(selection: Any) -> str:
    (row,) = [row for row in selection.rejections if row["completion_id"] is None]
    return str(row["reason"])


def guarded(on_flag: str, **settings: Any) -> Pairing:
    return Pairing.model_validate({"guard": {"on_flag": on_flag}, **settings})


def long_pool(*scored: tuple[float, int]) -> tuple[list[dict[str, Any]], dict[str, Scores]]:
    """Completions of these scores and lengths."""
    made = [completion(f"c{n}", text=WORDS[n][0] * length) for n, (_, length) in enumerate(scored)]
    return made, {f"c{n}": Scores(score, {"overall": score}) for n, (score, _) in enumerate(scored)}
