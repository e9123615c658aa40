"""`openai`: any endpoint that speaks OpenAI's chat completions: vLLM, SGLang, TGI, llama.cpp, Ollama, hosted ones.

One event loop in a thread of its own serves all members and judges that name the same endpoint and model, so the
concurrency of the recipe holds for the whole process. A passing failure (429, 5xx, a broken connection) is tried again
with jitter, never earlier than Retry-After says and within the deadline; a wrong key, model or URL stops the run; any
other refusal is that request's error alone. Replies are handed over as they arrive.
"""

from __future__ import annotations

import asyncio
import os
import queue
import random
import re
import threading
from collections.abc import Iterator, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

from pairsmith.config import Endpoint, ModelSpec
from pairsmith.errors import ConfigError
from pairsmith.llms.base import Finished, Identity, Reply, Request

_THOUGHT = re.compile(r"\A\s*(?:<think>)?(.*?)</think>\s*", re.DOTALL)
PASSING = {408, 409, 425, 429}  # and all of 500 and above
STOPPING = {401, 402, 404, 405}
_NO_PROBABILITY = -1e4  # of a choice that is not among the most likely tokens
_engines: dict[tuple[str, str], Engine] = {}
_engines_lock = threading.Lock()


class OpenAI:
    """The backend; the engine behind it is shared by all that name the same endpoint and model."""

    def __init__(self, spec: ModelSpec) -> None:
        assert spec.endpoint is not None
        self.identity = Identity("openai", spec.model, spec.revision)
        self._endpoint = spec.endpoint

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        shared = (self._endpoint.model_dump_json(), self.identity.model)
        with _engines_lock:
            if shared not in _engines:
                _engines[shared] = Engine(self._endpoint, self.identity.model)
            engine = _engines[shared]
        yield from engine.stream(requests)


class Engine:
    """A client with its event loop and its limit on calls at a time."""

    def __init__(self, endpoint: Endpoint, model: str) -> None:
        from openai import AsyncOpenAI

        key = os.environ.get(endpoint.api_key_env) if endpoint.api_key_env else "none"
        if not key:
            raise ConfigError(
                f"endpoint {endpoint.base_url}: the environment variable {endpoint.api_key_env} holds no key"
            )
        self._endpoint, self._model, self._key = endpoint, model, key
        self._client = AsyncOpenAI(base_url=endpoint.base_url, api_key=key, max_retries=0, timeout=endpoint.deadline)
        self._places = asyncio.Semaphore(endpoint.concurrency)
        self._answered = False
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name=f"endpoint {model}", daemon=True).start()

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        arrived: queue.SimpleQueue[tuple[int, Reply] | BaseException] = queue.SimpleQueue()
        asking = asyncio.run_coroutine_threadsafe(self._ask_all(requests, arrived), self._loop)
        left = len(requests)
        try:
            while left:
                group = [arrived.get()]
                while not arrived.empty():
                    group.append(arrived.get())
                finished = [item for item in group if not isinstance(item, BaseException)]
                if finished:
                    yield finished
                failures = [item for item in group if isinstance(item, BaseException)]
                if failures:
                    raise failures[0]
                left -= len(finished)
        finally:
            asking.cancel()

    async def _ask_all(self, requests: Sequence[Request], arrived: queue.SimpleQueue[Any]) -> None:
        """Ask with as many workers as there are places, so that waiting requests cost no memory."""
        waiting = iter(enumerate(requests))

        async def work() -> None:
            for index, request in waiting:
                async with self._places:
                    try:
                        arrived.put((index, await self._ask(request)))
                    except BaseException as error:
                        arrived.put(error)
                        raise

        workers = min(self._endpoint.concurrency, len(requests))
        await asyncio.gather(*(work() for _ in range(workers)), return_exceptions=True)

    async def _ask(self, request: Request) -> Reply:
        """One reply within the deadline, after as many attempts as the recipe allows."""
        problem, ends = "no attempt was made", self._loop.time() + self._endpoint.deadline
        try:
            async with asyncio.timeout_at(ends):
                for attempt in range(1, self._endpoint.attempts + 1):
                    outcome = await self._attempt(request)
                    if isinstance(outcome, Reply):
                        return outcome
                    problem, told_to_wait = outcome
                    if self._loop.time() + told_to_wait > ends:
                        return Reply("", error=f"told to wait {told_to_wait:g} s, longer than the deadline: {problem}")
                    if attempt < self._endpoint.attempts:
                        await asyncio.sleep(max(told_to_wait, backoff(attempt)))
        except TimeoutError:
            return Reply("", error=f"no answer within {self._endpoint.deadline:g} s; last problem: {problem}")
        return Reply("", error=f"{self._endpoint.attempts} attempts failed; the last: {problem}")

    async def _attempt(self, request: Request) -> Reply | tuple[str, float]:
        """A reply, or what went wrong in passing and how many seconds the endpoint asks to wait."""
        import openai

        try:
            response = await self._client.chat.completions.create(**arguments(request, self._model, self._endpoint))
        except openai.APIStatusError as error:
            return self._refusal(error, request)
        except (openai.APIError, ValueError) as error:  # broken connections, answers that are no JSON
            return f"{type(error).__name__}: {self._clean(error)}", 0.0
        self._answered = True
        try:
            return to_reply(response, request)
        except (AttributeError, IndexError, TypeError) as error:
            return f"an answer without a choice ({error})", 0.0

    def _refusal(self, error: Any, request: Request) -> Reply | tuple[str, float]:
        """What a status means: try again, stop the run, or an error of this request alone.

        Only a prompt that is too large is refused for good; another setting may make the rest work on the next run.
        """
        status, problem = error.status_code, self._clean(error)
        if status in PASSING or status >= 500:
            return problem, retry_after(error.response.headers)
        if status in STOPPING or (status == 403 and not self._answered):  # some use 403 for a prompt they dislike
            raise ConfigError(f"endpoint {self._endpoint.base_url}, model {self._model}: {problem}") from None
        too_large = status == 413 or "context length" in problem.lower()
        return Reply("", error=f"refused: {problem}{readout_hint(request)}", final=too_large)

    def _clean(self, error: Exception) -> str:
        """An error's text, which may quote the request, without the key."""
        return str(error).replace(self._key, "***")[:500]


