"""The tables of a ledger, and the numbered migrations that bring an older ledger to this format.

A ledger's format is one number in its table `format`; without that table it is 0. Migration n leads from format n - 1
to format n, so a new ledger runs through all of them.

To add a table or a column, define it below and append one function to `MIGRATIONS` that calls `add_tables` or
`add_column`. Both skip what exists already: a table is always created as it is defined now, so it may already have a
column that a later migration adds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
import tenacity

from pairsmith.about import __version__
from pairsmith.errors import DataError
from pairsmith.ledger.retries import is_starting

_ledger = sa.MetaData()
replies = sa.Table(
    "replies",
    _ledger,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("backend", sa.String(32), nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("revision", sa.Text),
    sa.Column("dataset", sa.Text, nullable=False),  # the data set that paid for it; others may use it too
    sa.Column("asker", sa.Text),  # role and name of the member, evolver or judge that asked; null where not noted
    sa.Column("reply", sa.Text, nullable=False),
    sa.Column("checksum", sa.String(64), nullable=False),
    sa.Column("n_prompt_tokens", sa.Integer, nullable=False),
    sa.Column("n_tokens", sa.Integer, nullable=False),
    sa.Column("cost", sa.Float),  # in the currency of the recipe's prices; null where it names none
    sa.Column("recorded_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
    sa.Column("alias", sa.Text),  # what the recipe's `identity` calls the model
    sa.Column("host", sa.Text),  # of the endpoint that gave it; no part of the key
    sa.Index("replies_by_dataset", "dataset"),
    sa.Index("replies_by_model", "backend", "model", "revision", "host"),
)
spending = sa.Table(  # what each answer cost, whatever became of it; only a person ever removes a row
    "spending",
    _ledger,
    sa.Column("dataset", sa.Text, primary_key=True),  # the data set that paid
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("key", sa.String(64), nullable=False),  # of the request
    sa.Column("backend", sa.String(32), nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("asker", sa.Text),
    sa.Column("n_prompt_tokens", sa.Integer, nullable=False),
    sa.Column("n_tokens", sa.Integer, nullable=False),
    sa.Column("cost", sa.Float),
    sa.Column("is_reckoned", sa.Boolean, nullable=False),  # an estimate, since the endpoint sent no usage
    sa.Column("problem", sa.Text),  # why the answer could not be used; null where it could
    sa.Column("recorded_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
    sqlite_with_rowid=False,  # rows lie in the order of the key, so those of a data set are added up quickly
)
batches = sa.Table(
    "batches",
    _ledger,
    sa.Column("token", sa.String(32), primary_key=True),
    sa.Column("id", sa.Text),
    sa.Column("endpoint", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("keys", sa.Text, nullable=False),
    sa.Column("dataset", sa.Text, nullable=False, server_default=""),
    sa.Column("tokens", sa.BigInteger, nullable=False, server_default="0"),  # that its requests can take at most
    sa.Column("cost", sa.Float, nullable=False, server_default="0"),
)
adoptions = sa.Table(
    "adoptions",
    _ledger,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("revision", sa.Text, primary_key=True),  # a branch or tag of the hub; empty where none was named
    sa.Column("commit_id", sa.String(40), nullable=False),  # whose replies those under that revision are
)
fences = sa.Table(
    "fences",
    _ledger,
    sa.Column("dataset", sa.String(64), primary_key=True),  # a hash of what names the data set; see `dataset_lock`
    sa.Column("number", sa.BigInteger, nullable=False),  # goes up with each new holder
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("released", sa.Boolean, nullable=False),  # false while it works, and where it ended without a word
)
uses = sa.Table(  # see `ledger.uses`
    "uses",
    _ledger,
    sa.Column("place", sa.Text, primary_key=True),  # address of the data set
    sa.Column("shard", sa.Text, primary_key=True),
    sa.Column("part", sa.Text, primary_key=True),  # kind and part of the table
    sa.Column("dataset", sa.Text, nullable=False),
    sa.Column("made_of", sa.Text, nullable=False),  # fingerprint of the table
    sa.Column("keys", sa.LargeBinary, nullable=False),  # the first eight bytes of each
    sa.Column("is_open", sa.Boolean, nullable=False),
)
awaited = sa.Table(  # data sets with replies from before uses were noted, which have not run since
    "awaited", _ledger, sa.Column("dataset", sa.Text, primary_key=True)
)
reservations = sa.Table(  # see `ledger.reservations`
    "reservations",
    _ledger,
    sa.Column("holder", sa.String(32), primary_key=True),  # a process
    sa.Column("dataset", sa.Text, nullable=False),
    sa.Column("tokens", sa.BigInteger, nullable=False),
    sa.Column("cost", sa.Float, nullable=False),
    sa.Column("ends", sa.Float, nullable=False),  # when the lease does, in seconds since 1970 by the database's clock
)
tables = _ledger.tables
_OF_A_REPLY = ("dataset", "key", "backend", "model", "asker", "n_prompt_tokens", "n_tokens", "cost", "recorded_at")
_format = sa.Table("format", sa.MetaData(), sa.Column("number", sa.Integer, nullable=False))
_COLUMNS = {table.name: set(table.columns.keys()) for table in _ledger.sorted_tables}
_MIGRATING = 72177351  # number of PostgreSQL's advisory lock for creating or changing the tables


def add_tables(connection: sa.Connection, *tables: sa.Table) -> None:
    """Create tables with their indexes, unless they exist; an index of columns that are not there yet is left out."""
    for table in tables:
        connection.execute(sa.schema.CreateTable(table, if_not_exists=True))
        there = {column["name"] for column in sa.inspect(connection).get_columns(table.name)}
        for index in table.indexes:
            if there.issuperset(index.columns.keys()):
                connection.execute(sa.schema.CreateIndex(index, if_not_exists=True))


def add_column(connection: sa.Connection, column: sa.Column[Any]) -> None:
    """Add a column to its table, unless it exists."""
    table = column.table.name
    if column.name not in _columns(connection)[table]:
        definition = sa.schema.CreateColumn(column).compile(dialect=connection.dialect)
        connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN {definition}")


def _replies_and_batches(connection: sa.Connection) -> None:
    add_tables(connection, replies, batches)


def _asker_of_a_reply(connection: sa.Connection) -> None:
    add_column(connection, replies.c.asker)


def _fence_of_a_data_set(connection: sa.Connection) -> None:
    add_tables(connection, fences)


def _where_replies_are_from(connection: sa.Connection) -> None:
    add_column(connection, replies.c.alias)
    add_column(connection, replies.c.host)
    add_tables(connection, replies, adoptions)


def spending_of(reply: Mapping[str, Any]) -> dict[str, Any]:
    """What a reply cost, told by its own row, as a row of spending: the key is its name, so it counts once."""
    return {"id": reply["key"], "is_reckoned": False, "problem": None} | {name: reply[name] for name in _OF_A_REPLY}


def _money(connection: sa.Connection) -> None:
    """What was spent so far is what the replies cost; what they are used for is known when each data set has run."""
    add_tables(connection, spending, uses, awaited, reservations)
    if _columns(connection)[replies.name] != _COLUMNS[replies.name]:
        return  # not ours, as `_check` will say
    found = sa.select(replies.c.key, sa.false(), *(replies.c[name] for name in _OF_A_REPLY))
    connection.execute(sa.insert(spending).from_select(["id", "is_reckoned", *_OF_A_REPLY], found))
    connection.execute(sa.insert(awaited).from_select(["dataset"], sa.select(replies.c.dataset).distinct()))


def _budget_of_a_batch(connection: sa.Connection) -> None:
    for column in (batches.c.dataset, batches.c.tokens, batches.c.cost):
        add_column(connection, column)


MIGRATIONS: tuple[Callable[[sa.Connection], None], ...] = (
    _replies_and_batches,  # 1
    _asker_of_a_reply,  # 2
    _fence_of_a_data_set,  # 3
    _where_replies_are_from,  # 4
    _money,  # 5
    _budget_of_a_batch,  # 6
)


@tenacity.retry(
    retry=tenacity.retry_if_exception(
        lambda error: (isinstance(error, sa.exc.OperationalError) and "locked" in str(error)) or is_starting(error)
    ),
    wait=tenacity.wait_random(0.01, 0.2),
    stop=tenacity.stop_after_delay(60),
    reraise=True,
)
def prepare_tables(engine: sa.Engine) -> None:
    """Create the tables of a new ledger, or migrate an older one; raises DataError where its tables are not ours.

    A ledger of this format is not written to. An older one that cannot be written to is accepted where only its format
    number is missing and its tables are right. SQLite answers "locked" at once, whatever its timeout, while another
    process switches a new file to WAL mode; then this is tried again, as where PostgreSQL is starting.
    """
    with engine.connect() as connection:
        if _number(connection) == len(MIGRATIONS):
            _check(connection)
            return
    try:
        with _migrating(engine) as connection:
            for migrate in MIGRATIONS[_number(connection) :]:  # read again: another process may have been faster
                migrate(connection)
            _check(connection)
            _note(connection, len(MIGRATIONS))
    except sa.exc.DatabaseError:
        with engine.connect() as connection:
            if _columns(connection) != _COLUMNS:
                raise


@contextmanager
def _migrating(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that only one process can have at a time; all of its changes are made, or none."""
    with engine.begin() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # Python's driver begins none before it changes a table
        else:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATING)))
        yield connection


