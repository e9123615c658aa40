"""The wrapper that records what a model answers, with a ledger on SQLite and on PostgreSQL."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from pairsmith.config import ModelSpec
from pairsmith.ledger.ledger import Ledger
from pairsmith.llms.echo import Echo
from pairsmith.llms.recorded import Recorded
from pairsmith.protocol import Finished, Reply, Request
from tests.ledger.helpers import WHO, request
from tests.runs import generate


class Counting:
    """Echo that counts, and fails the requests that say so."""

    def __init__(self) -> None:
        self.identity, self.asked = WHO, 0
        self._echo = Echo(ModelSpec(backend="echo", model="m"))

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        for finished in self._echo.stream(requests):
            self.asked += len(finished)
            yield finished


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
    assert Ledger(ledger_url).spending.totals()[0]["calls"] == 1


def test_a_damaged_reply_is_asked_for_again(tmp_path: Path) -> None:
    book, llm = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite"), Counting()
    (reply,) = generate(Recorded(llm, book), [request("a")])
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        connection.execute("UPDATE replies SET reply = replace(reply, 'stop', 'stap')")
    assert generate(Recorded(llm, book), [request("a")]) == [reply]
    assert llm.asked == 2
    assert len(book.replies.get([request("a").key(WHO)])) == 1
