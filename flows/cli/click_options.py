"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path

import click

recipe_argument = click.argument("recipe_path", metavar="RECIPE", type=click.Path(path_type=Path))
set_option = click.option(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Change a field, e.g. --set pairing.min_margin=0.5",
)
limit_option = click.option("--limit", type=click.IntRange(min=1), help="Read no more rows than this.")
verbose_option = click.option("--verbose", "-v", is_flag=True, help="Show Prefect's log.")
wait_option = click.option(
    "--wait",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=0,
    help="Wait for another run of the dataset to end, this long at most.",
)
dataset_argument = click.argument("dataset", type=click.Path(exists=True, file_okay=False, path_type=Path))
reason_option = click.option("--reason", required=True, help="Why; it is recorded with your name.")
