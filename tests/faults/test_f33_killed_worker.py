"""F33: a worker process of an engine that is killed costs a run no more than the calls that were in flight there.

Dask starts another in its place and does its tasks again; what those had asked is in the ledger.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pairsmith.config import Recipe
from pairsmith.testing import FakeEndpoint, Weather
from tests.engines import THREADS, address_of, dask_cluster, require, run_on
from tests.faults.conftest import CONCURRENCY
from tests.faults.harness import quiet, repeated

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_server")]
Build = Callable[..., Recipe]
Tally = Callable[..., None]
ENGINES = 5  # of endpoints, in each process: four members and a judge


def kill_at(calls: int, endpoint: FakeEndpoint, process: int) -> threading.Thread:
    """A thread that kills a process when so many calls have arrived."""

    def kill() -> None:
        while len(endpoint.journal) < calls:
            time.sleep(0.001)
        os.kill(process, signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


def test_f33_a_killed_worker_of_dask_costs_only_what_was_in_flight(
    base_recipe: Build, tmp_path: Path, kills: int, tally: Tally
) -> None:
    require("dask")
    rng, trials = random.Random(kills), max(1, kills // 10)
    with FakeEndpoint() as alone:
        expected = run_on(THREADS, base_recipe(alone, name="threads", ledger=f"sqlite:///{tmp_path}/other.sqlite"))
        whole = alone.asked.total()
    for number in range(trials):
        with FakeEndpoint(weather=Weather(latency=0.05, spread=1)) as endpoint, dask_cluster() as cluster:
            recipe = base_recipe(
                endpoint, name=f"killed-{number}", shard_size=25, workspace=str(tmp_path / f"{number}")
            )
            killing = kill_at(
                rng.randrange(20, whole * 3 // 4), endpoint, rng.choice([*cluster.run(os.getpid).values()])
            )
            result = run_on(address_of(cluster), recipe)
            assert not killing.is_alive()
            assert result["digest"] == expected["digest"]
            twice = repeated(endpoint)
            assert twice <= ENGINES * CONCURRENCY
            asked_for = sum(row["calls"] for row in result["usage"])
            assert whole <= asked_for <= endpoint.asked.total()
            with quiet(endpoint) as asked:
                again = run_on(address_of(cluster), recipe)
            assert (again["new"], asked.total()) == (False, 0)
        tally(repeated=twice)
