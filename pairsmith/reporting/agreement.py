"""How far judges can be trusted: how well they agree, and whether position, length, markdown or family bias them.

Only sums are kept, so memory does not grow with the data. Scores, log lengths, counts and positions are stored as whole
billionths (`STEP`), which add up exactly: the order of rows and shards changes nothing, and what does not vary has a
variance of exactly 0. Critiques are left out, as they are in pairing. A reward model is compared with other judges on
the aspect's scale; without a `scale` its numbers cannot be, and only its biases are shown.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, combinations
from operator import mul
from typing import Any

from pairsmith.config import Rating
from pairsmith.judging.asking import CRITIQUE
from pairsmith.judging.scoring import log_length, moved
from pairsmith.reporting import against_checks, head_to_head
from pairsmith.reporting.markdown import Table
from pairsmith.reporting.ratios import rounded_ratio
from pairsmith.storage.row_types import CompletionRow, RatingRow, rows_as
from pairsmith.storage.tables import ShardTables

STEP = 10**9
_FENCED = re.compile(r"^[ \t]*(```|~~~).*?(?:^[ \t]*\1[`~]*[ \t]*$|\Z)", re.M | re.S)
_MARKS = re.compile(
    r"(?m)^ {0,3}#{1,6}[ \t]+\S"  # a heading
    r"|^[ \t]*(?:[-*+]|\d{1,9}[.)])[ \t]+(?=\S)"  # an item of a list
    r"|^(?=[^\n]*-)(?=[^\n]*\|)[-:| \t]+$"  # the line below a table's head
    r"|\*\*[^*\n]+\*\*|__[^_\n]+__",  # bold
)

Key = tuple[str, ...]
Row = Mapping[str, Any]
Tally = Iterator[tuple[Key, int]]


@dataclass
class Trust:
    """Statistics of the judges, as sums by name."""

    sums: Counter[Key] = field(default_factory=Counter)

    def add(self, tables: ShardTables, families: Mapping[str, str], rating: Rating | None = None) -> None:
        """Add a shard. `families`: judge or member (also an evolver) -> its model family.

        `rating` says which judges are reward models, and gives the scales.
        """
        texts = {row["completion_id"]: _measured(row, families) for row in rows_as(CompletionRow, tables.completions)}
        judged = [row for row in rows_as(RatingRow, tables.ratings) if row["aspect"] != CRITIQUE]
        self.sums.update(("judged", row["judge"]) for row in judged)
        alike = _on_one_scale(judged, rating)
        self.sums.update(("on panel", row["aspect"], row["judge"]) for row in alike)

        def measured(found: Iterable[RatingRow]) -> list[Row]:
            return [
                dict(row)
                | texts[row["completion_id"]]
                | {"score": round(row["score"] * STEP), "kin": families.get(row["judge"])}
                for row in found
                if row["score"] is not None
            ]

        said = head_to_head.counted(rows_as(RatingRow, tables.verdicts))
        for key, value in chain(_agreements(measured(alike)), _leanings(measured(judged)), said):
            self.sums[key] += value
        for chosen, rejected in zip(tables.pairs["chosen_id"], tables.pairs["rejected_id"], strict=True):
            more = texts[chosen]["length"] - texts[rejected]["length"]
            self.sums.update({("pairs",): 1, ("longer",): (more > 0) - (more < 0)})

    def merge(self, other: Trust) -> None:
        """Add another's sums to these."""
        self.sums.update(other.sums)

    def to_json(self) -> dict[str, Any]:
        """As JSON; sums are text, since many readers of JSON round whole numbers beyond 2^53."""
        return {"sums": [[*key, str(value)] for key, value in sorted(self.sums.items())]}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Trust:
        return cls(Counter({tuple(key): int(total) for *key, total in value["sums"]}))

    def agreement_table(self) -> Table:
        """Agreement per aspect with several judges: of all together and, from three on, of each two.

        `by any` (in the row of all judges only), `by all`: texts scored by at least one and by each of them. `alpha`:
        see `_alpha`. `exact`, `within 1`: share of the texts scored by all whose highest and lowest score are equal, or
        differ by at most 1 point; a judge whose scores are means over digits is rarely exact.
        """
        table: Table = []
        panel = self._under("on panel")
        for aspect, judges in {aspect: [judge for on, judge in panel if on == aspect] for aspect, _ in panel}.items():
            for group in chain(*(combinations(judges, size) for size in sorted({len(judges), 2} - {1}, reverse=True))):
                whole, size = len(group) == len(judges), str(len(group))
                names = (aspect, "all" if whole else ", ".join(group))
                texts, some = self.sums["texts", *names, size], self.sums["rated", aspect] if whole else None
                alike = {name: rounded_ratio(self.sums[name, *names, size], texts) for name in ("exact", "within 1")}
                row = {"aspect": aspect, "judges": ", ".join(group), "by any": some, "by all": texts}
                table.append({**row, "alpha": self._alpha(*names), **alike})
        return table

    def position_table(self) -> Table:
        """Effect of position, per listwise judge and position (1 = shown first).

        `n`: scores at that position. `difference`: mean of such a score minus the judge's mean for the same prompt, in
        points. `correlation`: of position and score, over all positions. Why: Wang et al. 2023, arXiv 2305.17926.
        """
        return [
            {
                "judge": judge,
                "position": int(place) + 1,
                "n": self.sums["place n", judge, place],
                "difference": self._mean("place", judge, place),
                "correlation": self._correlation("position", judge),
            }
            for judge, place in sorted(self._under("place n"), key=lambda names: (names[0], int(names[1])))
        ]

    def bias_table(self) -> Table:
        """Biases per judge, over all its aspects (those with wider scales weigh more).

        `null`: share of ratings without a score (not applicable included). `ties`: of all twos of texts of one prompt,
        the share with equal scores. `length`, `markdown`: correlation of score with the log of characters and with
        `markdown_marks`. `self-preference`: on texts of the judge's own family, the mean of its score minus the mean
        score of judges of other families for the same text, in points; `leniency`: the same on texts of other families,
        below the first where a judge prefers its own. Why: Panickssery et al. 2024, arXiv 2404.13076.
        """
        return [
            {
                "judge": judge,
                "ratings": ratings,
                "null": rounded_ratio(
                    self.sums["judged", judge] - self.sums["scored", judge], self.sums["judged", judge]
                ),
                "ties": rounded_ratio(self.sums["ties", judge], self.sums["twos", judge]),
                "length": self._correlation("length", judge),
                "markdown": self._correlation("marks", judge),
                "self-preference": self._mean("own", judge),
                "leniency": self._mean("others'", judge),
            }
            for judge, ratings in self._judged()
        ]

    def titled(self) -> dict[str, Table]:
        """All tables that have rows, each with its title."""
        titles = {
            "Agreement of the judges": self.agreement_table(),
            "Bias of the judges": self.bias_table(),
            "Effect of a text's position": self.position_table(),
            "Verdicts of the pairwise judges": head_to_head.table(self.sums),
            "Judges against the checks": against_checks.table(self.sums),
        }
        return {title: table for title, table in titles.items() if table}

    def length_bias(self) -> float | None:
        """(pairs with the longer text chosen + half of those with equal lengths) / pairs - 0.5: from -0.5 to 0.5."""
        count = self.sums[("pairs",)]
        return self.sums[("longer",)] / (2 * count) if count else None

    def least_agreement(self) -> float | None:
        """The smallest alpha of an aspect over all its judges; None where no aspect has one."""
        alphas = [self._alpha(aspect, group) for aspect, group in self._under("n") if group == "all"]
        return min((alpha for alpha in alphas if alpha is not None), default=None)

    def _judged(self) -> list[tuple[str, int]]:
        return [(judge, self.sums["judged", judge]) for (judge,) in self._under("judged")]

    def _under(self, kind: str) -> list[Key]:
        return [key[1:] for key in sorted(self.sums) if key[0] == kind]

    def _alpha(self, aspect: str, group: str) -> float | None:
        """Krippendorff's alpha, interval metric: 1 - observed / expected disagreement; 1 is full agreement, 0 chance.

        Over texts u with m_u >= 2 scores, n scores in all, S squared deviations from the mean of u or of all, summed:
        alpha = 1 - (n - 1) / n * sum(m_u S_u / (m_u - 1)) / S. None where all scores are equal.
        Source: Krippendorff 2011, Computing Krippendorff's Alpha-Reliability, the form for missing data.
        """
        n, total, squares, within = (self.sums[name, aspect, group] for name in ("n", "sum", "squares", "within"))
        spread = n * squares - total**2
        return round(1 - (n - 1) * within / spread, 3) + 0.0 if spread else None

    def _correlation(self, what: str, judge: str) -> float | None:
        """Pearson's r of `what` and score, both minus their mean in the prompt, aspect and order: -1 to 1."""
        xx, yy, xy = (self.sums[what, judge, part] for part in ("xx", "yy", "xy"))
        return round(xy / math.isqrt(xx * yy), 2) + 0.0 if xx * yy else None

    def _mean(self, what: str, *names: str) -> float | None:
        return rounded_ratio(self.sums[what, *names], self.sums[f"{what} n", *names] * STEP)


