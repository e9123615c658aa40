"""The `openai` backend: any endpoint with OpenAI's chat completions: vLLM, SGLang, TGI, llama.cpp, Ollama, hosted ones.

Members and judges that name the same endpoint and model share an engine, and so its limits; see `engines`.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence

from pairsmith.config import ModelSpec
from pairsmith.errors import DataError
from pairsmith.ledger.replies import Account
from pairsmith.llms.endpoint.engines import ThreadEngine, ThreadStream, engine_for
from pairsmith.llms.endpoint.hosts import identity_at
from pairsmith.llms.endpoint.jobs import Outcome
from pairsmith.llms.endpoint.remote_engine import EngineProcessEnded, RemoteEngine, RemoteStream
from pairsmith.protocol import Finished, Request
from pairsmith.session import Session


class OpenAI:
    """The backend; the engine behind it is shared by all that name the same endpoint and model."""

    def __init__(self, spec: ModelSpec, session: Session, account: Account | None = None) -> None:
        assert spec.endpoint is not None
        self.identity = identity_at(spec)
        self._spec, self._endpoint, self._session, self._account = spec, spec.endpoint, session, account

    def recording(self, account: Account) -> OpenAI | None:
        """See `recorded.recording`. Only the engine process can: it records a reply at once, and so frees its permit.

        This process may be busy with tables, and the permit would be held until it came to record the reply.
        """
        is_remote = isinstance(self._engine(), RemoteEngine)
        return OpenAI(self._spec, self._session, account) if is_remote else None

    def _engine(self) -> ThreadEngine | RemoteEngine:
        return engine_for(self._endpoint, self.identity.model, self._session)

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        outcomes: queue.SimpleQueue[list[Outcome]] = queue.SimpleQueue()
        engine = self._engine()
        waiting, failures = len(requests), list[BaseException]()
        if self._account and isinstance(engine, RemoteEngine):
            stream: ThreadStream | RemoteStream = engine.ask(requests, outcomes.put, self._account)
        else:
            stream = engine.ask(requests, outcomes.put)
        try:
            while waiting:
                group = outcomes.get()
                waiting -= len(group)
                for item in group:
                    if isinstance(item, EngineProcessEnded | DataError):  # later replies could not be recorded
                        raise item
                failures += [item for item in group if isinstance(item, BaseException)]
                finished = [item for item in group if not isinstance(item, BaseException)]
                if finished:
                    yield finished
                stream.recorded(len(group))
        finally:
            stream.cancel()
        if failures:  # raised last: the replies to all other requests have been paid for and are worth recording
            raise failures[0]
