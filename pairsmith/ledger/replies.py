"""Every model reply ever paid for, durable, keyed by its request.

SQLite in WAL mode by default, or PostgreSQL by URL where several machines share it. A reply is committed before
anything else sees it, so after a crash only the calls in flight are asked again. Threads that record at the same moment
share one commit. `Recorded` wraps a backend with the ledger: known requests are answered without loading the model.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import socket
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import tenacity

from pairsmith.config import Price
from pairsmith.errors import ConfigError, DataError, RunError
from pairsmith.protocol import Identity, Reply
from pairsmith.session import Session
from pairsmith.storage.drivers import with_driver
from pairsmith.storage.lock_wait import holder_after

log = logging.getLogger(__name__)
_metadata = sa.MetaData()
_replies = sa.Table(
    "replies",
    _metadata,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("backend", sa.String(32), nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("revision", sa.Text),
    sa.Column("dataset", sa.Text, nullable=False),  # the one that paid for it; others may use it too
    sa.Column("asker", sa.Text),  # member, evolver or judge that it was asked for; null where nobody noted it
    sa.Column("reply", sa.Text, nullable=False),
    sa.Column("checksum", sa.String(64), nullable=False),
    sa.Column("n_prompt_tokens", sa.Integer, nullable=False),
    sa.Column("n_tokens", sa.Integer, nullable=False),
    sa.Column("cost", sa.Float),  # in the currency of the recipe's prices; null where it names none
    sa.Column("recorded_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
    sa.Index("replies_by_dataset", "dataset"),
)
_ROWS_AN_INSERT = 90
_batches = sa.Table(
    "batches",
    _metadata,
    sa.Column("token", sa.String(32), primary_key=True),
    sa.Column("id", sa.Text),
    sa.Column("endpoint", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("keys", sa.Text, nullable=False),
)
_KEYS_A_QUERY = 500  # well under SQLite's limit on bound parameters
_HOLDER = """
    SELECT activity.application_name FROM pg_locks AS held JOIN pg_stat_activity AS activity ON activity.pid = held.pid
    WHERE held.locktype = 'advisory' AND held.granted AND (held.classid::bigint << 32) | held.objid::bigint = :number
"""
_WIDE = 10_000  # rows that a walk over the whole ledger holds in memory


@dataclass(frozen=True)
class Batch:
    """Requests that were submitted together and not collected yet. `id` is the endpoint's, null until it gave one."""

    token: str
    id: str | None
    endpoint: str
    model: str
    keys: tuple[str, ...]

    def with_id(self, given: str) -> Batch:
        return replace(self, id=given)


@dataclass(frozen=True)
class Account:
    """Where a model's replies are recorded, and which data set pays for them, at which price."""

    ledger: str
    identity: Identity
    dataset: str = ""
    price: Price | None = None
    asker: str | None = None  # who in the data set asked


@dataclass(frozen=True)
class Entry:
    """A reply to be recorded, and who gave it and pays for it."""

    account: Account
    key: str
    reply: Reply

    @property
    def lasts(self) -> bool:
        """Whether it is recorded: a reply that failed for a passing reason is asked for again."""
        return self.reply.error is None or self.reply.final


