"""`transformers`: a model in this process, on a CPU or a GPU.

Requests are grouped by how they are decoded, sorted by length and run in left-padded batches; each batch is handed
over as soon as it is done. On a CPU one single-threaded worker per core runs batches beside each other and shares
the weights: OpenMP threads would meet at a barrier in every small operation and collapse beside any busy process.
Each row draws from its own seed, so a batch's make-up changes an answer only within floating-point error.
"""

from __future__ import annotations

import math
import os
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar, cast

from pairsmith.config import LocalOptions, ModelSpec, Sampling
from pairsmith.errors import ConfigError, ModelNotFound
from pairsmith.llms.base import Finished, Identity, Message, Reply, Request
from pairsmith.llms.models import CARRIED, resolve
from pairsmith.templating import transcript

WORTHWHILE_PREFIX = 32  # tokens
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
# How many batches run at a time, whatever model they belong to: one a core, or one a GPU.
_SLOTS: dict[str, threading.BoundedSemaphore] = defaultdict(lambda: threading.BoundedSemaphore(1))
_SLOTS["cpu"] = threading.BoundedSemaphore(_CORES)
E = TypeVar("E", bound="Engine")
_engines: dict[tuple[Any, ...], Engine] = {}
_engines_lock = threading.Lock()


class Transformers:
    """The backend; the engine with the weights is shared by all members and judges that name the same ones."""

    def __init__(self, spec: ModelSpec) -> None:
        self._path, revision = resolve(spec.model, spec.revision)
        self.identity = Identity("transformers", spec.model, revision)
        self._spec = spec

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        engine = shared(Engine, self._path, self._spec)
        yield from engine.stream(requests, self._spec.local.batch_size)


def shared(kind: type[E], path: str, spec: ModelSpec) -> E:
    """The engine of a kind with the weights that `spec` names, loaded once in a process."""
    options = spec.local
    weights = (path, spec.revision, options.device, options.dtype, options.trust_remote_code, kind)
    with _engines_lock:
        if weights not in _engines:
            _engines[weights] = kind(path, spec.revision, options)
        return cast("E", _engines[weights])


def whole(kind: Any, path: str, what: str, spare: str | None = None, **options: Any) -> Any:
    """A model of which all weights are in its files. ConfigError where some would be made up at random.

    `what` it is to be, for the error; `spare`: what is in the names of weights that are not used.
    """
    model, loaded = kind.from_pretrained(path, output_loading_info=True, **options)
    missing = sorted(key for key in loaded["missing_keys"] if spare is None or spare not in key)
    if missing:
        raise ConfigError(f"{path}: no {what}: it lacks the weights {', '.join(missing[:5])}")
    return model


@dataclass
class Row:
    """A request on its way through the engine."""

    index: int
    request: Request
    tokens: list[int]
    logprobs: dict[str, float] = field(default_factory=dict)