def _number(connection: sa.Connection) -> int:
    """The format of a ledger; raises DataError where it is newer than this code knows."""
    if not sa.inspect(connection).has_table(_format.name):
        return 0
    number = connection.execute(sa.select(sa.func.max(_format.c.number))).scalar() or 0
    if number > len(MIGRATIONS):
        raise DataError(
            f"ledger {connection.engine.url.render_as_string()}: is of format {number}, made by a newer pairsmith; "
            f"this is {__version__}, which knows formats up to {len(MIGRATIONS)}: upgrade pairsmith"
        )
    return number


def _note(connection: sa.Connection, number: int) -> None:
    add_tables(connection, _format)
    connection.execute(sa.delete(_format))
    connection.execute(sa.insert(_format).values(number=number))


def _check(connection: sa.Connection) -> None:
    if _columns(connection) != _COLUMNS:
        url = connection.engine.url.render_as_string()
        raise DataError(f"ledger {url}: made by another version of pairsmith; move it away")


def _columns(connection: sa.Connection) -> dict[str, set[str]]:
    """Table name -> names of its columns, for those of our tables that exist."""
    found = sa.inspect(connection).get_multi_columns(filter_names=list(_COLUMNS))
    return {name: {column["name"] for column in columns} for (_, name), columns in found.items()}
