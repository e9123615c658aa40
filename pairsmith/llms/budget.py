"""A data set's budget: nothing is asked that could exceed it, and what it may still spend is known after a restart.

What was spent is what the ledger has charged to the data set in all its runs. A request is held at the most that it can
cost until its reply says what it did cost, so requests that run beside each other cannot overspend together.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

from pairsmith.config import Budget, Price
from pairsmith.errors import BudgetSpent
from pairsmith.ledger.replies import Account, open_ledger
from pairsmith.llms.recorded import recording
from pairsmith.protocol import LLM, Finished, Reply, Request
from pairsmith.session import Session

_TOKENS_A_MESSAGE = 16  # what chat templates add, at most


class Purse:
    """What may still be spent; shared by all models of a data set in this process."""

    def __init__(
        self, budget: Budget, tokens: int, cost: float, reread: Callable[[], tuple[int, float]] | None = None
    ) -> None:
        self._budget = budget
        self.tokens, self.cost = tokens, cost  # spent
        self._held_tokens, self._held_cost, self._holds = 0, 0.0, 0
        self._changed = threading.Condition()
        self._reread = reread
        self._is_stale = False

    def hold(self, tokens: int, cost: float, wait: bool) -> bool:
        """Set an amount aside; False where it does not fit. `wait` for what others hold to be settled first."""
        with self._changed:
            if self._is_stale and self._reread and self._holds == 0:
                (self.tokens, self.cost), self._is_stale = self._reread(), False
            while not self._fits(tokens, cost):
                if not wait or self._holds == 0:
                    return False
                self._changed.wait()
            self._held_tokens, self._held_cost = self._held_tokens + tokens, self._held_cost + cost
            self._holds += 1
            return True

    def settle(self, held: tuple[int, float], spent: tuple[int, float]) -> None:
        """Give back what was held and note what was spent of it."""
        with self._changed:
            self._held_tokens, self._held_cost = self._held_tokens - held[0], self._held_cost - held[1]
            self.tokens, self.cost = self.tokens + spent[0], self.cost + spent[1]
            self._holds -= 1
            self._changed.notify_all()

    def doubt(self) -> None:
        """What was left under way may have been recorded: read what was spent again before the next request."""
        with self._changed:
            self._is_stale = True

    def _fits(self, tokens: int, cost: float) -> bool:
        within = self._budget.tokens is None or self.tokens + self._held_tokens + tokens <= self._budget.tokens
        return within and (self._budget.cost is None or self.cost + self._held_cost + cost <= self._budget.cost)

    def __str__(self) -> str:
        of_tokens = f" of {self._budget.tokens:,}" if self._budget.tokens is not None else ""
        of_cost = f" of {self._budget.cost:,.4f}" if self._budget.cost is not None else ""
        return f"{self.tokens:,}{of_tokens} tokens, cost {self.cost:,.4f}{of_cost}"


class Budgeted:
    """A backend that asks no more than a purse allows; raises BudgetSpent when nothing more fits."""

    def __init__(self, llm: LLM, purse: Purse, price: Price | None) -> None:
        self.identity = llm.identity
        self._llm, self._purse, self._price = llm, purse, price or Price()

    def recording(self, account: Account) -> Budgeted | None:
        """See `ledger.recording`."""
        nearer = recording(self._llm, account)
        return Budgeted(nearer, self._purse, self._price) if nearer else None

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        done = 0
        while done < len(requests):
            held: list[tuple[int, float]] = []
            for request in requests[done:]:
                amount = self._at_most(request)
                if not self._purse.hold(*amount, wait=not held):
                    break
                held.append(amount)
            if not held:
                raise BudgetSpent(f"the budget is spent: {self._purse}; raise it and run again to go on")
            yield from self._ask(requests[done : done + len(held)], held, done)
            done += len(held)

    def _ask(self, requests: Sequence[Request], held: list[tuple[int, float]], start: int) -> Iterator[Finished]:
        open_holds = set(range(len(requests)))
        try:
            for finished in self._llm.stream(requests):
                for index, reply in finished:
                    open_holds.discard(index)
                    self._purse.settle(held[index], self._spent(reply, held[index]))
                yield [(start + index, reply) for index, reply in finished]
        finally:
            if open_holds:
                self._purse.doubt()
            for index in open_holds:
                self._purse.settle(held[index], (0, 0.0))

    def _at_most(self, request: Request) -> tuple[int, float]:
        """Tokens and cost at most: no token is shorter than a byte."""
        prompt = sum(len(m["content"].encode("utf-8", "replace")) + _TOKENS_A_MESSAGE for m in request.messages)
        most = request.sampling.max_tokens
        return prompt + most, self._price.of(prompt, most)

    def _spent(self, reply: Reply, held: tuple[int, float]) -> tuple[int, float]:
        """What a reply cost; all that was held for it where an endpoint does not say."""
        tokens = reply.n_prompt_tokens + reply.n_tokens
        if tokens == 0 and reply.error is None:
            return held
        return tokens, self._price.of(reply.n_prompt_tokens, reply.n_tokens)


def purse_of(ledger_url: str, dataset: str, budget: Budget, session: Session) -> Purse:
    """The purse of a data set in this process, filled from what the ledger says at its first use."""

    def filled() -> Purse:
        ledger = open_ledger(ledger_url, session)
        return Purse(budget, *ledger.spent(dataset), lambda: ledger.spent(dataset))

    return session.share(("purse", ledger_url, dataset, budget.model_dump_json()), filled)
