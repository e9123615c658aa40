"""The command line: `pairsmith run recipe.yaml`, and what goes with it. `exits` tells its exit codes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from pairsmith import __version__
from pairsmith_flows.cli.exits import exit_codes

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


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pairsmith")
def main() -> None:
    """Build preference datasets: prompts in; chosen and rejected answers, scores and reasons out."""


@main.command()
@recipe_argument
@set_option
@limit_option
@click.option("--dry-run", is_flag=True, help="Show what would be asked, and ask nothing.")
@wait_option
@verbose_option
def run(
    recipe_path: Path, overrides: tuple[str, ...], limit: int | None, dry_run: bool, wait: float, verbose: bool
) -> None:
    """Run a recipe and publish its dataset."""
    with exit_codes():
        recipe = _load(recipe_path, overrides, limit)
        if dry_run:
            from pairsmith.planning import plan_run
            from pairsmith_flows.cli.terminal import show_plan

            show_plan(_console(), plan_run(recipe))
            return
        _run(recipe, verbose, wait)


@main.command()
@recipe_argument
@set_option
@limit_option
@wait_option
@verbose_option
def rate(recipe_path: Path, overrides: tuple[str, ...], limit: int | None, wait: float, verbose: bool) -> None:
    """Rate what completions there are, and generate none."""
    with exit_codes():
        recipe = _load(recipe_path, overrides, limit)
        if recipe.rating is None:
            from pairsmith.errors import ConfigError

            raise ConfigError(f"{recipe_path}: no rating section, so there is nothing to rate by")
        _run(recipe, verbose, wait, "rate")


@main.command()
@recipe_argument
@set_option
@limit_option
@wait_option
@verbose_option
def pair(recipe_path: Path, overrides: tuple[str, ...], limit: int | None, wait: float, verbose: bool) -> None:
    """Select pairs anew from what completions and ratings there are, and publish them; no member or judge is asked."""
    with exit_codes():
        _run(_load(recipe_path, overrides, limit), verbose, wait, "pair")


@main.command()
@recipe_argument
@set_option
def validate(recipe_path: Path, overrides: tuple[str, ...]) -> None:
    """Check a recipe without running it."""
    with exit_codes():
        recipe = _load(recipe_path, overrides)
        click.echo(f"{recipe_path}: a valid recipe, {recipe.name}")


@main.command()
@recipe_argument
@set_option
@click.option("--seconds", type=click.FloatRange(min=1), default=60, show_default=True, help="Take about this long.")
def bench(recipe_path: Path, overrides: tuple[str, ...], seconds: float) -> None:
    """Find the batch size and dtype that are fastest for a recipe's local models on this machine."""
    with exit_codes():
        from pairsmith_flows.cli.bench import show_bench

        show_bench(_console(), _load(recipe_path, overrides), seconds)


@main.command()
@dataset_argument
@click.option("-n", "--count", type=click.IntRange(min=1), default=3, show_default=True, help="Pairs to show.")
def show(dataset: Path, count: int) -> None:
    """Show pairs of a published dataset side by side."""
    with exit_codes():
        from pairsmith_flows.cli.terminal import read_pairs, show_pairs

        show_pairs(_console(), read_pairs(dataset, count))


