"""What commands share: loading a recipe, running a flow, and a console."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from pairsmith.config import Recipe


def recipe_from(path: Path, overrides: tuple[str, ...], limit: int | None = None) -> Recipe:
    from pairsmith.config.loading import load_recipe

    return load_recipe(path, [*overrides, *([f"prompts.limit={limit}"] if limit else [])])


def open_console() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False)


def prepare_prefect(verbose: bool) -> None:
    """Set Prefect's settings for a run from the terminal, except those that the user has set. Call before importing
    Prefect, which reads them once."""
    from pairsmith_flows.service.settings import for_terminal

    for name, value in for_terminal(verbose).items():
        os.environ.setdefault(name, value)


def run_flow(recipe: Recipe, verbose: bool, wait: float, what: str = "build") -> None:
    """Build a recipe's data set, or only rate or pair (`what`), and print the result."""
    from pairsmith.errors import RunError
    from pairsmith.stages.base import stages_of
    from pairsmith.storage.lock_wait import patient
    from pairsmith_flows.cli.result import show_published, show_rated
    from pairsmith_flows.cli.terminal import read_pairs, show_pairs, showing_progress
    from pairsmith_tasks.sessions import run_session

    prepare_prefect(verbose)
    console = open_console()
    console.print(f"{recipe.name}: starting Prefect")
    from pairsmith_flows.preferences import build_preference_dataset, pair_preference_dataset, rate_preference_dataset
    from pairsmith_flows.service.server import start_temporary_server, warn_of_open_server

    flows: dict[str, Any] = {
        "build": build_preference_dataset,
        "rate": rate_preference_dataset,
        "pair": pair_preference_dataset,
    }

    if warning := warn_of_open_server():
        click.echo(f"warning: {warning}", err=True)
    start_temporary_server()
    shown = [stage for stage in stages_of(recipe) if (what, stage) != ("rate", "pair")]
    with run_session() as session, patient(wait), showing_progress(console, shown, session):
        try:
            result: dict[str, Any] = flows[what](recipe)
        except RuntimeError as error:
            if "Failed to reach API" not in str(error):
                raise
            hint = "start that Prefect server, or unset PREFECT_API_URL to use a temporary one"
            raise RunError(f"{error}: {hint}") from None
    if what == "rate":
        show_rated(console, recipe, result)
        return
    show_published(console, recipe, result)
    show_pairs(console, read_pairs(result["folder"], 1))
