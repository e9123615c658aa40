"""Threads that record at the same moment share one commit, and what becomes of it."""

from __future__ import annotations

import sqlite3
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from pairsmith.errors import DataError
from pairsmith.ledger.database import Database
from pairsmith.ledger.group_commit import GroupCommit

THREADS = 8
TABLE = sa.Table("replies", sa.MetaData())


def row(key: str) -> dict[str, object]:
    known = {"key": key, "backend": "echo", "model": "m", "dataset": "one", "reply": "{}", "checksum": "c"}
    return known | {"n_prompt_tokens": 1, "n_tokens": 1}


def insert_at_once(database: Database, commits: GroupCommit, keys: list[list[str]]) -> list[Future[bool]]:
    """Insert from a thread each, all of them waiting for the database at the same moment."""
    with ThreadPoolExecutor(len(keys)) as threads:
        with database.writing:
            found = [threads.submit(commits.insert, [row(key) for key in some]) for some in keys]
            ends = time.monotonic() + 10
            while len(commits._group.rows) < sum(map(len, keys)) and time.monotonic() < ends:
                time.sleep(0.01)
        return found


def test_threads_that_wait_share_one_commit(ledger_url: str) -> None:
    database, commits = Database(ledger_url), list[object]()
    sa.event.listen(database.engine, "commit", commits.append)
    keys = [[f"{thread}-{number}" for number in range(100)] for thread in range(THREADS)]
    found = insert_at_once(database, GroupCommit(database, TABLE), keys)
    assert [future.result() for future in found] == [True] * THREADS
    assert len(commits) == 1
    with database.engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM replies")).scalar() == 100 * THREADS


def test_a_key_that_is_there_already_is_told_to_all_that_share_the_commit(ledger_url: str) -> None:
    database = Database(ledger_url)
    found = insert_at_once(database, GroupCommit(database, TABLE), [["a"], ["b"], ["a"]])
    assert [future.result() for future in found] == [False] * 3


def test_an_error_is_told_to_all_that_share_the_commit_and_to_no_later_one(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/ledger.sqlite")
    commits = GroupCommit(database, TABLE)
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        connection.execute("CREATE TRIGGER full BEFORE INSERT ON replies BEGIN SELECT RAISE(ABORT, 'no room'); END")
    for future in insert_at_once(database, commits, [["a"], ["b"]]):
        with pytest.raises(DataError, match="ledger: replies cannot be recorded: no room"):
            future.result()
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        connection.execute("DROP TRIGGER full")
    assert [future.result() for future in insert_at_once(database, commits, [["a"], ["b"]])] == [True] * 2
