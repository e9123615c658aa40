"""An endpoint's batch API: files and batches made, looked at and read."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from pairsmith.config import Endpoint
from pairsmith.errors import ConfigError
from pairsmith.llms.endpoint.keys import without
from pairsmith.llms.endpoint.wire import STOPPING, moved_hint

log = logging.getLogger(__name__)
ENDED = {"completed", "failed", "expired", "cancelled"}
_TOKEN = "pairsmith"  # noqa: S105 - the name of the token in a batch's metadata
_SHOWN = 3  # of a failed batch's errors

Answer = dict[str, Any] | str  # a line of a batch's output, or why there is none


class BatchClient:
    """The batch API of one address. Raises ConfigError where a refusal says that no other request can do better."""

    def __init__(self, endpoint: Endpoint, key: str) -> None:
        import openai

        self._address, self._key = endpoint.base_url, key
        self._client = openai.OpenAI(
            base_url=endpoint.base_url,
            api_key=key,
            max_retries=endpoint.attempts - 1,
            default_headers=endpoint.headers,
            http_client=openai.DefaultHttpxClient(follow_redirects=False),
        )

    def close(self) -> None:
        self._client.close()

    def submit(self, token: str, file: IO[bytes]) -> str:
        """Make a batch of the requests in a file; returns its id."""
        with self._clear_errors():
            file.seek(0)
            kept = self._client.files.create(file=(f"{token}.jsonl", file), purpose="batch")
            made = self._client.batches.create(
                input_file_id=kept.id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={_TOKEN: token},
            )
            return str(made.id)

    def find(self, token: str) -> str | None:
        """The id of the batch that was submitted under a token; None where there is none."""
        with self._clear_errors():
            made = self._client.batches.list(limit=100)
            return next((one.id for one in made if (one.metadata or {}).get(_TOKEN) == token), None)

    def collect(self, batch_id: str, answers: Answers, wanted: Collection[str]) -> str | None:
        """Keep the answers of a batch that has ended; returns why a request that it did not answer has no reply.

        None while it is under way, and where that cannot be found out now.
        """
        import openai

        try:
            with self._clear_errors(404):
                state = self._client.batches.retrieve(batch_id)
                if state.status not in ENDED:
                    return None
                for file in filter(None, (state.output_file_id, state.error_file_id)):
                    answers.keep(_lines(self._client.files.content(file).iter_bytes()), wanted)
        except openai.NotFoundError as error:
            return f"the batch {batch_id} is gone: {self._clean(error)}"
        except (openai.APIConnectionError, openai.InternalServerError) as error:
            log.warning("batch %s: %s", batch_id, self._clean(error))
            return None
        told = [str(error.message) for error in (state.errors.data if state.errors else None) or ()]
        more = f" and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
        reasons = f": {self._clean('; '.join(told[:_SHOWN]))}{more}" if told else ""
        return f"the batch {batch_id} ended as {state.status} without this request{reasons}"

    @contextmanager
    def _clear_errors(self, *passed_on: int) -> Iterator[None]:
        import openai

        try:
            yield
        except openai.APIStatusError as error:
            if error.status_code in passed_on or error.status_code not in STOPPING | {403}:
                raise
            problem = self._clean(f"{error}{moved_hint(error.response.headers)}")
            raise ConfigError(f"endpoint {self._address}, batches: {problem}") from None

    def _clean(self, error: object) -> str:
        return without(self._key, error)[:500]


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines as they end in JSON lines: at no other character than a line feed."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    yield rest


class Answers:
    """Lines of batches' outputs, on disk until they are taken."""

    def __init__(self) -> None:
        self._file, self._places = tempfile.TemporaryFile(), dict[str, tuple[int, int]]()  # noqa: SIM115

    def close(self) -> None:
        self._file.close()

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def keep(self, lines: Iterable[bytes], wanted: Collection[str]) -> None:
        """Keep the lines that answer one of the requests in `wanted`."""
        for line in lines:
            key = str(json.loads(line).get("custom_id")) if line.strip() else ""
            if key in wanted:
                self._places[key] = (self._file.seek(0, 2), len(line))
                self._file.write(line)

    def get(self, key: str) -> Answer | None:
        if key not in self._places:
            return None
        offset, length = self._places[key]
        self._file.seek(offset)
        answer: Answer = json.loads(self._file.read(length))
        return answer

    def drop(self, key: str) -> None:
        self._places.pop(key, None)
