"""A judge's weight decides which pairs come of a shard, though nothing that the judge is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pairsmith.config import Recipe
from pairsmith.session import process_session
from pairsmith.stages.freshness import unfinished
from pairsmith.stages.load import load
from pairsmith.stages.plan import plan_fingerprint
from tests.runs import run

Build = Callable[..., Recipe]


def weighted(build: Build, first: float, second: float, **changes: Any) -> Recipe:
    """Two judges with these weights."""
    judge = {"backend": "echo", "protocol": "pointwise", "readout": "logprobs"}
    judges = [
        {"name": "first", "model": "judge-1", "weight": first, **judge},
        {"name": "second", "model": "judge-2", "weight": second, **judge},
    ]
    return build(12, evolution=None, rating={"aspects": ["overall"], "judges": judges}, **changes)


def test_other_weights_are_another_plan(echo_recipe: Build) -> None:
    plans = {plan_fingerprint(weighted(echo_recipe, *weights)) for weights in ((1, 1), (3, 1), (1, 3))}
    assert len(plans) == 3
    assert plan_fingerprint(weighted(echo_recipe, 1, 1)) in plans


def test_after_a_change_of_weights_pairs_are_selected_anew_and_no_judge_is_asked(echo_recipe: Build) -> None:
    equal, _, _ = run(weighted(echo_recipe, 1, 1))
    recipe = weighted(echo_recipe, 9, 1)
    shards = load(recipe, process_session()).shards
    assert unfinished(recipe, shards, process_session()) == list(shards)
    heavy, _, calls = run(recipe)
    anew, _, _ = run(weighted(echo_recipe, 9, 1, name="anew"))
    assert not calls
    assert heavy.digest == anew.digest != equal.digest
