"""The scheduled flow: read the sources again, work on the prompts not seen before, publish the next version.

The work is that of the main flow, which costs only what is new; this flow says whether anything was.
"""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger

from flows.preferences import FLOW, run_recipe
from pairsmith.config import Recipe


@flow(name="refresh preference dataset", **FLOW)
def refresh_preference_dataset(recipe: Recipe, full: bool = False) -> dict[str, Any]:
    """Bring the data set up to date with its sources; without news the latest version stays as it is."""
    result = run_recipe(recipe)
    new, log = result["loaded"]["new"], get_run_logger()
    if result["new"]:
        log.info("%d new prompts; %s replaces the version before", new, result["version"])
    else:
        log.info("no news; %s stays", result["version"])
    return result
