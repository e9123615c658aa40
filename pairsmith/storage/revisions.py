"""The revision of each step's code: a number that is part of the fingerprint of every table the step makes.

Raise a step's number when its code makes other tables of the same input. Its tables and those of the steps after it are
then made again, from the ledger's replies. Any other change of code leaves all tables as they are. `tests/revisions`
fails where the code of a step has changed and its number has not, unless the step still makes the same golden tables.
"""

from __future__ import annotations

from pairsmith.config import Recipe

REVISIONS = {"load": 3, "generate": 2, "evolve": 3, "criteria": 2, "rate": 3, "survey": 3, "pair": 3, "publish": 2}
_SHARDS = ("generate", "evolve", "criteria", "rate", "survey", "pair")  # the steps of a shard, in their order


def revisions_to(recipe: Recipe, step: str) -> dict[str, int]:
    """The revisions that decide the tables of `step` in a shard: its own, and those of the recipe's steps before it.

    Load is none of them: a prompt that comes out of it as before stays in its shard, and so do its tables.
    """
    absent = {"evolve": recipe.evolution is None, "criteria": recipe.criteria is None}
    absent |= {"rate": recipe.rating is None, "survey": not recipe.needs_survey}
    steps = _SHARDS[: _SHARDS.index(step) + 1]
    return {one: REVISIONS[one] for one in steps if not absent.get(one)}
