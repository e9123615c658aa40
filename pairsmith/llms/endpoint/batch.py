"""`mode: batch`: requests handed to an endpoint as a file and collected when they are done, often at half the price.

A batch outlives the run that submitted it. The ledger notes each before it is made, under a token that the endpoint
keeps with it; so a run that was killed between the two finds it again, and none is submitted twice. A run waits for its
batches as long as the endpoint's deadline; what is not done by then is collected by a later run.

Source of the protocol: https://platform.openai.com/docs/api-reference/batch
"""

from __future__ import annotations

import io
import json
import logging
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from pairsmith.config import ModelSpec
from pairsmith.errors import ConfigError
from pairsmith.ledger.replies import Batch, Ledger
from pairsmith.llms.endpoint.keys import key_of, without
from pairsmith.llms.endpoint.wire import PATH, STOPPING, NoReply, body_of, moved_hint, reply_of
from pairsmith.protocol import Finished, Identity, Reply, Request
from pairsmith.session import Session

log = logging.getLogger(__name__)
ENDED = {"completed", "failed", "expired", "cancelled"}
POLL_SECONDS = 15.0
_TOKEN = "pairsmith"  # noqa: S105 - the name of a mark in a batch's metadata


class Batched:
    """A backend that submits, waits and collects."""

    def __init__(self, spec: ModelSpec, ledger: Ledger, session: Session) -> None:
        assert spec.endpoint is not None
        self.identity = Identity("openai", spec.model, spec.revision)
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
            told = self._clean(f"{error}{moved_hint(error.response.headers)}")
            raise ConfigError(f"endpoint {self._endpoint.base_url}, batches: {told}") from None

    def _collected(self, places: dict[str, int], requests: Sequence[Request]) -> Iterator[Finished]:
        import openai

        ends = time.monotonic() + self._endpoint.deadline
        under_way = [batch for batch in self._known() if not places.keys().isdisjoint(batch.keys)]
        submitted = {key for batch in under_way for key in batch.keys}
        new = [key for key in places if key not in submitted]
        problem = "not done yet"
        if new:
            under_way.append(self._submit(new, [requests[places[key]] for key in new]))
        while under_way:
            for batch in list(under_way):
                try:
                    state = self._client.batches.retrieve(str(batch.id))
                except (openai.APIConnectionError, openai.APIStatusError) as error:
                    if isinstance(error, openai.APIStatusError) and error.status_code < 500:
                        raise
                    problem = self._clean(error)
                    continue
                if state.status in ENDED:
                    under_way.remove(batch)
                    replies = self._replies(state, places, requests)
                    left = f"the batch {batch.id} ended as {state.status} without this request"
                    mine = [key for key in batch.keys if key in places]
                    yield [(places[key], replies.get(key) or Reply("", error=left)) for key in mine]
                    self._ledger.close_batch(batch)  # only now: its replies are recorded
            if under_way and time.monotonic() + POLL_SECONDS > ends:
                told = f"{problem}: batch {{}}, collected by a later run"
                for batch in under_way:
                    late = Reply("", error=told.format(batch.id))
                    yield [(places[key], late) for key in batch.keys if key in places]
                return
            if under_way:
                time.sleep(POLL_SECONDS)

    def _known(self) -> list[Batch]:
        """Batches that were submitted and not collected; one that a crash left without its id is looked for."""
        known = []
        for batch in self._ledger.open_batches(self._endpoint.base_url, self.identity.model):
            found = batch.id or next(
                (made.id for made in self._client.batches.list() if (made.metadata or {}).get(_TOKEN) == batch.token),
                None,
            )
            if found is None:
                self._ledger.close_batch(batch)
            else:
                known.append(batch.with_id(found))
        return known

    def _submit(self, keys: Sequence[str], requests: Sequence[Request]) -> Batch:
        batch = Batch(uuid.uuid4().hex, None, self._endpoint.base_url, self.identity.model, tuple(keys))
        self._ledger.note_batch(batch)
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
        self._ledger.note_batch(batch)
        log.info("batch %s: %d requests to %s submitted", made.id, len(keys), self.identity.model)
        return batch

    def _replies(self, state: Any, places: dict[str, int], requests: Sequence[Request]) -> dict[str, Reply]:
        replies = {}
        for file in filter(None, (state.output_file_id, state.error_file_id)):
            for line in self._client.files.content(file).content.split(b"\n"):
                entry = json.loads(line) if line.strip() else {}
                key = entry.get("custom_id")
                if key in places:
                    replies[key] = self._reply(entry, requests[places[key]])
        return replies

    def _reply(self, entry: dict[str, Any], request: Request) -> Reply:
        response = entry.get("response") or {}
        status = response.get("status_code")
        if status != 200:
            told = self._clean(entry.get("error") or response.get("body") or f"status {status}")
            return Reply("", error=f"refused: {told}", final=status == 413 or "context length" in told.lower())
        try:
            return reply_of(response["body"], request)
        except (NoReply, KeyError) as error:
            return Reply("", error=str(error))

    def _clean(self, error: object) -> str:
        return without(self._key, error)[:500]
