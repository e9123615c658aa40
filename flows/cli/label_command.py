"""The command `label`: people say which answers of a data set are better."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pairsmith_flows.cli.click_options import WholeNumber, dataset_argument
from pairsmith_flows.cli.exits import exit_codes, leaving_by_interrupt
from pairsmith_flows.cli.running import open_console

if TYPE_CHECKING:
    from pairsmith.labelling.pairs import Draw, VersionPairs

TOOL = click.Choice(["argilla", "label-studio"])
FOLDER, GOLD = "labels", "gold.jsonl"


@click.command("label")
@dataset_argument
@click.option("-n", "--count", type=WholeNumber(min=1), default=100, show_default=True, help="Pairs to label.")
@click.option("--by", "who", metavar="NAME", help="Who labels; the name of this login by default.")
@click.option("--seed", type=int, default=0, show_default=True, help="Which pairs are drawn, in which order and sides.")
@click.option("--port", type=WholeNumber(0, 65535), default=0, help="The page's port; any that is free by default.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="The gold file; labels are beside it.")
@click.option("--show", "shows", is_flag=True, help="Only print how far people and judges agree.")
@click.option(
    "--export",
    "export",
    type=(TOOL, click.Path(path_type=Path)),
    metavar="TOOL FILE",
    help="Write the pairs for argilla or label-studio.",
)
@click.option(
    "--import",
    "import_",
    type=(TOOL, click.Path(path_type=Path)),
    metavar="TOOL FILE",
    help="Take labels from argilla or label-studio.",
)
def label_command(
    dataset: str,
    count: int,
    who: str | None,
    seed: int,
    port: int,
    out: Path | None,
    shows: bool,
    export: tuple[str, Path] | None,
    import_: tuple[str, Path] | None,
) -> None:
    """Label pairs of DATASET on a page of this machine, without names or scores, and write a gold file.

    Ctrl-C leaves; the same command goes on where it was left. Another person labels the same pairs with another --by.
    """
    with exit_codes():
        from pairsmith.labelling.journal import check_name
        from pairsmith.labelling.pairs import pairs_in
        from pairsmith.storage.decisions import this_user

        gold, pairs = out or default_gold(dataset), pairs_in(dataset)
        if import_:
            _import(gold.parent, pairs, *import_)
        elif not (shows or export):
            _label(pairs.draw(count, seed), gold.parent, check_name(who or this_user()), port)
        if export:
            _export(gold.parent, pairs, pairs.draw(count, seed), *export)
            return
        _tell(gold, pairs, writes=not shows)


def default_gold(dataset: str) -> Path:
    """Where labels and gold stand by default: beside the versions, and here for a data set that is on no disk."""
    parts = dataset.rstrip("/").split("/")
    if parts[-2:-1] == ["versions"]:
        parts = parts[:-2]
    elif parts[-1] in ("latest", "preview"):
        parts = parts[:-1]
    if "://" in dataset:
        return Path(f"{parts[-1]}-{FOLDER}", GOLD)
    return Path("/".join(parts), FOLDER, GOLD)


def _label(draw: Draw, folder: Path, who: str, port: int) -> None:
    """Serve the page until the person is done, or leaves by Ctrl-C."""
    from pairsmith.labelling.desk import Desk
    from pairsmith.labelling.journal import open_journal
    from pairsmith.labelling.serving import serving

    with open_journal(folder, who) as journal:
        desk = Desk(draw, journal, who)
        with serving(desk, port) as (address, done), leaving_by_interrupt():
            before = desk.state()
            click.echo(f"{who}: {before['done']:,} of {before['total']:,} pairs of {draw.version} are labelled")
            click.echo(f"label at {address}\nCtrl-C leaves; every label is kept at once")
            while not done.wait(0.5):
                pass
        after = desk.state()
        click.echo(f"\n{after['done']:,} of {after['total']:,} pairs are labelled by {who}, in {journal.path}")


def _import(folder: Path, pairs: VersionPairs, tool: str, path: Path) -> None:
    from pairsmith.labelling.exchange import read_foreign, take_in

    found = take_in(folder, read_foreign(tool, path), pairs)
    absent = f"; {found.absent:,} left out: {pairs.version} has no such pair" if found.absent else ""
    click.echo(f"{path}: {found.taken:,} labels taken, {found.known:,} known already{absent}")


def _export(folder: Path, pairs: VersionPairs, draw: Draw, tool: str, path: Path) -> None:
    from pairsmith.labelling.exchange import TOOLS
    from pairsmith.labelling.journal import labels_in
    from pairsmith.labelling.votes import all_labels, voted

    people = labels_in(folder)
    whole = voted((dict(draw.pairs) | pairs.labelled(all_labels(people))).values(), people)
    with open(path, "x", encoding="utf-8") as file:  # in one that is there somebody may have worked
        file.write(TOOLS[tool].exported(whole))
    click.echo(f"{path}: {len(whole):,} pairs of {draw.version}, for {tool}")


def _tell(gold: Path, pairs: VersionPairs, writes: bool) -> None:
    """Write the gold file, and print where the labels are and how far people and judges agree."""
    from pairsmith.labelling.agreement import judge_table, people_table
    from pairsmith.labelling.journal import labels_in
    from pairsmith.labelling.votes import all_labels, into_gold, voted
    from pairsmith_flows.cli.tables import Rows

    people = labels_in(gold.parent)
    if not any(people.values()):
        click.echo(f"{gold.parent}: no labels yet")
        return
    found = pairs.labelled(all_labels(people))
    labelled = voted(found.values(), people)
    if writes:
        click.echo(f"{gold}: {into_gold(gold, labelled, people):,} pairs of gold")
    if absent := {one.pair for one in all_labels(people)} - set(found):
        click.echo(f"{len(absent):,} labelled pairs are not in {pairs.version}: what {gold} says of them stays")
    console = open_console()
    tables = {"People with each other": people_table(labelled), "Judges with people": judge_table(labelled)}
    for title in filter(tables.get, tables):
        console.print(Rows(title, tables[title]))


COMMANDS = (label_command,)
