"""A data set's budget: no request is sent that could exceed it, in this run or a later one.

What is spent is what the ledger has charged to the data set in all its runs. Each request reserves the most that it can
cost until its reply is recorded with the real cost, so concurrent requests, of one process or of several, cannot
overspend together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from pairsmith.config import Price
from pairsmith.ledger.amounts import Amount
from pairsmith.ledger.ledger import Ledger
from pairsmith.ledger.replies import Account
from pairsmith.llms.bills import most_of
from pairsmith.llms.purse import Purse
from pairsmith.llms.recorded import recording
from pairsmith.protocol import LLM, Finished, Reply, Request


class Budgeted:
    """A backend that sends no more than a purse allows, and raises BudgetSpent when no request fits any more.

    `answers`: how many answers to a request may have to be paid for, where one without a reply is asked for again.
    """

    def __init__(self, llm: LLM, purse: Purse, price: Price | None, answers: int = 1) -> None:
        self.identity = llm.identity
        self._llm, self._purse, self._price, self._answers = llm, purse, price, answers

    def recording(self, account: Account, ledger: Ledger) -> Budgeted | None:
        """See `recorded.recording`."""
        inner = recording(self._llm, replace(account, is_bounded=True), ledger)
        return Budgeted(inner, self._purse, self._price, self._answers) if inner else None

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        done = 0
        while done < len(requests):
            reserved: list[tuple[int, float]] = []
            for request in requests[done:]:
                tokens, cost = amount_of(request, self._price)
                amount = (self._answers * tokens, self._answers * cost)
                if not self._purse.reserve(*amount, wait=not reserved):
                    break
                reserved.append(amount)
            if not reserved:
                raise self._purse.spent_up(amount)
            yield from self._ask(requests[done : done + len(reserved)], reserved, done)
            done += len(reserved)

    def _ask(self, requests: Sequence[Request], reserved: list[tuple[int, float]], start: int) -> Iterator[Finished]:
        unsettled = set(range(len(requests)))
        try:
            for finished in self._llm.stream(requests):
                try:
                    yield [(start + index, reply) for index, reply in finished]
                finally:  # when the replies are recorded: before, neither the ledger nor a reservation would count them
                    for index, reply in finished:
                        unsettled.discard(index)
                        self._purse.settle(reserved[index], spent_on(reply, reserved[index], self._price))
        finally:
            if unsettled:
                self._purse.mark_stale()
            for index in unsettled:
                self._purse.settle(reserved[index], (0, 0.0))


def amount_of(request: Request, price: Price | None) -> Amount:
    """The most tokens and cost of a request."""
    prompt, answer = most_of(request)
    return prompt + answer, (price or Price()).of(prompt, answer)


def spent_on(reply: Reply, reserved: Amount, price: Price | None) -> Amount:
    """What a reply cost; where the endpoint does not say, all that was reserved."""
    prompt, answer = reply.cost
    if prompt + answer == 0 and reply.error is None:
        return reserved
    return prompt + answer, (price or Price()).of(prompt, answer)
