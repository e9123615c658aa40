"""The `reward` backend: a sequence-classification model in this process that gives a conversation a score.

One that compares two texts is in `pair_reward`.

The conversation is written by the model's own chat template, without a generation prompt. A tokenizer that has no
template but marks pairs of texts, as BERT's does, gets two texts: the conversation before the last answer, and that
answer. Rows of similar length run together, padded on the right: transformers takes the score from the last token that
is not `pad_token_id`, so a model that names none needs a pad token that ends no row. The batch changes a score only
within floating-point error, about 1e-5 of it in float32.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pairsmith.config import Judge
from pairsmith.errors import ConfigError
from pairsmith.llms.local.batching import in_batches, prepared
from pairsmith.llms.local.decoding import Row
from pairsmith.llms.local.named_weights import located
from pairsmith.llms.local.weights import Weights, load_whole, shelf_of
from pairsmith.protocol import Finished, Identity, Reply, Request
from pairsmith.session import Session
from pairsmith.text.templating import transcript

_ROWS = 32  # of a batch, if the recipe names no size


class Reward:
    """The backend. A reply's text is the score as JSON, or a list of scores where the model has several labels."""

    def __init__(self, spec: Judge, session: Session) -> None:
        found = located(spec.model, spec.revision)
        self.identity = Identity("reward", spec.model, found.revision)
        self._path, self._session = found.path, session
        self._spec = spec.model_copy(update={"revision": found.revision})

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        spec, (kind, problem) = self._spec, self._form()
        model = shelf_of(self._session).take(kind, self._path, spec)
        labels = model.model.config.num_labels
        if told := problem(labels, spec.label):
            names = model.model.config.id2label
            raise ConfigError(f"judge {spec.name}: {spec.model} has {labels} labels, {names}; {told}")
        yield from model.stream(requests, spec.local.batch_size)

    def _form(self) -> tuple[type[RewardModel], Callable[[int, int | None], str | None]]:
        """The kind of weights, and what says of so many labels and the one that is named why they do not do."""
        return RewardModel, _problem_of_labels


@dataclass
class Pair(Row):
    """A row of two texts; `kinds` says of each token which text it belongs to, for models that ask for it."""

    kinds: list[int] | None = None


class RewardModel(Weights):
    """Loaded weights that score conversations."""

    def _load(self, path: str, **options: Any) -> Any:
        from transformers import AutoModelForSequenceClassification

        return load_whole(AutoModelForSequenceClassification, path, "reward model", **options)

    def _prepare(self) -> None:
        config, tokenizer = self.model.config, self.tokenizer
        self._prepare_input()
        config.use_cache = False
        text = config.get_text_config()
        self._pads_unnamed = text.pad_token_id is None
        if self._pads_unnamed:
            text.pad_token_id = _pad_for(tokenizer, text.vocab_size)
        self.pad = text.pad_token_id
        _compute_head_in_float32(self.model)

    def _prepare_input(self) -> None:
        """Set up how a request becomes a row. Raises ConfigError where the tokenizer does not say it."""
        tokenizer = self.tokenizer
        self._pairs = tokenizer.chat_template is None
        if self._pairs and (tokenizer.cls_token_id is None or tokenizer.sep_token_id is None):
            name = self.model.config.name_or_path
            raise ConfigError(f"{name}: its tokenizer has no chat template; put one into its folder")
        if self._pairs:  # models like RoBERTa count positions from 2; the tokenizer's limit takes that into account
            self.context = min(self.context, tokenizer.model_max_length)

    def stream(self, requests: Sequence[Request], batch_size: int | None) -> Iterator[Finished]:
        with self.in_use():
            rows, unanswerable = prepared(requests, self._row, self._problem)
            if unanswerable:
                yield unanswerable
            yield from in_batches(self.lane, self._batches(rows, batch_size or _ROWS), self._answer)

    def _row(self, index: int, request: Request) -> Row:
        if not self._pairs:
            return Row(index, request, self.encode(request.messages, answered=True))
        *before, answer = request.messages
        found = self.tokenizer(transcript(before), answer["content"])
        return Pair(index, request, list(found["input_ids"]), kinds=found.get("token_type_ids"))

    def _problem(self, row: Row) -> str | None:
        if len(row.tokens) > self.context:
            return f"context: {len(row.tokens)} tokens > {self.context}"
        if self._pads_unnamed and row.tokens[-1] == self.pad:
            return f"it ends in token {self.pad}, which pads the batches of this model"
        return None

    def _batches(self, rows: list[Row], size: int) -> list[list[Row]]:
        ordered = sorted(rows, key=lambda row: (-len(row.tokens), row.tokens))
        share = max(1, min(size, math.ceil(len(rows) / self.lane.width)))
        return [ordered[start : start + share] for start in range(0, len(ordered), share)]

    def _answer(self, batch: list[Row]) -> Finished:
        import torch

        width = max(len(row.tokens) for row in batch)

        def padded(parts: list[list[int]], fill: int) -> Any:
            return torch.tensor([part + [fill] * (width - len(part)) for part in parts]).to(self.device)

        mask = padded([[1] * len(row.tokens) for row in batch], 0)
        kinds = [row.kinds for row in batch if isinstance(row, Pair) and row.kinds is not None]
        more = {"token_type_ids": padded(kinds, 0)} if kinds else {}
        with torch.inference_mode():
            tokens = padded([row.tokens for row in batch], self.pad)
            scores = self.model(input_ids=tokens, attention_mask=mask, **more).logits.float().tolist()
        return [(row.index, _reply(row, values)) for row, values in zip(batch, scores, strict=True)]


def _problem_of_labels(labels: int, label: int | None) -> str | None:
    lacks = (label is None and labels > 1) or (label or 0) >= labels
    return "name the one that is the score, as in label: 0" if lacks else None


def _reply(row: Row, values: list[float]) -> Reply:
    used = len(row.tokens)
    if not all(map(math.isfinite, values)):  # not final: the dtype is no part of the key, so another one may help
        problem = f"the score is not finite: {values}; local.dtype float32 or bfloat16 may help"
        return Reply("", n_prompt_tokens=used, error=problem)
    return Reply(json.dumps(values if len(values) > 1 else values[0]), "stop", n_prompt_tokens=used)


def _pad_for(tokenizer: Any, size: int) -> int:
    """A pad token for a model that names none: one that ends no conversation, so never the end-of-text token."""
    usual = (tokenizer.pad_token_id, len(tokenizer), tokenizer.unk_token_id, tokenizer.bos_token_id, 0, 1)
    return next(token for token in usual if token not in (None, tokenizer.eos_token_id) and token < size)


def _compute_head_in_float32(model: Any) -> None:
    """Let the last layer compute in float32, since with the 8 bits of bfloat16 too many scores would be equal."""
    from torch.nn import Linear

    heads = [part for part in model.modules() if isinstance(part, Linear)]
    heads = [head for head in heads if head.out_features == model.config.num_labels]
    if heads:
        heads[-1].float().register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
