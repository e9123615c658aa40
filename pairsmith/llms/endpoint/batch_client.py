"""An endpoint's batch API: files and batches made, looked at and read."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from pairsmith.config import Endpoint
from pairsmith.errors import ConfigError, RunError
from pairsmith.llms.endpoint.keys import without
from pairsmith.llms.endpoint.reach import mend, unconnected
from pairsmith.llms.endpoint.told_errors import is_without_money
from pairsmith.llms.endpoint.wire import PASSING, STOPPING, mend_hint, moved_hint
from pairsmith.protocol import UNREACHED

log = logging.getLogger(__name__)
ENDED = {"completed", "failed", "expired", "cancelled"}
_TOKEN = "pairsmith"  # noqa: S105 - the name of the token in a batch's metadata
_AGAIN = "running again may help: batches that were submitted are collected then"
_SHOWN = 3  # of a failed batch's errors

Answer = dict[str, Any] | str  # a line of a batch's output, or why there is none


class _MayPass(RunError):
    """A failure that may be over when the endpoint is asked again."""


class _Nobody(ConfigError):
    """No connection came to be. A server that has a batch already may be starting again."""


class BatchClient:
    """The batch API of one address. Raises ConfigError where nobody is there, or where a refusal says that no other
    request can do better; RunError for what another run may get over."""

    def __init__(self, endpoint: Endpoint, key: str) -> None:
        import openai

        self._endpoint, self._key = endpoint, key
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
        except (_MayPass, _Nobody) as error:
            log.warning("batch %s: %s", batch_id, error)
            return None
        told = [str(error.message) for error in (state.errors.data if state.errors else None) or ()]
        more = f" and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
        reasons = f": {self._clean('; '.join(told[:_SHOWN]))}{more}" if told else ""
        return f"the batch {batch_id} ended as {state.status} without this request{reasons}"

    @contextmanager
    def _clear_errors(self, *passed_on: int) -> Iterator[None]:
        """Raises ConfigError for what waiting does not mend, _MayPass for what it may, RunError for other refusals."""
        import openai

        where = f"endpoint {self._endpoint.base_url}, batches"
        try:
            yield
        except openai.APIStatusError as error:
            status = error.status_code
            if status in passed_on:
                raise
            if status in STOPPING | {403} or (status == 429 and is_without_money(str(error))):
                hints = moved_hint(error.response.headers) + mend_hint(status, self._endpoint)
                raise ConfigError(f"{where}: {self._clean(f'{error}{hints}')}") from None
            if status >= 500 or status in PASSING:
                raise _MayPass(f"{where}: {self._clean(error)}; {_AGAIN}") from None
            raise RunError(f"{where}: {self._clean(error)}") from None
        except openai.APIConnectionError as error:
            if words := unconnected(error):
                raise _Nobody(f"{where}: {UNREACHED}: {self._clean(words)}; {mend(self._endpoint)}") from None
            why = self._clean(error.__cause__ or error)
            raise _MayPass(f"{where}: no connection: {type(error).__name__}: {why}; {_AGAIN}") from None

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
