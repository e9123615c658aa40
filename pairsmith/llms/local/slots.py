"""The key-value cache for rows that come and go: one slot a row, written in place.

A row's tokens are at positions 0, 1, ... of its slot, so a slot can be filled, copied to another or given to a new row
at any time. One pass extends several slots, each from its end; the padding of shorter rows is written to a spare
position behind each slot, which is never read. The model is called as transformers defines it, with positions and a
mask for each kind of layers that are made here; `checked_slots` finds out for which models that is right.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

from pairsmith.llms.local.attention import Span, looking_back, spans

FULL, SLIDING = "full_attention", "sliding_attention"  # transformers' names of kinds of layers
MAKES_WINDOWS = "create_sliding_window_causal_mask"  # its function that makes the masks of the latter
# Share of the logits' norm, by bytes of a number: more than rounding changes, less than a wrong position or mask does.
SOUND = {4: 0.01, 2: 0.1}


@cache
def _layer() -> Any:
    from transformers.cache_utils import DynamicLayer

    class Layer(DynamicLayer):  # type: ignore[misc]
        """One layer's keys and values of all slots: (slots, heads, length, size of a head)."""

        def __init__(self, slots: Slots) -> None:
            super().__init__()
            self._slots = slots

        def lazy_initialization(self, key_states: Any, value_states: Any) -> None:
            slots = self._slots
            self.keys, self.values = (
                _zeros((slots.count, part.shape[1], slots.length + 1, part.shape[3]), part)
                for part in (key_states, value_states)
            )
            self.is_initialized = True

        def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
            slots = self._slots
            seen = []
            for kept, new in ((self.keys, key_states), (self.values, value_states)):
                kept[slots.rows, :, slots.positions] = new.transpose(1, 2)
                seen.append(kept[:, :, : slots.seen][slots.window])
            return seen[0], seen[1]

        def get_seq_length(self, *_: Any) -> int:
            return 0

    return Layer


class Slots:
    """`count` slots of `length` tokens for a model, and the passes that fill them."""

    def __init__(self, model: Any, count: int, length: int) -> None:
        from transformers.cache_utils import Cache

        self.model, self.count, self.length = model, count, length
        self.rows: Any = None  # of the current pass: the slots and positions that it writes, and what it reads of them
        self.positions: Any = None
        self.window: Any = None
        self.seen = 0
        self.windows = windows(model)
        layers = model.config.get_text_config().num_hidden_layers
        self._cache = Cache(layers=[_layer()(self) for _ in range(layers)])

    def close(self) -> None:
        """Free the memory; layers and slots refer to each other, so they would stay until garbage is collected."""
        self._cache.layers.clear()

    def extend(self, slots: Sequence[int], tokens: Sequence[Sequence[int]], starts: Sequence[int]) -> Any:
        """Put `tokens` into `slots`, each from its start on; returns the logits after each row's last token.

        Shape of the result: (rows, vocabulary). Slots with consecutive numbers are read without a copy.
        """
        import torch

        device = self.model.device
        width = max(map(len, tokens))
        padded = torch.tensor([[*[0] * (width - len(row)), *row] for row in tokens], device=device)
        begin = torch.tensor([[start - width + len(row), start] for start, row in zip(starts, tokens, strict=True)])
        begin = begin.to(device)
        positions = begin[:, :1] + torch.arange(width, device=device)
        positions = positions.masked_fill(positions < begin[:, 1:], self.length)
        rows = torch.tensor(slots, device=device)[:, None]
        first, last = slots[0], slots[0] + len(slots)
        window = slice(first, last) if list(slots) == list(range(first, last)) else rows[:, 0]
        ends = [start + len(row) for start, row in zip(starts, tokens, strict=True)]
        return self.run(padded, positions, rows, window, spans(ends))

    def run(self, tokens: Any, positions: Any, rows: Any, window: Any, seen: Sequence[Span]) -> Any:
        """One pass over `tokens`, written to `positions` of slots `rows`; position `length` is the spare one.

        Shapes: tokens and positions (n, width), rows (n, 1). `window`: the same slots as a slice or an index. `seen`:
        how far rows look back. Returns the logits after the last column.
        """
        import torch

        self.rows, self.positions, self.window, self.seen = rows, positions, window, max(span.seen for span in seen)
        used = positions.masked_fill(positions == self.length, 0)  # padding reads position 0, which every row has
        behind = used[..., None] - torch.arange(self.seen, device=tokens.device)
        nothing = torch.zeros(behind.shape, dtype=self.model.dtype, device=tokens.device)
        masks = {
            kind: nothing.masked_fill((behind < 0) | (behind >= reach), -math.inf)[:, None]
            for kind, reach in self.windows.items()
        }
        with looking_back(seen):
            return self.model(
                input_ids=tokens,
                position_ids=used,
                attention_mask=masks if len(masks) > 1 else next(iter(masks.values())),
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]

    def copy(self, source: int, targets: Sequence[int], start: int, end: int) -> None:
        """Copy positions `start` to `end` of slot `source` to the slots `targets`."""
        first, last = targets[0], targets[0] + len(targets)
        target_index: Any = slice(first, last) if list(targets) == list(range(first, last)) else list(targets)
        for kept in self.layer_tensors():
            kept[target_index, :, start:end] = kept[source, :, start:end]

    def layer_tensors(self) -> list[Any]:
        """The keys and values of all layers that have any, each (slots, heads, length + 1, size of a head)."""
        return [part for layer in self._cache.layers if layer.is_initialized for part in (layer.keys, layer.values)]

    @property
    def bytes_a_token(self) -> int:
        """Bytes of the cache for one token of one row; known once the cache was used."""
        return sum(int(kept[0, :, 0].nbytes) for kept in self.layer_tensors())