@main.command()
@click.argument("a", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("b", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--show", "count", type=click.IntRange(min=0), default=3, show_default=True, help="Flipped pairs to show."
)
def compare(a: Path, b: Path, count: int) -> None:
    """Show how two published datasets or versions, A and B, differ: prompts, pairs, scores, who was chosen."""
    with exit_codes():
        from pairsmith.reporting.comparison import compare
        from pairsmith_flows.cli.terminal import show_comparison

        show_comparison(_console(), compare(a, b, count))


@main.command()
@dataset_argument
def versions(dataset: Path) -> None:
    """List the versions of DATASET: their changes, what became of them, by whom and why, and which is `latest`."""
    with exit_codes():
        from pairsmith.status import versions_of
        from pairsmith.storage.versions import store_at
        from pairsmith_flows.cli.terminal import table

        _console().print(table("Versions", versions_of(store_at(str(dataset)))))


@main.command()
@dataset_argument
@click.argument("a")
@click.argument("b")
@click.option(
    "--show", "count", type=click.IntRange(min=0), default=20, show_default=True, help="Prompts of each kind."
)
def diff(dataset: Path, a: str, b: str, count: int) -> None:
    """Show the prompts that were added, removed or got other pairs from version A of DATASET to B.

    `compare` shows how their pairs and scores differ.
    """
    with exit_codes():
        from pairsmith.reporting.prompt_changes import changes
        from pairsmith.storage.datafiles import files_of
        from pairsmith.storage.versions import store_at, version_folder
        from pairsmith_flows.cli.terminal import show_changes

        store = store_at(str(dataset))
        files_a, files_b = (files_of(Path(version_folder(store, name))) for name in (a, b))
        show_changes(_console(), a, b, changes(files_a, files_b, count))


@main.command()
@dataset_argument
@click.argument("version", required=False)
@reason_option
def release(dataset: Path, version: str | None, reason: str) -> None:
    """Let `latest` lead to the version of DATASET that waits for approval, or to VERSION."""
    _decide("release", dataset, version, reason)


@main.command()
@dataset_argument
@click.argument("version", required=False)
@reason_option
def reject(dataset: Path, version: str | None, reason: str) -> None:
    """Turn down the version of DATASET that waits for approval; `latest` stays where it is."""
    _decide("reject", dataset, version, reason)


@main.command()
@dataset_argument
@click.argument("version")
@reason_option
def rollback(dataset: Path, version: str, reason: str) -> None:
    """Let the `latest` of DATASET lead back to VERSION; what it led to is not published again."""
    _decide("rollback", dataset, version, reason)


@main.command()
@click.argument("workspace", type=click.Path(exists=True, file_okay=False, path_type=Path), default="pairsmith-data")
def status(workspace: Path) -> None:
    """Show the datasets of a workspace, how far they are, and what its ledger holds."""
    with exit_codes():
        from pairsmith.status import datasets_of, ledger_of
        from pairsmith_flows.cli.terminal import table

        console = _console()
        datasets, ledger = datasets_of(workspace), ledger_of(workspace)
        console.print(table("Datasets", datasets) if datasets else f"{workspace}: no datasets")
        if ledger:
            console.print(table("Ledger", ledger))


@main.group(invoke_without_command=True)
@click.option("--workspace", type=click.Path(path_type=Path), default="pairsmith-data", show_default=True)
@click.option("--ledger", "url", metavar="URL", help="A ledger elsewhere, such as postgresql://...")
@click.pass_context
def ledger(context: click.Context, workspace: Path, url: str | None) -> None:
    """Show what the ledger holds: size, calls, tokens and cost by model; or export, import, verify, prune it."""
    with exit_codes():
        from pairsmith.ledger.bookkeeping import ledger_at

        book = ledger_at(workspace, url)
        context.obj = book
        if context.invoked_subcommand is None:
            from pairsmith_flows.cli.terminal import table

            console, totals = _console(), book.totals()
            console.print(table("Ledger", totals) if totals else "no replies")
            console.print(f"{sum(row['calls'] for row in totals):,} replies, {book.size() / 1e6:,.1f} MB")


@ledger.command("export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_obj
def ledger_export(book: Any, file: Path) -> None:
    """Write all replies to FILE, one line of JSON each."""
    with exit_codes():
        from pairsmith.ledger.bookkeeping import export

        click.echo(f"{export(book, file):,} replies written to {file}")


@ledger.command("import")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_obj
def ledger_import(book: Any, file: Path) -> None:
    """Add the replies of an exported FILE; those that are known stay as they are."""
    with exit_codes():
        from pairsmith.ledger.bookkeeping import import_

        read, new = import_(book, file)
        click.echo(f"{read:,} replies read, {new:,} of them new")


@ledger.command("verify")
@click.option("--drop", is_flag=True, help="Drop the damaged ones, so that they are asked for again.")
@click.pass_obj
def ledger_verify(book: Any, drop: bool) -> None:
    """Compare every reply with its checksum."""
    with exit_codes():
        from pairsmith.errors import DataError
        from pairsmith.ledger.bookkeeping import verify

        count, damaged = verify(book)
        if drop:
            book.drop(damaged)
        told = f"{count:,} replies, {len(damaged):,} damaged" + (" and dropped" if drop and damaged else "")
        if damaged and not drop:
            raise DataError(f"{told}: {', '.join(damaged[:3])}...; `verify --drop` drops them")
        click.echo(told)


@ledger.command("prune")
@click.argument("workspaces", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--yes", is_flag=True, help="Do it; without, only say what would go.")
@click.pass_obj
def ledger_prune(book: Any, workspaces: tuple[Path, ...], yes: bool) -> None:
    """Drop replies that no dataset in WORKSPACES uses. Name every workspace that shares the ledger."""
    with exit_codes():
        from pairsmith.ledger.bookkeeping import unused

        keys = unused(book, workspaces)
        if yes and keys:
            book.drop(keys)
            book.compact()
        click.echo(f"{len(keys):,} replies unused{', dropped' if yes else '; add --yes to drop them'}")


@main.command()
@click.option("--port", type=click.IntRange(1, 65535), default=4200, show_default=True)
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
    help="What the server does by itself, such as to notify.",
)
@click.option(
    "--allow-code",
    metavar="MODULE[,MODULE]",
    default="",
    envvar="PAIRSMITH_ALLOW_CODE",
    show_envvar=True,
    help="Modules, or files and folders of them, whose code the recipes of runs may name; none by default.",
)
def serve(port: int, folder: Path, prefect_file: Path, automations: Path, allow_code: str) -> None:
    """Serve the deployments: a Prefect server of this machine, with its UI, and a worker."""
    from pairsmith_flows.service import allowed_code
    from pairsmith_flows.service.serving import serve

    os.environ[allowed_code.VARIABLE] = allowed_code.absolute(allow_code)
    sys.exit(serve(folder.absolute(), port, prefect_file, automations))


@main.command()
def models() -> None:
    """Fetch the small default models where no hub can be reached."""
    with exit_codes():
        import logging

        from pairsmith.llms.local.hub_models import fetch

        logging.basicConfig(level=logging.INFO, format="%(message)s")
        for folder in fetch():
            click.echo(str(folder))


def _load(path: Path, overrides: tuple[str, ...], limit: int | None = None) -> Any:
    from pairsmith.config.loading import load_recipe

    return load_recipe(path, [*overrides, *([f"prompts.limit={limit}"] if limit else [])])


def _decide(what: str, dataset: Path, version: str | None, reason: str) -> None:
    """Release, reject or roll back, in the name of whoever sits here."""
    with exit_codes():
        from pairsmith.storage import versions

        store = versions.store_at(str(dataset))
        decision = getattr(versions, what)(store, version, by=versions.this_user(), reason=reason)
        latest = versions.latest_name(store)
        click.echo(f"{decision.version}: {decision.verdict} by {decision.by}, {decision.at}: {decision.reason}")
        click.echo(f"latest: {latest or 'none yet'}")
        if what != "rollback" and "PREFECT_API_URL" in os.environ:
            from pairsmith_flows.approval import pass_on

            for run in pass_on(store, decision):
                click.echo(f"{run} goes on with it")


def _run(recipe: Any, verbose: bool, wait: float, what: str = "build") -> None:
    """Build a recipe's dataset, or only rate or pair."""
    from pairsmith.errors import RunError
    from pairsmith.stages.base import stages_of
    from pairsmith.storage.lock_wait import patient
    from pairsmith_flows.cli.result import show_published, show_rated
    from pairsmith_flows.cli.terminal import read_pairs, show_pairs, showing_progress

    _prepare_prefect(verbose)
    console = _console()
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
    with patient(wait), showing_progress(console, shown):
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
    if "://" not in result["folder"]:
        show_pairs(console, read_pairs(Path(result["folder"]), 1))


def _prepare_prefect(verbose: bool) -> None:
    """Settings for a run from the terminal; whatever the user has set stays. Must come before Prefect's import."""
    from pairsmith_flows.service.settings import for_terminal

    for name, value in for_terminal(verbose).items():
        os.environ.setdefault(name, value)


def _console() -> Any:
    from rich.console import Console

    return Console(highlight=False, markup=False)


if __name__ == "__main__":
    main()
