"""Requests of many streams on their way through an endpoint's batches: gathered, submitted, collected.

A batch outlives the run that submitted it. The ledger notes each batch before it is submitted, under a token that the
endpoint stores with it; so a run that is killed between the two steps finds the batch again, and none is submitted
twice. It stays noted until the replies to all of its requests are recorded.
"""

from __future__ import annotations

import json
import logging
import tempfile
import threading
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from pairsmith.config import Budget, Endpoint
from pairsmith.ledger.amounts import Amount
from pairsmith.ledger.batches import Batch
from pairsmith.ledger.ledger import Ledger
from pairsmith.llms.endpoint.batch_client import Answer, Answers, BatchClient
from pairsmith.llms.endpoint.limits import tokens_at_most
from pairsmith.llms.endpoint.wire import PATH, body_of
from pairsmith.llms.purse import Purse
from pairsmith.protocol import Request

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Load:
    """Requests that go to the endpoint together.

    `keys`: those whose replies are not recorded. `held`: what the budget keeps for them, unless another data set has
    asked. `file`: their bodies, until they are submitted. `problem`: once the batch has ended, why a request that it
    did not answer has no reply.
    """

    batch: Batch
    keys: set[str] = field(default_factory=set)
    held: Amount = (0, 0.0)
    file: IO[bytes] | None = None
    tokens: int = 0
    problem: str | None = None
    is_held: bool = True
    is_wanted: bool = True  # a stream of this session asks for some of it
    was_noted: bool = False

    @property
    def is_under_way(self) -> bool:
        return self.file is None and self.problem is None

    def takes(self, size: int, tokens: int, limits: Endpoint) -> bool:
        """Whether a request of so many bytes and tokens fits in."""
        if self.file is None or self.was_noted or len(self.keys) >= limits.batch_requests:
            return False
        is_small = self.file.tell() + size <= limits.batch_megabytes * 1e6
        return is_small and self.tokens + tokens <= (limits.batch_tokens or float("inf"))

    def put(self, key: str, content: bytes, tokens: int, amount: Amount) -> None:
        """Add a request that fits in."""
        assert self.file is not None
        self.file.write(content)
        self.keys.add(key)
        self.held = (self.held[0] + amount[0], self.held[1] + amount[1])
        self.tokens += tokens

    def leave(self, key: str, held: Amount) -> Amount:
        """Take a request out whose reply is recorded; returns what the budget kept for it."""
        self.keys.discard(key)
        kept = held if self.is_held else (0, 0.0)
        self.held = (self.held[0] - kept[0], self.held[1] - kept[1])
        return kept


