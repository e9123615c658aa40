"""Read rows from a database: the result of a query, streamed over a read-only connection."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from pairsmith.config import Sql
from pairsmith.errors import ConfigError, DataError
from pairsmith.storage.drivers import with_driver

BATCH = 1000  # rows that the server hands over at a time


def query_rows(source: Sql) -> Iterator[dict[str, Any]]:
    """Yield each row of the query as column -> value, with values that JSON can hold.

    Raises ConfigError if the URL cannot be used, DataError if anything fails later; that names the first row that was
    not read. No error shows a password.
    """
    url = _url(source)
    number = 0
    try:
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            options: dict[str, Any] = {"stream_results": True, "yield_per": BATCH, "no_parameters": True}
            if url.get_backend_name() == "sqlite":
                connection.exec_driver_sql("PRAGMA query_only = ON")
            if url.get_backend_name() == "postgresql":
                connection = connection.execution_options(postgresql_readonly=True)
            found = connection.execution_options(**options).exec_driver_sql(source.query)
            if not found.returns_rows:
                raise DataError("sql: the query gives no rows; it must be a SELECT")
            _no_doubles(list(found.keys()))
            for row in found.mappings():
                number += 1
                yield {str(name): _plain(value) for name, value in row.items()}
    except (sa.exc.NoSuchModuleError, ModuleNotFoundError) as error:
        hint = "; install pairsmith[postgres]" if url.get_backend_name() == "postgresql" else ""
        raise ConfigError(f"sql: not a usable database URL: {error}{hint}") from None
    except (sa.exc.SQLAlchemyError, UnicodeDecodeError) as error:
        message = str(error.orig if isinstance(error, sa.exc.DBAPIError) else error).strip()
        shown = message.replace(str(url.password), "***") if url.password else message
        raise DataError(f"sql:row {number + 1} or later: {url.render_as_string()}: {shown}") from None


def _url(source: Sql) -> sa.URL:
    name = source.url_env
    given = os.environ.get(name) if name else source.url
    if not given:
        raise ConfigError(f"sql.url_env: the environment variable {name} holds no URL")
    try:
        url = with_driver(sa.make_url(given))
    except sa.exc.ArgumentError:
        raise ConfigError(f"{'sql.url_env' if name else 'sql.url'}: not a SQLAlchemy URL") from None
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        raise ConfigError(f"sql: {url.database or 'no file'}: there is no such SQLite file")
    return url


def _no_doubles(names: list[str]) -> None:
    """Raise DataError if two columns have the same name, since one of them would be lost."""
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        raise DataError(f"sql: the query names {doubles} more than once; give each column a name of its own")


def _plain(value: Any) -> Any:
    """A value converted to one that JSON can hold."""
    if isinstance(value, Decimal):
        return int(value) if value.is_finite() and value == value.to_integral_value() else float(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
