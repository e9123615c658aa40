"""Commits rows of several threads together.

A commit waits for the disk. Threads that arrive meanwhile pool their rows, and one of them inserts all in the next
commit. So many threads take hardly longer to record than one.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from pairsmith.errors import DataError
from pairsmith.ledger.database import Database, reason_of

_ROWS_AN_INSERT = 90


@dataclass
class _Group:
    """Rows that are committed together."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    beside: list[dict[str, Any]] = field(default_factory=list)
    committed: bool = False
    all_new: bool = False
    error: BaseException | None = None


class GroupCommit:
    """Inserts rows into one table, and rows of another beside them; one whose primary key exists already is skipped."""

    def __init__(self, database: Database, table: sa.Table, beside: sa.Table | None = None) -> None:
        self._database, self._table, self._beside = database, table, beside
        self._gathering, self._group = threading.Lock(), _Group()

    def insert(self, rows: Sequence[dict[str, Any]], beside: Sequence[dict[str, Any]] = ()) -> bool:
        """Insert rows together with those of all threads that wait for the database now; all of a table have the same
        columns. `beside`: rows of the other table, committed with them.

        Returns whether every one of the `rows` of that commit was new.
        """
        with self._gathering:
            group = self._group
            group.rows += rows
            group.beside += beside
        with self._database.writing:
            with self._gathering:
                if self._group is group:
                    self._group = _Group()
            if not group.committed and group.error is None:
                self._commit(group)
        if group.error:
            raise DataError(f"ledger: replies cannot be recorded: {reason_of(group.error)}") from group.error
        return group.all_new

    def _commit(self, group: _Group) -> None:
        try:
            with self._database.engine.begin() as connection:
                inserted = self._insert(connection, self._table, group.rows)
                if self._beside is not None:
                    self._insert(connection, self._beside, group.beside)
            group.committed, group.all_new = True, inserted == len(group.rows)
        except BaseException as error:
            group.error = error

    def _insert(self, connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> int:
        """Insert all rows into a table; returns how many were new."""
        starts = range(0, len(rows), _ROWS_AN_INSERT)
        statements = (self._statement(table, rows[start : start + _ROWS_AN_INSERT]) for start in starts)
        return sum(connection.exec_driver_sql(*statement).rowcount for statement in statements)

    def _statement(self, table: sa.Table, rows: Sequence[dict[str, Any]]) -> tuple[str, tuple[Any, ...]]:
        """One INSERT statement for all rows: with one per row, the driver would wait for Python's lock at each."""
        names = list(rows[0])
        marks = ", ".join([f"({', '.join([self._database.mark] * len(names))})"] * len(rows))
        statement = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES {marks} ON CONFLICT DO NOTHING"  # noqa: S608 - names of ours alone
        return statement, tuple(row[name] for row in rows for name in names)
