"""Which rows run when and where: continuous batches of one model on its replicas, each in the model's turn on a device.

A replica is a copy of the model on another GPU, or on a CPU the same weights in another thread. Models that share a
device take turns: after `TURN_SECONDS` a model that others wait for admits no more rows, finishes those in its slots
and lets the next one run.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from pairsmith.llms.local.decoding import Call, ContinuousBatch, FailedRows, Row, WaitingRows
from pairsmith.llms.local.machine import free_memory, used_memory
from pairsmith.llms.local.sampling import Vocabulary
from pairsmith.llms.local.slots import Slots
from pairsmith.llms.local.weights import Lane, free_unused_memory
from pairsmith.protocol import Finished, Reply

log = logging.getLogger(__name__)
TURN_SECONDS = 30.0  # after which no more rows are admitted while another model waits for its turn
FEW = 8  # rows are admitted when one in so many slots is free, so that several begin together
GRAIN = 256  # tokens to which the room of slots is rounded up
SPARE = 0.25e9  # bytes of `memory_gb` that are kept for what a pass needs beside the cache


class Scheduler:
    """Runs the rows of all calls of one model, in the slots of a continuous batch on each replica.

    `replicas`: the model and the lane of the device, for each. `memory_gb`: the recipe's bound, if any.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        replicas: Sequence[tuple[Any, Lane]],
        memory_gb: float | None,
        bytes_a_token: int,
    ) -> None:
        self._vocabulary, self._replicas = vocabulary, replicas
        self._memory_gb, self._bytes_a_token = memory_gb, bytes_a_token
        self._lock = threading.Lock()
        self._waiting = WaitingRows()
        self._turns: Counter[int] = Counter()  # that run or wait to run, by replica
        self._idle: dict[int, tuple[int, ContinuousBatch]] = {}  # by replica: a batch to use again, and its `size`
        self._most_tokens = float("inf")  # in the slots of a batch, as learned by running out of memory

    def run(self, rows: Sequence[Row], size: int) -> Iterator[Finished]:
        """The replies to `rows` as they are done, with at most `size` slots on each replica."""
        call = Call(rows)
        self._waiting.add(call)
        self._request_turns(size)
        try:
            yield from call.replies()
        finally:
            self._waiting.drop(call)

    def _request_turns(self, size: int) -> None:
        """Make sure that each replica has a turn that runs or waits to run."""
        for replica, (_, lane) in enumerate(self._replicas):
            with self._lock:
                requested = self._turns[replica]
                self._turns[replica] = 1
            if not requested:
                lane.submit(self._turn, replica, size)

    def _turn(self, replica: int, size: int) -> None:
        """Work until no rows wait, or the turn is over and another model waits for the device."""
        lane, ends = self._replicas[replica][1], time.monotonic() + TURN_SECONDS
        while True:
            with self._lock:
                if not self._waiting.room():
                    self._turns[replica] = 0
                    return
            self._work(replica, size, ends)
            if time.monotonic() > ends and lane.waiting:
                lane.submit(self._turn, replica, size)
                return

    def _work(self, replica: int, size: int, ends: float) -> None:
        """Run one batch, with slots as large as the first waiting rows need, until its slots are empty."""
        import torch

        lane, batch = self._replicas[replica][1], None
        try:
            batch = self._batch(replica, size)
            with torch.inference_mode():
                while True:
                    if not (time.monotonic() > ends and lane.waiting):
                        self._admit(batch, size)
                    _deliver(batch)
                    if not batch.active:
                        break
                    batch.step()
                    _deliver(batch)
            self._keep(replica, size, batch)
        except Exception as error:
            if batch:
                batch.close()
                self._fail(batch, error)
            else:
                self._waiting.fail_first(error)
        finally:
            self._waiting.leave(batch)

    def _batch(self, replica: int, size: int) -> ContinuousBatch:
        """A batch with room for the rows that wait: the replica's idle one if it fits, or a new one."""
        room = self._room()
        idle_size, batch = self._idle.pop(replica, (0, None))
        if batch and idle_size == size and room <= batch.room:
            return batch
        if batch:
            batch.close()
        model, lane = self._replicas[replica]
        return ContinuousBatch(self._vocabulary, Slots(model, self.slots_that_fit(model, lane, size, room) + 1, room))

    def _room(self) -> int:
        """The tokens that a slot needs for the rows that wait first."""
        return -(-self._waiting.room() // GRAIN) * GRAIN

    def _keep(self, replica: int, size: int, batch: ContinuousBatch) -> None:
        """Keep a batch for the next call with its recorded passes; a CPU has none, so there it only takes memory."""
        if self._replicas[replica][0].device.type == "cpu":
            batch.close()
        else:
            self._idle[replica] = size, batch

    def slots_that_fit(self, model: Any, lane: Lane, size: int, room: int) -> int:
        """How many slots of `room` tokens the memory holds, `size` at most."""
        device = model.device
        if self._memory_gb:
            available = self._memory_gb * 1e9 - used_memory(device) - SPARE
        else:
            available = (0.5 if device.type == "cpu" else 0.8) * free_memory(device)
        fitting = min(available / lane.width / self._bytes_a_token / room - 1, self._most_tokens / room)
        if fitting < 1:
            log.warning("%s: one row of %d tokens may need more memory than there is", model.name_or_path, room)
        return int(max(1, min(size, fitting)))

    def _admit(self, batch: ContinuousBatch, size: int) -> None:
        """Admit waiting rows, several at a time.

        None are admitted where they are so much shorter than the slots that a new batch would have more of them.
        """
        few = batch.active and batch.free < max(1, batch.count // FEW)
        oversized = batch.count < size and 2 * self._room() <= batch.room
        if few or oversized:
            return
        taken = self._waiting.take(batch, len(self._replicas), len(batch.active), batch.free, batch.room)
        if taken:
            batch.admit(*taken)

    def _fail(self, batch: ContinuousBatch, error: Exception) -> None:
        """Pass an error on to the calls in a batch; where memory ran out, their rows start again in half the slots.

        A row that ran out of memory in a single slot gets a reply with an error.
        """
        calls: dict[Call, list[Row]] = {}
        for active in batch.active:
            calls.setdefault(active.call, []).append(active.row)
        slots, most = f"{batch.count} rows of {batch.room} tokens", batch.count * batch.room / 2
        no_memory = _is_out_of_memory(error)
        if no_memory:
            free_unused_memory(self._replicas[0][0].device)
            self._most_tokens = min(self._most_tokens, most)
            log.warning("out of memory with %s; going on with half of them", slots)
        for call, rows in calls.items():
            if no_memory and batch.count > 1:
                self._waiting.put_back(call, rows)
            elif no_memory:
                reply = Reply("", error=f"out of memory with {slots}: {error}")
                call.finished.put([(row.index, reply) for row in rows])
            else:
                call.finished.put(FailedRows(error, len(rows)))


def _deliver(batch: ContinuousBatch) -> None:
    """Put the replies of rows that are done into the queues of their calls."""
    done: dict[Call, Finished] = {}
    for active in batch.finished():
        done.setdefault(active.call, []).append((active.row.index, batch.reply(active)))
    for call, finished in done.items():
        call.finished.put(finished)


def _is_out_of_memory(error: Exception) -> bool:
    import torch

    texts = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(text in str(error) for text in texts)
