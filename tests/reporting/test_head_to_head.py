"""What the verdicts of pairwise judges are worth, counted over shards in any division."""

from __future__ import annotations

import random
from itertools import combinations
from typing import Any

import pytest

from pairsmith.judging.pairwise import ALONE
from pairsmith.reporting.agreement import Trust
from pairsmith.reporting.failures import OF, counted
from pairsmith.storage.schemas import frame
from pairsmith.storage.tables import ShardTables
from tests.runs import completion, rating

Rows = list[dict[str, Any]]


def compared(one: str, other: str, better: tuple[str | None, str | None], **fields: Any) -> Rows:
    """The rows of a comparison; `better`: the verdict of each order, a text, "tie" or None."""
    made = []
    for order, (shown, verdict) in enumerate(zip(((one, other), (other, one)), better, strict=True)):
        for position, name in enumerate(shown):
            score = None if verdict is None else float(verdict == name)
            place = {"order": order, "position": position, "against": shown[1 - position]}
            made.append(rating(name, score, protocol="pairwise", **place, **fields))
    return made


def trust_of(rows: Rows) -> Trust:
    texts = [completion(name) for name in sorted({row["completion_id"] for row in rows})]
    empty = frame("pairs", []), frame("rejections", [])
    made = Trust()
    tables = frame("prompts", []), frame("completions", texts), frame("ratings", []), *empty
    made.add(ShardTables(*tables, verdicts=frame("ratings", rows)), {})
    return made


def table(trust: Trust) -> Rows:
    return trust.titled()["Verdicts of the pairwise judges"]


def test_flips_places_ties_and_circles() -> None:
    rows = [
        *compared("a", "b", ("a", "a")),
        *compared("b", "c", ("b", "c")),  # the first place both times
        *compared("a", "c", ("c", "tie")),
        *compared("a", "d", (None, "a")),
        *compared("b", "d", ("tie", "tie")),
    ]
    (row,) = table(trust_of(rows))
    assert row == {
        "judge": "j", "comparisons": 5, "null": 0.1, "ties": 0.33, "flips": 0.25, "first place": 0.5,
        "threes": 1, "circles": 0.0,
    }  # fmt: skip
    circle = [*compared("a", "b", ("a", "a")), *compared("b", "c", ("b", "b")), *compared("a", "c", ("c", "c"))]
    assert table(trust_of(circle))[0]["circles"] == 1.0


def test_a_text_that_was_compared_with_none_is_no_failure_of_the_judge() -> None:
    assert counted([ALONE, "no verdict", None]) == {OF: 3, "stays: no verdict": 1}


def test_votes_of_people_have_no_place_and_one_order() -> None:
    votes = [row | {"position": None, "protocol": "given"} for row in compared("a", "b", ("a", "a"))[:2]]
    (row,) = table(trust_of(votes))
    assert (row["flips"], row["first place"], row["ties"]) == (None, None, 0.0)


@pytest.mark.parametrize("seed", range(3))
def test_shards_add_up_in_any_division(seed: int) -> None:
    rng, groups = random.Random(seed), list[Rows]()
    for number in range(6):
        names = [f"{number}{letter}" for letter in "abcd"]
        twos = [(two, (rng.choice([*two, "tie", None]), rng.choice([*two, "tie"]))) for two in combinations(names, 2)]
        groups.append([row for two, better in twos for row in compared(*two, better, prompt_id=f"p{number}")])
    rng.shuffle(groups)
    whole, parts = trust_of([row for group in groups for row in group]), Trust()
    for group in groups:
        parts.merge(Trust.from_json(trust_of(rng.sample(group, len(group))).to_json()))
    assert table(parts) == table(whole)
