"""The database of a ledger, opened by URL: a SQLite file, or PostgreSQL where several machines share one.

SQLite runs in WAL mode with a sync at each commit: readers never wait, and a committed reply survives a power cut.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from pairsmith.errors import ConfigError, DataError
from pairsmith.ledger import schema
from pairsmith.ledger.retries import reason_of, until_passed
from pairsmith.storage.disk import unwritable
from pairsmith.storage.drivers import with_driver
from pairsmith.storage.reads import may_pass

T = TypeVar("T")
KEYS_A_QUERY = 500  # well under SQLite's limit on bound parameters

_MENDS = {  # signs of what is wrong with a SQLite file -> what to do
    "not a database": "; it is damaged or of another program: move it away",
    "malformed": "; it is damaged: move it away, and import what was exported of it",
    "unable to open": "; its folder cannot be written by this user: name another workspace, or change its rights",
    "readonly": "; it cannot be written by this user: name another workspace, or change its rights",
}
_DIALECTS = ("sqlite", "postgresql")
_PRAGMAS = ("busy_timeout=60000", "journal_mode=WAL", "synchronous=FULL")
# A peer that is gone without a word, as after a power cut, is noticed within a minute: libpq takes two hours.
_TIMEOUTS = {
    "connect_timeout": 20,
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}


def in_portions(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    """Keys in their order, as many at a time as a query can name."""
    for start in range(0, len(keys), KEYS_A_QUERY):
        yield keys[start : start + KEYS_A_QUERY]


class Database:
    """Connections to one database. The thread that writes holds the lock `writing`; other writers wait for it.

    What fails for a reason that passes, such as a deadlock or a server that restarts, is done again.
    """

    def __init__(self, url: str) -> None:
        self.engine = _opened(url)
        self.url = self.engine.url.render_as_string(hide_password=False)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self.is_shared = not self.is_sqlite or _is_file(self.engine.url)  # another process can open it too
        self.writing = threading.Lock()

    def fetch(self, query: sa.Executable) -> Sequence[sa.Row[Any]]:
        """All rows of a query."""

        def read() -> Sequence[sa.Row[Any]]:
            with self.engine.connect() as connection:
                return connection.execute(query).all()

        return until_passed(read)

    def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Do all writes of `work` in one transaction. They are done again after an error that passes, so doing them
        twice must change nothing: it can be unknown whether a transaction was committed."""
        with self.writing:
            return self.commit(work)

    def commit(self, work: Callable[[sa.Connection], T]) -> T:
        """`write` for a thread that holds `writing` already."""

        def transaction() -> T:
            with self.engine.begin() as connection:
                return work(connection)

        return until_passed(transaction)

    def size(self) -> int:
        """Bytes on disk."""
        if self.is_sqlite:
            file = str(self.engine.url.database)
            return sum(Path(file + suffix).stat().st_size for suffix in ("", "-wal") if Path(file + suffix).exists())
        return int(self.fetch(sa.text("SELECT pg_total_relation_size('replies')"))[0][0])

    def compact(self) -> None:
        """Give the space of dropped replies back to the disk."""
        with self.writing, self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("VACUUM"))

    def erase(self) -> None:
        """Overwrite on the disk what was deleted. Raises DataError while another process is reading the database."""
        statements = ["PRAGMA secure_delete=ON", "VACUUM"] if self.is_sqlite else ["VACUUM FULL replies"]
        with self.writing, self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for statement in statements:
                connection.execute(sa.text(statement))
            if self.is_sqlite and connection.execute(sa.text("PRAGMA wal_checkpoint(TRUNCATE)")).one()[0]:
                raise DataError(f"{self.url}: in use, so what was deleted is still in its file; forget again later")

    def close(self) -> None:
        """Close the connections that are not in use."""
        self.engine.dispose()


def _opened(url: str) -> sa.Engine:
    """Connections to the database at `url`, with its tables created or migrated to this format."""
    try:
        parsed = with_driver(sa.make_url(url))
        if _is_file(parsed):
            parsed = _made_absolute(parsed)
        engine = sa.create_engine(parsed, **_options(parsed))
        if engine.dialect.name not in _DIALECTS:
            raise ConfigError(f"ledger: {engine.dialect.name} is not supported; use SQLite or PostgreSQL")
        if engine.dialect.name == "sqlite":
            sa.event.listen(engine, "connect", _make_durable)
        schema.prepare_tables(engine)
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ModuleNotFoundError) as error:
        hint = "; install pairsmith[postgres]" if url.startswith("postgres") else ""
        raise ConfigError(f"ledger: not a usable database URL: {error}{hint}") from None
    except (sa.exc.DatabaseError, OSError) as error:
        why = reason_of(error)
        mend = next((mend for sign, mend in _MENDS.items() if sign in why), "")
        raise DataError(f"ledger {parsed.render_as_string()}: cannot be opened ({why}){mend}") from None
    return engine


def _options(url: sa.URL) -> dict[str, Any]:
    """PostgreSQL's connections are tried before use, since a server or a network cuts those that are idle."""
    if url.get_backend_name() != "postgresql":
        return {}
    wanted = {name: value for name, value in _TIMEOUTS.items() if name not in url.query}
    return {"pool_pre_ping": True, "connect_args": wanted}


def _is_file(url: sa.URL) -> bool:
    return url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:")


def _made_absolute(url: sa.URL) -> sa.URL:
    """A SQLite URL with an absolute path, so that it stays valid in any working directory; makes the file's folder."""
    file = Path(str(url.database))
    if file.is_symlink():
        raise ConfigError(f"ledger: {file} is a link; name the file that it leads to")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if may_pass(error):
            raise
        raise ConfigError(f"ledger: its folder {unwritable(file.parent, error)}") from error
    return url.set(database=str(file.absolute()))


def _make_durable(connection: Any, _record: Any) -> None:
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
