"""Passes that add a token to every row: on a GPU a recorded graph of kernels, elsewhere a plain pass.

Such a pass is hundreds of small kernels, which a GPU runs faster than Python can launch them. Recorded once for a
number of rows and of positions seen, all are launched together
(https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs). Rows and positions are rounded up, so that there are
few graphs.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from pairsmith.llms.local.attention import Span
from pairsmith.llms.local.slots import Slots

log = logging.getLogger(__name__)
POSITIONS = 256  # to a multiple of which the positions seen are rounded up


class StepRunner:
    """Runs passes of one token a row over slots 0, 1, ..."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._recorded: dict[tuple[int, int], tuple[Any, Any]] = {}
        self._plain = slots.model.device.type != "cuda"
        self._inputs: Any = None  # tokens and positions of all rows

    def __call__(self, tokens: Sequence[int], lengths: Sequence[int]) -> Any:
        """Add `tokens` to rows of these `lengths`; returns logits (rows, vocabulary), valid until the next call."""
        if not self._plain:
            try:
                return self._replay(tokens, lengths)
            except RuntimeError as error:
                if "out of memory" in str(error):
                    raise
                log.warning("passes cannot be recorded, so they run one kernel at a time: %s", error)
                self._plain = True
        return self._slots.extend(range(len(tokens)), [[token] for token in tokens], lengths)

    def close(self) -> None:
        self._recorded.clear()

    def _replay(self, tokens: Sequence[int], lengths: Sequence[int]) -> Any:
        import torch

        count, spare = len(tokens), self._slots.length
        rows, seen = sizes(count, max(lengths) + 1, self._slots.count, spare)
        if self._inputs is None:
            device = (
                self._slots.model.device
            )  # a graph reads its inputs from the address that they had when it was recorded
            self._inputs = torch.zeros(2, self._slots.count, 1, dtype=torch.long, device=device)
            self._numbers = torch.arange(self._slots.count, device=device)[:, None]
            self._pool = torch.cuda.graph_pool_handle()
        if (rows, seen) not in self._recorded:
            self._recorded[rows, seen] = self._record(rows, seen)
        graph, logits = self._recorded[rows, seen]
        free = rows - count
        inputs = torch.tensor([[*tokens, *[0] * free], [*lengths, *[spare] * free]])
        self._inputs[:, :rows, 0].copy_(inputs)
        graph.replay()
        return logits[:count]

    def _record(self, rows: int, seen: int) -> tuple[Any, Any]:
        """Record the graph of a pass over so many rows; returns it with the tensor that it writes its logits to."""
        import torch

        tokens, positions, numbers = self._inputs[0, :rows], self._inputs[1, :rows], self._numbers[:rows]
        positions.fill_(self._slots.length)  # the spare position: passes before the recording must change no row

        def work() -> Any:
            return self._slots.run(tokens, positions, numbers, slice(0, rows), [Span(0, seen)])

        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            work()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            logits = work()
        return graph, logits


def sizes(count: int, seen: int, most_rows: int, most_seen: int) -> tuple[int, int]:
    """Rows and positions of the graph that serves `count` rows of which the longest has `seen` positions.

    >>> sizes(5, 300, 33, 400)
    (8, 400)
    """
    return min(1 << (count - 1).bit_length(), most_rows), min(-(-seen // POSITIONS) * POSITIONS, most_seen)
