"""The tables of a ledger: made by several processes at once, brought up to date from older ones, refused if newer."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from pairsmith.about import __version__
from pairsmith.errors import DataError
from pairsmith.ledger import database, schema
from pairsmith.ledger.ledger import Ledger
from pairsmith.ledger.replies import Account, Entry, checksum_of
from pairsmith.protocol import Reply
from pairsmith.storage.drivers import with_driver
from tests.ledger.helpers import WHO, put

PAID = Reply("paid for", "stop", 1, 2)
NUMBER = len(schema.MIGRATIONS)  # the format of today
MOMENT = {"sqlite": "DATETIME DEFAULT (CURRENT_TIMESTAMP)", "postgresql": "TIMESTAMP WITH TIME ZONE DEFAULT now()"}
REPLIES = """
CREATE TABLE replies (
    key VARCHAR(64) NOT NULL, backend VARCHAR(32) NOT NULL, model TEXT NOT NULL, revision TEXT, dataset TEXT NOT NULL,
    {asker} reply TEXT NOT NULL, checksum VARCHAR(64) NOT NULL, n_prompt_tokens INTEGER NOT NULL,
    n_tokens INTEGER NOT NULL, cost FLOAT, recorded_at {moment} NOT NULL, PRIMARY KEY (key)
)
"""
INDEX = "CREATE INDEX replies_by_dataset ON replies (dataset)"
BATCHES = """
CREATE TABLE batches (
    token VARCHAR(32) NOT NULL, id TEXT, endpoint TEXT NOT NULL, model TEXT NOT NULL, keys TEXT NOT NULL,
    PRIMARY KEY (token)
)
"""
# Ledgers without a number, as earlier versions left them: the last is of version 0.1.0.
OLD = {
    "before batches": [REPLIES.replace("{asker}", ""), INDEX],
    "before askers": [REPLIES.replace("{asker}", ""), INDEX, BATCHES],
    "before numbers": [REPLIES.replace("{asker}", "asker TEXT,"), INDEX, BATCHES],
}
OPEN = """
import sys, time
from pairsmith.ledger.ledger import Ledger
time.sleep(max(0, float(sys.argv[2]) - time.time()))
Ledger(sys.argv[1])
"""
DIE = """
import os, sys
import sqlalchemy as sa
from pairsmith.ledger import schema
from pairsmith.ledger.ledger import Ledger

def migrate(connection):
    connection.exec_driver_sql("CREATE TABLE unfinished (number INTEGER)")
    connection.exec_driver_sql("DELETE FROM replies")
    os._exit(9)

schema.MIGRATIONS = (*schema.MIGRATIONS, migrate)
Ledger(sys.argv[1])
"""


def engine_of(url: str) -> sa.Engine:
    return sa.create_engine(with_driver(sa.make_url(url)), poolclass=sa.NullPool)


def execute(url: str, *statements: str) -> None:
    with engine_of(url).begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def make_old(url: str, state: str) -> None:
    """A ledger as an earlier version made it, with one reply."""
    parsed, stored = sa.make_url(url), json.dumps(vars(PAID))
    if parsed.get_backend_name() == "sqlite":
        Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
    columns = "key, backend, model, dataset, reply, checksum, n_prompt_tokens, n_tokens"
    values = f"'k', 'echo', 'm', 'one', '{stored}', '{checksum_of('k', stored)}', 1, 2"
    made = [statement.replace("{moment}", MOMENT[parsed.get_backend_name()]) for statement in OLD[state]]
    execute(url, *made, f"INSERT INTO replies ({columns}) VALUES ({values})")


def tables_of(url: str) -> dict[str, Any]:
    """Columns, keys and indexes by table, whatever their order."""
    found = sa.inspect(engine_of(url))
    return {
        name: (
            {c["name"]: (str(c["type"]), c["nullable"], default_of(c)) for c in found.get_columns(name)},
            found.get_pk_constraint(name)["constrained_columns"],
            [(index["name"], index["column_names"]) for index in found.get_indexes(name)],
        )
        for name in found.get_table_names()
    }


def default_of(column: Any) -> str | None:
    """A column's default. Where a test of this process has imported Prefect's server, `now()` is SQLite's strftime."""
    default: str | None = column["default"]
    return "CURRENT_TIMESTAMP" if default and default.startswith("strftime") else default


def number_of(url: str) -> list[int]:
    with engine_of(url).connect() as connection:
        return [row.number for row in connection.execute(sa.text("SELECT number FROM format"))]


def open_at_once(url: str, count: int) -> None:
    """Open a ledger from several processes at the same moment."""
    command = [sys.executable, "-c", OPEN, url, str(time.time() + 4)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(count)]
    for process in processes:
        assert process.communicate()[1] == b""
        assert process.returncode == 0


def test_many_processes_may_open_a_new_ledger_at_the_same_moment(ledger_url: str) -> None:
    open_at_once(ledger_url, 6)
    assert number_of(ledger_url) == [NUMBER]


def test_many_processes_may_open_an_old_ledger_at_the_same_moment(ledger_url: str) -> None:
    make_old(ledger_url, "before batches")
    open_at_once(ledger_url, 3)
    assert number_of(ledger_url) == [NUMBER]
    assert Ledger(ledger_url).replies.get(["k"]) == {"k": PAID}


