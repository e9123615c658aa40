"""Opening the database of a ledger, and closing it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from pairsmith.errors import ConfigError, DataError
from pairsmith.ledger.ledger import Ledger
from pairsmith.protocol import Reply
from tests.ledger.helpers import put


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"random bytes, but no database at all" * 9)
    with pytest.raises(DataError, match="ledger.sqlite: cannot be opened"):
        Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")


def test_a_url_that_is_none() -> None:
    with pytest.raises(ConfigError, match="ledger"):
        Ledger("not a url")
    with pytest.raises(ConfigError, match="ledger"):
        Ledger("nodatabase://x")


def test_a_closed_ledger_has_no_connection_left(ledger_url: str) -> None:
    book = Ledger(ledger_url)
    put(book, {"k": Reply("text", "stop")})
    if ledger_url.startswith("sqlite"):
        file = Path(ledger_url.removeprefix("sqlite:///"))
        assert Path(f"{file}-wal").exists()
        book.close()
        assert [entry.name for entry in file.parent.iterdir()] == [file.name]  # the last connection takes the log along
        return
    others = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with sa.create_engine(book.url, isolation_level="AUTOCOMMIT").connect() as watching:
        assert watching.execute(others).scalar() == 1
        book.close()
        ends = time.monotonic() + 10
        while watching.execute(others).scalar() and time.monotonic() < ends:
            time.sleep(0.05)
        assert watching.execute(others).scalar() == 0


def test_what_a_ledger_takes_shrinks_when_dropped_replies_are_given_back(ledger_url: str) -> None:
    book = Ledger(ledger_url)
    put(book, {str(number): Reply("x" * 1000, "stop") for number in range(2000)})
    full = book.size()
    book.replies.drop([str(number) for number in range(2000)])
    book.compact()
    with sa.create_engine(book.url).connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    assert book.size() < full / 2
