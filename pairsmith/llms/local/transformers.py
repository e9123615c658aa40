"""The `transformers` backend: a model in this process, on a CPU or a GPU.

All calls for the same weights share a queue of rows and the slots of continuous batches, one on each GPU or core (see
`scheduling` and `decoding`); each reply is handed over as soon as it is done. Models that cannot run in slots run in
left-padded batches by transformers' own `generate` (see `batching`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from pairsmith.config import ModelSpec
from pairsmith.llms.local.attention import use_spans
from pairsmith.llms.local.batching import batches, generate_batch, in_batches, prepared
from pairsmith.llms.local.chat_tokens import asked
from pairsmith.llms.local.decoding import Row
from pairsmith.llms.local.named_weights import located
from pairsmith.llms.local.packing import pack
from pairsmith.llms.local.sampling import Vocabulary
from pairsmith.llms.local.scheduling import Scheduler
from pairsmith.llms.local.slots import checked_slots
from pairsmith.llms.local.weights import Weights, free_unused_memory, lane_of, load_whole, shelf_of
from pairsmith.protocol import Finished, Identity, Request
from pairsmith.session import Session

DEFAULT_ROWS = {"cpu": 32}  # slots of a batch, where the recipe names no batch size
_DEFAULT_ROWS_ELSEWHERE = 128


class Transformers:
    """The backend. Members and judges that name the same weights share them, and so their slots."""

    def __init__(self, spec: ModelSpec, session: Session) -> None:
        found = located(spec.model, spec.revision)
        self.identity = Identity("transformers", spec.model, found.revision)
        self._path, self._session = found.path, session
        self._spec = spec.model_copy(update={"revision": found.revision})

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        model = shelf_of(self._session).take(TextModel, self._path, self._spec)
        yield from model.stream(requests, self._spec.local.batch_size)


class TextModel(Weights):
    """Loaded weights that write texts, on each device that they may use."""

    def _load(self, path: str, **options: Any) -> Any:
        from transformers import AutoModelForCausalLM

        return load_whole(AutoModelForCausalLM, path, "model that writes texts", **options)

    def _prepare(self) -> None:
        named = self.model.generation_config.eos_token_id
        eos = self.tokenizer.eos_token_id if named is None else named
        size = self.model.config.get_text_config().vocab_size
        self.vocabulary = Vocabulary(self.tokenizer, size, eos if isinstance(eos, list) else [eos])
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token_id = self.vocabulary.eos[0]
        if self.device.type == "cpu":
            use_spans(self.model)
        slots = checked_slots(self.model)
        bytes_a_token = slots.bytes_a_token if slots else 0
        if self.device.type == "cpu":
            pack(self.model)
            free_unused_memory(self.device)
        self.scheduler = (
            Scheduler(self.vocabulary, self._replicas(), self.options.memory_gb, bytes_a_token) if slots else None
        )

    def _replicas(self) -> list[tuple[Any, Any]]:
        """The model once for each pass that may run at the same time, with the lane in which it runs."""
        import torch

        if self.device.type == "cpu":
            return [(self.model, self.lane)] * self.lane.width
        others: list[Any] = []
        if self.options.device == "auto" and self.device.type == "cuda":
            others = [torch.device("cuda", number) for number in range(1, torch.cuda.device_count())]
        copies = [(copy.deepcopy(self.model).to(device), lane_of(device)) for device in others]
        return [(self.model, self.lane), *copies]

    def stream(self, requests: Sequence[Request], batch_size: int | None = None) -> Iterator[Finished]:
        with self.in_use():
            rows, unanswerable = prepared(requests, self._row, self._problem)
            if unanswerable:
                yield unanswerable
            size = batch_size or DEFAULT_ROWS.get(self.device.type, _DEFAULT_ROWS_ELSEWHERE)
            if self.scheduler:
                yield from self.scheduler.run(rows, size)
            else:
                answer = partial(generate_batch, self.model, self.vocabulary, self.tokenizer.pad_token_id)
                yield from in_batches(self.lane, batches(rows, size, self.lane.width), answer)

    def _row(self, index: int, request: Request) -> Row:
        self.vocabulary.check(request)
        return Row(index, request, asked(self.tokenizer, request))

    def _problem(self, row: Row) -> str | None:
        """Why a request can never be answered; None where it can."""
        most = row.request.sampling.max_tokens
        return f"context: {len(row.tokens)} + {most} tokens > {self.context}" if row.room > self.context else None
