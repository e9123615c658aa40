"""Rows on their way through a model: those that wait, those that are in its slots, and the passes that move them on.

A session fills slots with rows that wait, computes what they share once, then adds a token to every row in each pass.
A row leaves as soon as it is done and its slot takes the next one, so no pass waits for the longest answer.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from queue import SimpleQueue
from typing import Any

from pairsmith.llms.local.graphs import Steps
from pairsmith.llms.local.prefixes import WORTHWHILE, Piece, common, pieces, shared_prefix
from pairsmith.llms.local.sampling import Draw, Vocabulary, choose
from pairsmith.llms.local.slots import Slots
from pairsmith.protocol import Finished, Reply, Request

TOKENS_A_PASS = {"cpu": 256}  # when slots are filled, padding included
_TOKENS_A_PASS_ELSEWHERE = 16_384


@dataclass
class Row:
    """A request on its way through an engine."""

    index: int
    request: Request
    tokens: list[int]

    @property
    def room(self) -> int:
        """Tokens that it may need a slot to have."""
        return len(self.tokens) + self.request.sampling.max_tokens


class Call:
    """The rows of one call of an engine, in the order in which they are best worked on, and where their replies go."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.prefix = _prefix(rows)
        self.waiting = deque(_ordered(rows, len(self.prefix)))  # groups of rows that share a beginning
        self.finished: SimpleQueue[Finished | Failure] = SimpleQueue()
        self.left, self.dropped = len(rows), False

    def replies(self) -> Iterator[Finished]:
        """Replies as they come; raises the first failure when all else is done."""
        failure: BaseException | None = None
        while self.left:
            done = self.finished.get()
            if isinstance(done, Failure):
                self.left -= done.rows
                failure = failure or done.error
            else:
                self.left -= len(done)
                yield done
        if failure:
            raise failure


@dataclass(frozen=True)
class Failure:
    """Rows that were lost to an error."""

    error: BaseException
    rows: int


