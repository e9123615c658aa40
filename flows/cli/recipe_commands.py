"""Commands about a recipe: run, rate, pair, criteria, preview, validate, inspect, schema, calibrate, bench."""

from __future__ import annotations

from pathlib import Path

import click

from pairsmith_flows.cli.click_options import (
    Number,
    WholeNumber,
    limit_option,
    no_check_option,
    on_option,
    publish_option,
    recipe_argument,
    set_option,
    verbose_option,
    wait_option,
)
from pairsmith_flows.cli.exits import exit_codes
from pairsmith_flows.cli.running import check_first, open_console, recipe_from, run_flow


@click.command("run")
@recipe_argument
@set_option
@limit_option
@publish_option
@click.option("--dry-run", is_flag=True, help="Show what would be asked, and ask nothing.")
@no_check_option
@on_option
@wait_option
@verbose_option
def run_command(
    recipe_path: Path,
    overrides: tuple[str, ...],
    limit: int | None,
    publish: bool,
    dry_run: bool,
    no_check: bool,
    on: str,
    wait: float,
    verbose: bool,
) -> None:
    """Run a recipe and publish its dataset.

    With --limit no version is made: what comes of it stands in the folder `preview` of the dataset, and `latest` stays.
    """
    with exit_codes():
        recipe = recipe_from(recipe_path, overrides, limit)
        if dry_run:
            from pairsmith.planning.dry_run import plan_run
            from pairsmith_flows.cli.terminal import show_plan

            show_plan(open_console(), plan_run(recipe))
            return
        run_flow(recipe, verbose, wait, as_preview=limit is not None and not publish, check=not no_check, on=on)


@click.command("rate")
@recipe_argument
@set_option
@limit_option
@no_check_option
@on_option
@wait_option
@verbose_option
def rate_command(
    recipe_path: Path,
    overrides: tuple[str, ...],
    limit: int | None,
    no_check: bool,
    on: str,
    wait: float,
    verbose: bool,
) -> None:
    """Rate the completions that exist, and generate none."""
    with exit_codes():
        recipe = recipe_from(recipe_path, overrides, limit)
        if recipe.rating is None:
            from pairsmith.errors import ConfigError

            raise ConfigError(f"{recipe_path}: no rating section, so there is nothing to rate by")
        run_flow(recipe, verbose, wait, "rate", check=not no_check, on=on)


@click.command("pair")
@recipe_argument
@set_option
@limit_option
@publish_option
@no_check_option
@on_option
@wait_option
@verbose_option
def pair_command(
    recipe_path: Path,
    overrides: tuple[str, ...],
    limit: int | None,
    publish: bool,
    no_check: bool,
    on: str,
    wait: float,
    verbose: bool,
) -> None:
    """Select pairs again from the completions and ratings that exist, and publish them. Asks no member or judge.

    With --limit no version is made, as by `run`.
    """
    with exit_codes():
        as_preview = limit is not None and not publish
        run_flow(recipe_from(recipe_path, overrides, limit), verbose, wait, "pair", as_preview, not no_check, on)


@click.command("criteria")
@recipe_argument
@set_option
def criteria_command(recipe_path: Path, overrides: tuple[str, ...]) -> None:
    """Print the criteria of a recipe's last run, a JSON object a line, for rating.criteria.file. Asks nobody.

    In the file, change `question`, `weight` or `check`, add lines, or set `error` to null for one that was dropped.
    """
    with exit_codes():
        from pairsmith.errors import ConfigError, DataError
        from pairsmith.judging.criteria_file import written_out
        from pairsmith.session import Session
        from pairsmith.stages.criteria import stored_criteria

        recipe = recipe_from(recipe_path, overrides)
        if recipe.criteria is None:
            raise ConfigError(f"{recipe_path}: the recipe has no rating.criteria")
        with Session() as session:
            found, absent = stored_criteria(recipe, session)
        if not found:
            raise DataError(f"{recipe.name}: no criteria yet; `pairsmith run {recipe_path}` has them written")
        for line in written_out(found):
            click.echo(line)
        if absent:
            click.echo(f"{absent:,} prompts have no criteria yet, since they were never paired", err=True)