class Engine:
    """Loaded weights and tokenizer, and how to run them."""

    def __init__(self, path: str, revision: str | None, options: LocalOptions) -> None:
        import torch
        from transformers import AutoTokenizer
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
        self.device = _device(options.device)
        if self.device.type == "cpu":
            torch.set_num_threads(1)
        dtype = {"auto": torch.float32 if self.device.type == "cpu" else torch.bfloat16}.get(options.dtype) or getattr(
            torch, options.dtype
        )
        common = {
            "revision": None if os.path.isdir(path) else revision,
            "trust_remote_code": options.trust_remote_code,
        }
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(path, padding_side="left", **common)
            self.model: Any = self._weights(path, dtype=dtype, **common)
        except (OSError, ValueError) as error:
            hint = " `pairsmith models` fetches it without a hub." if path in CARRIED else ""
            raise ModelNotFound(f"{path}: cannot be loaded: {str(error).splitlines()[0]}.{hint}") from error
        self.model.to(self.device).eval()
        self.context = getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or math.inf
        self._prepare()

    def _weights(self, path: str, **options: Any) -> Any:
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(path, **options)

    def _prepare(self) -> None:
        if self.device.type == "cpu":
            _lay_out_for_small_batches(self.model)
        eos = self.model.generation_config.eos_token_id or self.tokenizer.eos_token_id
        self.eos: list[int] = eos if isinstance(eos, list) else [eos]
        self.pad: int = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.eos[0]

    def stream(self, requests: Sequence[Request], batch_size: int) -> Iterator[Finished]:
        rows, hopeless = list[Row](), Finished()
        for index, request in enumerate(requests):
            row = self._row(index, request)
            problem = self._problem(row)
            if problem:
                hopeless.append((index, Reply("", n_prompt_tokens=len(row.tokens), error=problem, final=True)))
            else:
                rows.append(row)
        if hopeless:
            yield hopeless
        workers = _CORES if self.device.type == "cpu" else 1
        failure: Exception | None = None
        with ThreadPoolExecutor(workers) as pool:
            batches = self._batches(rows, batch_size, workers)
            for future in as_completed(pool.submit(self._run, batch) for batch in batches):
                try:
                    finished = future.result()
                except Exception as error:  # the other batches' answers are worth keeping
                    failure = failure or error
                else:
                    yield finished
        if failure:
            raise failure

    def _row(self, index: int, request: Request) -> Row:
        return Row(index, request, self.encode(request.messages))

    def _problem(self, row: Row) -> str | None:
        """Why a request can never be answered; None where it can."""
        most = row.request.sampling.max_tokens
        too_long = len(row.tokens) + most > self.context
        return f"context: {len(row.tokens)} + {most} tokens > {self.context}" if too_long else None

    def _batches(self, rows: list[Row], size: int, workers: int) -> list[list[Row]]:
        return batches(rows, size, workers)

    def encode(self, messages: Sequence[Message], answered: bool = False) -> list[int]:
        """Token ids of a chat: the template's own BOS alone, whatever the model's template.

        It is ready for the answer, unless it is `answered` already.
        """
        if self.tokenizer.chat_template is None:
            return list(self.tokenizer(transcript(messages) + "\n\nAssistant:")["input_ids"])
        from jinja2 import TemplateError

        try:
            return self._template(messages, answered)
        except TemplateError:  # a template that knows no system role
            return self._template(without_system(messages), answered)

    def _template(self, messages: Sequence[Message], answered: bool) -> list[int]:
        text = self.tokenizer.apply_chat_template(list(messages), add_generation_prompt=not answered, tokenize=False)
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _run(self, batch: list[Row]) -> Finished:
        with _SLOTS[str(self.device)]:
            return self._answer(batch)

    def _answer(self, batch: list[Row]) -> Finished:
        import torch
        from transformers import GenerationConfig, LogitsProcessorList

        first = batch[0].request
        shared = shared_prefix([row.tokens for row in batch])
        rest = self.tokenizer.pad({"input_ids": [row.tokens[shared:] for row in batch]}, return_tensors="pt")
        prefix = torch.tensor([batch[0].tokens[:shared]] * len(batch), dtype=torch.long)
        tokens = torch.cat([prefix, rest["input_ids"]], dim=1).to(self.device)
        mask = torch.cat([torch.ones_like(prefix), rest["attention_mask"]], dim=1).to(self.device)
        width = tokens.shape[1]
        with torch.inference_mode():
            output = self.model.generate(
                input_ids=tokens,
                attention_mask=mask,
                past_key_values=self._prefill(tokens[:1, :shared], len(batch)) if shared else None,
                generation_config=GenerationConfig(
                    max_new_tokens=first.sampling.max_tokens,
                    do_sample=False,  # the sampler below leaves one token to choose from
                    eos_token_id=self.eos,
                    pad_token_id=self.pad,
                    stop_strings=list(first.sampling.stop) or None,
                ),
                logits_processor=LogitsProcessorList(self._processors(batch)),
                tokenizer=self.tokenizer,
            )
        return [(row.index, self._reply(row, output[i, width:].tolist())) for i, row in enumerate(batch)]

    def _prefill(self, prefix: Any, n_rows: int) -> Any:
        """The key-value cache of a prefix, computed once and repeated for each row."""
        cache = self.model(prefix, use_cache=True, logits_to_keep=1).past_key_values
        cache.batch_repeat_interleave(n_rows)
        return cache

    def _processors(self, batch: list[Row]) -> list[Any]:
        first = batch[0].request
        processors: list[Any] = []
        if first.choices:
            processors.append(_FirstToken(batch, self._choice_tokens(first.choices)))
        if first.schema:
            processors.append(_Schema(batch, self._guide, self.eos))
        if first.sampling.temperature > 0:
            processors.append(_Sampler(batch))
        return processors

    def _choice_tokens(self, choices: tuple[str, ...]) -> dict[str, int]:
        tokens = {choice: self.tokenizer(choice, add_special_tokens=False)["input_ids"] for choice in choices}
        if any(len(ids) != 1 for ids in tokens.values()):
            raise ConfigError(f"readout logprobs needs choices of one token each, this tokenizer has {tokens}")
        return {choice: ids[0] for choice, ids in tokens.items()}

    @cached_property
    def _guide(self) -> Any:
        from llguidance.hf import from_tokenizer

        return from_tokenizer(self.tokenizer, n_vocab=self.model.config.vocab_size)

    def _reply(self, row: Row, tokens: list[int]) -> Reply:
        ends = {*self.eos, self.pad}
        end = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
        text = self.tokenizer.decode(tokens[:end], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        stop = next((stop for stop in row.request.sampling.stop if stop in text), None)
        return Reply(
            text=text.split(stop)[0] if stop else text,
            finish_reason="stop" if stop or end < len(tokens) else "length",
            n_prompt_tokens=len(row.tokens),
            n_tokens=end,
            logprobs=row.logprobs or None,
        )


def batches(rows: list[Row], size: int, workers: int) -> list[list[Row]]:
    """Batches of rows that decode alike and share their system message, enough of them for all workers.

    Rows of a batch are of similar length; the batches that take longest come first.
    """
    alike: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        request = row.request
        sampling = request.sampling.model_dump_json(exclude={"seed"})
        instructions = request.messages[0]["content"] if request.messages[0]["role"] == "system" else None
        alike[sampling, request.choices, request.schema is not None, instructions].append(row)
    made = []
    for group in alike.values():
        group.sort(key=lambda row: len(row.tokens), reverse=True)
        share = min(size, math.ceil(len(group) / workers))
        made += [group[start : start + share] for start in range(0, len(group), share)]
    return sorted(made, key=lambda batch: -len(batch) * len(batch[0].tokens))


def shared_prefix(rows: Sequence[Sequence[int]]) -> int:
    """How many first tokens all rows share, if enough to be worth a pass of their own, else 0.

    At least one token of each row is left over, to predict the answer from.
    """
    if len(rows) == 1:
        return 0
    longest = min(len(row) for row in rows) - 1
    shared = next((i for i in range(longest) if len({row[i] for row in rows}) > 1), longest)
    return shared if shared >= WORTHWHILE_PREFIX else 0


def _lay_out_for_small_batches(model: Any) -> None:
    """Store each linear layer's weight with its input dimension outermost.

    The values and shapes stay the same; the matrix product of a few rows then takes half the time on a CPU.
    """
    from torch.nn import Linear

    for layer in model.modules():
        if isinstance(layer, Linear):
            layer.weight.data = layer.weight.data.t().contiguous().t()


def without_system(messages: Sequence[Message]) -> list[Message]:
    """The same chat with the system message put in front of the first user message."""
    system = [message["content"] for message in messages if message["role"] == "system"]
    rest = [dict(message) for message in messages if message["role"] != "system"]
    rest[0]["content"] = "\n\n".join([*system, rest[0]["content"]])
    return rest


def pick(scores: Any, sampling: Sampling, uniform: Any) -> Any:
    """Draw one token per row: temperature, then top_k, then top_p, by inverting the cumulative distribution.

    Shapes: scores (rows, vocabulary), uniform (rows,) in [0, 1); returns token ids (rows,). Same distribution as
    transformers' warpers followed by multinomial, without sorting the whole vocabulary.
    """
    import torch

    logits = scores.float() / sampling.temperature
    if sampling.top_k is None and sampling.top_p == 1:
        cumulative = torch.cumsum(torch.softmax(logits, dim=-1), dim=-1)
        return _invert(cumulative, uniform)
    size = min(logits.shape[-1], sampling.top_k or 1024)
    total = torch.logsumexp(logits, dim=-1, keepdim=True)
    while True:
        best, tokens = torch.topk(logits, size, dim=-1)
        if sampling.top_k:
            total = torch.logsumexp(best, dim=-1, keepdim=True)
        probabilities = torch.exp(best - total)
        before = torch.cumsum(probabilities, dim=-1) - probabilities
        if sampling.top_k or size == logits.shape[-1] or bool((before[:, -1] >= sampling.top_p).all()):
            break
        size = min(16 * size, logits.shape[-1])
    kept = probabilities.masked_fill(before >= sampling.top_p, 0.0)
    place = _invert(torch.cumsum(kept, dim=-1), uniform)
    return tokens.gather(-1, place[:, None])[:, 0]


def _invert(cumulative: Any, uniform: Any) -> Any:
    import torch

    target = uniform[:, None].to(cumulative) * cumulative[:, -1:]
    place = torch.searchsorted(cumulative, target, right=True)[:, 0]
    return place.clamp(max=cumulative.shape[-1] - 1)


class _Sampler:
    """Leaves one token per row, drawn from the row's own random numbers."""

    def __init__(self, batch: list[Row]) -> None:
        import numpy as np
        import torch

        self._sampling = batch[0].request.sampling
        self._uniforms = torch.tensor(
            np.stack([np.random.default_rng(row.request.seed).random(self._sampling.max_tokens) for row in batch])
        )
        self._step = 0

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch

        tokens = pick(scores, self._sampling, self._uniforms[:, self._step].to(scores.device))
        self._step += 1
        return torch.full_like(scores, -math.inf).scatter_(-1, tokens[:, None], 0.0)


class _FirstToken:
    """Makes the first token one of the choices and notes the choices' log probabilities."""

    def __init__(self, batch: list[Row], tokens: dict[str, int]) -> None:
        self._batch, self._tokens, self._first = batch, tokens, True

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch

        if not self._first:
            return scores
        self._first = False
        tokens = list(self._tokens.values())
        logprobs = torch.log_softmax(scores[:, tokens].float(), dim=-1)
        for row, values in zip(self._batch, logprobs.tolist(), strict=True):
            row.logprobs.update(zip(self._tokens, (max(value, -1e4) for value in values), strict=True))
        only = torch.full_like(scores, -math.inf)
        only[:, tokens] = logprobs.to(scores.dtype)
        return only


class _Schema:
    """Keeps each row within its JSON schema, token by token."""

    def __init__(self, batch: list[Row], guide: Any, eos: list[int]) -> None:
        from llguidance import LLMatcher
        from llguidance.torch import allocate_token_bitmask

        grammars = [LLMatcher.grammar_from_json_schema(row.request.schema) for row in batch]
        self._matchers = [LLMatcher(guide, grammar) for grammar in grammars]
        for matcher in self._matchers:
            if matcher.is_error():
                raise ConfigError(f"a JSON schema that cannot be kept: {matcher.get_error()}")
        self._mask = allocate_token_bitmask(len(batch), guide.vocab_size)
        self._eos, self._started = eos, False

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch
        from llguidance.torch import apply_token_bitmask_inplace, fill_next_token_bitmask

        for row, matcher in enumerate(self._matchers):
            if self._started and not matcher.is_stopped():
                matcher.consume_token(int(input_ids[row, -1]))
            fill_next_token_bitmask(matcher, self._mask, row)
        self._started = True
        apply_token_bitmask_inplace(scores, self._mask.to(scores.device))
        for row, matcher in enumerate(self._matchers):
            if matcher.is_stopped():
                scores[row] = torch.full_like(scores[row], -math.inf)
                scores[row, self._eos[0]] = 0.0
        return scores


def _device(name: str) -> Any:
    import torch

    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