@dataclass
class _Group:
    """Rows that are committed together."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    committed: bool = False
    all_new: bool = False
    error: BaseException | None = None


class Ledger:
    """The replies in one database. Safe to use from several threads and processes."""

    def __init__(self, url: str) -> None:
        try:
            parsed = with_driver(sa.make_url(url))
            self.is_shared = parsed.get_backend_name() != "sqlite" or parsed.database not in (None, "", ":memory:")
            if parsed.get_backend_name() == "sqlite" and parsed.database and self.is_shared:
                if Path(parsed.database).is_symlink():
                    raise ConfigError(f"ledger: {parsed.database} is a link; name the file that it leads to")
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
                parsed = parsed.set(database=str(Path(parsed.database).absolute()))
            self.url = parsed.render_as_string(hide_password=False)
            self._engine = sa.create_engine(parsed)
            if parsed.get_backend_name() == "sqlite":
                sa.event.listen(self._engine, "connect", _durable_sqlite)
            columns = _create(self._engine)
        except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ModuleNotFoundError) as error:
            raise ConfigError(f"ledger: not a usable database URL: {error}{_driver_hint(url)}") from None
        except (sa.exc.DatabaseError, OSError) as error:
            reason = error.orig if isinstance(error, sa.exc.DatabaseError) else error
            told = f"ledger {parsed.render_as_string(hide_password=True)}: cannot be opened ({reason})"
            raise DataError(f"{told}; if it is damaged, move it away") from None
        if columns != set(_replies.columns.keys()):
            raise DataError(f"ledger {parsed.render_as_string()}: made by another version of pairsmith; move it away")
        mark = {"sqlite": "?", "postgresql": "%s"}.get(self._engine.dialect.name)
        if mark is None:
            raise ConfigError(f"ledger: {self._engine.dialect.name} is not supported; use SQLite or PostgreSQL")
        self._mark = mark
        self._gathering, self._group = threading.Lock(), _Group()
        self._writing = threading.Lock()

    def close(self) -> None:
        """Let go of all connections."""
        self._engine.dispose()

    def get(self, keys: Iterable[str]) -> dict[str, Reply]:
        """The replies recorded under those of `keys` that are known; a damaged one is not, and is asked for again."""
        wanted, found = list(dict.fromkeys(keys)), dict[str, Reply]()
        columns = (_replies.c.key, _replies.c.reply, _replies.c.checksum)
        damaged = []
        with self._engine.connect() as connection:
            for start in range(0, len(wanted), _KEYS_A_QUERY):
                chunk = wanted[start : start + _KEYS_A_QUERY]
                for key, reply, checksum in connection.execute(sa.select(*columns).where(_replies.c.key.in_(chunk))):
                    if checksum_of(key, reply) == checksum:
                        found[key] = Reply(**json.loads(reply))
                    else:
                        damaged.append(key)
        if damaged:
            log.warning("ledger: %d damaged replies are dropped and asked for again", len(damaged))
            self.drop(damaged)
        return found

    def record(self, entries: Sequence[Entry]) -> list[Reply]:
        """Record those replies that last, durable on return; a key that is already there keeps its first reply.

        Returns all replies, as the ledger keeps them where another run was faster.
        """
        lasting = {entry.key: entry for entry in reversed(entries) if entry.lasts}  # of those with one key the first
        all_new = not lasting or self._commit([_row(entry) for entry in lasting.values()])
        if all_new and len(lasting) == sum(entry.lasts for entry in entries):
            return [entry.reply for entry in entries]
        kept = self.get(lasting)
        return [kept.get(entry.key, entry.reply) if entry.lasts else entry.reply for entry in entries]

    def _commit(self, rows: list[dict[str, Any]]) -> bool:
        """Insert rows together with those of every thread that waits for the database at this moment.

        Returns whether all that were committed together were new.
        """
        with self._gathering:
            group = self._group
            group.rows += rows
        with self._writing:
            with self._gathering:
                if self._group is group:
                    self._group = _Group()
            if not group.committed and group.error is None:
                try:
                    inserted = 0
                    with self._engine.begin() as connection:
                        for start in range(0, len(group.rows), _ROWS_AN_INSERT):
                            statement = self._insert(group.rows[start : start + _ROWS_AN_INSERT])
                            inserted += connection.exec_driver_sql(*statement).rowcount
                    group.committed, group.all_new = True, inserted == len(group.rows)
                except BaseException as error:
                    group.error = error
        if group.error:
            raise DataError(f"ledger: replies cannot be recorded: {_told(group.error)}") from group.error
        return group.all_new

    def _insert(self, rows: Sequence[dict[str, Any]]) -> tuple[str, tuple[Any, ...]]:
        """One statement for all rows: with one a row, the driver would wait for Python's lock at each."""
        names = list(rows[0])
        marks = ", ".join([f"({', '.join([self._mark] * len(names))})"] * len(rows))
        statement = f"INSERT INTO replies ({', '.join(names)}) VALUES {marks} ON CONFLICT DO NOTHING"  # noqa: S608 - names of ours alone
        return statement, tuple(row[name] for row in rows for name in names)

    def note_batch(self, batch: Batch) -> None:
        """Note a batch, or the id that it was given."""
        with self._writing, self._engine.begin() as connection:
            connection.execute(sa.delete(_batches).where(_batches.c.token == batch.token))
            connection.execute(sa.insert(_batches).values(asdict(batch) | {"keys": json.dumps(batch.keys)}))

    def open_batches(self, endpoint: str, model: str) -> list[Batch]:
        query = sa.select(_batches).where(_batches.c.endpoint == endpoint, _batches.c.model == model)
        with self._engine.connect() as connection:
            found = [dict(row) for row in connection.execute(query).mappings()]
        return [Batch(**row | {"keys": tuple(json.loads(row["keys"]))}) for row in found]

    def close_batch(self, batch: Batch) -> None:
        with self._writing, self._engine.begin() as connection:
            connection.execute(sa.delete(_batches).where(_batches.c.token == batch.token))

    def totals(self) -> list[dict[str, Any]]:
        """Calls, tokens and cost by model, most calls first."""
        calls = sa.func.count().label("calls")
        names = (_replies.c.backend, _replies.c.model)
        query = sa.select(*names, calls, *_sums()).group_by(*names).order_by(calls.desc(), *names)
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def paid(self, dataset: str) -> list[dict[str, Any]]:
        """Calls, tokens and cost of all replies that `dataset` paid for, by who asked for them and of which model."""
        names = (_replies.c.asker, _replies.c.model)
        query = sa.select(*names, sa.func.count().label("calls"), *_sums()).where(_replies.c.dataset == dataset)
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query.group_by(*names)).mappings()]

    def spent(self, dataset: str) -> tuple[int, float]:
        """Tokens and cost of all replies that `dataset` paid for."""
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(*_sums()).where(_replies.c.dataset == dataset)).one()
        return int(row.n_prompt_tokens or 0) + int(row.n_tokens or 0), float(row.cost or 0)

    def rows(self) -> Iterator[dict[str, Any]]:
        """All rows, by key, a few thousand in memory at a time."""
        last = ""
        while True:
            query = sa.select(_replies).where(_replies.c.key > last).order_by(_replies.c.key).limit(_WIDE)
            with self._engine.connect() as connection:
                page = [dict(row) for row in connection.execute(query).mappings()]
            yield from (row | {"recorded_at": _in_utc(row["recorded_at"])} for row in page)
            if len(page) < _WIDE:
                return
            last = page[-1]["key"]

    def add(self, rows: Iterable[dict[str, Any]]) -> tuple[int, int]:
        """Insert rows as `rows` gives them; returns how many there were, and how many were new."""
        before, read, page = self.count(), 0, list[dict[str, Any]]()
        try:
            for row in rows:
                page.append(row | {"recorded_at": self._moment(row["recorded_at"])})
                read += 1
                if len(page) == _KEYS_A_QUERY:
                    self._commit(page)
                    page = []
        finally:
            if page:
                self._commit(page)
        return read, self.count() - before

    def _moment(self, moment: datetime) -> str:
        """A moment as the database takes it: SQLite knows no time zones and is given UTC."""
        known = _in_utc(moment)
        return str(known.replace(tzinfo=None) if self._mark == "?" else known)

    def drop(self, keys: Collection[str]) -> None:
        """Forget replies: they are asked for again when they are wanted."""
        wanted = list(keys)
        with self._writing, self._engine.begin() as connection:
            for start in range(0, len(wanted), _KEYS_A_QUERY):
                connection.execute(sa.delete(_replies).where(_replies.c.key.in_(wanted[start : start + _KEYS_A_QUERY])))

    def count(self) -> int:
        with self._engine.connect() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(_replies)).scalar_one())

    def compact(self) -> None:
        """Give the space of dropped replies back to the disk."""
        with self._writing, self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("VACUUM"))

    def size(self) -> int:
        """Bytes that the ledger takes on disk."""
        if self._engine.dialect.name == "sqlite":
            file = str(self._engine.url.database)
            return sum(Path(file + suffix).stat().st_size for suffix in ("", "-wal") if Path(file + suffix).exists())
        with self._engine.connect() as connection:
            return int(connection.execute(sa.text("SELECT pg_total_relation_size('replies')")).scalar_one())

    @contextmanager
    def lock(self, dataset: str, wait: float | None = None) -> Iterator[None]:
        """Hold a data set for one run among all machines that share this ledger, `wait` seconds later at most.

        Raises RunError where another holds it. Without `wait`, `waiting.patient` tells how long. PostgreSQL ends the
        lock with the connection that holds it, however the run ended. SQLite serves one machine, where the store's own
        lock does.
        """
        if self._engine.dialect.name != "postgresql":
            yield
            return
        number = int.from_bytes(hashlib.sha256(dataset.encode()).digest()[:8], "big", signed=True)
        me = f"pairsmith process {os.getpid()} on {socket.gethostname()}"[:63]  # PostgreSQL cuts what is longer
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("SELECT set_config('application_name', :me, false)"), {"me": me})

            def taken_by() -> str | None:
                if connection.execute(sa.select(sa.func.pg_try_advisory_lock(number))).scalar_one():
                    return None
                return connection.execute(sa.text(_HOLDER), {"number": number}).scalar() or "it has just ended"

            if holder := holder_after(taken_by, dataset, wait):
                raise RunError(f"{dataset}: another run works on this data set, perhaps on another machine ({holder})")
            try:
                yield
            finally:
                connection.execute(sa.select(sa.func.pg_advisory_unlock(number)))


