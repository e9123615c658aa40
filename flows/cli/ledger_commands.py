"""Commands about the ledger: show what it holds, export, import, verify, prune, adopt."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from pairsmith_flows.cli.click_options import Place
from pairsmith_flows.cli.exits import exit_codes
from pairsmith_flows.cli.running import open_console

Opened = Callable[[], Any]  # opens the ledger that the options name


@click.group("ledger", invoke_without_command=True)
@click.option("--workspace", type=Place(exists=False), default="pairsmith-data", show_default=True)
@click.option("--ledger", "url", metavar="URL", help="A ledger elsewhere, such as postgresql://...")
@click.pass_context
def ledger_command(context: click.Context, workspace: str, url: str | None) -> None:
    """Show what the ledger holds: size, calls, tokens and cost by model; or export, import, verify, prune, adopt."""
    with exit_codes():
        from pairsmith.ledger.bookkeeping import ledger_at

        context.obj = partial(ledger_at, workspace, url)  # each command opens it: their help needs none
        if context.invoked_subcommand is None:
            from pairsmith_flows.cli.tables import Rows

            book = ledger_at(workspace, url)
            console, totals = open_console(), book.spending.totals()
            console.print(Rows("Ledger", totals) if totals else "no calls")
            console.print(f"{book.replies.count():,} replies, {book.size() / 1e6:,.1f} MB")
            doubts = book.spending.doubts()
            if any(doubts.values()):
                console.print(
                    f"of these calls {doubts['unusable']:,} gave nothing that could be used; "
                    f"the tokens of {doubts['reckoned']:,} are an estimate, since the endpoint did not say"
                )


@ledger_command.command("export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_obj
def ledger_export(opened: Opened, file: Path) -> None:
    """Write all replies to FILE, one line of JSON each."""
    with exit_codes():
        from pairsmith.ledger.bookkeeping import export

        click.echo(f"{export(opened(), file):,} replies written to {file}")


@ledger_command.command("import")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_obj
def ledger_import(opened: Opened, file: Path) -> None:
    """Add the replies of an exported FILE; those that are known stay as they are."""
    with exit_codes():
        from pairsmith.ledger.bookkeeping import import_

        read, new = import_(opened(), file)
        click.echo(f"{read:,} replies read, {new:,} of them new")


@ledger_command.command("verify")
@click.option("--drop", is_flag=True, help="Drop the damaged ones, so that they are asked for again.")
@click.pass_obj
def ledger_verify(opened: Opened, drop: bool) -> None:
    """Compare every reply with its checksum."""
    with exit_codes():
        from pairsmith.errors import DataError
        from pairsmith.ledger.bookkeeping import verify

        count, damaged = verify(book := opened())
        if drop:
            book.replies.drop(damaged)
        line = f"{count:,} replies, {len(damaged):,} damaged" + (" and dropped" if drop and damaged else "")
        if damaged and not drop:
            raise DataError(f"{line}: {', '.join(damaged[:3])}...; `verify --drop` drops them")
        click.echo(line)


@ledger_command.command("prune")
@click.argument("workspaces", nargs=-1, type=Place())
@click.option("--gone", metavar="NAME", multiple=True, help="A data set that is no more, by its name or address.")
@click.option("--yes", is_flag=True, help="Drop them; without this option, only count them.")
@click.pass_obj
def ledger_prune(opened: Opened, workspaces: tuple[str, ...], gone: tuple[str, ...], yes: bool) -> None:
    """Drop replies that no data set uses, as runs have noted in the ledger; what they cost stays counted.

    A table that is gone from one of WORKSPACES, folders or URLs, uses nothing any more. Nothing is dropped while the
    uses of a data set are not known.
    """
    with exit_codes():
        from pairsmith.ledger.pruning import prune

        found = prune(book := opened(), workspaces, gone, drop=yes)
        if found.unknown:
            click.echo("0 replies offered, since it is not known of all whether they are in use:")
            click.echo("\n".join(f"  {reason}" for reason in found.unknown))
            return
        if yes and found.unused:
            book.compact()
        click.echo(f"{len(found.unused):,} replies unused{', dropped' if yes else '; add --yes to drop them'}")


@ledger_command.command("adopt")
@click.argument("model")
@click.option("--revision", metavar="NAME", help="The branch or tag under which they were kept; none by default.")
@click.option("--commit", metavar="SHA", help="The commit that gave them; by default the one it leads to today.")
@click.pass_obj
def ledger_adopt(opened: Opened, model: str, revision: str | None, commit: str | None) -> None:
    """Take old replies of MODEL, kept without a commit of the hub, for those of one commit."""
    with exit_codes():
        from pairsmith.llms.earlier import adopt

        found, count = adopt(opened(), model, revision, commit)
        click.echo(f"{count:,} replies of {model} now count as those of commit {found}; the next run uses them")


COMMANDS = (ledger_command,)
