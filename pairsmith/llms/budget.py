"""A data set's budget: no request is sent that could exceed it, in this run or a later one.

What is spent is what the ledger has charged to the data set in all its runs. Each request reserves the most that it can
cost until its reply tells the real cost, so concurrent requests cannot overspend together.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from pairsmith.config import Budget, Price
from pairsmith.errors import BudgetSpent
from pairsmith.ledger.ledger import Ledger, open_ledger
from pairsmith.ledger.replies import Account
from pairsmith.llms.bills import most_of
from pairsmith.llms.recorded import recording
from pairsmith.protocol import LLM, Finished, Reply, Request
from pairsmith.session import Session


class Purse:
    """What a data set has spent and reserved; shared by all of its models in this process."""

    def __init__(
        self, budget: Budget, tokens: int, cost: float, reread: Callable[[], tuple[int, float]] | None = None
    ) -> None:
        self._budget = budget
        self.tokens, self.cost = tokens, cost  # spent
        self._reserved_tokens, self._reserved_cost, self._reservations = 0, 0.0, 0
        self._changed = threading.Condition()
        self._reread = reread
        self._is_stale = False

    def reserve(self, tokens: int, cost: float, wait: bool) -> bool:
        """Reserve an amount; False where it does not fit. `wait`: until other reservations are settled, if need be."""
        with self._changed:
            if self._is_stale and self._reread and self._reservations == 0:
                (self.tokens, self.cost), self._is_stale = self._reread(), False
            while not self._fits(tokens, cost):
                if not wait or self._reservations == 0:
                    return False
                self._changed.wait()
            self._reserved_tokens += tokens
            self._reserved_cost += cost
            self._reservations += 1
            return True

    def settle(self, reserved: tuple[int, float], spent: tuple[int, float]) -> None:
        """End a reservation and add what was spent of it."""
        with self._changed:
            self._reserved_tokens -= reserved[0]
            self._reserved_cost -= reserved[1]
            self.tokens, self.cost = self.tokens + spent[0], self.cost + spent[1]
            self._reservations -= 1
            self._changed.notify_all()

    def mark_stale(self) -> None:
        """Read from the ledger again before the next reservation: replies that did not arrive may be recorded there."""
        with self._changed:
            self._is_stale = True

    def _fits(self, tokens: int, cost: float) -> bool:
        within = self._budget.tokens is None or self.tokens + self._reserved_tokens + tokens <= self._budget.tokens
        return within and (self._budget.cost is None or self.cost + self._reserved_cost + cost <= self._budget.cost)

    def __str__(self) -> str:
        of_tokens = f" of {self._budget.tokens:,}" if self._budget.tokens is not None else ""
        of_cost = f" of {self._budget.cost:,.4f}" if self._budget.cost is not None else ""
        return f"{self.tokens:,}{of_tokens} tokens, cost {self.cost:,.4f}{of_cost}"


class Budgeted:
    """A backend that sends no more than a purse allows, and raises BudgetSpent when no request fits any more.

    `answers`: how many answers to a request may have to be paid for, where one without a reply is asked for again.
    """

    def __init__(self, llm: LLM, purse: Purse, price: Price | None, answers: int = 1) -> None:
        self.identity = llm.identity
        self._llm, self._purse, self._price, self._answers = llm, purse, price or Price(), answers

    def recording(self, account: Account, ledger: Ledger) -> Budgeted | None:
        """See `recorded.recording`."""
        inner = recording(self._llm, replace(account, is_bounded=True), ledger)
        return Budgeted(inner, self._purse, self._price, self._answers) if inner else None

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        done = 0
        while done < len(requests):
            reserved: list[tuple[int, float]] = []
            for request in requests[done:]:
                amount = self._at_most(request)
                if not self._purse.reserve(*amount, wait=not reserved):
                    break
                reserved.append(amount)
            if not reserved:
                raise BudgetSpent(f"the budget is spent: {self._purse}; raise it and run again to go on")
            yield from self._ask(requests[done : done + len(reserved)], reserved, done)
            done += len(reserved)

    def _ask(self, requests: Sequence[Request], reserved: list[tuple[int, float]], start: int) -> Iterator[Finished]:
        unsettled = set(range(len(requests)))
        try:
            for finished in self._llm.stream(requests):
                for index, reply in finished:
                    unsettled.discard(index)
                    self._purse.settle(reserved[index], self._spent(reply, reserved[index]))
                yield [(start + index, reply) for index, reply in finished]
        finally:
            if unsettled:
                self._purse.mark_stale()
            for index in unsettled:
                self._purse.settle(reserved[index], (0, 0.0))

    def _at_most(self, request: Request) -> tuple[int, float]:
        """The most tokens and cost of a request."""
        prompt, answer = most_of(request)
        return self._answers * (prompt + answer), self._answers * self._price.of(prompt, answer)

    def _spent(self, reply: Reply, reserved: tuple[int, float]) -> tuple[int, float]:
        """What a reply cost; where the endpoint does not say, all that was reserved."""
        prompt, answer = reply.cost
        if prompt + answer == 0 and reply.error is None:
            return reserved
        return prompt + answer, self._price.of(prompt, answer)


def purse_of(ledger_url: str, dataset: str, budget: Budget, session: Session) -> Purse:
    """The purse of a data set in this process; the first use reads from the ledger what was spent."""

    def opened() -> Purse:
        ledger = open_ledger(ledger_url, session)
        return Purse(budget, *ledger.spending.spent(dataset), lambda: ledger.spending.spent(dataset))

    return session.share(("purse", ledger_url, dataset, budget.model_dump_json()), opened)