def open_ledger(url: str, session: Session) -> Ledger:
    """The ledger at `url`, opened once in a session."""
    return session.keep(("ledger", url), lambda: Ledger(url), Ledger.close)


def checksum_of(key: str, reply: str) -> str:
    """What tells a damaged row: sha256 over the key and the reply's JSON as it is stored."""
    return hashlib.sha256(f"{key}\n{reply}".encode()).hexdigest()


def _row(entry: Entry) -> dict[str, Any]:
    account, reply = entry.account, entry.reply
    stored = json.dumps(vars(reply), ensure_ascii=True, allow_nan=False)
    return {
        "key": entry.key,
        **vars(account.identity),
        "dataset": account.dataset,
        "asker": account.asker,
        "reply": stored,
        "checksum": checksum_of(entry.key, stored),
        "n_prompt_tokens": reply.n_prompt_tokens,
        "n_tokens": reply.n_tokens,
        "cost": account.price.of(reply.n_prompt_tokens, reply.n_tokens) if account.price else None,
    }


def _sums() -> list[sa.Label[Any]]:
    return [sa.func.sum(_replies.c[name]).label(name) for name in ("n_prompt_tokens", "n_tokens", "cost")]


def _in_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def storable(reply: Reply) -> Reply:
    """A reply that JSON and tables can hold: lone surrogates replaced; NaN or infinity make it a failed one."""
    if reply.logprobs and not all(math.isfinite(value) for value in reply.logprobs.values()):
        return Reply("", n_prompt_tokens=reply.n_prompt_tokens, error="the probabilities are not finite", final=True)
    text = reply.text
    if not text.isascii():
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return reply if text == reply.text else replace(reply, text=text)


