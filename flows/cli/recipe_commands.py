"""Commands about a recipe: run, rate, pair, validate, inspect, schema, bench."""

from __future__ import annotations

from pathlib import Path

import click

from pairsmith_flows.cli.click_options import limit_option, recipe_argument, set_option, verbose_option, wait_option
from pairsmith_flows.cli.exits import exit_codes
from pairsmith_flows.cli.running import open_console, recipe_from, run_flow


@click.command("run")
@recipe_argument
@set_option
@limit_option
@click.option("--dry-run", is_flag=True, help="Show what would be asked, and ask nothing.")
@wait_option
@verbose_option
def run_command(
    recipe_path: Path, overrides: tuple[str, ...], limit: int | None, dry_run: bool, wait: float, verbose: bool
) -> None:
    """Run a recipe and publish its dataset."""
    with exit_codes():
        recipe = recipe_from(recipe_path, overrides, limit)
        if dry_run:
            from pairsmith.planning import plan_run
            from pairsmith_flows.cli.terminal import show_plan

            show_plan(open_console(), plan_run(recipe))
            return
        run_flow(recipe, verbose, wait)


@click.command("rate")
@recipe_argument
@set_option
@limit_option
@wait_option
@verbose_option
def rate_command(recipe_path: Path, overrides: tuple[str, ...], limit: int | None, wait: float, verbose: bool) -> None:
    """Rate the completions that exist, and generate none."""
    with exit_codes():
        recipe = recipe_from(recipe_path, overrides, limit)
        if recipe.rating is None:
            from pairsmith.errors import ConfigError

            raise ConfigError(f"{recipe_path}: no rating section, so there is nothing to rate by")
        run_flow(recipe, verbose, wait, "rate")


@click.command("pair")
@recipe_argument
@set_option
@limit_option
@wait_option
@verbose_option
def pair_command(recipe_path: Path, overrides: tuple[str, ...], limit: int | None, wait: float, verbose: bool) -> None:
    """Select pairs again from the completions and ratings that exist, and publish them. Asks no member or judge."""
    with exit_codes():
        run_flow(recipe_from(recipe_path, overrides, limit), verbose, wait, "pair")


@click.command("validate")
@recipe_argument
@set_option
def validate_command(recipe_path: Path, overrides: tuple[str, ...]) -> None:
    """Check a recipe without running it."""
    with exit_codes():
        from pairsmith.sources.inspection import unread_in
        from pairsmith_flows.cli.terminal import plain

        recipe = recipe_from(recipe_path, overrides)
        click.echo(f"{recipe_path}: a valid recipe, {recipe.name}")
        for sentence in unread_in(recipe.prompts):
            click.echo(plain(sentence))


@click.command("inspect")
@click.argument("path")
@click.option("--layout", default="auto", show_default=True, help="How its rows are laid out: docs/layouts.md.")
@click.option("--rows", type=click.IntRange(min=1), default=10_000, show_default=True, help="Look at so many rows.")
def inspect_command(path: str, layout: str, rows: int) -> None:
    """Say what is in a file of prompts: layout, columns, prompts, and what would be rejected and why.

    Exits with 1 where not one row would be a prompt.
    """
    with exit_codes():
        from pairsmith.sources.inspection import inspect
        from pairsmith_flows.cli.looking import show_inspection

        found = inspect(path, layout, rows)
        show_inspection(open_console(), path, found)
    if not found.accepted:
        raise click.exceptions.Exit(1)


@click.command("schema")
@click.option("--markdown", is_flag=True, help="Print the reference in docs/recipe.md instead.")
def schema_command(markdown: bool) -> None:
    """Print the JSON schema of recipes, with which an editor completes and checks them."""
    from pairsmith.config import Recipe, reference

    made = reference.markdown if markdown else reference.editor_schema
    click.echo(made(Recipe.model_json_schema()), nl=False)


@click.command("bench")
@recipe_argument
@set_option
@click.option("--seconds", type=click.FloatRange(min=1), default=60, show_default=True, help="Take about this long.")
def bench_command(recipe_path: Path, overrides: tuple[str, ...], seconds: float) -> None:
    """Find the batch size and dtype that are fastest for a recipe's local models on this machine."""
    with exit_codes():
        from pairsmith_flows.cli.bench import show_bench

        show_bench(open_console(), recipe_from(recipe_path, overrides), seconds)


COMMANDS = (
    run_command, rate_command, pair_command, validate_command, inspect_command, schema_command, bench_command,
)  # fmt: skip
