"""Requests that were left under way may have been paid for: what was spent is read again before the next is asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from pairsmith.config import Budget, Sampling
from pairsmith.errors import BudgetSpent
from pairsmith.llms.budget import Budgeted
from pairsmith.llms.purse import Purse
from pairsmith.protocol import Finished, Identity, Reply, Request
from tests.runs import generate

MOST = 50


class Breaking:
    """Answers the first request of a stream with one token, and fails at the second, which may have been paid for."""

    identity = Identity("echo", "breaking")

    def __init__(self) -> None:
        self.asked = 0

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        self.asked += 1
        yield [(0, Reply("x", "stop", n_tokens=1))]
        if len(requests) > 1:
            raise ConnectionError("the line went dead")


class Recorded:
    """What a ledger says was spent, and how often it was asked."""

    def __init__(self, tokens: int) -> None:
        self.tokens, self.reads = tokens, 0

    def __call__(self) -> tuple[int, float]:
        self.reads += 1
        return self.tokens, 0.0


def requests(count: int) -> list[Request]:
    return [Request(({"role": "user", "content": "?"},), Sampling(max_tokens=MOST), seed) for seed in range(count)]


def broken_off(recorded: Recorded, how: str) -> tuple[Breaking, Purse]:
    """A purse after a stream of two requests ended with the second of them under way."""
    llm, purse = Breaking(), Purse(Budget(tokens=1000), 0, 0.0, recorded)
    stream = Budgeted(llm, purse, None).stream(requests(2))
    next(stream)
    if how == "closed":
        stream.close()  # type: ignore[attr-defined]
    else:
        with pytest.raises(ConnectionError):
            list(stream)
    assert recorded.reads == 0
    return llm, purse


@pytest.mark.parametrize("how", ["failed", "closed"])
def test_what_was_spent_is_read_again_after_a_stream_broke_off(how: str) -> None:
    recorded = Recorded(700)
    llm, purse = broken_off(recorded, how)
    assert purse.tokens == 1
    generate(Budgeted(llm, purse, None), requests(1))
    assert (purse.tokens, recorded.reads) == (701, 1)
    generate(Budgeted(llm, purse, None), requests(1))
    assert (purse.tokens, recorded.reads) == (702, 1)  # nothing was left under way since


@pytest.mark.parametrize("how", ["failed", "closed"])
def test_a_budget_that_was_spent_meanwhile_is_not_exceeded(how: str) -> None:
    llm, purse = broken_off(Recorded(1000), how)
    with pytest.raises(BudgetSpent, match="1,000 of 1,000 tokens"):
        generate(Budgeted(llm, purse, None), requests(1))
    assert llm.asked == 1
