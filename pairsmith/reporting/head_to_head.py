"""What the verdicts of pairwise judges are worth: how often they flip with the order, go by the place, or in circles.

Counts alone are kept, by name, in the sums of `agreement.Trust`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

from pairsmith.judging.pairwise import won_in
from pairsmith.judging.tournament import triples
from pairsmith.reporting.markdown import Table
from pairsmith.reporting.ratios import rounded_ratio
from pairsmith.storage.row_types import RatingRow

Key = tuple[str, ...]


def counted(verdicts: Iterable[RatingRow]) -> Iterator[tuple[Key, int]]:
    """What the verdicts of a shard add to the sums."""
    groups: dict[tuple[str, str, str], list[RatingRow]] = defaultdict(list)
    for row in verdicts:
        groups[row["judge"], row["prompt_id"], row["aspect"]].append(row)
    for (judge, _, _), group in groups.items():
        threes, circles = triples(won_in(group))
        yield ("threes", judge), threes
        yield ("circles", judge), circles
        for asked in _by_comparison(group):
            yield ("comparisons", judge), 1
            yield from (((name, judge), value) for name, value in _of_one(asked).items())


def _by_comparison(group: Iterable[RatingRow]) -> Iterable[list[list[RatingRow]]]:
    """For each two texts the sides of each order, the first place first."""
    found: dict[frozenset[str | None], dict[int, list[RatingRow]]] = defaultdict(lambda: defaultdict(list))
    for row in group:
        found[frozenset((row["completion_id"], row.get("against")))][row["order"]].append(row)
    for orders in found.values():
        yield [sorted(sides, key=lambda row: row.get("position") or 0) for _, sides in sorted(orders.items())]


def _of_one(asked: list[list[RatingRow]]) -> Counter[str]:
    """The counts of one comparison: its verdicts, those that are null or ties, and those for the first place."""
    made, better = Counter[str](), set[str]()
    for sides in asked:
        made["verdicts"] += 1
        named = [row for row in sides if row["rating"] == 1]
        if sides[0]["score"] is None:
            made["unread"] += 1
        elif not named:
            made["undecided"] += 1
        else:
            better.add(named[0]["completion_id"])
            made["placed"] += named[0].get("position") is not None
            made["first"] += named[0].get("position") == 0
    if len(asked) > 1 and not made["unread"]:
        made["both"], made["flips"] = 1, len(better) - 1 if better else 0
    return made


def flips(sums: Mapping[Key, int], judge: str) -> float | None:
    """The share of a judge's comparisons, read in both orders, of which the orders name different texts as better."""
    return rounded_ratio(sums.get(("flips", judge), 0), sums.get(("both", judge), 0))


def table(sums: Mapping[Key, int]) -> Table:
    """A row for each pairwise judge, over all aspects.

    `null`, `ties`: shares of verdicts that could not be read, and that name neither text. `flips`: see `flips`. `first
    place`: of the verdicts for one text, the share for that shown first; 0.5 where the place does nothing. `circles`:
    of threes compared in full, the share in which each is better than the next, around.
    """
    return [
        {
            "judge": judge,
            "comparisons": sums["comparisons", judge],
            "null": rounded_ratio(sums.get(("unread", judge), 0), sums["verdicts", judge]),
            "ties": rounded_ratio(
                sums.get(("undecided", judge), 0), sums["verdicts", judge] - sums.get(("unread", judge), 0)
            ),
            "flips": flips(sums, judge),
            "first place": rounded_ratio(sums.get(("first", judge), 0), sums.get(("placed", judge), 0)),
            "threes": sums.get(("threes", judge), 0),
            "circles": rounded_ratio(sums.get(("circles", judge), 0), sums.get(("threes", judge), 0)),
        }
        for judge in sorted(judge for name, *rest in sums if name == "comparisons" for judge in rest)
    ]
