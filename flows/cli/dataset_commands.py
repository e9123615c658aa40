"""Commands about published datasets: show, compare, versions, export, diff, release, reject, rollback, status."""

from __future__ import annotations

import os

import click

from pairsmith_flows.cli.click_options import (
    WORKSPACE,
    DatasetPlace,
    Place,
    WholeNumber,
    dataset_argument,
    reason_option,
)
from pairsmith_flows.cli.exits import exit_codes
from pairsmith_flows.cli.running import open_console


@click.command("show")
@dataset_argument
@click.option("-n", "--count", type=WholeNumber(min=1), default=3, show_default=True, help="Pairs to show.")
def show_command(dataset: str, count: int) -> None:
    """Show pairs of a published dataset side by side."""
    with exit_codes():
        from pairsmith.status import waiting_text
        from pairsmith_flows.cli.tables import say
        from pairsmith_flows.cli.terminal import read_pairs, show_pairs

        console = open_console()
        show_pairs(console, read_pairs(dataset, count))
        if told := waiting_text(dataset):
            say(console, told)


@click.command("compare")
@click.argument("a", type=DatasetPlace())
@click.argument("b", type=DatasetPlace())
@click.option("--show", "count", type=WholeNumber(min=0), default=3, show_default=True, help="Flipped pairs to show.")
def compare_command(a: str, b: str, count: int) -> None:
    """Show how two published datasets or versions, A and B, differ: prompts, pairs, scores, who was chosen."""
    with exit_codes():
        from pairsmith.reporting.comparison import compare
        from pairsmith_flows.cli.terminal import show_comparison

        show_comparison(open_console(), compare(a, b, count))


@click.command("versions")
@dataset_argument
@click.option("--prune", "prunes", is_flag=True, help="Remove old versions, never `latest` or one that waits.")
@click.option(
    "--keep",
    type=WholeNumber(min=1),
    help="With --prune: how many of the newest to keep; publishing.keep of the recipe by default.",
)
def versions_command(dataset: str, prunes: bool, keep: int | None) -> None:
    """List the versions of DATASET: their changes and state, who decided that and why, and which one is `latest`."""
    with exit_codes():
        from pairsmith.status import preview_text, versions_of, waiting_text
        from pairsmith.storage.addresses import store_at
        from pairsmith.storage.pruning import kept_by_recipe, prune
        from pairsmith_flows.cli.tables import Rows, say

        store = store_at(dataset)
        if prunes:
            removed = prune(store, keep or kept_by_recipe(store))
            click.echo(f"removed: {', '.join(removed) or 'none'}")
        console = open_console()
        console.print(Rows("Versions", versions_of(store)))
        for told in filter(None, (preview_text(store), waiting_text(dataset))):
            say(console, told)


@click.command("export")
@click.argument("version", type=DatasetPlace())
@click.argument("folder", type=click.Path())
def export_command(version: str, folder: str) -> None:
    """Copy VERSION, such as s3://bucket/workspace/demo/versions/v0002, to a new FOLDER that `load_dataset` opens.

    A dataset's own address stands for its `latest`.
    """
    with exit_codes():
        from pathlib import Path

        from pairsmith.storage.addresses import addressed
        from pairsmith.storage.exporting import export

        store, found = addressed(version)
        click.echo(f"{found.name}: {found.pairs:,} pairs in {export(store, found, Path(folder))}")


@click.command("diff")
@dataset_argument
@click.argument("a")
@click.argument("b")
@click.option("--show", "count", type=WholeNumber(min=0), default=20, show_default=True, help="Prompts of each kind.")
def diff_command(dataset: str, a: str, b: str, count: int) -> None:
    """Show the prompts that were added, removed or got other pairs from version A of DATASET to B.

    `compare` shows how their pairs and scores differ.
    """
    with exit_codes():
        from pairsmith.reporting.prompt_changes import changes
        from pairsmith.storage.addresses import named_version, store_at
        from pairsmith.storage.datafiles import data_files
        from pairsmith_flows.cli.terminal import show_changes

        store = store_at(dataset)
        files_a, files_b = (data_files(store, named_version(store, name)) for name in (a, b))
        show_changes(open_console(), a, b, changes(files_a, files_b, count))


@click.command("release")
@dataset_argument
@click.argument("version", required=False)
@reason_option
def release_command(dataset: str, version: str | None, reason: str) -> None:
    """Let `latest` lead to the version of DATASET that waits for approval, or to VERSION."""
    _decide("release", dataset, version, reason)


