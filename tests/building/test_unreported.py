"""What tasks asked of which nothing came back is counted by the ledger, and what came back is not counted twice."""

from __future__ import annotations

from collections.abc import Callable

from pairsmith.building.unreported import unreported
from pairsmith.config import Recipe
from pairsmith.ledger.spending import Asked
from pairsmith.stages.base import StageResult

Build = Callable[..., Recipe]


def test_what_the_ledger_has_beyond_results_is_a_result_of_its_own(echo_recipe: Build) -> None:
    before = {"member brief": Asked(5, 50, 500, 5.0), "member of another recipe": Asked(9)}
    now = {
        "member brief": Asked(8, 80, 800, 8.0), "evolver evolver": Asked(2, 1, 1), "judge judge": Asked(4, 40, 400),
        "member of another recipe": Asked(99),
    }  # fmt: skip
    done = [
        StageResult("generate", "one", "brief", 4, calls=1, prompt_tokens=10, tokens=100, cost=1.0),
        StageResult("rate", "one", "judge", 4, calls=3, prompt_tokens=30, tokens=300),
        StageResult("rate", "two", "judge", 4, calls=1, prompt_tokens=10, tokens=100),
    ]
    found = unreported(echo_recipe(2), done, before, now)
    assert found == [
        StageResult("generate", "", "brief", 0, calls=2, prompt_tokens=20, tokens=200, cost=2.0),
        StageResult("evolve", "", "evolver", 0, calls=2, prompt_tokens=1, tokens=1),
    ]
    assert unreported(echo_recipe(2), [*done, *found], before, now) == []


def test_more_calls_than_the_ledger_has_are_those_that_failed(echo_recipe: Build) -> None:
    done = [StageResult("generate", "one", "brief", 4, calls=7, tokens=3)]
    assert unreported(echo_recipe(2), done, {}, {"member brief": Asked(5, 0, 3)}) == []
