"""What was asked by steps of which no result came back, since their process was killed: the ledger knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from pairsmith.config import Recipe
from pairsmith.generation.evolution import STAGE as EVOLVE
from pairsmith.generation.pool import STAGE as GENERATE
from pairsmith.judging.criteria import STAGE as CRITERIA
from pairsmith.judging.rating import STAGE as RATE
from pairsmith.ledger.spending import Asked
from pairsmith.llms.registry import role_of
from pairsmith.stages.base import StageResult

_STAGES = {"member": GENERATE, "evolver": EVOLVE, "author": CRITERIA, "judge": RATE}  # the stage that a role asks in
_NOBODY = Asked()


def unreported(
    recipe: Recipe, done: Iterable[StageResult], before: Mapping[str, Asked], now: Mapping[str, Asked]
) -> list[StageResult]:
    """A result for each model that was asked for more than `done` says. `before`, `now`: what the ledger had of each
    asker when the steps began, and what it has now."""
    reported: dict[tuple[str, str], Counter[str]] = {}
    for one in done:
        counts = {name: getattr(one, name) for name in Asked._fields}
        reported.setdefault((one.stage, one.who), Counter()).update(counts)
    found = []
    for spec in recipe.specs:
        role = role_of(spec)
        stage, asker = _STAGES[role], f"{role} {spec.name}"
        known, here = before.get(asker, _NOBODY), now.get(asker, _NOBODY)
        told = reported.get((stage, spec.name), Counter())
        more: dict[str, Any] = {
            name: max(0, getattr(here, name) - getattr(known, name) - told[name]) for name in Asked._fields
        }
        if more["calls"]:
            found.append(StageResult(stage, "", spec.name, 0, **more))
    return found
