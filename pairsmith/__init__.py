"""pairsmith: build preference datasets. Prompts in; chosen and rejected answers, scores and reasons out.

    from pairsmith import load_recipe, build, Dataset
    build(load_recipe("recipe.yaml"))
    Dataset("pairsmith-data/demo").pairs()

`build` runs a recipe and `preview` shows its first pairs; `generate`, `evolve`, `rate` and `pair` do one step each on a
frame, a data set or a list of dicts. `Session` keeps weights and connections from one call to the next. What is behind
a name is imported when it is first used: no Prefect, and no torch before a local model is asked.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pairsmith.about import __version__

if TYPE_CHECKING:
    from pairsmith.building.previewing import preview
    from pairsmith.building.runs import build
    from pairsmith.building.steps import evolve, generate, pair, rate
    from pairsmith.config.loading import load_recipe
    from pairsmith.session import Session
    from pairsmith.storage.dataset import Dataset

__all__ = [
    "Dataset",
    "Session",
    "__version__",
    "build",
    "evolve",
    "generate",
    "load_recipe",
    "pair",
    "preview",
    "rate",
]
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # Arrow's own keeps what was freed: see pairsmith.memory


def __getattr__(name: str) -> Any:
    match name:
        case "Dataset":
            from pairsmith.storage.dataset import Dataset

            return Dataset
        case "Session":
            from pairsmith.session import Session

            return Session
        case "load_recipe":
            from pairsmith.config.loading import load_recipe

            return load_recipe
        case "build":
            from pairsmith.building.runs import build

            return build
        case "preview":
            from pairsmith.building.previewing import preview

            return preview
        case "evolve" | "generate" | "pair" | "rate":
            from pairsmith.building import steps

            return getattr(steps, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
