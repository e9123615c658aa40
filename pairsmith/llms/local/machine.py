"""What the machine at hand can do: how many passes to run side by side on its cores, and how much memory there is.

Threads of one pass meet at a barrier in every small operation, and where another process is busy they wait there for
each other; passes side by side do not, but share Python's lock. Which is faster is measured once per machine.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)
SECONDS = 0.3  # for each layout
CLEARLY = 1.2  # times faster must several threads be to be worth their barriers


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def layout() -> tuple[int, int]:
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
        known[machine] = best(speeds)
        log.info("%s: %d threads a pass; passes a second by threads: %s", machine, known[machine], speeds)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(known, indent=1), encoding="utf-8")
        except OSError as error:
            log.debug("%s: not written: %s", file, error)
    threads = int(known[machine])
    return count // threads, threads


def best(speeds: dict[int, float]) -> int:
    """The number of threads a pass that is fastest; one, unless more are clearly so.

    >>> best({1: 100.0, 2: 110.0}), best({1: 100.0, 2: 130.0})
    (1, 2)
    """
    fastest = max(speeds, key=lambda threads: speeds[threads])
    return fastest if speeds[fastest] > CLEARLY * speeds[1] else 1


def free_memory(device: Any) -> int:
    """Bytes that are free on a device; on a CPU, what the system and the limits of a container leave."""
    import torch

    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    left = [_from_file("/sys/fs/cgroup/memory.max") - _from_file("/sys/fs/cgroup/memory.current", 0)]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        left += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    except OSError:
        left += [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2]
    return max(0, min(left))


def used_memory(device: Any) -> int:
    """Bytes that this process has taken on a device."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _from_file(name: str, otherwise: int = 2**62) -> int:
    try:
        return int(Path(name).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return otherwise


def _processor() -> str:
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

    made, over = [0] * replicas, threading.Event()
    torch.set_num_threads(threads)
    first, second = torch.randn(1536, 576), torch.randn(576, 1536)

    def work(place: int) -> None:
        torch.set_num_threads(threads)
        rows = torch.randn(32, 576)
        with torch.inference_mode():
            while not over.is_set():
                for _ in range(10):
                    inner = torch.nn.functional.silu(torch.nn.functional.linear(rows, first))
                    torch.nn.functional.rms_norm(torch.nn.functional.linear(inner, second), (576,))
                made[place] += 1

    workers = [threading.Thread(target=work, args=(place,)) for place in range(replicas)]
    begin = time.monotonic()
    for worker in workers:
        worker.start()
    time.sleep(SECONDS)
    over.set()
    for worker in workers:
        worker.join()
    return round(sum(made) / (time.monotonic() - begin), 1)
