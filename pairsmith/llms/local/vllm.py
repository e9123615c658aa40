"""The `vllm` backend: a model in this process, run by vLLM; for GPUs.

One thread runs the engine, and the requests of all members, judges and shards that name the same weights are in its
continuous batch. Each answer is handed over as soon as it is done. vLLM itself shares the key-value cache of common
prefixes. Each request has its own seed, so the other requests of a batch change its answer only within floating-point
error.
"""

from __future__ import annotations

import itertools
import math
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pairsmith.config import LocalOptions, ModelSpec
from pairsmith.errors import ConfigError, ModelNotFound
from pairsmith.llms.local.chat_tokens import asked, choice_tokens, special_tokens, spoken
from pairsmith.llms.local.named_weights import load_revision, located
from pairsmith.llms.local.sampling import LEAST
from pairsmith.protocol import Finished, Identity, Reply, Request
from pairsmith.session import Session


class VLLM:
    """The backend. Members and judges that name the same weights share the engine that has them."""

    def __init__(self, spec: ModelSpec, session: Session) -> None:
        found = located(spec.model, spec.revision)
        self.identity = Identity("vllm", spec.model, found.revision)
        self._path, self._session = found.path, session
        self._spec = spec.model_copy(update={"revision": found.revision})

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        if requests:
            engines = self._session.keep("vllm", VLLMEngines, VLLMEngines.close)
            yield from engines.take(self._path, self._spec).stream(requests)


class VLLMEngines:
    """The engines of a session, one for each set of weights."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[Any, ...], VLLMEngine] = {}
        self._loading = threading.Lock()

    def take(self, path: str, spec: ModelSpec) -> VLLMEngine:
        """The engine with the weights that `spec` names, loaded once, and again after it has failed."""
        weights = (path, spec.revision, spec.local)
        with self._loading:
            if weights not in self._loaded or self._loaded[weights].failure:
                self._loaded[weights] = VLLMEngine(_load(path, spec.revision, spec.local))
            return self._loaded[weights]

    def close(self) -> None:
        """End all engines."""
        for engine in self._loaded.values():
            engine.close()
        self._loaded.clear()


def _load(path: str, revision: str | None, options: LocalOptions) -> Any:
    try:
        from vllm import LLM
    except ImportError as error:
        raise ConfigError(f"backend vllm: {error}; install pairsmith[vllm]") from error
    try:
        loaded = LLM(
            model=path,
            revision=load_revision(path, revision),
            dtype=options.dtype,
            trust_remote_code=options.trust_remote_code,
            enable_prefix_caching=True,
            **_limits(options),
        )
    except (OSError, ValueError) as error:
        raise ModelNotFound(f"{path}: vLLM cannot load it: {str(error).splitlines()[0]}") from error
    return loaded.llm_engine


def _limits(options: LocalOptions) -> dict[str, Any]:
    """The recipe's limits on rows at a time and on memory; vLLM chooses the rest itself."""
    import torch

    limits: dict[str, Any] = {}
    if options.batch_size:
        limits["max_num_seqs"] = options.batch_size
    if options.memory_gb and torch.cuda.is_available():
        most = torch.cuda.get_device_properties(0).total_memory
        limits["gpu_memory_utilization"] = min(1.0, options.memory_gb * 1e9 / most)
    return limits


@dataclass
class VLLMRequest:
    """A request that the engine works on. `begun`: its first token, where that had to be one of some choices."""

    index: int
    request: Request
    tokens: list[int]
    choices: dict[str, int]
    answers: queue.SimpleQueue[tuple[int, Reply] | Exception]
    name: str
    begun: list[int] = field(default_factory=list)
    logprobs: dict[str, float] | None = None


