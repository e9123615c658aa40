"""Continuous batching: the rows that wait, and the batches that give each row in their slots a token per pass.

A batch fills its slots with waiting rows, computes the tokens that they share once, then adds a token to every row in
each pass. A row leaves its slot as soon as it is done and the next row takes it, so no pass waits for the longest
answer.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from queue import SimpleQueue
from typing import Any

from pairsmith.llms.local.graphs import StepRunner
from pairsmith.llms.local.prefixes import WORTHWHILE, Piece, common, pieces, shared_prefix
from pairsmith.llms.local.sampling import Draw, Vocabulary, choose
from pairsmith.llms.local.slots import Slots
from pairsmith.protocol import Finished, Reply, Request

TOKENS_A_PASS = {"cpu": 256}  # at most, padding included, while slots are filled
_TOKENS_A_PASS_ELSEWHERE = 16_384


@dataclass
class Row:
    """A request as the tokens of its prompt."""

    index: int
    request: Request
    tokens: list[int]

    @property
    def room(self) -> int:
        """The tokens that its slot must hold: prompt and answer."""
        return len(self.tokens) + self.request.sampling.max_tokens


class Call:
    """The rows of one call of `stream`, in the order that is fastest, and the queue of their replies."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.prefix = _prefix(rows)
        self.waiting = deque(_ordered(rows, len(self.prefix)))  # groups of rows that share a beginning
        self.finished: SimpleQueue[Finished | FailedRows] = SimpleQueue()
        self.unanswered, self.is_dropped = len(rows), False

    def replies(self) -> Iterator[Finished]:
        """Replies as they are done; raises the first failure after all of them."""
        failure: BaseException | None = None
        while self.unanswered:
            done = self.finished.get()
            if isinstance(done, FailedRows):
                self.unanswered -= done.count
                failure = failure or done.error
            else:
                self.unanswered -= len(done)
                yield done
        if failure:
            raise failure


@dataclass(frozen=True)
class FailedRows:
    """How many rows of a call an error ended."""

    error: BaseException
    count: int


