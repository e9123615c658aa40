"""F27: a ledger on PostgreSQL under a fault: deadlocks, connections that are cut, a restart, a full disk.

Nothing that was paid for is lost, and one run at a time works on a data set: where the database ends the connection
that holds the lock, the run takes it again, or stops when another run has followed it.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from pairsmith.config import Recipe
from pairsmith.errors import DataError, RunError
from pairsmith.ledger import database_lock
from pairsmith.ledger.ledger import Ledger, open_ledger
from pairsmith.protocol import Reply
from pairsmith.session import Session
from pairsmith.stages.base import open_store
from pairsmith.storage.drivers import with_driver
from pairsmith.storage.opening import files_at
from pairsmith.testing import FakeEndpoint
from tests.database_server import PostgresServer, cut
from tests.faults.conftest import CONCURRENCY
from tests.faults.harness import Child, complete, expected, repeated, wait_for, wait_for_calls
from tests.faults.test_f03_disk import Disk
from tests.ledger.helpers import put
from tests.runs import run

Build = Callable[..., Recipe]
Tally = Callable[..., None]
COUNT = 40
LOCK = "pairsmith process%"
pytestmark = [pytest.mark.postgres, pytest.mark.parametrize("new_ledger", ["postgres"], indirect=True)]


def replies(names: list[str]) -> dict[str, Reply]:
    return {name: Reply(f"text of {name}", "stop", 1, 1) for name in names}


def deadlocks(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").fetchone()
        assert row
        return int(row[0])


def test_f27_inserts_of_the_same_rows_in_any_order_do_not_wait_for_each_other(ledger_url: str, tally: Tally) -> None:
    names = [f"key-{number}" for number in range(400)]
    ledgers = [Ledger(ledger_url) for _ in range(4)]
    start = threading.Barrier(len(ledgers))

    def record(seed: int) -> None:
        start.wait()
        for turn in range(8):
            put(ledgers[seed], replies(random.Random(f"{seed} {turn}").sample(names, len(names))))
            start.wait()
            if seed == 0:
                ledgers[0].replies.drop(names)
            start.wait()
        put(ledgers[seed], replies(names))

    with ThreadPoolExecutor(len(ledgers)) as threads:
        for future in [threads.submit(record, seed) for seed in range(len(ledgers))]:
            future.result()
    tally(1, len(names) - ledgers[0].replies.count(), 0)
    assert ledgers[0].replies.count() == len(names)
    assert deadlocks(ledger_url) == 0


def test_f27_what_postgresql_ends_to_resolve_a_deadlock_is_done_again(ledger_url: str, tally: Tally) -> None:
    with psycopg.connect(ledger_url, autocommit=True) as setting:  # a busy machine may take more than the usual second
        setting.execute(f"ALTER DATABASE {setting.info.dbname} SET deadlock_timeout = '4s'")
    book = Ledger(ledger_url)
    insert = "INSERT INTO replies (key, backend, model, dataset, reply, checksum, n_prompt_tokens, n_tokens) "
    insert += "VALUES (%s, 'echo', 'm', 'd', '{}', 'c', 1, 1)"
    with psycopg.connect(ledger_url) as other, ThreadPoolExecutor(1) as thread:
        other.execute("SET deadlock_timeout = '30s'")  # the ledger's own transaction looks first, and is ended
        other.execute(insert, ["b"])
        recorded = thread.submit(put, book, replies(["a", "b", "c"]))
        wait_for(lambda: waiting(ledger_url), 20)
        other.execute(insert, ["a"])
        other.rollback()
        recorded.result(20)
    wait_for(lambda: deadlocks(ledger_url) == 1, 20)
    tally(1, 3 - book.replies.count(), 0)
    assert book.replies.get(["a", "b", "c"]) == replies(["a", "b", "c"])


def waiting(url: str) -> bool:
    """Whether a transaction waits for another one."""
    with psycopg.connect(url) as connection:
        return bool(connection.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchall())


def test_f27_idle_connections_that_were_dropped_are_not_used(ledger_url: str) -> None:
    book = Ledger(ledger_url)
    put(book, replies(["a"]))
    assert cut(ledger_url)
    book.compact()  # this is not tried again
    assert cut(ledger_url)
    assert book.replies.get(["a"]) == replies(["a"])


@pytest.mark.parametrize("what", ["read", "write"])
def test_f27_a_statement_whose_connection_is_cut_is_done_again(ledger_url: str, what: str) -> None:
    book, times = Ledger(ledger_url), [0]
    put(book, replies(["a"]))

    def cut_once(*_: object) -> None:
        times[0] += 1
        if times[0] == 1:
            cut(ledger_url)

    sa.event.listen(book._database.engine, "before_cursor_execute", cut_once)
    if what == "read":
        assert book.replies.get(["a"]) == replies(["a"])
    else:
        put(book, replies(["b"]))
    assert times[0] >= 2
    assert book.replies.count() == (1 if what == "read" else 2)


@contextmanager
def disturbing(disturb: Callable[[], object], pause: float) -> Iterator[list[object]]:
    """Do something again and again for as long as the block runs."""
    ended, done = threading.Event(), list[object]()

    def work() -> None:
        while not ended.wait(pause):
            done.append(disturb())

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield done
    finally:
        ended.set()
        thread.join()


def test_f27_a_run_whose_connections_are_cut_again_and_again(
    base_recipe: Build, ledger_url: str, slow: FakeEndpoint, tmp_path: Path, tally: Tally
) -> None:
    digest = expected(base_recipe, tmp_path, COUNT)
    recipe = base_recipe(slow, COUNT, ledger=ledger_url)
    with Child(recipe) as child:
        wait_for_calls(slow, child, 5)
        with disturbing(lambda: cut(ledger_url), 0.2) as cuts:
            outcome = child.outcome()
    assert sum(map(bool, cuts)) >= 3
    tally(len(cuts), outcome.lost, repeated(slow))
    assert (outcome.error, outcome.digest, outcome.lost, repeated(slow)) == ("", digest, 0, 0)
    assert complete(recipe).calls == 0


@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_f27_a_server_that_is_restarted_in_the_middle(
    base_recipe: Build,
    ledger_url: str,
    postgres_server: PostgresServer,
    slow: FakeEndpoint,
    tmp_path: Path,
    tally: Tally,
    how: str,
) -> None:
    digest = expected(base_recipe, tmp_path, COUNT)
    recipe = base_recipe(slow, COUNT, ledger=ledger_url)
    with Child(recipe) as child:
        wait_for_calls(slow, child, 30)
        postgres_server.stop(how)
        try:
            time.sleep(1)
        finally:
            postgres_server.start()
        outcome = child.outcome()
    tally(1, outcome.lost, repeated(slow))
    assert (outcome.error, outcome.digest, outcome.lost, repeated(slow)) == ("", digest, 0, 0)
    assert complete(recipe).calls == 0


@pytest.fixture
def small(ledger_url: str, postgres_server: PostgresServer) -> Iterator[Disk]:
    """A small disk that has the ledger's database on it, though not the server's log of what it writes."""
    server, _, name = ledger_url.rpartition("/")
    try:
        disk = Disk(postgres_server.folder / name)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a file system of a test's own cannot be mounted here: {error}")
    try:
        if os.geteuid() == 0:
            shutil.chown(disk.folder, "postgres")
        with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE TABLESPACE {name} LOCATION '{disk.folder}'")
            connection.execute(f"ALTER DATABASE {name} SET TABLESPACE {name}")
            yield disk
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
            connection.execute(f"DROP TABLESPACE {name}")
            connection.execute(f"CREATE DATABASE {name}")
    finally:
        disk.remove()


def test_f27_a_full_database_says_so_and_loses_nothing(
    base_recipe: Build,
    ledger_url: str,
    small: Disk,
    slow: FakeEndpoint,
    tmp_path: Path,
    tally: Tally,
) -> None:
    digest = expected(base_recipe, tmp_path, COUNT)
    recipe = base_recipe(slow, COUNT, ledger=ledger_url)
    with Child(recipe) as child:
        wait_for_calls(slow, child, 20)
        small.leave(0)
        failed = child.outcome()
    assert "ledger: replies cannot be recorded" in failed.error
    assert "No space left on device" in failed.error
    named = re.search(r"are kept in (\S+\.json)", failed.error)
    assert named
    kept = Path(named[1])
    assert kept.exists()
    with Child(recipe) as child:  # nothing is asked while what was paid for cannot be recorded
        before = len(slow.journal)
        still = child.outcome()
        assert "still cannot be recorded" in still.error
        assert len(slow.journal) == before
    small.leave(32 << 20)
    outcome = complete(recipe)
    tally(1, outcome.lost, repeated(slow))
    assert (outcome.digest, outcome.lost) == (digest, 0)
    assert repeated(slow) <= CONCURRENCY
    assert not list(kept.parent.glob("*"))


def test_f27_replies_that_no_place_takes_are_named(
    ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = Ledger(ledger_url)
    with psycopg.connect(ledger_url) as connection:
        connection.execute("ALTER TABLE replies ADD CHECK (key <> 'bad')")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"cannot be recorded: .*nor can 1 of them be kept in .*file.*asked for again"):
        put(book, replies(["bad"]))


def test_f27_replies_that_were_kept_are_recorded_before_anything_is_asked(ledger_url: str) -> None:
    book = Ledger(ledger_url)
    with psycopg.connect(ledger_url) as connection:
        connection.execute("ALTER TABLE replies ADD CONSTRAINT trouble CHECK (key <> 'bad')")
    with pytest.raises(DataError, match="2 of them are kept in"):
        put(book, replies(["bad", "good"]))
    with Session() as session, pytest.raises(DataError, match="still cannot be recorded: .*trouble"):
        open_ledger(ledger_url, session)
    with psycopg.connect(ledger_url) as connection:
        connection.execute("ALTER TABLE replies DROP CONSTRAINT trouble")
    with Session() as session:
        assert open_ledger(ledger_url, session).replies.get(["bad", "good"]) == replies(["bad", "good"])
        assert open_ledger(ledger_url, session).replies.count() == 2


def followed(ledger_url: str) -> Ledger:
    """A ledger for a run that follows one whose lock was cut."""
    assert cut(ledger_url, LOCK)
    return Ledger(ledger_url)


def test_f27_a_run_whose_lock_is_cut_takes_it_again(ledger_url: str, tmp_path: Path) -> None:
    files = files_at(str(tmp_path / "data"))
    with Ledger(ledger_url).lock(files) as fence:
        assert cut(ledger_url, LOCK)
        time.sleep(3 * database_lock.POLL)
        with pytest.raises(RunError, match="another run works"), Ledger(ledger_url).lock(files):
            pass
        fence.check()
        with fence.guard():
            pass


def test_f27_a_run_begins_only_when_the_one_that_it_follows_has_noticed(ledger_url: str, tmp_path: Path) -> None:
    files = files_at(str(tmp_path / "data"))
    with Ledger(ledger_url).lock(files) as fence:
        with followed(ledger_url).lock(files, 0.2):
            assert fence.is_lost
            with pytest.raises(RunError, match=rf"another run has taken over this data set .*process {os.getpid()} "):
                fence.stop_if_lost()
        with pytest.raises(RunError, match="another run has taken over"):
            fence.check()


@pytest.mark.parametrize("way", ["check", "guard"])
def test_f27_a_run_that_did_not_notice_is_told_when_it_asks(
    ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    files = files_at(str(tmp_path / "data"))
    monkeypatch.setattr(database_lock, "POLL", 60.0)
    monkeypatch.setattr(database_lock, "GRACE", 0.0)
    with Ledger(ledger_url).lock(files) as fence, followed(ledger_url).lock(files, 0.2):
        assert not fence.is_lost
        with pytest.raises(RunError, match="another run has taken over"):
            fence.check() if way == "check" else fence.guard().__enter__()


def test_f27_nobody_takes_over_while_a_version_is_published(
    ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, began = files_at(str(tmp_path / "data")), threading.Event()
    monkeypatch.setattr(database_lock, "POLL", 60.0)
    monkeypatch.setattr(database_lock, "GRACE", 0.0)

    def follow() -> None:
        with followed(ledger_url).lock(files, 5):
            began.set()

    with Ledger(ledger_url).lock(files) as fence:
        with fence.guard():
            thread = threading.Thread(target=follow)
            thread.start()
            assert not began.wait(1)
        assert began.wait(10)
        thread.join()


def test_f27_a_run_that_was_followed_publishes_nothing(
    base_recipe: Build, ledger_url: str, endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    recipe = base_recipe(endpoint, 6, members=2, ledger=ledger_url)
    store = open_store(recipe)
    monkeypatch.setattr(database_lock, "POLL", 60.0)
    with Ledger(ledger_url).lock(store.files) as fence:
        engine = sa.create_engine(with_driver(sa.make_url(ledger_url)))
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE fences SET number = number + 1, holder = 'process 7 on elsewhere'"))
        with pytest.raises(RunError, match="another run has taken over this data set .process 7 on elsewhere"):
            run(recipe, fence)
    tally(1, 0, 0)
    assert store.names_in("versions") == []
    assert not store.exists("latest")


def test_f27_a_run_that_was_followed_stops_asking(
    base_recipe: Build, ledger_url: str, slow: FakeEndpoint, tmp_path: Path, tally: Tally
) -> None:
    digest = expected(base_recipe, tmp_path, COUNT)
    recipe = base_recipe(slow, COUNT, ledger=ledger_url, shard_size=10)
    files = open_store(recipe).files
    with Child(recipe) as first:
        wait_for_calls(slow, first, 30)
        with followed(ledger_url).lock(files, 0.2):
            assert first.wait(10)
            outcome, calls = first.outcome(), len(slow.journal)
    assert outcome.error.startswith("RunError")
    assert f"another run has taken over this data set (pairsmith process {os.getpid()} " in outcome.error
    assert calls < 5 * COUNT
    again = complete(recipe)
    tally(1, again.lost, repeated(slow))
    assert (again.digest, again.lost) == (digest, 0)
    assert repeated(slow) <= CONCURRENCY * 5
