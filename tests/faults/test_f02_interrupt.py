"""F2: SIGTERM, or Ctrl-C at the terminal, ends a run within ten seconds and with an exit code that is not 0.

That holds while calls are in flight that will never be answered, and where Prefect's server hangs. What was finished
is kept: the next run asks for no more than what was in flight, and nothing of the interrupted one lives on.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pairsmith.config import Recipe
from pairsmith.testing import FakeEndpoint, Weather
from tests.conftest import children_of
from tests.faults.conftest import CONCURRENCY
from tests.faults.harness import complete, started, wait_for

pytestmark = pytest.mark.prefect
Build = Callable[..., Recipe]
Tally = Callable[..., None]
GRACE = 10.0
COUNT = 40
HOW = ["sigterm", pytest.param("ctrl-c", marks=pytest.mark.slow)]
HOW_A_PERSON_DOES = [pytest.param("sigterm", marks=pytest.mark.slow), "ctrl-c"]


def interrupt(process: subprocess.Popen[str], how: str) -> str:
    """Interrupt as `kill` or a terminal does, and wait for the end; returns what was said on stderr."""
    children = children_of(process.pid)
    begun = time.monotonic()
    if how == "ctrl-c":  # a terminal tells all processes of the group
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.terminate()
    _, told = process.communicate(timeout=2 * GRACE)
    assert time.monotonic() - begun < GRACE
    assert process.returncode == 130, told
    wait_for(lambda: not [child for child in children if Path(f"/proc/{child}").exists()], GRACE)
    return told


@pytest.mark.parametrize("how", HOW_A_PERSON_DOES)
@pytest.mark.usefixtures("prefect_home")
def test_f2_an_interrupted_run_ends_soon_and_keeps_what_it_has(
    base_recipe: Build, tmp_path: Path, tally: Tally, how: str
) -> None:
    with FakeEndpoint() as endpoint:
        other = base_recipe(endpoint, COUNT, name="undisturbed", ledger=f"sqlite:///{tmp_path}/other.sqlite")
        expected = complete(other)
    weather = Weather(latency=0.1, spread=1, errors=0.2, kinds=("hang",))
    with FakeEndpoint(weather=weather) as first, started(base_recipe(first, COUNT), tmp_path) as process:
        wait_for(lambda: len(first.journal) > 100 or process.poll() is not None)
        assert "run again to go on" in interrupt(process, how)
    with FakeEndpoint() as second:
        again = complete(base_recipe(second, COUNT))
    repeated = sum((first.asked & second.asked).values())
    tally(1, again.lost, repeated)
    assert again.digest == expected.digest
    assert len(first.asked | second.asked) == expected.calls
    assert repeated <= 4 * CONCURRENCY


@pytest.mark.parametrize("how", HOW)
def test_f2_a_run_that_is_interrupted_while_it_starts_ends_soon(base_recipe: Build, tmp_path: Path, how: str) -> None:
    with FakeEndpoint() as endpoint, started(base_recipe(endpoint, COUNT), tmp_path) as process:
        assert process.stdout is not None
        assert "starting Prefect" in process.stdout.readline()
        time.sleep(1)
        interrupt(process, how)
        assert not endpoint.journal


@pytest.mark.parametrize("how", HOW)
@pytest.mark.usefixtures("prefect_home")
def test_f2_a_run_whose_server_hangs_ends_soon(base_recipe: Build, tmp_path: Path, how: str) -> None:
    with (
        FakeEndpoint(weather=Weather(latency=1)) as endpoint,
        started(base_recipe(endpoint, COUNT), tmp_path) as process,
    ):
        wait_for(lambda: endpoint.journal)
        server, *_ = [
            child for child in children_of(process.pid) if b"uvicorn" in Path(f"/proc/{child}/cmdline").read_bytes()
        ]
        os.kill(server, signal.SIGSTOP)
        interrupt(process, how)
