"""The flow with a short form: a recipe by its file on the server or as pasted YAML, and overrides.

The form of `build preference dataset` has a field for each of a recipe's, which is much to scroll through. What comes
in by this one is read as `pairsmith run` reads a file, with the same messages, before anything else is done.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from pairsmith.config import Recipe
from pairsmith.config.loading import load_recipe, recipe_in
from pairsmith.config.plugins import checked
from pairsmith.errors import ConfigError
from pairsmith_flows.preferences import APPROVAL_DAYS, FLOW, Days, ask_about, decided, run_recipe
from pairsmith_flows.service.allowed_code import check_reference

FOLDER = "PAIRSMITH_RECIPES"  # the folder of recipes that the form may name; without it, `recipes` where the run works
MOST = 1_000_000  # characters of a pasted recipe
SUFFIXES = (".yaml", ".yml")

File = Annotated[str, Field(max_length=1000)]
Text = Annotated[str, Field(max_length=MOST)]
Overrides = Annotated[list[str], Field(max_length=100)]


@flow(name="build from a recipe file", **FLOW)
def build_from_recipe_file(
    recipe_file: File = "",
    recipe_text: Text = "",
    overrides: Overrides = [],  # noqa: B006 - Prefect shows it in the form, and nothing changes it
    approval_days: Days = APPROVAL_DAYS,
) -> dict[str, Any]:
    """Build a data set from a recipe's file on the server, or from a recipe that is pasted here.

    Args:
        recipe_file: A file in the server's folder of recipes, such as echo.yaml.
        recipe_text: A whole recipe as YAML, which counts instead of the file. Its paths are seen from that folder.
        overrides: Changes to the recipe, each as key=value, such as prompts.limit=50.
        approval_days: Days that the run waits for a person, where a version needs approval.
    """
    recipe = recipe_of(recipe_file, recipe_text, overrides)
    return decided(recipe) or ask_about(recipe, run_recipe(recipe), approval_days)


def recipe_of(file: str, text: str, overrides: list[str]) -> Recipe:
    """The recipe that a short form describes. Raises ConfigError as `load_recipe` does, and names no code that the
    service does not allow: nothing of such a recipe is imported."""
    if not file.strip() and not text.strip():
        raise ConfigError("give a recipe file, or a recipe as text")
    folder = Path(os.environ.get(FOLDER) or "recipes").resolve()
    with checked(check_reference):
        if text.strip():  # a form sends the file that the deployment names also where its field was emptied
            return recipe_in(text, folder, "the pasted recipe", overrides)
        return load_recipe(allowed_file(folder, file.strip()), overrides)


def allowed_file(folder: Path, name: str) -> Path:
    """A recipe's file by its name in the folder of recipes. Raises ConfigError for any other, wherever links lead."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder):
        raise ConfigError(f"{name}: this is outside {folder}, the folder whose recipes this service runs")
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"{name}: a recipe's file ends in {' or '.join(SUFFIXES)}")
    return path