class VLLMEngine:
    """vLLM's engine, the thread that runs it, and the requests that wait for it."""

    def __init__(self, engine: Any) -> None:
        self.failure: Exception | None = None
        self.tokenizer = engine.get_tokenizer()
        self._special = special_tokens(self.tokenizer)
        self._engine, self._context = engine, engine.model_config.max_model_len
        self._names, self._inbox = itertools.count(), queue.SimpleQueue[VLLMRequest | set[str] | None]()
        self._waiting: dict[str, VLLMRequest] = {}
        threading.Thread(target=self._run, name="vllm", daemon=True).start()

    def close(self) -> None:
        """End the thread, and with it the engine and its weights."""
        self._inbox.put(None)

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        answers = queue.SimpleQueue[tuple[int, Reply] | Exception]()
        made = [self._request(index, request, answers) for index, request in enumerate(requests)]
        unanswerable = [(one.index, reply) for one in made if (reply := self._refused(one))]
        refused = {index for index, _ in unanswerable}
        pending = {one.index: one for one in made if one.index not in refused}
        if unanswerable:
            yield unanswerable
        for one in pending.values():
            self._inbox.put(one)
        try:
            while pending:
                group = _all_in(answers)
                for index, _ in group:
                    del pending[index]
                yield group
        finally:
            if pending:
                self._inbox.put({one.name for one in pending.values()})

    def _request(self, index: int, request: Request, answers: Any) -> VLLMRequest:
        choices = choice_tokens(self.tokenizer, request.choices) if request.choices else {}
        return VLLMRequest(index, request, asked(self.tokenizer, request), choices, answers, str(next(self._names)))

    def _refused(self, one: VLLMRequest) -> Reply | None:
        """The reply to a request that can never be answered; None where it can."""
        most, size = one.request.sampling.max_tokens, len(one.tokens)
        if size + most <= self._context:
            return None
        return Reply("", n_prompt_tokens=size, error=f"context: {size} + {most} tokens > {self._context}", final=True)

    def _run(self) -> None:
        try:
            while self._take():
                for output in self._engine.step():
                    if output.finished and output.request_id in self._waiting:
                        self._note(self._waiting.pop(output.request_id), output.outputs[0])
        except Exception as error:  # raised in the threads of all streams, also of those that ask from now on
            self.failure = error
            for one in self._waiting.values():
                one.answers.put(error)
            while (item := self._inbox.get()) is not None:
                if isinstance(item, VLLMRequest):
                    item.answers.put(error)

    def _take(self) -> bool:
        """Take what is in the inbox, and wait for it where the engine is idle. False when the engine is to end."""
        while not self._waiting or not self._inbox.empty():
            item = self._inbox.get()
            if item is None:
                return False
            if isinstance(item, VLLMRequest):
                self._add(item)
                continue
            cancelled = [name for name in item if self._waiting.pop(name, None)]
            self._engine.abort_request(cancelled)
        return True

    def _add(self, one: VLLMRequest) -> None:
        prompt = {"prompt_token_ids": [*one.tokens, *one.begun]}
        try:
            self._engine.add_request(one.name, prompt, _sampling(one))
        except ValueError as error:  # such as a schema that vLLM does not support
            one.answers.put((one.index, Reply("", n_prompt_tokens=len(one.tokens), error=str(error), final=True)))
        else:
            self._waiting[one.name] = one

    def _note(self, one: VLLMRequest, output: Any) -> None:
        reason, tokens, text = output.finish_reason, list(output.token_ids), output.text
        size = len(one.tokens)
        if reason not in ("stop", "length"):
            one.answers.put((one.index, Reply("", n_prompt_tokens=size, error=f"vLLM: {reason}")))
            return
        if one.choices and not one.begun:
            one.logprobs, one.begun = _of_choices(output.logprobs[0], one.choices), tokens
            if one.request.sampling.max_tokens > 1:
                one.name = str(next(self._names))
                self._add(one)
                return
            tokens, text = [], ""
        if not self._special[0].isdisjoint(tokens):  # vLLM's text lacks the marks of thoughts that are special tokens
            text = spoken(self.tokenizer, tokens, *self._special)
            text = text.split(output.stop_reason)[0] if isinstance(output.stop_reason, str) else text
        # the last token is then the end of the text, which is no part of the answer
        has_end = reason == "stop" and not isinstance(output.stop_reason, str) and tokens
        answer = self.tokenizer.decode(one.begun) + text
        n_tokens = len(one.begun) + len(tokens) - bool(has_end)
        one.answers.put((one.index, Reply(answer, reason, size, n_tokens, one.logprobs)))


def _all_in(answers: queue.SimpleQueue[tuple[int, Reply] | Exception]) -> Finished:
    """The answers that have arrived; waits for the first."""
    group, item = Finished(), answers.get()
    while True:
        if isinstance(item, Exception):
            raise item
        group.append(item)
        try:
            item = answers.get_nowait()
        except queue.Empty:
            return group


def _sampling(one: VLLMRequest) -> Any:
    """vLLM's parameters for a request; one with choices is sent twice, for its first token and for the rest."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

    request = one.request
    sampling, first = request.sampling, bool(one.choices) and not one.begun
    options: dict[str, Any] = {"max_tokens": sampling.max_tokens - len(one.begun), "stop": list(sampling.stop) or None}
    if first:
        tokens = list(one.choices.values())
        options = {"max_tokens": 1, "allowed_token_ids": tokens, "logprob_token_ids": tokens}
    elif request.schema:
        options["structured_outputs"] = StructuredOutputsParams(json=request.schema)
    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k or 0,
        seed=request.seed,
        output_kind=RequestOutputKind.FINAL_ONLY,
        **options,
    )


def _of_choices(found: Any, choices: dict[str, int]) -> dict[str, float]:
    """Log probabilities of the choices among themselves, from vLLM's, which are those among all tokens."""
    logprobs = {choice: found[token].logprob if token in found else -math.inf for choice, token in choices.items()}
    most = max(logprobs.values())
    total = most + math.log(math.fsum(math.exp(value - most) for value in logprobs.values()))
    return {choice: max(value - total, LEAST) for choice, value in logprobs.items()}