@tenacity.retry(
    retry=tenacity.retry_if_exception(
        lambda error: isinstance(error, sa.exc.OperationalError) and "locked" in str(error)
    ),
    wait=tenacity.wait_random(0.01, 0.2),
    stop=tenacity.stop_after_delay(60),
    reraise=True,
)
def _create(engine: sa.Engine) -> set[str]:
    """Make the table where it is not there yet; returns the columns that it has.

    SQLite answers "locked" at once, whatever its timeout, while another process turns a new file to WAL mode.
    """
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":  # two processes may create the table at the same time
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(72177351)"))
        for table in _metadata.sorted_tables:
            connection.execute(sa.schema.CreateTable(table, if_not_exists=True))
        for index in _replies.indexes:
            connection.execute(sa.schema.CreateIndex(index, if_not_exists=True))
        columns = {column["name"] for column in sa.inspect(connection).get_columns("replies")}
        if set(_replies.columns.keys()) - columns == {"asker"}:  # a ledger from before askers were noted
            connection.execute(sa.text("ALTER TABLE replies ADD COLUMN asker TEXT"))
            columns.add("asker")
        return columns


def _durable_sqlite(connection: Any, _record: Any) -> None:
    """WAL with a sync at each commit: readers never wait, and a committed reply survives a power cut."""
    for pragma in ("busy_timeout=60000", "journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")


def _told(error: BaseException) -> str:
    return str(error.orig) if isinstance(error, sa.exc.DBAPIError) else str(error)


def _driver_hint(url: str) -> str:
    return "; install pairsmith[postgres]" if url.startswith("postgres") else ""
