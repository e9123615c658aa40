"""`transformers`: a model in this process, on a CPU or a GPU.

All calls for the same weights share one line of rows and the slots of a session on each device, on a CPU on each core
(see `decoding`); replies are handed over as soon as they are done. Models that no slots fit run in left-padded batches
by transformers' own `generate` (see `batching`).
"""

from __future__ import annotations

import copy
import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from pairsmith.config import ModelSpec
from pairsmith.llms.local.attention import use_spans
from pairsmith.llms.local.batching import batches, generate, in_batches, prepared
from pairsmith.llms.local.decoding import Call, Failure, Row, SlotSession, Waiting
from pairsmith.llms.local.hub_models import resolve
from pairsmith.llms.local.machine import free_memory, used_memory
from pairsmith.llms.local.packing import pack
from pairsmith.llms.local.sampling import Vocabulary
from pairsmith.llms.local.slots import Slots, tried
from pairsmith.llms.local.weights import Lane, Weights, lane_of, release, shelf_of, whole
from pairsmith.protocol import Finished, Identity, Reply, Request
from pairsmith.session import Session

log = logging.getLogger(__name__)
TURN_SECONDS = 30.0  # after which a session takes no more rows while another model waits for its turn
FEW = 8  # a session waits until one in so many slots is free, so that rows are admitted several at a time
GRAIN = 256  # tokens to which the room of slots is rounded up
SPARE = 0.25e9  # bytes of the memory's bound that are left for what a pass needs beside the cache
DEFAULT_ROWS = {"cpu": 32}  # slots of a session, where the recipe names no batch size
_DEFAULT_ROWS_ELSEWHERE = 128


class Transformers:
    """The backend; the engine with the weights is shared by all members and judges that name the same ones."""

    def __init__(self, spec: ModelSpec, session: Session) -> None:
        self._path, revision = resolve(spec.model, spec.revision)
        self.identity = Identity("transformers", spec.model, revision)
        self._spec, self._session = spec, session

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        engine = shelf_of(self._session).take(Engine, self._path, self._spec)
        yield from engine.stream(requests, self._spec.local.batch_size)


