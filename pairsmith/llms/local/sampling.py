"""The choice of the next token of each row: greedy or random, from all tokens, given choices or a schema's.

A row draws from its own seed, so the other rows of its batch change its answer only within floating-point error.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from pairsmith.config import Sampling
from pairsmith.errors import ConfigError
from pairsmith.ids import canonical_json
from pairsmith.llms.local.chat_tokens import choice_tokens, special_tokens, spoken
from pairsmith.protocol import Request

LEAST = -1e4  # the smallest log probability: JSON has no minus infinity


class Vocabulary:
    """The parts of a tokenizer that choosing tokens needs."""

    def __init__(self, tokenizer: Any, size: int, eos: Sequence[int]) -> None:
        self.tokenizer, self.size, self.eos = tokenizer, size, list(eos)
        self._checked: set[str] = set()

    def check(self, request: Request) -> None:
        """Raise ConfigError for choices or a schema that the tokenizer cannot express."""
        constraint = canonical_json([request.choices, request.schema])
        if constraint not in self._checked:
            Draw(request, self)
            self._checked.add(constraint)

    def matcher(self, schema: dict[str, Any]) -> Any:
        """A matcher that keeps a row within a JSON schema, token by token."""
        from llguidance import LLMatcher

        matcher = LLMatcher(self._guide, LLMatcher.grammar_from_json_schema(schema))
        if matcher.is_error():
            raise ConfigError(f"a JSON schema that cannot be kept: {matcher.get_error()}")
        return matcher

    def text(self, tokens: Sequence[int], stops: Sequence[str]) -> tuple[str, str | None]:
        """The text of tokens up to a stop string, and that stop string."""
        text = spoken(self.tokenizer, tokens, *self._special)
        stop = next((stop for stop in stops if stop in text), None)
        return text.split(stop)[0] if stop else text, stop

    @cached_property
    def _special(self) -> tuple[frozenset[int], frozenset[int]]:
        return special_tokens(self.tokenizer)

    @cached_property
    def _guide(self) -> Any:
        from llguidance.hf import from_tokenizer

        return from_tokenizer(self.tokenizer, n_vocab=self.size)


class Draw:
    """Chooses the tokens of one row, from its first on."""

    def __init__(self, request: Request, vocabulary: Vocabulary) -> None:
        import numpy as np

        self.sampling, self.taken = request.sampling, 0
        self.choices = choice_tokens(vocabulary.tokenizer, request.choices) if request.choices else None
        self.matcher = vocabulary.matcher(request.schema) if request.schema else None
        self.logprobs: dict[str, float] | None = None
        self._eos = vocabulary.eos[0]
        greedy = self.sampling.temperature == 0
        self._uniforms = None if greedy else np.random.default_rng(request.seed).random(self.sampling.max_tokens)

    @property
    def uniform(self) -> float:
        return 0.0 if self._uniforms is None else float(self._uniforms[self.taken])

    def restrict(self, logits: Any) -> None:
        """Mask the tokens that may not come next in one row's `logits`, and note the log probabilities of choices."""
        import torch

        if self.choices and not self.taken:
            tokens = list(self.choices.values())
            logprobs = torch.log_softmax(logits[tokens].float(), dim=-1)
            self.logprobs = {
                text: max(value, LEAST) for text, value in zip(self.choices, logprobs.tolist(), strict=True)
            }
            logits.fill_(-math.inf)
            logits[tokens] = logprobs.to(logits)
        if self.matcher:
            from llguidance.torch import allocate_token_bitmask, apply_token_bitmask_inplace, fill_next_token_bitmask

            if self.matcher.is_stopped():
                logits.fill_(-math.inf)
                logits[self._eos] = 0.0
                return
            mask = allocate_token_bitmask(1, logits.shape[-1])
            fill_next_token_bitmask(self.matcher, mask, 0)
            apply_token_bitmask_inplace(logits[None], mask.to(logits.device))

    def take(self, token: int) -> None:
        self.taken += 1
        if self.matcher and not self.matcher.is_stopped():
            self.matcher.consume_token(token)


def choose(draws: Sequence[Draw], logits: Any) -> list[int]:
    """The next token of each row; `logits` (rows, vocabulary) may be changed."""
    import torch

    alike: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for index, draw in enumerate(draws):
        if draw.choices or draw.matcher:
            draw.restrict(logits[index])
        sampling = draw.sampling
        alike[sampling.temperature, sampling.top_k, sampling.top_p].append(index)
    chosen = [0] * len(draws)
    for indices in alike.values():
        rows = logits if len(indices) == len(draws) else logits[indices]
        sampling = draws[indices[0]].sampling
        if sampling.temperature == 0:
            tokens = rows.argmax(dim=-1)
        else:
            uniforms = torch.tensor([draws[index].uniform for index in indices], device=rows.device)
            tokens = pick(rows, sampling, uniforms)
        for index, token in zip(indices, tokens.tolist(), strict=True):
            chosen[index] = token
            draws[index].take(token)
    return chosen


def pick(scores: Any, sampling: Sampling, uniform: Any) -> Any:
    """Draw one token per row: temperature, then top_k, then top_p, by inverting the cumulative distribution.

    Shapes: scores (rows, vocabulary), uniform (rows,) in [0, 1); returns token ids (rows,). The distribution is
    that of transformers' warpers followed by multinomial, without sorting the whole vocabulary.
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
