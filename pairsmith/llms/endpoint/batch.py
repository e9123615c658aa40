"""`mode: batch`: requests go to an endpoint in a file and replies are collected later, often at half the price.

A batch outlives the run that submitted it. The ledger notes each batch before it is submitted, under a token that the
endpoint stores with it; so a run that is killed between the two steps finds the batch again, and none is submitted
twice. A run waits for its batches up to the endpoint's deadline; a later run collects those that are not done by then.

The protocol is described at https://platform.openai.com/docs/api-reference/batch
"""

from __future__ import annotations

import io
import json
import logging
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from pairsmith.config import ModelSpec
from pairsmith.errors import ConfigError
from pairsmith.ledger.batches import Batch
from pairsmith.ledger.ledger import Ledger
from pairsmith.llms.endpoint.hosts import identity_at
from pairsmith.llms.endpoint.keys import key_of, without
from pairsmith.llms.endpoint.wire import PATH, STOPPING, NoReply, body_of, moved_hint, reply_of, unread_bill
from pairsmith.protocol import Bill, Finished, Reply, Request
from pairsmith.session import Session

log = logging.getLogger(__name__)
ENDED = {"completed", "failed", "expired", "cancelled"}
POLL_SECONDS = 15.0
_TOKEN = "pairsmith"  # noqa: S105 - the name of the token in a batch's metadata


class Batched:
    """A backend that submits batches, waits for them and collects their replies."""

    def __init__(self, spec: ModelSpec, ledger: Ledger, session: Session) -> None:
        assert spec.endpoint is not None
        self.identity = identity_at(spec)
        self._endpoint, self._ledger, self._session = spec.endpoint, ledger, session

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        import openai

        self._key = key_of(self._endpoint, self._session)
        self._client = openai.OpenAI(
            base_url=self._endpoint.base_url,
            api_key=self._key,
            max_retries=self._endpoint.attempts - 1,
            default_headers=self._endpoint.headers,
            http_client=openai.DefaultHttpxClient(follow_redirects=False),
        )
        try:
            yield from self._collected({request.key(self.identity): i for i, request in enumerate(requests)}, requests)
        except openai.APIStatusError as error:
            if error.status_code not in STOPPING | {403}:
                raise
            problem = self._clean(f"{error}{moved_hint(error.response.headers)}")
            raise ConfigError(f"endpoint {self._endpoint.base_url}, batches: {problem}") from None

    def _collected(self, indices: dict[str, int], requests: Sequence[Request]) -> Iterator[Finished]:
        import openai

        ends = time.monotonic() + self._endpoint.deadline
        pending = [batch for batch in self._known() if not indices.keys().isdisjoint(batch.keys)]
        submitted = {key for batch in pending for key in batch.keys}
        new = [key for key in indices if key not in submitted]
        problem = "not done yet"
        if new:
            pending.append(self._submit(new, [requests[indices[key]] for key in new]))
        while pending:
            for batch in list(pending):
                try:
                    state = self._client.batches.retrieve(str(batch.id))
                except (openai.APIConnectionError, openai.APIStatusError) as error:
                    if isinstance(error, openai.APIStatusError) and error.status_code < 500:
                        raise
                    problem = self._clean(error)
                    continue
                if state.status in ENDED:
                    pending.remove(batch)
                    replies = self._replies(state, indices, requests)
                    missing = f"the batch {batch.id} ended as {state.status} without this request"
                    mine = [key for key in batch.keys if key in indices]
                    yield [(indices[key], replies.get(key) or Reply("", error=missing)) for key in mine]
                    self._ledger.batches.close(batch)  # after the yield, when its replies are recorded
            if pending and time.monotonic() + POLL_SECONDS > ends:
                for batch in pending:
                    late = Reply("", error=f"{problem}: batch {batch.id}, collected by a later run")
                    yield [(indices[key], late) for key in batch.keys if key in indices]
                return
            if pending:
                time.sleep(POLL_SECONDS)

    def _known(self) -> list[Batch]:
        """Batches submitted and not collected. The id of one that a crash left without is looked up by token."""
        known = []
        for batch in self._ledger.batches.pending(self._endpoint.base_url, self.identity.model):
            found = batch.id or next(
                (made.id for made in self._client.batches.list() if (made.metadata or {}).get(_TOKEN) == batch.token),
                None,
            )
            if found is None:
                self._ledger.batches.close(batch)
            else:
                known.append(batch.with_id(found))
        return known

    def _submit(self, keys: Sequence[str], requests: Sequence[Request]) -> Batch:
        batch = Batch(uuid.uuid4().hex, None, self._endpoint.base_url, self.identity.model, tuple(keys))
        self._ledger.batches.note(batch)
        name = self._endpoint.max_tokens_name
        lines = [
            {
                "custom_id": key,
                "method": "POST",
                "url": f"/v1{PATH}",
                "body": body_of(request, self.identity.model, name),
            }
            for key, request in zip(keys, requests, strict=True)
        ]
        content = io.BytesIO("".join(json.dumps(line) + "\n" for line in lines).encode())
        file = self._client.files.create(file=(f"{batch.token}.jsonl", content), purpose="batch")
        made = self._client.batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={_TOKEN: batch.token},
        )
        batch = batch.with_id(made.id)
        self._ledger.batches.note(batch)
        log.info("batch %s: %d requests to %s submitted", made.id, len(keys), self.identity.model)
        return batch

    def _replies(self, state: Any, indices: dict[str, int], requests: Sequence[Request]) -> dict[str, Reply]:
        replies = {}
        for file in filter(None, (state.output_file_id, state.error_file_id)):
            for line in self._client.files.content(file).content.split(b"\n"):
                entry = json.loads(line) if line.strip() else {}
                key = entry.get("custom_id")
                if key in indices:
                    replies[key] = self._reply(entry, requests[indices[key]], f"{state.id} {key}")
        return replies

    def _reply(self, entry: dict[str, Any], request: Request, name: str) -> Reply:
        """The reply in a line. `name`: that of the answer, which is paid for once however often it is collected."""
        response = entry.get("response") or {}
        status = response.get("status_code")
        if status != 200:
            problem = self._clean(entry.get("error") or response.get("body") or f"status {status}")
            return Reply("", error=f"refused: {problem}", final=status == 413 or "context length" in problem.lower())
        body = response.get("body")
        try:
            reply = reply_of(body, request)
        except NoReply as error:
            return Reply("", error=str(error), bill=unread_bill(request, json.dumps(body).encode(), str(error), name))
        return replace(reply, bill=replace(reply.charged or Bill(), id=name))

    def _clean(self, error: object) -> str:
        return without(self._key, error)[:500]
