"""What pairing needs to know about the whole data set: how much length is worth, and which texts answer many prompts.

Each shard has a survey of whole numbers and digests, so surveys add up to the same result however the prompts are
distributed over shards. The slope comes from a regression of the score on the log of the number of characters, with an
effect for each prompt, so only differences among the texts of a prompt count. The idea is that of length-controlled
AlpacaEval, Dubois et al. 2024, https://arxiv.org/abs/2404.04475, which regresses out length to compare two models.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from pairsmith.config import Pairing, Rating
from pairsmith.ids import fingerprint, text_id
from pairsmith.judging.guard import flags_of
from pairsmith.judging.scoring import Scores, log_length, scores, stopped
from pairsmith.pairing.candidates import SLOPE_STEP, TOTAL, unusable
from pairsmith.storage.row_types import CompletionRow, RatingRow, rows_as

STAGE = "survey"
STEP = 10**9  # scores and log lengths are counted in whole billionths, so that sums are exact
# Decimals of a slope (see `SLOPE_STEP`). Few enough that a few new prompts often leave the slope, and so all pairs,
# unchanged. Enough that a step of the slope changes the margin between a text and one twice as long by 0.00007 points.
DECIMALS = round(-math.log10(SLOPE_STEP))


@dataclass
class Survey:
    """The sums over one shard, or over several.

    `squares`: by aspect or `TOTAL`, squared deviations of log length from the prompt's mean. `products`: those of log
    length times those of the score. `texts`: a text's id -> the number of prompts that it answers.
    """

    squares: Counter[str] = field(default_factory=Counter)
    products: Counter[str] = field(default_factory=Counter)
    texts: Counter[str] = field(default_factory=Counter)

    def add_sums(self, other: Survey) -> None:
        self.squares.update(other.squares)
        self.products.update(other.products)

    def slopes(self) -> dict[str, float]:
        """Points per unit of log length, by aspect or `TOTAL`; 0 if the texts of each prompt are equally long."""
        return {
            name: round(self.products[name] / squares, DECIMALS) if squares else 0.0
            for name, squares in sorted(self.squares.items())
        }

    def to_json(self) -> dict[str, Any]:
        """The survey as JSON. Sums become text, since many readers of JSON round whole numbers beyond 2^53."""
        sums = {name: [str(self.squares[name]), str(self.products[name])] for name in sorted(self.squares)}
        return {"sums": sums, "texts": dict(sorted(self.texts.items()))}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Survey:
        sums = value["sums"]
        squares, products = (Counter({name: int(two[place]) for name, two in sums.items()}) for place in (0, 1))
        return cls(squares, products, Counter(value["texts"]))


@dataclass(frozen=True)
class SurveyResult:
    """The result of all surveys for one shard: the slopes, and which of its texts are repeated."""

    slopes: Mapping[str, float] = field(default_factory=dict)
    repeated: frozenset[str] = frozenset()

    def to_json(self) -> dict[str, Any]:
        return {"slopes": dict(self.slopes), "repeated": sorted(self.repeated)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SurveyResult:
        return cls(value["slopes"], frozenset(value["repeated"]))

    @property
    def digest(self) -> str:
        return fingerprint(self.to_json())


def survey(completions: pd.DataFrame, ratings: pd.DataFrame, pairing: Pairing, rating: Rating | None) -> Survey:
    """The survey of one shard, over the completions that can be candidates. Only what the recipe needs is counted."""
    usable = [row for row in rows_as(CompletionRow, completions) if not unusable(row, pairing)]
    made = Survey()
    if pairing.length_control:
        rated, drops = rows_as(RatingRow, ratings), pairing.guard.on_flag == "drop"
        barred = stopped(rated, rating)
        candidates = [
            row for row in usable if row["completion_id"] not in barred and not (drops and flags_of(row["text"]))
        ]
        _add_lengths(made, candidates, scores(rated, pairing, rating))
    if pairing.guard.repeated is not None:
        made.texts.update(text for text, _ in {(text_id(row["text"]), row["prompt_id"]) for row in usable})
    return made


def _add_lengths(made: Survey, usable: Iterable[CompletionRow], table: Mapping[str, Scores]) -> None:
    """Add the sums of each prompt to a survey. All texts of a prompt are in one shard, so its sums can be rounded."""
    groups: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for row in usable:
        found, length = table.get(row["completion_id"], Scores()), round(log_length(row["text"]) * STEP)
        for name, score in {TOTAL: found.total, **found.aspects}.items():
            if score is not None:
                groups[name, row["prompt_id"]].append((length, round(score * STEP)))
    for (name, _), points in groups.items():
        made.squares[name] += _deviations([(x, x) for x, _ in points])
        made.products[name] += _deviations(points)


def _deviations(points: Sequence[tuple[int, int]]) -> int:
    """The sum of the products of both coordinates' deviations from their means, rounded down."""
    count, products = len(points), sum(x * y for x, y in points)
    return (count * products - sum(x for x, _ in points) * sum(y for _, y in points)) // count
