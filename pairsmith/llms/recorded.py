"""A model whose replies go through the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pairsmith.config import Price
from pairsmith.ledger.ledger import Ledger
from pairsmith.ledger.replies import Account, Entry, storable
from pairsmith.protocol import LLM, Finished, Request


def recording(llm: LLM, account: Account) -> LLM | None:
    """A backend as one whose replies are in the ledger when it hands them over; None where it is none.

    One that can be has a method of this name.
    """
    can = getattr(llm, "recording", None)
    return can(account) if can else None


class Recorded:
    """A backend whose replies go through the ledger: known ones come from it, new ones are recorded first.

    Replies that failed for a passing reason are handed on but not recorded: the next run asks again. What is recorded
    is charged to `dataset`, as asked for by `asker`. A backend with a method `recording` may record them itself, nearer
    to where they arrive.
    """

    def __init__(
        self, llm: LLM, ledger: Ledger, dataset: str = "", price: Price | None = None, asker: str | None = None
    ) -> None:
        self.identity = llm.identity
        # asked of the model itself, not answered from the ledger
        self.calls = self.prompt_tokens = self.tokens = 0
        self.cost = 0.0
        self._llm, self._ledger = llm, ledger
        self._account = Account(ledger.url, llm.identity, dataset, price, asker)

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        places: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            places.setdefault(request.key(self.identity), []).append(index)
        known = self._ledger.replies.get(places)
        if known:
            yield [(index, reply) for key, reply in known.items() for index in places[key]]
        keys = [key for key in places if key not in known]
        if not keys:
            return
        for finished in self._recorded([requests[places[key][0]] for key in keys], keys):
            self.calls += len(finished)
            self.prompt_tokens += sum(reply.n_prompt_tokens for _, reply in finished)
            self.tokens += sum(reply.n_tokens for _, reply in finished)
            if self._account.price:
                price = self._account.price
                self.cost += sum(price.of(reply.n_prompt_tokens, reply.n_tokens) for _, reply in finished)
            yield [(index, reply) for i, reply in finished for index in places[keys[i]]]

    def _recorded(self, requests: Sequence[Request], keys: Sequence[str]) -> Iterator[Finished]:
        """Replies that are in the ledger, by the backend's own doing where it can."""
        nearer = recording(self._llm, self._account) if self._ledger.is_shared else None
        if nearer:
            yield from nearer.stream(requests)
            return
        for finished in self._llm.stream(requests):
            entries = [Entry(self._account, keys[i], storable(reply)) for i, reply in finished]
            kept = self._ledger.replies.record(entries)
            yield [(i, reply) for (i, _), reply in zip(finished, kept, strict=True)]