@pytest.mark.parametrize("state", OLD)
def test_an_old_ledger_ends_with_the_tables_of_a_new_one(ledger_url: str, state: str) -> None:
    Ledger(ledger_url).close()
    new = tables_of(ledger_url)
    assert set(new) == {*schema._COLUMNS, "format"}
    execute(ledger_url, *(f"DROP TABLE {name}" for name in new))
    make_old(ledger_url, state)
    for _ in range(2):
        book = Ledger(ledger_url)
        assert tables_of(ledger_url) == new
        assert number_of(ledger_url) == [NUMBER]
        assert book.replies.get(["k"]) == {"k": PAID}


def test_a_ledger_from_before_askers_were_noted_goes_on(ledger_url: str) -> None:
    make_old(ledger_url, "before askers")
    book = Ledger(ledger_url)
    book.replies.record([Entry(Account(ledger_url, WHO, "one", asker="member a"), "new", PAID)])
    assert book.replies.get(["k"]) == {"k": PAID}
    assert {row["asker"]: row["calls"] for row in book.spending.paid("one")} == {None: 1, "member a": 1}
    assert Ledger(ledger_url).replies.count() == 2


def test_a_ledger_of_another_version_is_refused_by_name(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/old.sqlite"
    with sqlite3.connect(tmp_path / "old.sqlite") as connection:
        connection.execute("CREATE TABLE replies (key TEXT PRIMARY KEY, dataset TEXT)")
    before = tables_of(url)
    with pytest.raises(DataError, match=r"old\.sqlite: made by another version"):
        Ledger(url)
    assert tables_of(url) == before


def test_a_column_that_is_lacking_in_spite_of_the_number_is_noticed(ledger_url: str) -> None:
    Ledger(ledger_url).close()
    execute(ledger_url, "ALTER TABLE replies DROP COLUMN asker")
    with pytest.raises(DataError, match="made by another version"):
        Ledger(ledger_url)


def test_a_newer_ledger_is_refused_in_one_sentence_and_left_as_it_is(ledger_url: str) -> None:
    Ledger(ledger_url).close()
    execute(ledger_url, "UPDATE format SET number = 9", "ALTER TABLE replies ADD COLUMN of_the_future TEXT")
    before = tables_of(ledger_url)
    with pytest.raises(DataError) as error:
        Ledger(ledger_url)
    name = with_driver(sa.make_url(ledger_url)).render_as_string()
    assert str(error.value) == (
        f"ledger {name}: is of format 9, made by a newer pairsmith; "
        f"this is {__version__}, which knows formats up to {NUMBER}: upgrade pairsmith"
    )
    assert (tables_of(ledger_url), number_of(ledger_url)) == (before, [9])


def test_a_migration_that_is_killed_in_the_middle_leaves_the_ledger_as_it_was(ledger_url: str) -> None:
    make_old(ledger_url, "before askers")
    before = tables_of(ledger_url)
    assert subprocess.run([sys.executable, "-c", DIE, ledger_url], check=False).returncode == 9
    assert tables_of(ledger_url) == before
    assert Ledger(ledger_url).replies.get(["k"]) == {"k": PAID}
    assert "unfinished" not in tables_of(ledger_url)


@pytest.mark.parametrize("is_new", [True, False])
def test_a_migration_to_come_is_one_function(ledger_url: str, monkeypatch: pytest.MonkeyPatch, is_new: bool) -> None:
    notes = sa.Table("notes", sa.MetaData(), sa.Column("key", sa.Text, primary_key=True), sa.Column("text", sa.Text))
    added: list[Callable[[sa.Connection], None]] = [
        lambda connection: schema.add_tables(connection, notes),
        lambda connection: schema.add_column(connection, notes.c.text),
    ]
    monkeypatch.setitem(schema._COLUMNS, "notes", {"key", "text"})
    if not is_new:
        with monkeypatch.context() as before:
            before.delitem(schema._COLUMNS, "notes")
            put(Ledger(ledger_url), {"k": PAID})
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, *added))
    book = Ledger(ledger_url)
    assert number_of(ledger_url) == [NUMBER + 2]
    assert {"key", "text"} == set(tables_of(ledger_url)["notes"][0])
    assert book.replies.count() == (0 if is_new else 1)


def read_only(url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A URL by which the database refuses to be written to."""
    if url.startswith("sqlite"):
        monkeypatch.setattr(database, "_PRAGMAS", (*database._PRAGMAS, "query_only=ON"))
        return url
    return f"{url}?options=-c%20default_transaction_read_only%3Don"


def test_a_ledger_that_lacks_its_number_alone_can_be_read_where_it_cannot_be_written_to(
    ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(Ledger(ledger_url), {"k": PAID})
    execute(ledger_url, "DROP TABLE format")
    book = Ledger(read_only(ledger_url, monkeypatch))
    assert book.replies.get(["k"]) == {"k": PAID}
    assert book.spending.totals()[0]["calls"] == 1
    with pytest.raises(DataError, match="replies cannot be recorded: .*read-?only"):
        put(book, {"new": PAID})
    assert "format" not in tables_of(ledger_url)


def test_a_ledger_that_lacks_more_says_that_it_cannot_be_written_to(
    ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_old(ledger_url, "before askers")
    with pytest.raises(DataError, match=r"cannot be opened \(.*read-?only"):
        Ledger(read_only(ledger_url, monkeypatch))


def test_opening_a_ledger_of_this_format_waits_for_no_writer(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    put(Ledger(url), {"k": PAID})
    with sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None) as writer:
        writer.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        assert Ledger(url).replies.get(["k"]) == {"k": PAID}
        assert time.monotonic() - began < 10
        writer.execute("ROLLBACK")