class BatchDesk:
    """The batches of one model at one endpoint, for one data set. Safe to use from several threads."""

    def __init__(
        self, endpoint: Endpoint, model: str, key: str, ledger: Ledger, dataset: str, purse: Purse | None
    ) -> None:
        self._endpoint, self._model, self._ledger = endpoint, model, ledger
        self._dataset, self._purse = dataset, purse or Purse(Budget(), 0, 0.0)
        self._client, self._answers = BatchClient(endpoint, key), Answers()
        self._lock = threading.RLock()
        self._loads: list[Load] = []
        self._load_of: dict[str, Load] = {}
        self.handed_over = 0
        self._find_submitted()

    def close(self) -> None:
        """Let go of files, connections and what the budget keeps for requests that were not submitted."""
        for load in self._loads:
            if load.file:
                load.file.close()
                self._purse.let_go(load.held, submitted=load.was_noted)
        self._answers.close()
        self._client.close()

    def add(self, requests: Mapping[str, tuple[Request, Amount]]) -> list[str]:
        """Gather requests that are in no batch yet; returns the keys of those that the budget has no room for."""
        refused = []
        with self._lock:
            for key, (request, amount) in requests.items():
                known = self._load_of.get(key)
                if known:
                    known.is_wanted = True
                elif not self._purse.hold(amount):
                    refused.append(key)
                else:
                    self._put(key, request, amount)
        return refused

    def advance(self) -> bool:
        """Submit what was gathered, within the endpoint's limits, and look which batches have ended.

        Returns whether nothing that streams ask for is under way any more.
        """
        with self._lock:
            self.submit()
            for load in [load for load in self._loads if load.is_wanted and load.is_under_way]:
                self._poll(load)
            self.submit()
            return not self.is_waiting

    def submit(self, all_but: Load | None = None) -> None:
        """Submit gathered loads, the first first, as long as the endpoint queues so many tokens."""
        with self._lock:
            queued = sum(load.tokens for load in self._loads if load.is_under_way)
            for load in [load for load in self._loads if load.file and load is not all_but]:
                if queued and queued + load.tokens > (self._endpoint.batch_tokens or float("inf")):
                    return
                self._submit(load)
                queued += load.tokens

    def take(self, keys: Iterable[str]) -> dict[str, tuple[str, Answer]]:
        """The answers to those of `keys` whose batches have ended, each with the id of its batch."""
        with self._lock:
            found = {key: load for key in keys if (load := self._load_of.get(key)) and load.problem is not None}
            return {key: (str(one.batch.id), self._answers.get(key) or str(one.problem)) for key, one in found.items()}

    def recorded(self, spent: Mapping[str, tuple[Amount, Amount]]) -> None:
        """Note that replies are in the ledger: what the budget kept for each, and what it cost.

        A batch is closed with its last one.
        """
        changed = set[Load]()
        with self._lock:
            for key, (held, cost) in spent.items():
                load = self._load_of.pop(key, None)
                if load is None:  # another stream has asked for the same
                    continue
                self._purse.collected(load.leave(key, held), cost)
                self._answers.drop(key)
                self.handed_over += 1
                changed.add(load)
            for load in changed:
                if not load.keys:
                    self._drop(load)
                elif load.is_held:
                    self._ledger.batches.keep(load.batch.token, *load.held)

    def late(self, key: str) -> str:
        """Why there is no answer to a request yet."""
        number = self._load_of[key].batch.id
        return f"not done yet: batch {number}, collected by a later run" if number else "not submitted yet"

    @property
    def is_waiting(self) -> bool:
        """Whether something that streams ask for has not ended."""
        return any(load.is_wanted and load.problem is None for load in self._loads)

    def _put(self, key: str, request: Request, amount: Amount) -> None:
        body = body_of(request, self._model, self._endpoint.max_tokens_name)
        content, tokens = _line(key, body), tokens_at_most([request])
        load = self._loads[-1] if self._loads else None
        if load is None or not load.takes(len(content), tokens, self._endpoint):
            batch = Batch(uuid.uuid4().hex, None, self._endpoint.base_url, self._model, (), self._dataset)
            load = Load(batch, file=tempfile.TemporaryFile())  # noqa: SIM115
            self._loads.append(load)
            self.submit(all_but=load)
        load.put(key, content, tokens, amount)
        self._load_of[key] = load

    def _submit(self, load: Load) -> None:
        assert load.file is not None
        tokens, cost = load.held
        batch = Batch(**vars(load.batch) | {"keys": tuple(load.keys), "tokens": tokens, "cost": cost})
        found = self._client.find(batch.token) if load.was_noted else None  # an earlier attempt may have come through
        self._ledger.batches.note(batch)
        load.was_noted = True
        found = found or self._client.submit(batch.token, load.file)
        load.batch = batch.with_id(found)
        self._ledger.batches.note(load.batch)
        load.file.close()
        load.file = None
        self._purse.let_go(load.held, submitted=True)
        log.info("batch %s: %d requests to %s submitted", found, len(load.keys), self._model)

    def _poll(self, load: Load) -> None:
        load.problem = self._client.collect(str(load.batch.id), self._answers, load.keys)
        missing = sum(key not in self._answers for key in load.keys) if load.problem else 0
        if missing:
            log.warning("%s; %d of %d are asked again by the next run", load.problem, missing, len(load.keys))

    def _find_submitted(self) -> None:
        """The batches that earlier runs submitted and did not collect. One without an id is looked up by its token."""
        for batch in self._ledger.batches.pending(self._endpoint.base_url, self._model):
            if batch.id is None and batch.dataset not in ("", self._dataset):
                continue  # that data set's own run may be about to submit it
            found = batch.id or self._client.find(batch.token)
            left = set(batch.keys) - self._ledger.replies.get(batch.keys).keys()
            is_held = batch.tokens > 0 and batch.dataset == self._dataset
            held = (batch.tokens, batch.cost) if is_held else (0, 0.0)
            load = Load(batch.with_id(found or ""), left, held, is_held=is_held, is_wanted=False)
            self._loads.append(load)
            self._load_of.update(dict.fromkeys(left if found else (), load))
            if found is None or not left:
                self._drop(load)

    def _drop(self, load: Load) -> None:
        self._ledger.batches.close(load.batch)
        self._purse.collected(load.held, (0, 0.0))
        self._loads.remove(load)


def _line(key: str, body: dict[str, Any]) -> bytes:
    """A request as a line of a batch's file."""
    return json.dumps({"custom_id": key, "method": "POST", "url": f"/v1{PATH}", "body": body}).encode() + b"\n"
