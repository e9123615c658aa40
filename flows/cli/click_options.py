"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


class Place(click.Path):
    """A folder of this machine, or the URL of one on object storage, as `storage.opening` takes both; given as text.

    Every argument that names a workspace, data set or version has this type. What is at a URL is found out by whoever
    opens it, since that takes a request.
    """

    name = "place"

    def __init__(self, exists: bool = True) -> None:
        super().__init__(exists=exists, file_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value) if "://" in str(value) else str(super().convert(value, param, ctx))


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
dataset_argument = click.argument("dataset", type=Place())
reason_option = click.option("--reason", required=True, help="Why; it is recorded with your name.")
