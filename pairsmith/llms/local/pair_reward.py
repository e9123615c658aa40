"""Reward models that read a prompt and two texts at once, as PairRM does, and say which of the texts is better.

A request has a message for each part of the input, in their order: `prompt`, `first` and `second` are texts of the
data, `input` is what the recipe writes around them. Where a request has none of these, the model's own input is meant:
that of PairRM, which a tokenizer with PairRM's marks has. The input is tokenized as a whole, as it was in training,
and it has whatever special tokens it needs in itself; but what the data's texts hold is text, also where it is spelled
as such a token.

Source of the method and of PairRM: Jiang, Ren and Lin 2023 (LLM-Blender), https://arxiv.org/abs/2306.02561.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pairsmith.config.judges import SLOTS
from pairsmith.errors import ConfigError
from pairsmith.llms.local.decoding import Row
from pairsmith.llms.local.pairrm import ARCHITECTURE, LONGEST, MARKS, pairrm_class
from pairsmith.llms.local.reward import Reward, RewardModel
from pairsmith.llms.local.weights import load_whole
from pairsmith.protocol import Finished, Request

Part = tuple[str, str]  # a role and a text


class PairReward(Reward):
    """The backend for such models: their answers are as those of other reward models."""

    def _form(self) -> tuple[type[RewardModel], Callable[[int, int | None], str | None]]:
        return PairRewardModel, _problem_of_labels


class PairRewardModel(RewardModel):
    """Loaded weights that compare two texts."""

    def _load(self, path: str, **options: Any) -> Any:
        from transformers import AutoConfig

        common = {name: options[name] for name in ("revision", "trust_remote_code")}
        self._is_pairrm = ARCHITECTURE in (AutoConfig.from_pretrained(path, **common).architectures or ())
        if not self._is_pairrm:
            return super()._load(path, **options)
        return load_whole(pairrm_class(), path, "reward model", **options)

    def _prepare_input(self) -> None:
        tokenizer, config = self.tokenizer, self.model.config
        self._added = {token.content: token.special for token in tokenizer.added_tokens_decoder.values()}
        self.context, self._marks = min(self.context, tokenizer.model_max_length), tuple[int, ...]()
        if self._is_pairrm:
            self.context = LONGEST
            self._marks = config.source_prefix_id, config.cand1_prefix_id, config.cand2_prefix_id

    def stream(self, requests: Sequence[Request], batch_size: int | None) -> Iterator[Finished]:
        has_own_input = {*MARKS} <= {*self._added} and None not in (self.tokenizer.cls_token, self.tokenizer.sep_token)
        if not has_own_input and any(not _is_written(request) for request in requests):
            raise ConfigError(
                f"{self.model.config.name_or_path}: how does it read two texts? Say it in the judge's input, such as "
                "'{{ prompt }}</s>{{ first }}</s>{{ second }}'; its tokenizer has not the marks of PairRM"
            )
        yield from super().stream(requests, batch_size)

    def _row(self, index: int, request: Request) -> Row:
        parts = [(message["role"], message["content"]) for message in request.messages]
        if not _is_written(request):
            parts = _as_pairrm_reads(parts, self.tokenizer)
        found = (self.tokenizer(piece, add_special_tokens=False) for piece in _pieces(parts, self._added))
        return Row(index, request, [token for piece in found for token in piece["input_ids"]])

    def _problem(self, row: Row) -> str | None:
        if any(row.tokens.count(mark) != 1 for mark in self._marks):
            return f"the marks {', '.join(MARKS)} are not there once each"
        return super()._problem(row)


def _problem_of_labels(labels: int, label: int | None) -> str | None:
    lacks = labels > 2 or (label or 0) >= labels
    return "one that compares two texts has 1 or 2, and label names the first text's" if lacks else None


def _is_written(request: Request) -> bool:
    """Whether the recipe writes the input."""
    return any(message["role"] == "input" for message in request.messages)


def _as_pairrm_reads(parts: Sequence[Part], tokenizer: Any) -> list[Part]:
    """Prompt, first and second text as PairRM reads them: each with its mark, and between the marks of a text.

    Source: `tokenize_pair` at https://huggingface.co/llm-blender/PairRM-hf.
    """
    texts = dict(parts)
    made = list[Part]()
    for mark, slot in zip(MARKS, SLOTS, strict=True):
        made += [("input", tokenizer.cls_token + mark), (slot, texts[slot]), ("input", tokenizer.sep_token)]
    return made


def _pieces(parts: Sequence[Part], added: dict[str, bool]) -> list[str]:
    """The input in pieces that are tokenized one by one: it is cut only where a text of the data has what is spelled as
    a token of the input, special or written into it, so that this stays text."""
    written = "".join(text for role, text in parts if role == "input")
    reserved = [re.escape(token) for token, is_special in added.items() if is_special or token in written]
    pieces, tokens = [""], re.compile(f"(?={'|'.join(reserved)})") if reserved else None
    for role, text in parts:
        places = [found.start() + 1 for found in tokens.finditer(text)] if tokens and role != "input" else []
        first, *others = (text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True))
        pieces[-1] += first
        pieces += others
    return pieces