class WaitingRows:
    """The rows of all calls that no batch has taken yet, first come, first served. Several batches take from them."""

    def __init__(self) -> None:
        self._calls: deque[Call] = deque()
        self._lock = threading.Lock()
        self._active: dict[object, int] = {}  # rows in the slots of each batch

    def add(self, call: Call) -> None:
        with self._lock:
            self._calls.append(call)

    def put_back(self, call: Call, rows: Sequence[Row]) -> None:
        """Put rows of a batch back, in front of all others."""
        with self._lock:
            call.waiting.extendleft([row] for row in reversed(rows))
            if call not in self._calls:
                self._calls.appendleft(call)

    def drop(self, call: Call) -> None:
        with self._lock:
            call.is_dropped = True
            call.waiting.clear()

    def room(self) -> int:
        """The most room that a row of the first call needs; 0 where no row waits."""
        with self._lock:
            self._drop_empty_calls()
            return max((row.room for group in self._calls[0].waiting for row in group), default=0) if self._calls else 0

    def fail_first(self, error: BaseException) -> None:
        """End all waiting rows of the first call with an error."""
        with self._lock:
            self._drop_empty_calls()
            if self._calls:
                call = self._calls.popleft()
                call.finished.put(FailedRows(error, sum(map(len, call.waiting))))
                call.waiting.clear()

    def take(self, batch: object, batches: int, active: int, free: int, room: int) -> tuple[Call, list[Row]] | None:
        """Rows of one call for a batch with `active` rows and `free` slots of `room` tokens.

        `batches`: how many there are. Each gets no more than its share of all rows, those in slots included.
        """
        with self._lock:
            self._active[batch] = active
            self._drop_empty_calls()
            if not self._calls:
                return None
            call = self._calls[0]
            waiting = sum(len(group) for each in self._calls for group in each.waiting)
            share = -(-(waiting + sum(self._active.values())) // batches)
            wanted = min(free, share - active)
            takers = min(batches, -(-waiting // max(1, wanted)))
            taken = _deal(call.waiting, wanted, takers, room)
            self._active[batch] = active + len(taken)
            return (call, taken) if taken else None

    def leave(self, batch: object) -> None:
        with self._lock:
            self._active.pop(batch, None)

    def _drop_empty_calls(self) -> None:
        while self._calls and not self._calls[0].waiting:
            self._calls.popleft()


@dataclass
class ActiveRow:
    """A row in a slot: `length` of its tokens are in the cache, `answer` holds those of its answer so far."""

    row: Row
    call: Call
    vocabulary: Vocabulary
    length: int
    answer: list[int] = field(default_factory=list)
    finish_reason: str | None = None

    @cached_property
    def draw(self) -> Draw:
        return Draw(self.row.request, self.vocabulary)


class ContinuousBatch:
    """The slots of one model on one device, and the rows in them."""

    def __init__(self, vocabulary: Vocabulary, slots: Slots) -> None:
        self.vocabulary, self.count, self.room = vocabulary, slots.count - 1, slots.length
        self.active: list[ActiveRow] = []  # the row in slot 0, in slot 1, ...
        self._slots, self._steps = slots, StepRunner(slots)
        self._prefix: list[int] = []  # the tokens in the last slot, which is kept free of rows
        self._ends = {*vocabulary.eos}
        self._most = TOKENS_A_PASS.get(slots.model.device.type, _TOKENS_A_PASS_ELSEWHERE)

    def close(self) -> None:
        """Free the memory of the slots."""
        self._slots.close()
        self._steps.close()

    @property
    def free(self) -> int:
        return self.count - len(self.active)

    def admit(self, call: Call, rows: Sequence[Row]) -> None:
        """Fill free slots with rows: compute what they share once, and choose the first token of each."""
        admitted = [ActiveRow(row, call, self.vocabulary, len(row.tokens)) for row in _sorted(rows)]
        first = len(self.active)
        longest = sorted(range(len(admitted)), key=lambda n: -admitted[n].length)  # see `attention.spans`
        self.active += [admitted[n] for n in longest]
        slots = sorted(range(first, len(self.active)), key=lambda slot: longest[slot - first])  # of each in `admitted`
        tokens = [active.row.tokens for active in admitted]
        known = self._compute_prefix(call.prefix) if call.prefix else 0
        if known:
            self._slots.copy(self.count, range(first, first + len(rows)), 0, known)
        *inner, leaves = pieces(tokens, known)
        for level in inner:
            for group in _packed(level, self._most):
                self._fill(slots, tokens, group)
                for piece in group:
                    others = slots[piece.first + 1 : piece.last]
                    self._slots.copy(slots[piece.first], others, piece.start, piece.end)
        for group in _packed(leaves, self._most):
            logits = self._fill(slots, tokens, group)
            self._choose([admitted[piece.first] for piece in group], logits)

    def step(self) -> None:
        """Add a token to every row."""
        logits = self._steps([active.answer[-1] for active in self.active], [active.length for active in self.active])
        for active in self.active:
            active.length += 1
        self._choose(self.active, logits)

    def finished(self) -> list[ActiveRow]:
        """Rows that are done or dropped, taken out of their slots; the last rows move into the gaps."""
        done = [active for active in self.active if active.finish_reason or active.call.is_dropped]
        if not done:
            return []
        kept = [active for active in self.active if not (active.finish_reason or active.call.is_dropped)]
        slot_of = {id(active): slot for slot, active in enumerate(self.active)}
        stay = [active for active in kept if slot_of[id(active)] < len(kept)]
        moved = [active for active in kept if slot_of[id(active)] >= len(kept)]
        gaps = sorted(set(range(len(kept))) - {slot_of[id(active)] for active in stay})
        arranged: list[ActiveRow | None] = [None] * len(kept)
        for active in stay:
            arranged[slot_of[id(active)]] = active
        for gap, active in zip(gaps, moved, strict=True):
            self._slots.copy(slot_of[id(active)], [gap], 0, active.length)
            arranged[gap] = active
        self.active = [active for active in arranged if active]
        return done

    def reply(self, active: ActiveRow) -> Reply:
        row, tokens = active.row, active.answer
        text, _ = self.vocabulary.text(tokens, row.request.sampling.stop)
        return Reply(text, active.finish_reason, len(row.tokens), len(tokens), active.draw.logprobs)

    def _fill(self, slots: Sequence[int], tokens: Sequence[list[int]], group: Sequence[Piece]) -> Any:
        """Compute pieces, each in the slot of its first row; returns the logits after the last token of each."""
        return self._slots.extend(
            [slots[piece.first] for piece in group],
            [tokens[piece.first][piece.start : piece.end] for piece in group],
            [piece.start for piece in group],
        )

    def _compute_prefix(self, prefix: list[int]) -> int:
        """Compute a call's prefix in the last slot, unless it is there already; returns its length."""
        known = common(prefix, self._prefix)
        if known < len(prefix):
            self._slots.extend([self.count], [prefix[known:]], [known])
            self._prefix = prefix
        return len(prefix)

    def _choose(self, rows: Sequence[ActiveRow], logits: Any) -> None:
        for active, token in zip(rows, choose([active.draw for active in rows], logits), strict=True):
            if token in self._ends:
                active.finish_reason = "stop"
                continue
            active.answer.append(token)
            sampling = active.row.request.sampling
            if sampling.stop and self._stops(active.answer, sampling.stop):
                active.finish_reason = "stop"
            elif len(active.answer) == sampling.max_tokens:
                active.finish_reason = "length"

    def _stops(self, tokens: list[int], stops: Sequence[str]) -> bool:
        """Whether the last token completes a stop string. A token is at least a byte, so few tokens need a look."""
        longest = max(len(stop.encode()) for stop in stops)
        _, stop = self.vocabulary.text(tokens[-longest - 4 :], stops)
        return stop is not None


def _sorted(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.tokens)


def _prefix(rows: Sequence[Row]) -> list[int]:
    """The first tokens that all rows of a call share."""
    return rows[0].tokens[: shared_prefix([row.tokens for row in rows])] if rows else []


def _ordered(rows: Sequence[Row], prefix: int) -> list[list[Row]]:
    """Groups of rows that share more than the `prefix` tokens of all rows, those with the longest rows first."""
    groups: list[list[Row]] = []
    for row in _sorted(rows):
        is_alike = groups and common(groups[-1][-1].tokens, row.tokens) >= prefix + WORTHWHILE
        if is_alike:
            groups[-1].append(row)
        else:
            groups.append([row])
    return sorted(groups, key=lambda group: -max(row.room for row in group))


def _deal(groups: deque[list[Row]], wanted: int, takers: int, room: int) -> list[Row]:
    """Take rows that fit `room` from the first groups, and leave some of these groups to each of the other `takers`.

    So each batch gets whole groups, whose rows share tokens.
    """
    near: list[list[Row]] = []
    while len(near) < wanted * takers and groups and max(row.room for row in groups[0]) <= room:
        near.append(groups.popleft())
    taken: list[Row] = []
    for number in sorted(range(len(near)), key=lambda number: number % takers):
        most = wanted - len(taken)
        taken += near[number][:most]
        near[number] = near[number][most:]
    groups.extendleft(group for group in reversed(near) if group)
    return taken


def _packed(level: Sequence[Piece], most: int) -> Iterator[list[Piece]]:
    """Groups of pieces of similar length: up to `most` tokens with padding, or a single longer piece."""
    group: list[Piece] = []
    for piece in sorted(level, key=lambda piece: (piece.start - piece.end, piece.first)):
        if group and (len(group) + 1) * (group[0].end - group[0].start) > most:
            yield group
            group = []
        group.append(piece)
    if group:
        yield group
