"""Attention on a CPU where rows of a pass have unlike lengths: each span of rows sees as much as its longest row needs.

In one attention over all of them, each row costs as much as the longest. Rows that are ordered by length, as sessions
have them, need few spans.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple

A_CALL = 100  # positions of a row that cost as much as one more span, measured with SmolLM2-135M
MOST = 32  # places at which spans may begin: finding the best of them takes the square of it


class Span(NamedTuple):
    """Rows from `first` on, to the next span or the end, which see `seen` positions at most."""

    first: int
    seen: int


_of_this_pass: ContextVar[Sequence[Span]] = ContextVar("spans", default=())


@contextmanager
def looking_back(these: Sequence[Span]) -> Iterator[None]:
    """Have this thread's passes of models that `use_spans` look back so far; others see all that they are given."""
    before = _of_this_pass.set(these)
    try:
        yield
    finally:
        _of_this_pass.reset(before)


def spans(ends: Sequence[int]) -> list[Span]:
    """The cheapest spans for rows that see so many positions each, in their order.

    >>> spans([900] + [300] * 4 + [290] * 4 + [120] * 16)
    [Span(first=0, seen=900), Span(first=1, seen=300), Span(first=9, seen=120)]
    """
    grain = -(-len(ends) // MOST)
    groups = [ends[first : first + grain] for first in range(0, len(ends), grain)]
    best: list[tuple[int, list[Span]]] = [(0, [])]  # cost and spans of the first groups, of none on
    for last in range(1, len(groups) + 1):
        tried, rows, seen = [], 0, 0
        for first in range(last - 1, -1, -1):
            rows, seen = rows + len(groups[first]), max(seen, *groups[first])
            tried.append((best[first][0] + A_CALL + rows * seen, first, seen))
        cost, first, seen = min(tried)
        best.append((cost, [*best[first][1], Span(first * grain, seen)]))
    return best[-1][1]


def use_spans(model: Any) -> None:
    """Let a model that has PyTorch's attention look back by spans, in passes that are `looking_back` so."""
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(_registered())


@cache
def _registered() -> str:
    import torch
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    def by_spans(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **options: Any) -> Any:
        these = _of_this_pass.get()
        if len(these) < 2:
            return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        lasts = [span.first for span in these[1:]] + [len(query)]
        parts = [
            sdpa_attention_forward(
                module,
                query[first:last],
                key[first:last, :, :seen],
                value[first:last, :, :seen],
                attention_mask[first:last, ..., :seen],
                **options,
            )[0]
            for (first, seen), last in zip(these, lasts, strict=True)
        ]
        return torch.cat(parts), None

    AttentionInterface.register("spans", by_spans)
    AttentionMaskInterface.register("spans", sdpa_mask)
    return "spans"
