"""Inserts many rows of a table at once; a row whose primary key exists already is skipped."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

_ROWS_AN_INSERT = 90
_MARKS = {"sqlite": "?", "postgresql": "%s"}  # the driver's placeholder for a value in a statement


def insert(connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> int:
    """Insert rows, which all have the same columns; returns how many were new.

    They go in the order of their keys: of two transactions that insert the same rows in different orders, each would
    wait for the other. Of rows with one key the first is inserted.
    """
    keys = [column.name for column in table.primary_key]
    ordered = sorted(rows, key=lambda row: [row[name] for name in keys])
    starts = range(0, len(ordered), _ROWS_AN_INSERT)
    return sum(_insert(connection, table.name, ordered[start : start + _ROWS_AN_INSERT]) for start in starts)


def _insert(connection: sa.Connection, table: str, rows: Sequence[dict[str, Any]]) -> int:
    names = tuple(rows[0])
    statement = _statement(table, names, len(rows), _MARKS[connection.dialect.name])
    values = tuple(row[name] for row in rows for name in names)
    if connection.dialect.name == "sqlite":  # SQLAlchemy's way there takes longer than a small insert itself
        with closing(connection.connection.cursor()) as cursor, suppress(sqlite3.Error):
            return int(cursor.execute(statement, values).rowcount)
    return connection.exec_driver_sql(statement, values).rowcount  # what SQLite refused, too, for SQLAlchemy's error


@lru_cache(maxsize=1024)
def _statement(table: str, names: tuple[str, ...], count: int, mark: str) -> str:
    """One INSERT statement for all rows: with one per row, the driver would wait for Python's lock at each."""
    marks = ", ".join([f"({', '.join([mark] * len(names))})"] * count)
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES {marks} ON CONFLICT DO NOTHING"  # noqa: S608 - names of ours alone