class Waiting:
    """Calls whose rows wait, first come, first served; several sessions take from them."""

    def __init__(self) -> None:
        self._calls: deque[Call] = deque()
        self._lock = threading.Lock()
        self._active: dict[object, int] = {}  # rows in the slots of each session

    def add(self, call: Call) -> None:
        with self._lock:
            self._calls.append(call)

    def take_back(self, call: Call, rows: Sequence[Row]) -> None:
        """Let rows wait again, before all others."""
        with self._lock:
            call.waiting.extendleft([row] for row in reversed(rows))
            if call not in self._calls:
                self._calls.appendleft(call)

    def drop(self, call: Call) -> None:
        with self._lock:
            call.dropped = True
            call.waiting.clear()

    def room(self) -> int:
        """The room that the first call's rows need at most; 0 where no row waits."""
        with self._lock:
            self._shed()
            return max((row.room for group in self._calls[0].waiting for row in group), default=0) if self._calls else 0

    def lose(self, error: BaseException) -> None:
        """Give up the rows of the first call that wait."""
        with self._lock:
            self._shed()
            if self._calls:
                call = self._calls.popleft()
                call.finished.put(Failure(error, sum(map(len, call.waiting))))
                call.waiting.clear()

    def take(self, session: object, sessions: int, active: int, free: int, room: int) -> tuple[Call, list[Row]] | None:
        """Rows of one call for a session with `active` rows and `free` slots of `room` tokens.

        It gets no more than its share of all rows, those in the slots of the other `sessions` counted in.
        """
        with self._lock:
            self._active[session] = active
            self._shed()
            if not self._calls:
                return None
            call = self._calls[0]
            waiting = sum(len(group) for each in self._calls for group in each.waiting)
            share = -(-(waiting + sum(self._active.values())) // sessions)
            wanted = min(free, share - active)
            takers = min(sessions, -(-waiting // max(1, wanted)))
            taken = _deal(call.waiting, wanted, takers, room)
            self._active[session] = active + len(taken)
            return (call, taken) if taken else None

    def leave(self, session: object) -> None:
        with self._lock:
            self._active.pop(session, None)

    def _shed(self) -> None:
        while self._calls and not self._calls[0].waiting:
            self._calls.popleft()


@dataclass
class Active:
    """A row in a slot: `length` tokens of it are in the cache, `taken` is its answer so far."""

    row: Row
    call: Call
    vocabulary: Vocabulary
    length: int
    taken: list[int] = field(default_factory=list)
    finish_reason: str | None = None

    @cached_property
    def draw(self) -> Draw:
        return Draw(self.row.request, self.vocabulary)


class SlotSession:
    """Some slots of one model and the rows in them."""

    def __init__(self, vocabulary: Vocabulary, slots: Slots) -> None:
        self.vocabulary, self.count, self.room = vocabulary, slots.count - 1, slots.length
        self.active: list[Active] = []  # the row in slot 0, in slot 1, ...
        self._slots, self._steps = slots, Steps(slots)
        self._prefix: list[int] = []  # what the last slot, which no row has, holds
        self._ends = {*vocabulary.eos}
        self._most = TOKENS_A_PASS.get(slots.model.device.type, _TOKENS_A_PASS_ELSEWHERE)

    def close(self) -> None:
        """Let go of the slots' memory."""
        self._slots.close()
        self._steps.close()

    @property
    def free(self) -> int:
        return self.count - len(self.active)

    def admit(self, call: Call, rows: Sequence[Row]) -> None:
        """Fill free slots with rows: what they share is computed once, and each gets its first token."""
        admitted = [Active(row, call, self.vocabulary, len(row.tokens)) for row in _sorted(rows)]
        first = len(self.active)
        longest = sorted(range(len(admitted)), key=lambda n: -admitted[n].length)  # see `spans`
        self.active += [admitted[n] for n in longest]
        slots = sorted(range(first, len(self.active)), key=lambda slot: longest[slot - first])  # of each in `admitted`
        tokens = [active.row.tokens for active in admitted]
        known = self._hold(call.prefix) if call.prefix else 0
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
        logits = self._steps([active.taken[-1] for active in self.active], [active.length for active in self.active])
        for active in self.active:
            active.length += 1
        self._choose(self.active, logits)

    def finished(self) -> list[Active]:
        """Rows that are done or no longer wanted, which leave their slots to others."""
        done = [active for active in self.active if active.finish_reason or active.call.dropped]
        if not done:
            return []
        kept = [active for active in self.active if not (active.finish_reason or active.call.dropped)]
        place = {id(active): slot for slot, active in enumerate(self.active)}
        stay = [active for active in kept if place[id(active)] < len(kept)]
        moved = [active for active in kept if place[id(active)] >= len(kept)]
        holes = sorted(set(range(len(kept))) - {place[id(active)] for active in stay})
        arranged: list[Active | None] = [None] * len(kept)
        for active in stay:
            arranged[place[id(active)]] = active
        for hole, active in zip(holes, moved, strict=True):
            self._slots.copy(place[id(active)], [hole], 0, active.length)
            arranged[hole] = active
        self.active = [active for active in arranged if active]
        return done

    def reply(self, active: Active) -> Reply:
        row, tokens = active.row, active.taken
        text, _ = self.vocabulary.text(tokens, row.request.sampling.stop)
        return Reply(text, active.finish_reason, len(row.tokens), len(tokens), active.draw.logprobs)

    def _fill(self, slots: Sequence[int], tokens: Sequence[list[int]], group: Sequence[Piece]) -> Any:
        """Compute pieces, each in the slot of its first row; returns the logits at their ends."""
        return self._slots.extend(
            [slots[piece.first] for piece in group],
            [tokens[piece.first][piece.start : piece.end] for piece in group],
            [piece.start for piece in group],
        )

    def _hold(self, prefix: list[int]) -> int:
        """Have the last slot hold a call's prefix; returns its length."""
        known = common(prefix, self._prefix)
        if known < len(prefix):
            self._slots.extend([self.count], [prefix[known:]], [known])
            self._prefix = prefix
        return len(prefix)

    def _choose(self, rows: Sequence[Active], logits: Any) -> None:
        for active, token in zip(rows, choose([active.draw for active in rows], logits), strict=True):
            if token in self._ends:
                active.finish_reason = "stop"
                continue
            active.taken.append(token)
            sampling = active.row.request.sampling
            if sampling.stop and self._stops(active.taken, sampling.stop):
                active.finish_reason = "stop"
            elif len(active.taken) == sampling.max_tokens:
                active.finish_reason = "length"

    def _stops(self, tokens: list[int], stops: Sequence[str]) -> bool:
        """Whether the last token completes a stop string: each token is a byte or more of text."""
        longest = max(len(stop.encode()) for stop in stops)
        _, stop = self.vocabulary.text(tokens[-longest - 4 :], stops)
        return stop is not None


def _sorted(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.tokens)


def _prefix(rows: Sequence[Row]) -> list[int]:
    """What all rows of a call share."""
    return rows[0].tokens[: shared_prefix([row.tokens for row in rows])] if rows else []


def _ordered(rows: Sequence[Row], prefix: int) -> list[list[Row]]:
    """Groups of rows that share more than the `prefix` tokens that all do, those with the longest rows first."""
    groups: list[list[Row]] = []
    for row in _sorted(rows):
        alike = groups and common(groups[-1][-1].tokens, row.tokens) >= prefix + WORTHWHILE
        if alike:
            groups[-1].append(row)
        else:
            groups.append([row])
    return sorted(groups, key=lambda group: -max(row.room for row in group))


def _deal(groups: deque[list[Row]], wanted: int, takers: int, room: int) -> list[Row]:
    """Take rows that fit `room` from the first groups, and leave such for each of the other sessions that take some."""
    near: list[list[Row]] = []
    while len(near) < wanted * takers and groups and max(row.room for row in groups[0]) <= room:
        near.append(groups.popleft())
    taken: list[Row] = []
    for place in sorted(range(len(near)), key=lambda place: place % takers):
        most = wanted - len(taken)
        taken += near[place][:most]
        near[place] = near[place][most:]
    groups.extendleft(group for group in reversed(near) if group)
    return taken


def _packed(level: Sequence[Piece], most: int) -> Iterator[list[Piece]]:
    """Pieces of similar length in groups of `most` tokens, padding counted in, or of one longer piece."""
    group: list[Piece] = []
    for piece in sorted(level, key=lambda piece: (piece.start - piece.end, piece.first)):
        if group and (len(group) + 1) * (group[0].end - group[0].start) > most:
            yield group
            group = []
        group.append(piece)
    if group:
        yield group
