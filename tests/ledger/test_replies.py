"""The ledger, on SQLite and on PostgreSQL, and the wrapper that records what a backend answers."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pairsmith.config import ModelSpec, Price, Sampling
from pairsmith.errors import ConfigError, DataError, RunError
from pairsmith.ledger.replies import Account, Entry, Ledger
from pairsmith.llms.echo import Echo
from pairsmith.llms.recorded import Recorded
from pairsmith.protocol import Finished, Identity, Reply, Request
from tests.runs import generate

WHO = Identity("echo", "m")


def put(book: Ledger, replies: dict[str, Reply]) -> list[Reply]:
    return book.record([Entry(Account(book.url, WHO), key, reply) for key, reply in replies.items()])


def request(text: str, seed: int = 0, sample: int = 0, **sampling: object) -> Request:
    return Request(({"role": "user", "content": text},), Sampling(**sampling), seed, sample)  # type: ignore[arg-type]


class Counting:
    """Echo that counts, and fails the requests that say so."""

    def __init__(self) -> None:
        self.identity, self.asked = WHO, 0
        self._echo = Echo(ModelSpec(backend="echo", model="m"))

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        for finished in self._echo.stream(requests):
            self.asked += len(finished)
            yield finished


def test_replies_come_back_as_they_were(ledger_url: str) -> None:
    reply = Reply("a\0b\u2028\ud800", "stop", 3, 4, {"1": -0.5}, None)
    put(Ledger(ledger_url), {"k": reply})
    assert Ledger(ledger_url).get(["k", "other"]) == {"k": reply}


def test_the_first_reply_stays(ledger_url: str) -> None:
    book = Ledger(ledger_url)
    put(book, {"k": Reply("first", "stop")})
    assert put(book, {"k": Reply("second", "stop"), "l": Reply("new", "stop")}) == [
        Reply("first", "stop"),
        Reply("new", "stop"),
    ]
    assert book.get(["k"])["k"].text == "first"


def test_many_keys(ledger_url: str) -> None:
    book = Ledger(ledger_url)
    replies = {str(n): Reply(str(n), "stop", 1, 2) for n in range(3000)}
    put(book, replies)
    assert book.get(replies) == replies
    assert book.totals() == [
        {"backend": "echo", "model": "m", "calls": 3000, "n_prompt_tokens": 3000, "n_tokens": 6000, "cost": None}
    ]


def test_nothing_is_asked_twice_and_the_order_is_kept(ledger_url: str) -> None:
    llm, book = Counting(), Ledger(ledger_url)
    requests = [request(text) for text in ("a", "b", "a", "c")]
    first = generate(Recorded(llm, book), requests)
    assert llm.asked == 3
    assert first[0] == first[2]
    again = Recorded(llm, book)
    assert generate(again, [*requests, request("d")]) == [*first, generate(llm, [request("d")])[0]]
    assert again.calls == 1


def test_errors_are_passed_on_and_asked_again(ledger_url: str) -> None:
    llm, book = Counting(), Ledger(ledger_url)
    for _ in range(2):
        assert generate(Recorded(llm, book), [request("[echo: fail]")])[0].error
    assert llm.asked == 2


def test_errors_that_would_come_again_are_recorded_and_so_are_probabilities_that_are_none(ledger_url: str) -> None:
    class Failing(Counting):
        def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
            self.asked += len(requests)
            yield [(0, Reply("", error="context: too long", final=True)), (1, Reply("4", logprobs={"4": math.nan}))]

    llm, book = Failing(), Ledger(ledger_url)
    for _ in range(2):
        replies = generate(Recorded(llm, book), [request("a"), request("b")])
        assert [reply.error for reply in replies] == ["context: too long", "the probabilities are not finite"]
    assert llm.asked == 2


def test_a_reply_is_durable_before_it_is_used(ledger_url: str) -> None:
    stream = Recorded(Counting(), Ledger(ledger_url)).stream([request("a"), request("b")])
    next(stream)
    assert Ledger(ledger_url).totals()[0]["calls"] == 1


def test_two_threads_and_two_ledgers_on_one_file(ledger_url: str) -> None:
    books = [Ledger(ledger_url), Ledger(ledger_url)]

    def fill(book: Ledger, start: int) -> None:
        for n in range(start, start + 100):
            put(book, {str(n): Reply(str(n), "stop")})

    threads = [threading.Thread(target=fill, args=(book, 50 * i)) for i, book in enumerate(books)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(books[0].get(map(str, range(150)))) == 150


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"random bytes, but no database at all" * 9)
    with pytest.raises(DataError, match="ledger.sqlite: cannot be opened"):
        Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")


def test_a_url_that_is_none() -> None:
    with pytest.raises(ConfigError, match="ledger"):
        Ledger("not a url")
    with pytest.raises(ConfigError, match="ledger"):
        Ledger("nodatabase://x")


OPEN = """
import sys, time
from pairsmith.ledger.replies import Ledger
time.sleep(max(0, float(sys.argv[2]) - time.time()))
Ledger(sys.argv[1])
"""


def test_many_processes_may_open_a_new_ledger_at_the_same_moment(ledger_url: str) -> None:
    command = [sys.executable, "-c", OPEN, ledger_url, str(time.time() + 4)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(6)]
    for process in processes:
        assert process.communicate()[1] == b""
        assert process.returncode == 0


def test_a_damaged_reply_is_asked_for_again(tmp_path: Path) -> None:
    book, llm = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite"), Counting()
    (reply,) = generate(Recorded(llm, book), [request("a")])
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        connection.execute("UPDATE replies SET reply = replace(reply, 'stop', 'stap')")
    assert generate(Recorded(llm, book), [request("a")]) == [reply]
    assert llm.asked == 2
    assert len(book.get([request("a").key(WHO)])) == 1


def test_a_ledger_of_another_version_is_refused_by_name(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "old.sqlite") as connection:
        connection.execute("CREATE TABLE replies (key TEXT PRIMARY KEY, dataset TEXT)")
    with pytest.raises(DataError, match=r"old\.sqlite: made by another version"):
        Ledger(f"sqlite:///{tmp_path}/old.sqlite")


def test_who_asked_is_noted_and_paid_for_by_data_set(ledger_url: str) -> None:
    book, price = Ledger(ledger_url), Price(prompt=1.0, completion=2.0)
    generate(Recorded(Counting(), book, "one", price, "member a"), [request("x"), request("y")])
    generate(Recorded(Counting(), book, "one", None, "judge j"), [request("x"), request("z")])
    generate(Recorded(Counting(), book, "other", price, "member a"), [request("x"), request("w")])
    paid = {row["asker"]: row for row in book.paid("one")}
    assert {asker: row["calls"] for asker, row in paid.items()} == {"member a": 2, "judge j": 1}
    tokens, cost = book.spent("one")
    assert sum(row["n_prompt_tokens"] + row["n_tokens"] for row in paid.values()) == tokens
    assert paid["member a"]["cost"] == pytest.approx(cost)
    assert paid["judge j"]["cost"] is None


def test_a_ledger_from_before_askers_were_noted_goes_on(tmp_path: Path) -> None:
    url, reply = f"sqlite:///{tmp_path}/ledger.sqlite", Reply("paid for", "stop", 1, 2)
    Ledger(url).record([Entry(Account(url, WHO, "one"), "k", reply)])
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        connection.execute("ALTER TABLE replies DROP COLUMN asker")
    book = Ledger(url)
    book.record([Entry(Account(url, WHO, "one", asker="member a"), "new", reply)])
    assert book.get(["k"]) == {"k": reply}
    assert {row["asker"]: row["calls"] for row in book.paid("one")} == {None: 1, "member a": 1}
    assert Ledger(url).count() == 2


@pytest.mark.postgres
@pytest.mark.parametrize("ledger_url", ["postgres"], indirect=True)
def test_a_lock_among_machines_is_waited_for_as_long_as_is_said(ledger_url: str) -> None:
    one, other = Ledger(ledger_url), Ledger(ledger_url)
    with one.lock("data"):
        for wait in (0, 0.2):
            began = time.monotonic()
            with pytest.raises(RunError, match="perhaps on another machine"), other.lock("data", wait):
                pass
            assert time.monotonic() - began >= wait
    taken, given_back = threading.Event(), threading.Event()

    def hold() -> None:
        with one.lock("data"):
            taken.set()
            time.sleep(0.2)
            given_back.set()

    holder = threading.Thread(target=hold)
    holder.start()
    assert taken.wait(10)
    with other.lock("data", 10):
        assert given_back.is_set()
    holder.join()
