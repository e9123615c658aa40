"""Drops the replies that no data set uses: by the uses that the ledger notes, never by who paid for them.

A ledger may be shared by data sets that this machine cannot see, so what they are noted to use stays. Where a workspace
is named, tables that are gone from it use nothing any more. As long as the uses of a data set are not known, because it
has not run since they are noted, or its last run did not end, nothing is offered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache

import sqlalchemy as sa

from pairsmith.errors import DataError
from pairsmith.ledger.database import in_portions
from pairsmith.ledger.ledger import Ledger
from pairsmith.ledger.schema import awaited, replies
from pairsmith.ledger.uses import RUN, Table, drop_tables, tables_in, unused_of, used_in
from pairsmith.storage.opening import datasets_in
from pairsmith.storage.store import Store, TableRef

BUSY = "a run works on this data set; prune when it has ended"
_KEYS_A_PAGE = 10_000


@dataclass(frozen=True)
class Pruning:
    """What pruning found: keys of replies that are `unused`, or where that cannot be said, why it is `unknown`."""

    unused: Sequence[str]
    unknown: Sequence[str]


def prune(ledger: Ledger, workspaces: Sequence[str], gone: Sequence[str] = (), drop: bool = False) -> Pruning:
    """Find the replies that no data set uses, and `drop` them.

    `workspaces`: folders and URLs; a table that is no longer there uses nothing. `gone`: names or addresses of data
    sets that are no more. Raises RunError where a run works on a data set, DataError for a name that nothing has.
    """
    named = [Store(root) for workspace in workspaces for root in datasets_in(workspace)]
    with ledger.uses.alone() as connection:
        places = {table.place for table, _ in tables_in(connection)}
    with _held(ledger, sorted(places | {place_of(store) for store in named})), ledger.uses.alone() as connection:
        found, waiting = tables_in(connection), _awaited(connection)
        given_up = [name for name in waiting if name in gone]
        past = _past([table for table, _ in found], gone, given_up) + _lost(found, workspaces)
        present = [(table, is_open) for table, is_open in found if table not in set(past)]
        unknown = [*_unnoted([name for name in waiting if name not in gone]), *_unfinished(present, named)]
        unused = [] if unknown else list(_unused(connection, past))
        if drop:
            drop_tables(connection, past)
            connection.execute(sa.delete(awaited).where(awaited.c.dataset.in_(given_up)))
            for some in in_portions(unused):
                connection.execute(sa.delete(replies).where(replies.c.key.in_(some)))
    return Pruning(unused, unknown)


def place_of(store: Store) -> str:
    """The address of a data set: a folder, or a URL."""
    return store.url("").rstrip("/")


def table_of(store: Store, dataset: str, ref: TableRef) -> Table:
    """A table of a data set, as its uses are noted."""
    return Table(place_of(store), dataset, ref.shard, f"{ref.table}.{ref.part}")


def asked_for(store: Store) -> set[tuple[str, str]]:
    """Shard and part, as `uses` has them, of all completions, criteria and ratings that are there."""
    names = ((shard, name) for shard in store.names_in("tables") for name in store.names_in(f"tables/{shard}"))
    return {(shard, name.removesuffix(".parquet")) for shard, name in names if _is_asked_for(name)}


@contextmanager
def _held(ledger: Ledger, places: Sequence[str]) -> Iterator[None]:
    """Hold the data sets at some addresses, so that none of them runs; one whose folder is not here cannot be held.

    A run on another machine is noticed all the same, since the tables that it works on are open.
    """
    with ExitStack() as held:
        for place in places:
            store = Store(place)
            folder = store.files.local_path("")
            if folder is None or folder.is_dir():
                held.enter_context(store.lock(0, BUSY))
                held.enter_context(ledger.lock(store.files, 0))
        yield


def _awaited(connection: sa.Connection) -> list[str]:
    return list(connection.execute(sa.select(awaited.c.dataset).order_by(awaited.c.dataset)).scalars())


def _past(tables: Sequence[Table], gone: Sequence[str], given_up: Sequence[str]) -> list[Table]:
    """The tables of data sets that a person says are no more."""
    for name in gone:
        places = sorted({table.place for table in tables if name in (table.dataset, table.place)})
        if len(places) > 1:
            raise DataError(f"{name}: {len(places)} data sets have this name; say which by {' or '.join(places)}")
        if not places and name not in given_up:
            raise DataError(f"{name}: no data set of this ledger has this name or address")
    return [table for table in tables if table.dataset in gone or table.place in gone]


def _lost(tables: Sequence[tuple[Table, bool]], workspaces: Sequence[str]) -> list[Table]:
    """The tables that are gone from the workspaces that were named, or whose data set is.

    One that is open is not there yet; it is gone with its data set.
    """
    addresses = {place_of(Store(workspace)) for workspace in workspaces}
    found = cache(lambda place, shard: set(Store(place).names_in(f"tables/{shard}".rstrip("/"))))

    def is_lost(table: Table, is_open: bool) -> bool:
        if is_open:
            return not Store(table.place).names_in("")
        if (table.shard, table.part) == RUN:
            return not found(table.place, "")
        return f"{table.part}.parquet" not in found(table.place, table.shard)

    here = [(table, is_open) for table, is_open in tables if table.place.rpartition("/")[0] in addresses]
    return [table for table, is_open in here if is_lost(table, is_open)]


def _unfinished(tables: Sequence[tuple[Table, bool]], named: Sequence[Store]) -> list[str]:
    """The data sets of which not all uses are known, each with what to do about it."""
    opened = sorted({(table.dataset, table.place) for table, is_open in tables if is_open})
    known = {table.place for table, _ in tables if (table.shard, table.part) == RUN}
    made = [place_of(store) for store in named if asked_for(store)]
    again = "run it once more, or say --gone"
    return [
        *(f"{dataset} at {place}: its last run did not end; {again} {place}" for dataset, place in opened),
        *(f"{place}: has not run to its end since uses are noted; run it once" for place in made if place not in known),
    ]


def _unnoted(names: Sequence[str]) -> list[str]:
    return [f"{name}: has not run since uses are noted; run it once, or say --gone {name}" for name in names]


def _is_asked_for(name: str) -> bool:
    return name.startswith(("completions.", "criteria.written.", "ratings."))


def _unused(connection: sa.Connection, past: Sequence[Table]) -> Iterator[str]:
    used, last = used_in(connection, past), ""
    while True:
        query = sa.select(replies.c.key).where(replies.c.key > last).order_by(replies.c.key).limit(_KEYS_A_PAGE)
        page = list(connection.execute(query).scalars())
        yield from unused_of(page, used)
        if len(page) < _KEYS_A_PAGE:
            return
        last = page[-1]
