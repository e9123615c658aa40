"""Commits rows of several threads together.

A commit waits for the disk. Threads that arrive meanwhile pool their rows, and one of them inserts all in the next
commit. So many threads take hardly longer to record than one.

Rows that cannot be inserted, as into a database without room, were paid for all the same: see `unrecorded`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from pairsmith.errors import DataError
from pairsmith.ledger import schema, unrecorded
from pairsmith.ledger.database import Database
from pairsmith.ledger.inserting import insert
from pairsmith.ledger.retries import reason_of


@dataclass
class _Group:
    """Rows that are committed together."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    beside: list[dict[str, Any]] = field(default_factory=list)
    committed: bool = False
    all_new: bool = False
    error: BaseException | None = None
    kept: str = ""


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
            reason = reason_of(group.error)
            raise DataError(f"ledger: replies cannot be recorded: {reason}{group.kept}") from group.error
        return group.all_new

    def _commit(self, group: _Group) -> None:
        try:
            inserted = self._database.commit(lambda connection: self._insert(connection, group))
            group.committed, group.all_new = True, inserted == len(group.rows)
        except BaseException as error:
            group.kept = unrecorded.keep(self._database, self._rows_of(group))
            group.error = error

    def _insert(self, connection: sa.Connection, group: _Group) -> int:
        """Insert all rows of a group; returns how many of the first table were new."""
        tables = {name: insert(connection, schema.tables[name], rows) for name, rows in self._rows_of(group).items()}
        return tables[self._table.name]

    def _rows_of(self, group: _Group) -> dict[str, list[dict[str, Any]]]:
        beside = {self._beside.name: group.beside} if self._beside is not None else {}
        return {self._table.name: group.rows} | beside