def _zeros(shape: tuple[int, ...], like: Any) -> Any:
    """Zeros of a tensor's type and device; on a CPU they take no memory before they are written to.

    They must be zeros: positions behind a row are masked, but a NaN there would still spoil its result.
    """
    import numpy as np
    import torch

    if like.device.type != "cpu":
        return like.new_zeros(shape)
    return torch.from_numpy(np.zeros(math.prod(shape) * like.itemsize, np.uint8)).view(like.dtype).view(shape)


def windows(model: Any) -> dict[str, float]:
    """How many positions each kind of a model's layers sees; {} where that is unknown, or layers keep other states.

    A sliding window is known only for models whose masks transformers makes; others may see more or less than their
    configuration says.
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    config = model.config.get_text_config()
    kinds = {DynamicLayer: FULL, DynamicSlidingWindowLayer: SLIDING}
    layers = DynamicCache(config=config).layers
    found = {(kinds.get(type(layer)), getattr(layer, "sliding_window", None)) for layer in layers}
    known = {(FULL, None)}
    if any(hasattr(sys.modules.get(type(part).__module__), MAKES_WINDOWS) for part in model.modules()):
        known.add((SLIDING, getattr(config, "sliding_window", None)))
    chunked = "chunked_attention" in (getattr(config, "layer_types", None) or ())
    if not found <= known or chunked or _window_of_its_own(config):
        return {}
    return {kind: math.inf if window is None else window for kind, window in found if kind}


def checked_slots(model: Any) -> Slots | None:
    """Slots for a model, after a test that they give what a plain pass gives; None where they do not.

    They do not for models with states, biases by position or windows of their own. The test has two rows of different
    length, one of which is copied, and extends them in two steps.
    """
    import torch

    try:
        slots = Slots(model, 3, 12)
        if not slots.windows:
            return None
        size = min(model.config.get_text_config().vocab_size, 1000)
        tokens = [[(7 * place + 3) % size for place in range(length)] for length in (9, 6)]
        with torch.inference_mode():
            plain = torch.stack([model(torch.tensor([row], device=model.device)).logits[0, -1] for row in tokens])
            slots.extend([1, 0], [tokens[0][:4], tokens[1]], [0, 0])
            slots.copy(1, [2], 0, 4)
            extended = slots.extend([2, 0], [tokens[0][4:], tokens[1][-1:]], [4, 5])
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError):
        return None
    difference = (extended.float() - plain.float()).norm() / plain.float().norm()
    return slots if difference < SOUND.get(model.dtype.itemsize, 0.1) else None


def _window_of_its_own(config: Any) -> bool:
    """Whether a configuration names a window shorter than the context that transformers' cache knows nothing of."""
    context = getattr(config, "max_position_embeddings", None) or math.inf
    sizes = [
        value
        for name, value in config.to_dict().items()
        if name.endswith(("window", "window_size")) and name != "sliding_window"
    ]
    return any(isinstance(size, int) and 0 < size < context for size in sizes)