@click.command("reject")
@dataset_argument
@click.argument("version", required=False)
@reason_option
def reject_command(dataset: str, version: str | None, reason: str) -> None:
    """Turn down the version of DATASET that waits for approval; `latest` stays where it is."""
    _decide("reject", dataset, version, reason)


@click.command("rollback")
@dataset_argument
@click.argument("version")
@reason_option
def rollback_command(dataset: str, version: str, reason: str) -> None:
    """Let the `latest` of DATASET lead back to VERSION; what it led to is not published again."""
    _decide("rollback", dataset, version, reason)


@click.command("status")
@click.argument("workspace", type=Place(), default=WORKSPACE)
def status_command(workspace: str) -> None:
    """Show the datasets of a workspace, how far they are, and what its ledger holds."""
    with exit_codes():
        from pairsmith.status import datasets_of, ledger_of, waiting_text
        from pairsmith_flows.cli.looking import show_status

        datasets = datasets_of(workspace)
        places = {row["dataset"]: f"{workspace.rstrip('/')}/{row['dataset']}" for row in datasets}
        waits = {name: told for name, place in places.items() if (told := waiting_text(place))}
        show_status(open_console(), workspace, datasets, ledger_of(workspace), waits)


@click.command("forget")
@dataset_argument
@click.option("--prompt", "prompts", multiple=True, metavar="ID", help="A prompt, by its prompt_id.")
@click.option("--source", "sources", multiple=True, metavar="NAME", help="All prompts of a source.")
@click.option("--matching", metavar="REGEX", help="All in whose prompt, answers or ratings this is found.")
@click.option("--where", "columns", multiple=True, metavar="COLUMN=VALUE", help="All with this value in the table.")
@click.option("--ledger", "url", metavar="URL", help="The ledger, where it is not the workspace's own.")
@click.option("--may-return", is_flag=True, help="Let a later run read them again.")
@click.option("--yes", is_flag=True, help="Do it; without this option, only count.")
def forget_command(
    dataset: str,
    prompts: tuple[str, ...],
    sources: tuple[str, ...],
    matching: str | None,
    columns: tuple[str, ...],
    url: str | None,
    may_return: bool,
    yes: bool,
) -> None:
    """Take prompts of DATASET out of its ledger, tables and versions. They do not come back by a later run."""
    with exit_codes():
        from pairsmith.errors import ConfigError
        from pairsmith.ledger.bookkeeping import ledger_at
        from pairsmith.stages.forget import Choice, forget
        from pairsmith.storage.store import Store

        if wrong := [pair for pair in columns if "=" not in pair]:
            raise ConfigError(f"--where {wrong[0]}: write COLUMN=VALUE")
        choice = Choice(prompts, sources, matching, dict(pair.split("=", 1) for pair in columns))
        ledger = ledger_at(dataset.rstrip("/").rpartition("/")[0] or ".", url)
        found = forget(Store(dataset), ledger, choice, yes, may_return)
        pairs = ", ".join(f"{count:,} pairs of {name}" for name, count in found.versions.items()) or "no version"
        what = f"{found.prompts:,} prompts in {found.shards:,} shards, {found.replies:,} replies, {pairs}"
        click.echo(f"{what}: {'taken out' if yes else 'found; add --yes to take them out'}")
        click.echo("Not reached:\n" + "\n".join(f"- {place}" for place in found.unreached))


def _decide(what: str, dataset: str, version: str | None, reason: str) -> None:
    """Release, reject or roll back, in the name of this machine's user."""
    with exit_codes():
        from pairsmith.storage import versions
        from pairsmith.storage.addresses import store_at
        from pairsmith.storage.decisions import this_user

        store = store_at(dataset)
        decision = getattr(versions, what)(store, version, by=this_user(), reason=reason)
        latest = versions.latest_name(store)
        click.echo(f"{decision.version}: {decision.verdict} by {decision.by}, {decision.at}: {decision.reason}")
        click.echo(f"latest: {latest or 'none yet'}")
        if what != "rollback" and "PREFECT_API_URL" in os.environ:
            from pairsmith_flows.approval import pass_on

            for run in pass_on(store, decision):
                click.echo(f"{run} goes on with it")


COMMANDS = (
    forget_command,
    show_command,
    compare_command,
    versions_command,
    export_command,
    diff_command,
    release_command,
    reject_command,
    rollback_command,
    status_command,
)
