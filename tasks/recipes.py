"""A recipe as a parameter of tasks: its text, which means the same in every process and is cheap to pass on.

Prefect searches parameters for results of other tasks, and knows results by their address in memory: among a recipe's
parts, which come and go, it finds some of tasks that have nothing to do with it. A text has no parts.
"""

from __future__ import annotations

from functools import lru_cache

from pairsmith.config import Recipe

RECENT = 8  # recipes that a process keeps


def text_of(recipe: Recipe) -> str:
    """A recipe as JSON."""
    return recipe.model_dump_json()


@lru_cache(RECENT)
def recipe_of(text: str) -> Recipe:
    """The recipe of a text, read once in a process."""
    return Recipe.model_validate_json(text)
