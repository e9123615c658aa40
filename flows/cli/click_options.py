"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

WORKSPACE = "pairsmith-data"


class WholeNumber(click.IntRange):
    """click's type under a name that a person uses."""

    name = "whole number"


class Number(click.FloatRange):
    """click's type under a name that a person uses."""

    name = "number"


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


class DatasetPlace(Place):
    """A data set or one of its versions: as `Place`, or by its name in the workspace that recipes have by default."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        named = Path(WORKSPACE, str(value))
        if "://" in str(value) or Path(value).is_absolute() or _is_dataset(Path(value)) or not named.is_dir():
            return super().convert(value, param, ctx)
        return str(named)


def _is_dataset(folder: Path) -> bool:
    """Whether a folder looks like a data set or a version, and not like one that has the name of a data set alone."""
    return any((folder / name).exists() for name in ("versions", "tables", "data", "version.json"))


recipe_argument = click.argument("recipe_path", metavar="RECIPE", type=click.Path(path_type=Path))
set_option = click.option(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Change a field, e.g. --set pairing.min_margin=0.5",
)
limit_option = click.option(
    "--limit", type=WholeNumber(min=1), help="Read no more rows than this; what comes of them is a preview."
)
publish_option = click.option("--publish", is_flag=True, help="With --limit: make a version all the same.")
no_check_option = click.option("--no-check", is_flag=True, help="Begin without a look at keys, endpoints and the disk.")
verbose_option = click.option("--verbose", "-v", is_flag=True, help="Show Prefect's log.")
on_option = click.option(
    "--on",
    metavar="ENGINE",
    default="threads",
    envvar="PAIRSMITH_ON",
    show_default=True,
    show_envvar=True,
    help="Where tasks work: threads, dask, dask://HOST:PORT, ray or ray://HOST:PORT (docs/scale.md).",
)
wait_option = click.option(
    "--wait",
    metavar="SECONDS",
    type=Number(min=0),
    default=0,
    help="Wait for another run of the dataset to end, this long at most.",
)
dataset_argument = click.argument("dataset", type=DatasetPlace())
reason_option = click.option("--reason", required=True, help="Why; it is recorded with your name.")
