"""Attention on a CPU over rows of different lengths: span by span, each as long as its longest row needs.

In one attention over all rows, each row costs as much as the longest. Rows that are ordered by length, as in a
continuous batch, need few spans.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple

SPAN_COST = 100  # positions of a row that cost as much as one more span, measured with SmolLM2-135M
MOST_STARTS = 32  # rows at which a span may begin: the time to find the best spans grows with the square


class Span(NamedTuple):
    """The rows from `first` to the next span, or to the end; none of them sees more than `seen` positions."""

    first: int
    seen: int


_of_this_pass: ContextVar[Sequence[Span]] = ContextVar("spans", default=())


@contextmanager
def looking_back(limits: Sequence[Span]) -> Iterator[None]:
    """Limit how far this thread's passes look back, in models that `use_spans`; other models see every position."""
    before = _of_this_pass.set(limits)
    try:
        yield
    finally:
        _of_this_pass.reset(before)


def spans(ends: Sequence[int]) -> list[Span]:
    """The cheapest spans for rows that see so many positions each, in this order.

    >>> spans([900] + [300] * 4 + [290] * 4 + [120] * 16)
    [Span(first=0, seen=900), Span(first=1, seen=300), Span(first=9, seen=120)]
    """
    grain = -(-len(ends) // MOST_STARTS)
    groups = [ends[first : first + grain] for first in range(0, len(ends), grain)]
    best: list[tuple[int, list[Span]]] = [(0, [])]  # cost and spans of the first 0, 1, ... groups
    for last in range(1, len(groups) + 1):
        options, rows, seen = [], 0, 0
        for first in range(last - 1, -1, -1):
            rows, seen = rows + len(groups[first]), max(seen, *groups[first])
            options.append((best[first][0] + SPAN_COST + rows * seen, first, seen))
        cost, first, seen = min(options)
        best.append((cost, [*best[first][1], Span(first * grain, seen)]))
    return best[-1][1]


def use_spans(model: Any) -> None:
    """Let a model with PyTorch's attention work span by span, in passes within `looking_back`."""
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(_registered())


@cache
def _registered() -> str:
    import torch
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    def by_spans(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **options: Any) -> Any:
        limits = _of_this_pass.get()
        if len(limits) < 2:
            return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        lasts = [span.first for span in limits[1:]] + [len(query)]
        parts = [
            sdpa_attention_forward(
                module,
                query[first:last],
                key[first:last, :, :seen],
                value[first:last, :, :seen],
                attention_mask[first:last, ..., :seen],
                **options,
            )[0]
            for (first, seen), last in zip(limits, lasts, strict=True)
        ]
        return torch.cat(parts), None

    AttentionInterface.register("spans", by_spans)
    AttentionMaskInterface.register("spans", sdpa_mask)
    return "spans"
