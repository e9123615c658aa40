"""Steps for `prefect deploy`, to be named in a prefect.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def read_recipe(path: str) -> dict[str, Any]:
    """Read a recipe's file as `pairsmith run` does, so that a deployment's parameters need no copy of it.

    Outputs: `recipe`, with absolute paths and without defaults; and its `name`.
    """
    from pairsmith.config.loading import load_recipe

    recipe = load_recipe(Path(path))
    return {"recipe": recipe.model_dump(mode="json", exclude_defaults=True), "name": recipe.name}