@click.command("preview")
@recipe_argument
@set_option
@click.option("-n", "--count", type=WholeNumber(min=1), default=5, show_default=True, help="Read so many rows.")
def preview_command(recipe_path: Path, overrides: tuple[str, ...], count: int) -> None:
    """Show the pairs of a recipe's first rows at once. Makes no version; a run asks for none of these replies again."""
    with exit_codes():
        from pairsmith_flows.cli.looking import show_preview

        show_preview(open_console(), recipe_from(recipe_path, overrides), count)


@click.command("validate")
@recipe_argument
@set_option
@click.option("--check", is_flag=True, help="Also look whether a run can go well, with one call to each endpoint.")
def validate_command(recipe_path: Path, overrides: tuple[str, ...], check: bool) -> None:
    """Check a recipe without running it. With --check, exits with 2 where a run could not begin."""
    with exit_codes():
        from pairsmith.sources.inspection import unread_in
        from pairsmith_flows.cli.tables import say

        recipe = recipe_from(recipe_path, overrides)
        click.echo(f"{recipe_path}: a valid recipe, {recipe.name}")
        for sentence in unread_in(recipe.prompts):
            say(open_console(), sentence)
        if check:
            check_first(recipe)
            click.echo("a run can begin")


@click.command("inspect")
@click.argument("path")
@click.option("--layout", default="auto", show_default=True, help="How its rows are laid out: docs/layouts.md.")
@click.option("--rows", type=WholeNumber(min=1), default=10_000, show_default=True, help="Look at so many rows.")
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


@click.command("calibrate")
@recipe_argument
@set_option
@click.option("--gold", required=True, help="File of pairs of which people said which answer is better.")
@click.option("-n", "--count", type=WholeNumber(min=1), help="Draw so many of its pairs; all if absent.")
@click.option("--as-is", is_flag=True, help="Ask the judges only as the recipe does, not in their other forms.")
@click.option("--write", "target", type=click.Path(dir_okay=False, path_type=Path), help="Write a calibration here.")
@click.option("--dry-run", is_flag=True, help="Show what would be asked, and ask nothing.")
@no_check_option
def calibrate_command(
    recipe_path: Path,
    overrides: tuple[str, ...],
    gold: str,
    count: int | None,
    as_is: bool,
    target: Path | None,
    dry_run: bool,
    no_check: bool,
) -> None:
    """Hold a recipe's judges to gold, in each form that they could have, and say what to put into the recipe.

    Exits with 1 where no judge gave a rating, and with 3 where the gold cannot be used.
    """
    with exit_codes():
        from pairsmith_flows.cli.calibrating import show_calibration, show_planned

        recipe = recipe_from(recipe_path, (*overrides, "rating.calibration=null"))
        if dry_run:
            show_planned(open_console(), recipe, gold, count, as_is)
            return
        if not no_check:
            check_first(recipe, "rate")
        show_calibration(open_console(), recipe, gold, count, as_is, target)


@click.command("bench")
@recipe_argument
@set_option
@click.option("--seconds", type=Number(min=1), default=60, show_default=True, help="Take about this long.")
def bench_command(recipe_path: Path, overrides: tuple[str, ...], seconds: float) -> None:
    """Find the batch size and dtype that are fastest for a recipe's local models on this machine."""
    with exit_codes():
        from pairsmith_flows.cli.bench import show_bench

        show_bench(open_console(), recipe_from(recipe_path, overrides), seconds)


COMMANDS = (
    run_command, rate_command, pair_command, criteria_command, preview_command, validate_command, inspect_command,
    schema_command, calibrate_command, bench_command,
)  # fmt: skip