class Engine(Weights):
    """A model that writes texts, on each of its devices."""

    def _load(self, path: str, **options: Any) -> Any:
        from transformers import AutoModelForCausalLM

        return whole(AutoModelForCausalLM, path, "model that writes texts", **options)

    def _prepare(self) -> None:
        import torch

        named = self.model.generation_config.eos_token_id
        eos = self.tokenizer.eos_token_id if named is None else named
        size = self.model.config.get_text_config().vocab_size
        self.vocabulary = Vocabulary(self.tokenizer, size, eos if isinstance(eos, list) else [eos])
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token_id = self.vocabulary.eos[0]
        if self.device.type == "cpu":
            use_spans(self.model)
        slots = tried(self.model)
        self.in_slots = slots is not None
        self._bytes_a_token = slots.bytes_a_token if slots else 0
        if self.device.type == "cpu":
            pack(self.model)
            release(self.device)
        self.places = [(self.model, self.lane)]
        if self.device.type == "cpu":
            self.places *= self.lane.width
        elif self.options.device == "auto" and self.device.type == "cuda":
            others = [torch.device("cuda", number) for number in range(1, torch.cuda.device_count())]
            self.places += [(copy.deepcopy(self.model).to(device), lane_of(device)) for device in others]
        self._waiting = Waiting()
        self._turns: Counter[int] = Counter()  # that run or wait to, by place
        self._resting: dict[int, tuple[int, SlotSession]] = {}  # by place, with the batch size asked for
        self._most_tokens = float("inf")  # in the slots of a session, as found out by running out of memory

    def stream(self, requests: Sequence[Request], batch_size: int | None = None) -> Iterator[Finished]:
        with self.in_use():
            rows, hopeless = prepared(requests, self._row, self._problem)
            if hopeless:
                yield hopeless
            size = batch_size or DEFAULT_ROWS.get(self.device.type, _DEFAULT_ROWS_ELSEWHERE)
            if self.in_slots:
                yield from self._through_slots(rows, size)
            else:
                answer = partial(generate, self.model, self.vocabulary, self.tokenizer.pad_token_id)
                yield from in_batches(self.lane, batches(rows, size, self.lane.width), answer)

    def _row(self, index: int, request: Request) -> Row:
        self.vocabulary.check(request)
        return Row(index, request, self.encode(request.messages))

    def _problem(self, row: Row) -> str | None:
        """Why a request can never be answered; None where it can."""
        most = row.request.sampling.max_tokens
        return f"context: {len(row.tokens)} + {most} tokens > {self.context}" if row.room > self.context else None

    def _through_slots(self, rows: Sequence[Row], size: int) -> Iterator[Finished]:
        call = Call(rows)
        self._waiting.add(call)
        self._call_turns(size)
        try:
            yield from call.replies()
        finally:
            self._waiting.drop(call)

    def _call_turns(self, size: int) -> None:
        """See to it that each place has a turn that runs or waits to."""
        for place, (_, lane) in enumerate(self.places):
            with self._lock:
                called = self._turns[place]
                self._turns[place] = 1
            if not called:
                lane.submit(self._turn, place, size)

    def _turn(self, place: int, size: int) -> None:
        """Work on rows that wait, until there are none or others have waited long enough."""
        lane, ends = self.places[place][1], time.monotonic() + TURN_SECONDS
        while True:
            with self._lock:
                if not self._waiting.room():
                    self._turns[place] = 0
                    return
            self._work(place, size, ends)
            if time.monotonic() > ends and lane.waiting:
                lane.submit(self._turn, place, size)
                return

    def _work(self, place: int, size: int, ends: float) -> None:
        """Work with slots as large as the rows that wait first need, until those are done."""
        import torch

        lane, session = self.places[place][1], None
        try:
            session = self._session(place, size)
            with torch.inference_mode():
                while True:
                    if not (time.monotonic() > ends and lane.waiting):
                        self._admit(session, size)
                    self._hand_over(session)
                    if not session.active:
                        break
                    session.step()
                    self._hand_over(session)
            self._rest(place, size, session)
        except Exception as error:
            if session:
                session.close()
                self._give_up(session, error)
            else:
                self._waiting.lose(error)
        finally:
            self._waiting.leave(session)

    def _session(self, place: int, size: int) -> SlotSession:
        """A session for the rows that wait: the one that rests here, if it has room for them, or a new one."""
        room = self._room()
        asked, session = self._resting.pop(place, (0, None))
        if session and asked == size and room <= session.room:
            return session
        if session:
            session.close()
        model, lane = self.places[place]
        return SlotSession(self.vocabulary, Slots(model, self._count(model, lane, size, room) + 1, room))

    def _room(self) -> int:
        """The room of slots for the rows that wait first."""
        return -(-self._waiting.room() // GRAIN) * GRAIN

    def _rest(self, place: int, size: int, session: SlotSession) -> None:
        """Keep what was recorded for the next call; on a CPU there is nothing but the memory that it takes."""
        if self.device.type == "cpu":
            session.close()
        else:
            self._resting[place] = size, session

    def _count(self, model: Any, lane: Lane, size: int, room: int) -> int:
        """How many slots of so much room the memory has."""
        bound, device = self.options.memory_gb, model.device
        if bound:
            left = bound * 1e9 - used_memory(device) - SPARE
        else:
            left = (0.5 if device.type == "cpu" else 0.8) * free_memory(device)
        fitting = min(left / lane.width / self._bytes_a_token / room - 1, self._most_tokens / room)
        if fitting < 1:
            log.warning("%s: one row of %d tokens may need more memory than there is", self.model.name_or_path, room)
        return int(max(1, min(size, fitting)))

    def _admit(self, session: SlotSession, size: int) -> None:
        """Let rows in that wait, several at a time, unless they are so much shorter that more slots would fit them."""
        few = session.active and session.free < max(1, session.count // FEW)
        small = session.count < size and 2 * self._room() <= session.room
        if few or small:
            return
        taken = self._waiting.take(session, len(self.places), len(session.active), session.free, session.room)
        if taken:
            session.admit(*taken)

    def _hand_over(self, session: SlotSession) -> None:
        done: dict[Call, Finished] = {}
        for active in session.finished():
            done.setdefault(active.call, []).append((active.row.index, session.reply(active)))
        for call, finished in done.items():
            call.finished.put(finished)

    def _give_up(self, session: SlotSession, error: Exception) -> None:
        """Tell the calls in a session of an error; rows that ran out of memory begin again with half of the slots.

        One that had all of the memory to itself is a reply with an error.
        """
        calls: dict[Call, list[Row]] = {}
        for active in session.active:
            calls.setdefault(active.call, []).append(active.row)
        told, most = f"{session.count} rows of {session.room} tokens", session.count * session.room / 2
        no_memory = _is_out_of_memory(error)
        if no_memory:
            release(self.device)
            self._most_tokens = min(self._most_tokens, most)
            log.warning("out of memory with %s; going on with half of them", told)
        for call, rows in calls.items():
            if no_memory and session.count > 1:
                self._waiting.take_back(call, rows)
            elif no_memory:
                reply = Reply("", error=f"out of memory with {told}: {error}")
                call.finished.put([(row.index, reply) for row in rows])
            else:
                call.finished.put(Failure(error, len(rows)))


def _is_out_of_memory(error: Exception) -> bool:
    import torch

    told = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(part in str(error) for part in told)
