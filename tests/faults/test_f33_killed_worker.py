"""F33: a worker process of an engine that is killed costs a run no more than the calls that were in flight there.

Dask and Ray start another in its place and do its tasks again; what those had asked is in the ledger. Where the run
itself is killed, the processes that it started for its engine end with it.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from pairsmith.config import Recipe
from pairsmith.testing import FakeEndpoint, Weather
from tests.command_line import cli
from tests.engines import PROCESSES, THREADS, address_of, dask_cluster, require, run_on
from tests.faults.conftest import CONCURRENCY
from tests.faults.harness import SECONDS, quiet, repeated, started, wait_for

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_server")]
Build = Callable[..., Recipe]
Tally = Callable[..., None]
RAYS_TASKS = {"ray::generate", "ray::rate", "ray::pair"}  # names of processes; others are of Ray itself
ENGINES = 5  # of endpoints, in each process: four members and a judge


def kill_at(
    calls: int, endpoint: FakeEndpoint, workers: Callable[[], list[int]], choose: Callable[[list[int]], int]
) -> threading.Thread:
    """A thread that kills one of some processes when so many calls have arrived."""

    def kill() -> None:
        while len(endpoint.journal) < calls or not (found := workers()):
            time.sleep(0.001)
        os.kill(choose(found), signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


def workers_of(on: str, cluster: Any) -> list[int]:
    """The processes in which an engine does tasks."""
    if on == "dask":
        return list(cluster.run(os.getpid).values())
    return [one.pid for one in psutil.Process().children(recursive=True) if one.name() in RAYS_TASKS]


@pytest.mark.slow
@pytest.mark.parametrize("on", ["dask", "ray"])
def test_f33_a_killed_worker_costs_only_what_was_in_flight(
    base_recipe: Build, tmp_path: Path, kills: int, tally: Tally, on: str
) -> None:
    require(on)
    rng, trials = random.Random(kills), max(1, kills // 10)
    with FakeEndpoint() as alone:
        expected = run_on(THREADS, base_recipe(alone, name="threads", ledger=f"sqlite:///{tmp_path}/other.sqlite"))
        whole = alone.asked.total()
    for number in range(trials):
        opened = dask_cluster() if on == "dask" else nullcontext()
        with FakeEndpoint(weather=Weather(latency=0.05, spread=1)) as endpoint, opened as cluster:
            where = address_of(cluster) if cluster else on
            recipe = base_recipe(
                endpoint, name=f"killed-{number}", shard_size=25, workspace=str(tmp_path / f"{number}")
            )
            calls = rng.randrange(20, whole * 3 // 4)
            killing = kill_at(calls, endpoint, partial(workers_of, on, cluster), rng.choice)
            result = run_on(where, recipe)
            assert not killing.is_alive()
            assert result["digest"] == expected["digest"]
            twice = repeated(endpoint)
            assert twice <= ENGINES * CONCURRENCY
            assert whole <= sum(row["calls"] for row in result["usage"]) <= endpoint.asked.total()
            with quiet(endpoint) as asked:
                again = run_on(where, recipe)
            assert (again["new"], asked.total()) == (False, 0)
        tally(repeated=twice)


def at_work(process: psutil.Process) -> bool:
    """Whether a process has not ended."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.mark.slow
@pytest.mark.parametrize("on", ["dask", "ray"])
def test_f33_a_killed_run_leaves_no_process_of_its_engine(
    base_recipe: Build, slow: FakeEndpoint, tmp_path: Path, tally: Tally, on: str, prefect_home: str
) -> None:
    require(on)
    recipe = base_recipe(slow, shard_size=25)
    with started(recipe, tmp_path, PAIRSMITH_ON=on) as process:
        wait_for(lambda: len(slow.journal) > 100 or process.poll() is not None, 2 * SECONDS)
        found = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        wait_for(lambda: not [one for one in found if at_work(one)], 3 * SECONDS)
    before = slow.asked.total()
    told = cli("run", str(tmp_path / "recipe.yaml"), "--no-check", cwd=tmp_path, PREFECT_HOME=prefect_home)
    assert told.returncode == 0, told.stdout + told.stderr
    assert len(slow.asked) == 200 * ENGINES > before > 100
    assert repeated(slow) <= PROCESSES * ENGINES * CONCURRENCY
    tally(repeated=repeated(slow))


@pytest.mark.slow
def test_f33_the_tasks_of_a_killed_run_ask_no_more_on_a_cluster_that_lives_on(
    base_recipe: Build, tmp_path: Path, tally: Tally, prefect_home: str
) -> None:
    most = 4  # calls at a time, of each engine
    with FakeEndpoint(weather=Weather(latency=0.5)) as endpoint, dask_cluster() as cluster:
        recipe = base_recipe(endpoint, shard_size=100, concurrency=most)
        with started(recipe, tmp_path, PAIRSMITH_ON=address_of(cluster)) as process:
            wait_for(lambda: len(endpoint.journal) > 50 or process.poll() is not None, 2 * SECONDS)
            process.kill()
        calls = 0
        while calls < (calls := len(endpoint.journal)):
            time.sleep(3)
        assert 50 < calls < 400  # the tasks that were under way had 800 to make
        where = {"PREFECT_HOME": prefect_home, "PAIRSMITH_ON": address_of(cluster)}
        told = cli("run", str(tmp_path / "recipe.yaml"), "--no-check", cwd=tmp_path, **where)
        assert told.returncode == 0, told.stdout + told.stderr
        assert len(endpoint.asked) == 200 * ENGINES
        assert repeated(endpoint) <= PROCESSES * ENGINES * most
        tally(repeated=repeated(endpoint))
