"""F6: a clock that jumps a day, back or forth, changes nothing.

The data set is the same to the last row; waits before another attempt are measured by a clock that cannot jump, so none
ends early and none takes a day.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pairsmith.config import Recipe, Sampling
from pairsmith.ids import fingerprint
from pairsmith.llms.registry import open_llm
from pairsmith.protocol import Request
from pairsmith.session import process_session
from pairsmith.testing import FakeEndpoint, Fault, Weather
from tests.faults.harness import complete, executed
from tests.runs import generate

Build = Callable[..., Recipe]
Tally = Callable[..., None]
DAY = 86400
COUNT = 20
TOLD = 1.0  # seconds that the endpoint asks to wait
# For a process that loads it first: the time of day is a day early, right, a day late, and so on, for 50 ms each.
JUMPING = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>

static int real(clockid_t clock, struct timespec *out) {
    static int (*found)(clockid_t, struct timespec *);
    if (!found) found = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    return found(clock, out);
}

static long jump(void) {
    struct timespec now;
    real(CLOCK_MONOTONIC, &now);
    return ((now.tv_sec * 20 + now.tv_nsec / 50000000) % 3 - 1) * 86400;
}

int clock_gettime(clockid_t clock, struct timespec *out) {
    int code = real(clock, out);
    if (code == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) out->tv_sec += jump();
    return code;
}

int gettimeofday(struct timeval *out, void *zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
"""
SEEN = "import time; ends = time.monotonic() + 0.3\nwhile time.monotonic() < ends: print(int(time.time() / 3600))"


@pytest.fixture
def jumping(tmp_path: Path) -> str:
    """A library under which the clock of a process jumps."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler to build a clock that jumps")
    library = tmp_path / "jumping.so"
    (tmp_path / "jumping.c").write_text(JUMPING)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "jumping.c", "-ldl"], check=True)
    return str(library)


def waits(endpoint: FakeEndpoint) -> list[float]:
    """Seconds between the first attempt of each request that was asked twice and its second."""
    arrived: dict[str, list[float]] = {}
    for body, at in zip(endpoint.journal, endpoint.times, strict=True):
        arrived.setdefault(fingerprint(body), []).append(at)
    return [second - first for first, second, *_ in (times for times in arrived.values() if len(times) > 1)]


def test_f6_a_run_whose_clock_jumps_gives_the_same_data_set(
    base_recipe: Build, jumping: str, tmp_path: Path, tally: Tally
) -> None:
    told = subprocess.run([sys.executable, "-c", SEEN], env={"LD_PRELOAD": jumping}, capture_output=True, check=True)
    hours = sorted({int(hour) for hour in told.stdout.split()})
    assert hours[-1] - hours[0] >= 48, "the clock does not jump"
    with FakeEndpoint() as endpoint:
        other = base_recipe(endpoint, COUNT, name="undisturbed", ledger=f"sqlite:///{tmp_path}/other.sqlite")
        expected = complete(other)
    overloaded = [Fault(429, headers={"retry-after": str(int(TOLD))})] * 5
    with FakeEndpoint(overloaded, weather=Weather(latency=0.05, spread=1, errors=0.1)) as endpoint:
        recipe = base_recipe(endpoint, COUNT)
        begun = time.monotonic()
        outcome = executed(recipe, tmp_path, LD_PRELOAD=jumping)
        assert time.monotonic() - begun < 40
        again = executed(recipe, tmp_path, LD_PRELOAD=jumping)
        tally(1, outcome.lost, again.calls)
    assert outcome.code == again.code == 0, outcome.trace
    assert outcome.digest == again.digest == expected.digest
    assert again.calls == 0
    assert sum(wait >= TOLD for wait in waits(endpoint)) >= 5


@contextmanager
def clock_that_jumps(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the time of day of this process jump back and forth by a day."""
    real, stopping = time.time, threading.Event()
    shift = [0]

    def jump() -> None:
        while not stopping.wait(0.05):
            shift[0] = DAY if shift[0] <= 0 else -DAY

    monkeypatch.setattr(time, "time", lambda: real() + shift[0])
    thread = threading.Thread(target=jump)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
        monkeypatch.undo()


def test_f6_waits_are_measured_by_a_clock_that_does_not_jump(
    base_recipe: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [Request(({"role": "user", "content": f"Question {n}?"},), Sampling(), n) for n in range(8)]
    with FakeEndpoint([Fault(429, headers={"retry-after": "1"})] * 4 + [Fault(500)] * 4) as endpoint:
        llm = open_llm(base_recipe(endpoint, 1).pool.members[0], process_session())
        with clock_that_jumps(monkeypatch):
            begun = time.monotonic()
            replies = generate(llm, asked)
            took = time.monotonic() - begun
    assert not [reply.error for reply in replies if reply.error]
    assert took < 10
    assert sorted(waits(endpoint))[-4] >= TOLD
