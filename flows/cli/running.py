"""What commands share: loading a recipe, running a flow, and a console."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from pairsmith.config import Recipe
    from pairsmith.planning.preflight import Finding


def recipe_from(path: Path, overrides: tuple[str, ...], limit: int | None = None) -> Recipe:
    from pairsmith.config.loading import load_recipe

    return load_recipe(path, [*overrides, *([f"prompts.limit={limit}"] if limit else [])])


def open_console(stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False, stderr=stderr)


def prepare_prefect(verbose: bool) -> None:
    """Set Prefect's settings for a run from the terminal, except those that the user has set. Call before importing
    Prefect, which reads them once."""
    from pairsmith_flows.service.settings import for_terminal

    for name, value in for_terminal(verbose).items():
        os.environ.setdefault(name, value)


def check_first(recipe: Recipe, what: str = "build") -> None:
    """Say all that stands in the way of a run. Raises ConfigError where it cannot begin.

    `what`: a run of all stages, or only `rate` or `pair`, in which other models or none are asked.
    """
    from pairsmith.judging.rating import STAGE as RATE
    from pairsmith.planning.preflight import ALL, ask_endpoints, look
    from pairsmith.session import Session

    with Session() as session:
        stages = {"build": ALL, "rate": (RATE,)}.get(what, ())
        tell_findings(look(recipe, session, stages))
        tell_findings(ask_endpoints(recipe, session, stages))


def tell_findings(found: Sequence[Finding]) -> None:
    from pairsmith.planning.preflight import raise_fatal, told
    from pairsmith_flows.cli.tables import say

    raise_fatal(found)
    for line in told(found):
        say(open_console(stderr=True), f"warning: {line}")


def nothing_to_do(recipe: Recipe, wait: float) -> dict[str, Any] | None:
    """The result of a run that has nothing to do; None for any other. Without a Prefect server that would show it."""
    if "PREFECT_API_URL" in os.environ:
        return None
    from dataclasses import asdict

    from pairsmith.building.unchanged import unchanged
    from pairsmith.session import Session
    from pairsmith.storage.lock_wait import patient

    with Session() as session, patient(wait):
        outcome = unchanged(recipe, session)
    if outcome is None or outcome.release is None:
        return None
    release = outcome.release
    told = {name: getattr(release, name) for name in ("funnel", "passed_over", "gates", "failures")}
    return asdict(release.published) | told | {"prompts": outcome.loaded.accepted, "usage": [], "failure": None}


def run_flow(
    recipe: Recipe,
    verbose: bool,
    wait: float,
    what: str = "build",
    as_preview: bool = False,
    check: bool = True,
    on: str = "threads",
) -> None:
    """Build a recipe's data set, or only rate or pair (`what`), and print the result. `on`: the engine of its tasks.

    What can be known without Prefect is said before it starts: what stands in the way (`check`), that another run works
    on the data set, that there is nothing to do. Raises ManyFailed, after the result is printed, where a member,
    evolver or judge failed too often.
    """
    from pairsmith.errors import ManyFailed, RunError
    from pairsmith.stages.base import stages_of
    from pairsmith.storage.lock_wait import patient
    from pairsmith_flows.cli.result import show_published, show_rated
    from pairsmith_flows.cli.tables import say
    from pairsmith_flows.cli.terminal import showing_progress
    from pairsmith_flows.engines.choosing import engine_for, require_engine
    from pairsmith_tasks.sessions import run_session

    console = open_console()
    if what == "build" and not as_preview and (idle := nothing_to_do(recipe, wait)):
        show_published(console, recipe, idle)
        return
    require_engine(on, recipe)
    if check:
        check_first(recipe, what)
    prepare_prefect(verbose)
    console.print(f"{recipe.name}: starting Prefect")
    from pairsmith_flows.preferences import build_preference_dataset, pair_preference_dataset, rate_preference_dataset
    from pairsmith_flows.service.server import start_temporary_server, warn_of_open_server

    flows: dict[str, Any] = {
        "build": build_preference_dataset,
        "rate": rate_preference_dataset,
        "pair": pair_preference_dataset,
    }

    if warning := warn_of_open_server():
        say(open_console(stderr=True), f"warning: {warning}")
    start_temporary_server()
    shown = [stage for stage in stages_of(recipe) if (what, stage) != ("rate", "pair")]
    failed: ManyFailed | None = None
    with (
        engine_for(on, recipe) as engine,
        run_session() as session,
        patient(wait),
        showing_progress(console, shown, session),
    ):
        flow = flows[what].with_options(task_runner=engine.runner) if engine else flows[what]
        try:
            result: dict[str, Any] = flow(recipe, **({"as_preview": True} if as_preview else {}))
        except ManyFailed as error:
            result, failed = error.result, error
        except RuntimeError as error:
            if "Failed to reach API" not in str(error):
                raise
            hint = "start that Prefect server, or unset PREFECT_API_URL to use a temporary one"
            raise RunError(f"{error}: {hint}") from None
    if what == "rate":
        show_rated(console, recipe, result)
        return
    show_published(console, recipe, result)
    if failed:
        raise failed