def arguments(request: Request, model: str, endpoint: Endpoint) -> dict[str, Any]:
    """A request as arguments of the SDK's `chat.completions.create`."""
    sampling = request.sampling
    made: dict[str, Any] = {
        "model": model,
        "messages": list(request.messages),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        endpoint.max_tokens_name: sampling.max_tokens,
        "seed": request.seed,
    }
    if sampling.stop:
        made["stop"] = list(sampling.stop)
    if sampling.top_k:
        made["extra_body"] = {"top_k": sampling.top_k}
    if request.schema:
        schema = {"name": "reply", "schema": request.schema, "strict": True}
        made["response_format"] = {"type": "json_schema", "json_schema": schema}
    if request.choices:
        made |= {"logprobs": True, "top_logprobs": 20}
    return made


def to_reply(response: Any, request: Request) -> Reply:
    """The first choice of a response; what a model thought aloud is kept apart from what it answered."""
    choice, usage = response.choices[0], response.usage
    text = choice.message.content or ""
    thought = _THOUGHT.match(text)
    error = None
    if choice.finish_reason not in ("stop", "length"):
        error = f"the endpoint ended with {choice.finish_reason}"
    logprobs = choice_logprobs(choice, request.choices) if request.choices else None
    if request.choices and logprobs is None:
        error = f"no probability for any of {', '.join(request.choices)}: does the endpoint support readout logprobs?"
    return Reply(
        text=text[thought.end() :] if thought else text,
        finish_reason=choice.finish_reason if error is None else None,
        n_prompt_tokens=int(getattr(usage, "prompt_tokens", 0) or 0),
        n_tokens=int(getattr(usage, "completion_tokens", 0) or 0),
        logprobs=logprobs,
        error=error,
        final=choice.finish_reason == "content_filter",
        reasoning=thought[1].strip() if thought else getattr(choice.message, "reasoning_content", None),
    )


def choice_logprobs(choice: Any, choices: Sequence[str]) -> dict[str, float] | None:
    """Log probabilities of `choices` where the answer begins: at its first word, after any thought.

    None where the answer does not begin with one of them: what little they got there is no verdict.
    """
    tokens = list(choice.logprobs.content or ()) if choice.logprobs else []
    closing = [place for place, token in enumerate(tokens) if "</think>" in token.token]
    begins = next(
        (token for token in tokens[closing[-1] + 1 if closing else 0 :] if token.token.strip(' \n*_`"')), None
    )
    if begins is None or begins.token.strip() not in choices:
        return None
    found = {begins.token.strip(): begins.logprob}
    for token in begins.top_logprobs or ():
        name = token.token.strip()
        if name in choices:
            found[name] = max(token.logprob, found.get(name, _NO_PROBABILITY))
    return {name: max(found.get(name, _NO_PROBABILITY), _NO_PROBABILITY) for name in choices}


def readout_hint(request: Request) -> str:
    """What to try where an endpoint refuses a request for its readout."""
    if request.schema:
        return " (if the endpoint knows no json_schema, use readout text or logprobs)"
    return " (if the endpoint gives no logprobs, use readout text or json)" if request.choices else ""


def backoff(attempt: int) -> float:
    """Seconds to wait after a failed attempt, jittered so that callers do not come back together."""
    return float(random.uniform(0.5, 1) * min(2.0 ** (attempt - 1), 60))


def retry_after(headers: Any) -> float:
    """Seconds that a response asks to wait: Retry-After in seconds or as a date, or in milliseconds; 0 without."""
    try:
        if "retry-after-ms" in headers:
            return max(float(headers["retry-after-ms"]) / 1000, 0.0)
        value = headers.get("retry-after", "0")
        if re.fullmatch(r"[+-]?\d+(\.\d+)?", value):
            return max(float(value), 0.0)
        from datetime import UTC, datetime

        return max((parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return 0.0