def markdown_marks(text: str) -> int:
    """Number of markdown elements in a text: headings, list items, tables, bold spans and fenced blocks."""
    rest, fenced = _FENCED.subn("", text)
    return fenced + sum(1 for _ in _MARKS.finditer(rest))


def _on_one_scale(judged: Iterable[RatingRow], rating: Rating | None) -> list[RatingRow]:
    """The rows whose scores can be compared across judges, each on its aspect's scale."""
    rewards = {judge.name: judge.scale for judge in rating.judges if judge.has_own_units} if rating else {}
    found: list[RatingRow] = []
    for row in judged:
        if row["judge"] not in rewards or rating is None:
            found.append(row)
        elif scale := rewards[row["judge"]]:
            score = row["score"]
            own = None if score is None else moved(score, scale, rating.scale_of(row["aspect"]))
            found.append({**row, "score": own})
    return found


def _measured(completion: CompletionRow, families: Mapping[str, str]) -> dict[str, Any]:
    text, writer = completion["text"], families.get(completion["member"])
    return {"length": log_length(text), "marks": markdown_marks(text), "writer": writer}


def _grouped(rated: Iterable[Row], *names: str) -> Iterable[list[Row]]:
    groups: dict[Key, list[Row]] = defaultdict(list)
    for row in rated:
        groups[tuple(row[name] for name in names)].append(row)
    return groups.values()


