"""A separate process in which a model is tried: how fast it answers, and which dtypes suit a device."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Protocol

from pairsmith.config import ModelSpec
from pairsmith.llms.local.machine import peak_memory
from pairsmith.llms.local.weights import device_for, lane_of
from pairsmith.llms.registry import open_llm
from pairsmith.protocol import Request
from pairsmith.session import process_session

SLOWER = 1.5  # a dtype is not tried if its matrix products take so many times as long as the fastest one's


@dataclass(frozen=True)
class Took:
    """What a trial took. `tokens`: read and generated. `megabytes`: the peak of the GPU, or else of the process."""

    seconds: float
    tokens: int
    megabytes: float


@dataclass(frozen=True)
class Device:
    """What suits a device: the dtypes worth trying, and how many batches run at the same time."""

    dtypes: tuple[str, ...]
    at_a_time: int


class Ended(Exception):
    """The process with the model ended, or its memory ran out."""


class Trier(Protocol):
    """Where models are tried."""

    def look_at(self, device: str) -> Device: ...
    def tried(self, spec: ModelSpec, requests: Sequence[Request]) -> Took: ...
    def close(self) -> None: ...


class TrialProcess:
    """A process that keeps its models until it is closed. If it ends earlier, another takes its place."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))

    def look_at(self, device: str) -> Device:
        return self._pool.submit(look_at, device).result()

    def tried(self, spec: ModelSpec, requests: Sequence[Request]) -> Took:
        try:
            return self._pool.submit(time_answers, spec, requests).result()
        except BrokenProcessPool:
            self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
            raise Ended("ended by the system, as it does where memory runs out") from None

    def close(self) -> None:
        self._pool.shutdown()


def time_answers(spec: ModelSpec, requests: Sequence[Request]) -> Took:
    """Ask a model in this process, and measure time and memory."""
    import torch

    llm, tokens, begun = open_llm(spec, process_session()), 0, time.perf_counter()
    try:
        for group in llm.stream(requests):
            tokens += sum(reply.n_prompt_tokens + reply.n_tokens for _, reply in group)
    except (MemoryError, torch.OutOfMemoryError):
        raise Ended("out of memory") from None
    seconds = time.perf_counter() - begun
    return Took(seconds, tokens, peak_memory() / 1e6)


def look_at(device: str) -> Device:
    """Time a matrix product in each dtype, and keep those that are not much slower than the fastest.

    A CPU without instructions for bfloat16 is many times slower in it; old GPUs have float16 alone. Where both are
    fast, bfloat16 is enough, since it does not overflow.
    """
    import torch

    where = device_for(device)
    lane = lane_of(where)
    names = ["float32", "bfloat16"] if where.type == "cpu" else ["bfloat16", "float16", "float32"]
    took = {}
    for name in names:
        one, other = (torch.randn(512, 2048).to(where, getattr(torch, name)) for _ in range(2))
        rounds = []
        for _ in range(5):
            begun = time.perf_counter()
            float((one @ other.T).sum())
            rounds.append(time.perf_counter() - begun)
        took[name] = min(rounds)
    fast = [name for name in names if took[name] <= SLOWER * min(took.values())]
    dtypes = tuple(name for name in fast if name != "float16" or "bfloat16" not in fast)
    return Device(dtypes, lane.width)
