"""`pairsmith bench`: prints each trial of a recipe's local models when it is done, then what to put into the recipe."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from pairsmith.config import Recipe
from pairsmith.errors import RunError
from pairsmith.planning.tuning import Trial, best, lines, tune, works
from pairsmith_flows.cli.tables import Rows, say


def show_bench(console: Console, recipe: Recipe, seconds: float) -> None:
    found = works(recipe)
    kinds = "1 kind" if len(found) == 1 else f"{len(found)} kinds"
    say(console, f"{recipe.name}: {kinds} of work for local models, about {seconds:.0f} s")
    trials = []
    for trial in tune(found, seconds):
        trials.append(trial)
        say(console, _line(trial))
    chosen = best(trials)
    if not chosen:
        raise RunError("no trial came to an end; see above")
    rows: list[dict[str, Any]] = [_row(trial) | {"best": "*" if trial in chosen else ""} for trial in trials]
    console.print(Rows("Trials", rows))
    console.print("Put into the recipe, at the member, evolver or judge that is named:")
    for line in lines(chosen):
        say(console, f"  {line}")


def _line(trial: Trial) -> str:
    about = f"{', '.join(trial.work.names)}: {trial.dtype}, batches of {trial.batch_size}"
    return f"{about}: {trial.error or f'{trial.rate:,.0f} tokens/s'}"


def _row(trial: Trial) -> dict[str, Any]:
    took = trial.took
    return {
        "who": ", ".join(trial.work.names),
        "dtype": trial.dtype,
        "batch_size": trial.batch_size,
        "tokens/s": round(trial.rate) if took else None,
        "requests/s": trial.requests / took.seconds if took else None,
        "memory, MB": round(took.megabytes) if took else None,
        "error": trial.error,
    }
