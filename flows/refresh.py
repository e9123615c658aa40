"""The scheduled flow: read the sources again, work on the prompts not seen before, publish the next version.

The work is that of the main flow, where only new prompts cost anything. This flow also logs whether there were any, and
waits while another run works on the data set.
"""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger

from pairsmith.config import Recipe
from pairsmith.storage.lock_wait import patient
from pairsmith_flows.preferences import APPROVAL_DAYS, FLOW, Days, ask_about, decided, run_recipe

PATIENCE_SECONDS = 6 * 3600.0  # to wait for a run of another deployment, or of the command line


@flow(name="refresh preference dataset", **FLOW)
def refresh_preference_dataset(
    recipe: Recipe, full: bool = False, approval_days: Days = APPROVAL_DAYS
) -> dict[str, Any]:
    """Bring the data set up to date with its sources; if nothing is new, the latest version stays as it is.

    Args:
        recipe: Everything that decides what a run does.
        full: Read every source again, whatever was noted about it.
        approval_days: Days that the run waits for a person, where a version needs approval.
    """
    if done := decided(recipe):
        return done
    with patient(PATIENCE_SECONDS):
        result = run_recipe(recipe, full=full)
    new, log = result["loaded"]["new"], get_run_logger()
    if result["new"]:
        log.info("%d new prompts; %s, %s", new, result["version"], result["state"])
    else:
        log.info("no news; %s stays", result["version"])
    return ask_about(recipe, result, approval_days)
