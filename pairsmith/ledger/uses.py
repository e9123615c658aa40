"""Which replies are in use: a row for each table of a shard that models were asked for, with the keys of its requests.

A row is opened before a model is asked for its table and closed with all keys that were asked for, so what a run that
was killed had recorded is known to be unknown. Of a key, eight bytes are kept: should two ever begin alike, a reply
counts as used that is not. Data sets whose replies were recorded before there were such rows are awaited until they
have run once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa

from pairsmith.ledger.database import Database
from pairsmith.ledger.schema import awaited, uses

RUN = ("", "")  # shard and part of the row that says that a data set has run to its end
_DIGITS = 16  # of a key, in base 16


@dataclass(frozen=True)
class Table:
    """A table of a shard: the address of its data set, the data set's name, and its own."""

    place: str
    dataset: str
    shard: str
    part: str


class Uses:
    """The uses noted in one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, table: Table) -> None:
        """Note that a model is asked for a table. What was in use for it before stays so until `note`."""

        def begin(connection: sa.Connection) -> None:
            if not connection.execute(sa.update(uses).where(*_is(table)).values(is_open=True)).rowcount:
                connection.execute(sa.insert(uses).values(_row(table, is_open=True)))

        self._database.write(begin)

    def note(self, table: Table, made_of: str, keys: Iterable[str]) -> None:
        """Note all requests that a table was made with; `made_of`: its fingerprint."""
        used = np.unique(_prefixes(keys)).tobytes()

        def note(connection: sa.Connection) -> None:
            connection.execute(sa.delete(uses).where(*_is(table)))
            connection.execute(sa.insert(uses).values(_row(table, made_of=made_of, keys=used)))

        self._database.write(note)

    def noted(self, place: str) -> dict[tuple[str, str], str]:
        """Shard and part -> the fingerprint of the table, for those of a data set that are not open."""
        columns = (uses.c.shard, uses.c.part, uses.c.made_of)
        query = sa.select(*columns).where(uses.c.place == place, sa.not_(uses.c.is_open))
        return {(shard, part): made_of for shard, part, made_of in self._database.fetch(query)}

    def made_of(self, table: Table) -> str | None:
        """The fingerprint with which a table was noted; None where it was not, or is open."""
        query = sa.select(uses.c.made_of).where(*_is(table), sa.not_(uses.c.is_open))
        return next((row.made_of for row in self._database.fetch(query)), None)

    def ended(self, place: str, dataset: str, current: Collection[tuple[str, str]], is_whole: bool = True) -> None:
        """Note that a data set has run to its end. `current`: shard and part of all tables that it asks models for.

        `is_whole`: it ran over all its prompts, so that what is open of others is given up, and nothing is awaited.
        """
        if not self.noted(place).keys() >= set(current):
            return
        opened = sa.select(uses.c.shard, uses.c.part).where(uses.c.place == place, uses.c.is_open)
        marker = Table(place, dataset, *RUN)

        def end(connection: sa.Connection) -> None:
            given_up = connection.execute(opened).all() if is_whole else ()  # of an earlier recipe or other prompts
            for shard, part in given_up:
                connection.execute(sa.delete(uses).where(*_is(Table(place, dataset, shard, part))))
            connection.execute(sa.delete(uses).where(*_is(marker)))
            connection.execute(sa.insert(uses).values(_row(marker)))
            if is_whole:
                connection.execute(sa.delete(awaited).where(awaited.c.dataset == dataset))

        self._database.write(end)

    def reopen(self, place: str, shards: Collection[str]) -> None:
        """Note that the tables of some shards are to be made again. What was in use for them before stays so."""
        again = sa.update(uses).where(uses.c.place == place, uses.c.shard.in_(shards), uses.c.shard != RUN[0])
        self._database.write(lambda connection: connection.execute(again.values(is_open=True)))

    def forget(self, place: str) -> None:
        """Forget what a data set uses, which is no more."""
        self._database.write(lambda connection: connection.execute(sa.delete(uses).where(uses.c.place == place)))

    @contextmanager
    def alone(self) -> Iterator[sa.Connection]:
        """A transaction during which nobody else notes a use, or begins one."""
        with self._database.writing, self._database.engine.begin() as connection:
            lock = "BEGIN IMMEDIATE" if self._database.is_sqlite else "LOCK TABLE uses IN EXCLUSIVE MODE"
            connection.exec_driver_sql(lock)
            yield connection


def tables_in(connection: sa.Connection) -> list[tuple[Table, bool]]:
    """All tables that are noted, and whether each is open."""
    columns = (uses.c.place, uses.c.dataset, uses.c.shard, uses.c.part, uses.c.is_open)
    return [(Table(*names), is_open) for *names, is_open in connection.execute(sa.select(*columns))]


def used_in(connection: sa.Connection, but: Collection[Table] = ()) -> np.ndarray[Any, Any]:
    """What is in use by all tables but some, for `is_used`."""
    columns = (uses.c.place, uses.c.dataset, uses.c.shard, uses.c.part, uses.c["keys"])
    skipped = set(but)
    found = (keys for *names, keys in connection.execute(sa.select(*columns)) if Table(*names) not in skipped)
    return np.unique(np.frombuffer(b"".join(found), dtype=np.uint64))


def unused_of(keys: Collection[str], used: np.ndarray[Any, Any]) -> Iterator[str]:
    """Those of some keys that no table uses."""
    found = np.isin(_prefixes(keys), used)
    yield from (key for key, is_used in zip(keys, found, strict=True) if not is_used)


def drop_tables(connection: sa.Connection, tables: Iterable[Table]) -> None:
    """Forget what some tables use, which are no more."""
    for table in tables:
        connection.execute(sa.delete(uses).where(*_is(table)))


def _is(table: Table) -> tuple[sa.ColumnElement[bool], ...]:
    return uses.c.place == table.place, uses.c.shard == table.shard, uses.c.part == table.part


def _row(table: Table, made_of: str = "", keys: bytes = b"", is_open: bool = False) -> dict[str, Any]:
    return {**vars(table), "made_of": made_of, "keys": keys, "is_open": is_open}


def _prefixes(keys: Iterable[str]) -> np.ndarray[Any, Any]:
    """The beginnings of keys, as numbers."""
    return np.array([int(key[:_DIGITS], 16) for key in keys], dtype=np.uint64)
