"""The machine at hand: how many passes to run side by side on its cores, and how much memory is free.

The threads of one pass wait for each other at the end of every small operation, for long where another process is
busy. Passes with a thread each do not, but share Python's lock. Which is faster is measured once per machine.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

import psutil

log = logging.getLogger(__name__)
SECONDS = 0.3  # for each layout
CLEARLY = 1.2  # times as fast as one thread: only then is it worth that several wait for each other


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def cpu_layout() -> tuple[int, int]:
    """How many passes to run side by side on the CPU, and with how many threads each; measured once per machine."""
    import torch

    count = cores()
    if count == 1:
        return 1, 1
    file = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pairsmith" / "machine.json"
    machine = f"{_processor()}, {count} cores, torch {torch.__version__}"
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    if machine not in known:
        speeds = {threads: _passes_a_second(count // threads, threads) for threads in _divisors(count)}
        known[machine] = fastest_threads(speeds)
        log.info("%s: %d threads a pass; passes a second by threads: %s", machine, known[machine], speeds)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(known, indent=1), encoding="utf-8")
        except OSError as error:
            log.debug("%s: not written: %s", file, error)
    threads = int(known[machine])
    return count // threads, threads


def fastest_threads(speeds: dict[int, float]) -> int:
    """The number of threads a pass that is fastest; one, unless more are clearly faster.

    >>> fastest_threads({1: 100.0, 2: 110.0}), fastest_threads({1: 100.0, 2: 130.0})
    (1, 2)
    """
    fastest = max(speeds, key=lambda threads: speeds[threads])
    return fastest if speeds[fastest] > CLEARLY * speeds[1] else 1


def free_memory(device: Any) -> int:
    """Bytes that are free on a device; on a CPU, within the limits of a container."""
    import torch

    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    in_container = _number_in("/sys/fs/cgroup/memory.max", 2**62) - _number_in("/sys/fs/cgroup/memory.current", 0)
    return max(0, min(in_container, int(psutil.virtual_memory().available)))


def used_memory(device: Any) -> int:
    """Bytes that this process has taken on a device."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    return int(psutil.Process().memory_info().rss)


def peak_memory() -> int:
    """The most bytes that this process has had on its GPU, or in main memory where there is no GPU."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    try:
        import resource
    except ImportError:  # Windows, where psutil has the peak instead
        return int(psutil.Process().memory_info().peak_wset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else peak * 1024  # macOS alone counts in bytes


def _number_in(name: str, otherwise: int) -> int:
    """The number in a file of the system; `otherwise` where there is no such file, or no number in it."""
    try:
        return int(Path(name).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return otherwise


def _processor() -> str:
    """The processor's name, from a file where the system is Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration, IndexError):
        return platform.processor() or platform.machine()


def _divisors(count: int) -> list[int]:
    return [threads for threads in range(1, count + 1) if count % threads == 0]


def _passes_a_second(replicas: int, threads: int) -> float:
    """How many passes like those of a small model `replicas` of them make together."""
    import torch

    passes, is_over = [0] * replicas, threading.Event()
    torch.set_num_threads(threads)
    first, second = torch.randn(1536, 576), torch.randn(576, 1536)

    def work(replica: int) -> None:
        torch.set_num_threads(threads)
        rows = torch.randn(32, 576)
        with torch.inference_mode():
            while not is_over.is_set():
                for _ in range(10):
                    inner = torch.nn.functional.silu(torch.nn.functional.linear(rows, first))
                    torch.nn.functional.rms_norm(torch.nn.functional.linear(inner, second), (576,))
                passes[replica] += 1

    workers = [threading.Thread(target=work, args=(replica,)) for replica in range(replicas)]
    begin = time.monotonic()
    for worker in workers:
        worker.start()
    time.sleep(SECONDS)
    is_over.set()
    for worker in workers:
        worker.join()
    return round(sum(passes) / (time.monotonic() - begin), 1)
