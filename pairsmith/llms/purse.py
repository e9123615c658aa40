"""What a data set has spent and reserved of its budget, in this process and in others that share the ledger."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable

from pairsmith.config import Budget
from pairsmith.errors import BudgetSpent
from pairsmith.ledger.amounts import Amount, added
from pairsmith.ledger.ledger import Ledger, open_ledger
from pairsmith.ledger.reservations import LEASE_SECONDS
from pairsmith.session import Session

PAUSE = 0.2  # seconds until a process asks again for what another one holds
IDLE_SECONDS = 1.0  # after which a portion that no request uses is given back
log = logging.getLogger(__name__)


class Purse:
    """What a data set has spent and reserved; shared by all of its models in this process.

    Requests for a batch are held until it is submitted. What it can cost counts as spent from then on, and until its
    replies are recorded: the ledger has it with the batch, for every process.
    """

    def __init__(self, budget: Budget, tokens: int, cost: float, reread: Callable[[], Amount] | None = None) -> None:
        self._budget = budget
        self.tokens, self.cost = tokens, cost  # spent
        self._limit: tuple[float | None, float | None] = (budget.tokens, budget.cost)  # of spent and reserved together
        self._reserved_tokens, self._reserved_cost, self._reservations = 0, 0.0, 0
        self._changed = threading.Condition()
        self._reread = reread
        self._is_stale = False

    def reserve(self, tokens: int, cost: float, wait: bool) -> bool:
        """Reserve an amount; False where it does not fit. `wait`: until other reservations are settled, if need be."""
        with self._changed:
            self._refresh_if_stale()
            while not self._take((tokens, cost)):
                if not wait or not self._may_change():
                    return False
                self._changed.wait(PAUSE)
            self._reservations += 1
            return True

    def settle(self, reserved: Amount, spent: Amount) -> None:
        """End a reservation and add what was spent of it."""
        with self._changed:
            self._reserved_tokens -= reserved[0]
            self._reserved_cost -= reserved[1]
            self.tokens, self.cost = self.tokens + spent[0], self.cost + spent[1]
            self._reservations -= 1
            self._changed.notify_all()

    def hold(self, amount: Amount) -> bool:
        """Keep an amount for a request that waits to be submitted in a batch; False where it does not fit."""
        with self._changed:
            self._refresh_if_stale()
            return self._take(amount)

    def let_go(self, held: Amount, submitted: bool) -> None:
        """Keep an amount no longer, since its requests are submitted, in a batch that is noted, or given up."""
        with self._changed:
            self._reserved_tokens -= held[0]
            self._reserved_cost -= held[1]
            if submitted:
                self.tokens, self.cost = added((self.tokens, self.cost), held)
            self._changed.notify_all()

    def collected(self, held: Amount, spent: Amount) -> None:
        """Count what requests of a batch have cost instead of what they could cost; both are in the ledger."""
        with self._changed:
            self.tokens, self.cost = self.tokens + spent[0] - held[0], self.cost + spent[1] - held[1]
            self._changed.notify_all()

    def mark_stale(self) -> None:
        """Read from the ledger again before the next reservation: replies that did not arrive may be recorded there."""
        with self._changed:
            self._is_stale = True

    def spent_up(self, most: Amount) -> BudgetSpent:
        """The error where a request that can take `most` does not fit."""
        cost = f", cost {most[1]:,.4f}" if self._budget.cost is not None else ""
        return BudgetSpent(
            f"the budget is spent: {self}; the next request may take up to {most[0]:,} tokens{cost}; "
            "raise it and run again to go on"
        )

    def _take(self, amount: Amount) -> bool:
        """Count an amount as reserved if it fits."""
        if not (self._fits(*amount) or self._extended(*amount)):
            return False
        self._reserved_tokens += amount[0]
        self._reserved_cost += amount[1]
        return True

    def _refresh_if_stale(self) -> None:
        if self._is_stale and self._reservations == 0:
            self._refresh()

    def _refresh(self) -> None:
        if self._reread:
            (self.tokens, self.cost), self._is_stale = self._reread(), False

    def _extended(self, tokens: int, cost: float) -> bool:
        """Whether there is more than this process knew of, and an amount fits now."""
        return False

    def _may_change(self) -> bool:
        """Whether an amount that does not fit may fit later, with a budget that stays the same."""
        return self._reservations > 0

    def _fits(self, tokens: int, cost: float) -> bool:
        most_tokens, most_cost = self._limit
        within = most_tokens is None or self.tokens + self._reserved_tokens + tokens <= most_tokens
        return within and (most_cost is None or self.cost + self._reserved_cost + cost <= most_cost)

    def __str__(self) -> str:
        of_tokens = f" of {self._budget.tokens:,}" if self._budget.tokens is not None else ""
        of_cost = f" of {self._budget.cost:,.4f}" if self._budget.cost is not None else ""
        return f"{self.tokens:,}{of_tokens} tokens, cost {self.cost:,.4f}{of_cost}"


class SharedPurse(Purse):
    """A purse of one process of several: it reserves in the ledger, in portions for many requests.

    A thread renews the lease of the portion, and gives it back when no request has used it for a while.
    """

    def __init__(self, budget: Budget, dataset: str, ledger: Ledger) -> None:
        super().__init__(budget, *_spent(ledger, dataset))
        self._dataset, self._reservations_in, self._holder = dataset, ledger.reservations, uuid.uuid4().hex
        self._held: Amount = (0, 0.0)
        self._others, self._next_try = False, 0.0
        self._written = self._used = 0.0  # when, by this process's clock
        self._keeper: threading.Thread | None = None
        self._hold((0, 0.0))

    def close(self) -> None:
        """Give back what is held."""
        with self._changed:
            self._give_back()

    def settle(self, reserved: Amount, spent: Amount) -> None:
        super().settle(reserved, spent)
        self._used = time.monotonic()

    def collected(self, held: Amount, spent: Amount) -> None:
        with self._changed:
            left = [None if most is None else most - now for most, now in zip(self._limit, self._sums(), strict=True)]
            super().collected(held, spent)  # what others may use as well: this process has no more than before
            tokens, cost = (None if one is None else one + now for one, now in zip(left, self._sums(), strict=True))
            self._limit = (tokens, cost)

    def _sums(self) -> Amount:
        return self.tokens, self.cost

    def _refresh(self) -> None:
        self._hold((0, 0.0))  # so the next reservation is made in the ledger, which tells what was spent
        self._is_stale = False

    def _extended(self, tokens: int, cost: float) -> bool:
        now = time.monotonic()
        if now < self._next_try and self._may_change():
            return False
        used = (self._reserved_tokens, self._reserved_cost)
        bounds = (self._budget.tokens, self._budget.cost)
        granted = self._reservations_in.reserve(self._holder, self._dataset, bounds, used, (tokens, cost))
        (self.tokens, self.cost), self._others = granted.spent, any(granted.others)
        self._written = self._used = now
        self._next_try = now + PAUSE if not granted.fits else 0.0
        self._hold(granted.held)
        return granted.fits

    def _may_change(self) -> bool:
        return self._reservations > 0 or self._others

    def _hold(self, held: Amount) -> None:
        """Let spent and reserved amounts go up to what is held, where the budget has a bound."""
        self._held = held
        tokens = None if self._budget.tokens is None else self.tokens + held[0]
        self._limit = (tokens, None if self._budget.cost is None else self.cost + held[1])
        if any(held) and self._keeper is None:
            self._keeper = threading.Thread(target=self._keep, name="budget", daemon=True)
            self._keeper.start()

    def _give_back(self) -> None:
        if any(self._held):
            self._reservations_in.give_back(self._holder)
        self._hold((0, 0.0))

    def _keep(self) -> None:
        """Renew the lease until the portion is given back."""
        while True:
            time.sleep(IDLE_SECONDS / 2)
            with self._changed:
                if not any(self._held):
                    self._keeper = None
                    return
                try:
                    self._renew_or_give_back()
                except Exception as error:  # the ledger does not answer: tried again, before the lease lapses
                    log.warning("budget of %s: the reservation cannot be renewed: %s", self._dataset, error)

    def _renew_or_give_back(self) -> None:
        now = time.monotonic()
        if self._reservations == 0 == self._reserved_tokens and now - self._used > IDLE_SECONDS:
            self._give_back()
        elif now - self._written > LEASE_SECONDS / 4:
            self._reservations_in.renew(self._holder, self._dataset, self._held)
            self._written = now


def purse_of(ledger_url: str, dataset: str, budget: Budget, session: Session) -> Purse:
    """The purse of a data set in this process; the first use reads from the ledger what was spent."""

    def opened() -> Purse:
        ledger = open_ledger(ledger_url, session)
        if ledger.is_shared:
            return SharedPurse(budget, dataset, ledger)
        return Purse(budget, *_spent(ledger, dataset), lambda: _spent(ledger, dataset))

    return session.share(("purse", ledger_url, dataset, budget.model_dump_json()), opened, _close)


def _spent(ledger: Ledger, dataset: str) -> Amount:
    """What a data set has spent, with what its submitted batches can cost."""
    return added(ledger.spending.spent(dataset), ledger.batches.held(dataset))


def _close(purse: Purse) -> None:
    if isinstance(purse, SharedPurse):
        purse.close()
