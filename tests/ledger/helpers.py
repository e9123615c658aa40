"""What tests of the ledger share: requests, and replies that are put into it."""

from __future__ import annotations

from pairsmith.config import Sampling
from pairsmith.ledger.ledger import Ledger
from pairsmith.ledger.replies import Account, Entry
from pairsmith.protocol import Identity, Reply, Request

WHO = Identity("echo", "m")


def put(book: Ledger, replies: dict[str, Reply]) -> list[Reply]:
    return book.replies.record([Entry(Account(book.url, WHO), key, reply) for key, reply in replies.items()])


def request(text: str, seed: int = 0, sample: int = 0, **sampling: object) -> Request:
    return Request(({"role": "user", "content": text},), Sampling(**sampling), seed, sample)  # type: ignore[arg-type]
