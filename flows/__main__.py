"""The command line: `pairsmith run recipe.yaml` and the other commands. `cli.exits` lists the exit codes."""

from __future__ import annotations

import click

from pairsmith.about import __version__
from pairsmith_flows.cli import (
    dataset_commands,
    label_command,
    ledger_commands,
    proof_commands,
    recipe_commands,
    service_commands,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pairsmith")
def main() -> None:
    """Build preference datasets: prompts in; chosen and rejected answers, scores and reasons out."""


for module in (
    recipe_commands,
    dataset_commands,
    label_command,
    proof_commands,
    ledger_commands,
    service_commands,
):
    for command in module.COMMANDS:
        main.add_command(command)

if __name__ == "__main__":
    main()
