"""A recipe that goes to another process as its text is the same there, and is read once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pairsmith.config import Recipe
from pairsmith.config.loading import load_recipe
from pairsmith_tasks.recipes import recipe_of, text_of
from tests.conftest import ROOT


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_is_the_same_as_its_text(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe_of(text_of(recipe)) == recipe
    assert text_of(recipe_of(text_of(recipe))) == text_of(recipe)


def test_a_text_is_read_once_in_a_process(echo_recipe: Callable[..., Recipe]) -> None:
    text = text_of(echo_recipe(2))
    assert recipe_of(text) is recipe_of(text[:10] + text[10:])  # another string of the same letters
    assert recipe_of(text_of(echo_recipe(2, name="other"))).name == "other"
