"""A model whose replies go through the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from pairsmith.config import Price
from pairsmith.ledger.ledger import Ledger
from pairsmith.ledger.replies import Account, Entry, storable
from pairsmith.ledger.uses import Uses
from pairsmith.protocol import LLM, Finished, Identity, Reply, Request


def recording(llm: LLM, account: Account, ledger: Ledger) -> LLM | None:
    """A backend that records its own replies before it hands them over, made from `llm`; None where it cannot.

    A backend that can has a method of this name.
    """
    method = getattr(llm, "recording", None)
    return method(account, ledger) if method else None


class Recorded:
    """A backend whose replies go through the ledger: known replies come from it, new ones are recorded before use.

    Replies that failed for a passing reason are handed on but not recorded, so the next run asks again; what they cost
    is. The ledger charges it to `dataset`, and notes `asker` as who asked and `host` as whose endpoint answered. A
    backend with a method `recording` may record its replies itself, closer to where they arrive. `earlier`: identities
    under which replies of the same model may still be kept.
    """

    def __init__(
        self,
        llm: LLM,
        ledger: Ledger,
        dataset: str = "",
        price: Price | None = None,
        asker: str | None = None,
        earlier: Sequence[Identity] = (),
        host: str | None = None,
    ) -> None:
        self.identity = llm.identity
        # what the model itself answered, not the ledger
        self.calls = self.prompt_tokens = self.tokens = self.retries = 0
        self.cost = 0.0
        self.used: set[str] = set()  # keys of all requests, known or not
        self._llm, self._ledger, self._earlier, self._is_silent = llm, ledger, earlier, False
        self._account = Account(ledger.url, llm.identity, dataset, price, asker, host)

    @property
    def dataset(self) -> str:
        """The data set that pays."""
        return self._account.dataset

    @property
    def asker(self) -> str | None:
        """Who asks: a role and a name."""
        return self._account.asker

    @property
    def uses(self) -> Uses:
        """Where it is noted which replies are in use."""
        return self._ledger.uses

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Within the block nothing is asked: a request whose reply is not in the ledger fails."""
        self._is_silent = True
        try:
            yield
        finally:
            self._is_silent = False

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        indices: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            indices.setdefault(request.key(self.identity), []).append(index)
        self.used.update(indices)
        known = self._ledger.replies.get(indices)
        for identity in self._earlier:
            lacking = {key: requests[indices[key][0]] for key in indices if key not in known}
            known |= self._moved(lacking, identity)
        if known:
            yield [(index, reply) for key, reply in known.items() for index in indices[key]]
        keys = [key for key in indices if key not in known]
        if not keys:
            return
        for finished in self._recorded([requests[indices[key][0]] for key in keys], keys):
            self.calls += len(finished)
            self.retries += sum(reply.retries for _, reply in finished)
            costs = [reply.cost for _, reply in finished]
            self.prompt_tokens += sum(prompt for prompt, _ in costs)
            self.tokens += sum(answer for _, answer in costs)
            if price := self._account.price:
                self.cost += sum(price.of(*cost) for cost in costs)
            yield [(index, reply) for i, reply in finished for index in indices[keys[i]]]

    def _moved(self, requests: Mapping[str, Request], identity: Identity) -> dict[str, Reply]:
        """Replies of requests, by their keys, that are kept under an earlier identity of the model: from now on under
        these keys."""
        if not requests:
            return {}
        self._ledger.replies.move({one.key(identity): key for key, one in requests.items()}, self.identity)
        return self._ledger.replies.get(requests)

    def _recorded(self, requests: Sequence[Request], keys: Sequence[str]) -> Iterator[Finished]:
        """Replies that are in the ledger, put there by the backend itself where it can."""
        if self._is_silent:
            yield [(index, Reply("", error="not asked")) for index in range(len(requests))]
            return
        if own := recording(self._llm, self._account, self._ledger):
            yield from own.stream(requests)
            return
        for finished in self._llm.stream(requests):
            entries = [Entry(self._account, keys[i], storable(reply)) for i, reply in finished]
            stored = self._ledger.replies.record(entries)
            yield [(i, reply) for (i, _), reply in zip(finished, stored, strict=True)]