def _agreements(rated: Iterable[Row]) -> Tally:
    """What a text's scores in one aspect, each judge's mean over orders, add to the sums: for all judges ("all"), each
    two of them, and own and other families."""
    for group in _grouped(rated, "aspect", "completion_id"):
        aspect, writer, kin = group[0]["aspect"], group[0]["writer"], {row["judge"]: row["kin"] for row in group}
        score_of = {own[0]["judge"]: sum(row["score"] for row in own) // len(own) for own in _grouped(group, "judge")}
        yield ("rated", aspect), 1
        together = {", ".join(two): [score_of[judge] for judge in two] for two in combinations(sorted(score_of), 2)}
        for who, scores in (together | {"all": list(score_of.values())} if together else {}).items():
            count, squares = len(scores), sum(score * score for score in scores)
            yield ("texts", aspect, who, str(count)), 1
            yield ("exact", aspect, who, str(count)), min(scores) == max(scores)
            yield ("within 1", aspect, who, str(count)), max(scores) - min(scores) <= STEP
            yield ("n", aspect, who), count
            yield ("sum", aspect, who), sum(scores)
            yield ("squares", aspect, who), squares
            yield ("within", aspect, who), (count * squares - sum(scores) ** 2) // (count - 1)
        for judge, score in score_of.items():
            others = [score_of[other] for other in score_of if kin[other] and kin[other] != kin[judge]]
            if kin[judge] and writer and others:
                side = "own" if kin[judge] == writer else "others'"
                yield (f"{side} n", judge), 1
                yield (side, judge), (len(others) * score - sum(others)) // len(others)


def _products(one: list[int], two: list[int]) -> int:
    """The sum of the products of two lists' distances from their means."""
    products: int = sum(map(mul, one, two))
    return (len(one) * products - sum(one) * sum(two)) // len(one)


def _leanings(rated: Iterable[Row]) -> Tally:
    """What a judge's scores for the texts of one prompt, in one aspect and order, add to the sums of its biases."""
    for group in _grouped(rated, "judge", "aspect", "prompt_id", "order"):
        judge, count, scores = group[0]["judge"], len(group), [row["score"] for row in group]
        yield ("scored", judge), count
        yield ("twos", judge), math.comb(count, 2)
        yield ("ties", judge), sum(math.comb(same, 2) for same in Counter(scores).values())
        placed = count > 1 and all(row["protocol"] == "listwise" and row["position"] is not None for row in group)
        spread = _products(scores, scores)
        for what in ("length", "marks", "position") if placed else ("length", "marks"):
            x = [round(row[what] * STEP) for row in group]
            yield (what, judge, "xx"), _products(x, x)
            yield (what, judge, "yy"), spread
            yield (what, judge, "xy"), _products(x, scores)
        for row, score in zip(group, scores, strict=True) if placed else ():
            yield ("place n", judge, str(row["position"])), 1
            yield ("place", judge, str(row["position"])), (count * score - sum(scores)) // count
