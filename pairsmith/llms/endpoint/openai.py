"""The `openai` backend: any endpoint with OpenAI's chat completions: vLLM, SGLang, TGI, llama.cpp, Ollama, hosted ones.

Members and judges that name the same endpoint and model share an engine, and so its limits; see `engines`.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence

from pairsmith.config import ModelSpec
from pairsmith.errors import DataError
from pairsmith.ledger.ledger import Ledger
from pairsmith.ledger.replies import Account, Charge, Entry, storable
from pairsmith.llms.endpoint.engines import ThreadEngine, ThreadStream, engine_for
from pairsmith.llms.endpoint.hosts import identity_at
from pairsmith.llms.endpoint.jobs import Outcome, replies_in
from pairsmith.llms.endpoint.remote_engine import EngineProcessEnded, RemoteEngine, RemoteStream
from pairsmith.protocol import Bill, Finished, Reply, Request
from pairsmith.session import Session


class OpenAI:
    """The backend; the engine behind it is shared by all that name the same endpoint and model."""

    def __init__(
        self, spec: ModelSpec, session: Session, account: Account | None = None, ledger: Ledger | None = None
    ) -> None:
        assert spec.endpoint is not None
        self.identity = identity_at(spec)
        self._spec, self._endpoint, self._session = spec, spec.endpoint, session
        self._account, self._ledger = account, ledger

    def recording(self, account: Account, ledger: Ledger) -> OpenAI:
        """See `recorded.recording`. Answers in which there is no reply are billed too, so it records on its own."""
        return OpenAI(self._spec, self._session, account, ledger)

    def _engine(self) -> ThreadEngine | RemoteEngine:
        return engine_for(self._endpoint, self.identity.model, self._session)

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        outcomes: queue.SimpleQueue[list[Outcome]] = queue.SimpleQueue()
        engine = self._engine()
        waiting, failures = len(requests), list[BaseException]()
        # The engine process records a reply at once, and so frees its permit, where this one may be busy with tables.
        recorded = isinstance(engine, RemoteEngine) and self._ledger is not None and self._ledger.is_shared
        if isinstance(engine, RemoteEngine):
            stream: ThreadStream | RemoteStream = engine.ask(requests, outcomes.put, self._account, recorded)
        else:
            stream = engine.ask(requests, outcomes.put, self._account)
        try:
            while waiting:
                group = outcomes.get()
                ended = replies_in(group)
                waiting -= ended
                for item in group:
                    if isinstance(item, EngineProcessEnded | DataError):  # later replies could not be recorded
                        raise item
                failures += [item for item in group if isinstance(item, BaseException)]
                answers = [item for item in group if not isinstance(item, BaseException)]
                finished = _replies(answers) if recorded else self._recorded(answers, requests)
                if finished:
                    yield finished
                stream.recorded(ended)
        finally:
            stream.cancel()
        if failures:  # raised last: the replies to all other requests have been paid for and are worth recording
            raise failures[0]

    def _recorded(self, answers: Sequence[tuple[int, Reply | Bill]], requests: Sequence[Request]) -> Finished:
        """The replies, put into the ledger if there is one, and what answers without a reply cost."""
        account, ledger, replies = self._account, self._ledger, _replies(answers)
        if account is None or ledger is None:
            return replies
        who = account.identity
        entries = [Entry(account, requests[index].key(who), storable(reply)) for index, reply in replies]
        bills = [Charge(account, requests[index].key(who), bill) for index, bill in answers if isinstance(bill, Bill)]
        stored = ledger.replies.record(entries, bills)
        return [(index, reply) for (index, _), reply in zip(replies, stored, strict=True)]


def _replies(answers: Sequence[tuple[int, Reply | Bill]]) -> Finished:
    return [(index, reply) for index, reply in answers if isinstance(reply, Reply)]
