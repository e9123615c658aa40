"""The replies of a ledger, on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading

from pairsmith.ledger.ledger import Ledger
from pairsmith.protocol import Reply
from tests.ledger.helpers import put


def test_replies_come_back_as_they_were(ledger_url: str) -> None:
    reply = Reply("a\0b\u2028\ud800", "stop", 3, 4, {"1": -0.5}, None)
    put(Ledger(ledger_url), {"k": reply})
    assert Ledger(ledger_url).replies.get(["k", "other"]) == {"k": reply}


def test_the_first_reply_stays(ledger_url: str) -> None:
    book = Ledger(ledger_url)
    put(book, {"k": Reply("first", "stop")})
    assert put(book, {"k": Reply("second", "stop"), "l": Reply("new", "stop")}) == [
        Reply("first", "stop"),
        Reply("new", "stop"),
    ]
    assert book.replies.get(["k"])["k"].text == "first"


def test_many_keys(ledger_url: str) -> None:
    book = Ledger(ledger_url)
    replies = {str(n): Reply(str(n), "stop", 1, 2) for n in range(3000)}
    put(book, replies)
    assert book.replies.get(replies) == replies
    assert book.spending.totals() == [
        {"backend": "echo", "model": "m", "calls": 3000, "n_prompt_tokens": 3000, "n_tokens": 6000, "cost": None}
    ]


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
    assert len(books[0].replies.get(map(str, range(150)))) == 150
