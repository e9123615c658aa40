"""F1: a run that is killed, anywhere and any number of times, is finished by running it again.

The data set is that of a run that nobody disturbed; no prompt is lost; a reply that was recorded is never asked for
again, so what is asked twice is at most what was in flight at each kill. Nothing of a killed run lives on, and Prefect
does not show it as running for ever.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from pairsmith.config import Recipe
from pairsmith.ledger.ledger import Ledger
from pairsmith.llms.endpoint.engines import MANY_CALLS
from pairsmith.testing import FakeEndpoint, Weather
from tests.conftest import children_of
from tests.faults.conftest import CONCURRENCY
from tests.faults.harness import (
    SECONDS,
    Child,
    Death,
    Outcome,
    complete,
    ended,
    repeated,
    spread,
    started,
    wait_for,
    wait_for_calls,
)

Build = Callable[..., Recipe]
Tally = Callable[..., None]
SMALL: dict[str, Any] = {"count": 12, "members": 2, "shard_size": 6}


_undisturbed: dict[str, Outcome] = {}


def undisturbed(base_recipe: Build, tmp_path: Path, **shape: Any) -> Outcome:
    if str(shape) not in _undisturbed:
        with FakeEndpoint() as endpoint:
            other = base_recipe(endpoint, name="undisturbed", ledger=f"sqlite:///{tmp_path}/other.sqlite", **shape)
            _undisturbed[str(shape)] = complete(other)
    return _undisturbed[str(shape)]


def forget(ledger_url: str) -> None:
    """Empty a ledger."""
    book = Ledger(ledger_url)
    book.replies.drop([row["key"] for row in book.replies.rows()])


def let_run(child: Child, endpoint: FakeEndpoint, rng: random.Random, calls: float) -> None:
    """Wait until about so many more calls have arrived, or now and then for some time."""
    if rng.random() < 0.8:
        wait_for_calls(endpoint, child, len(endpoint.journal) + round(rng.uniform(0, 2 * calls)))
    else:
        child.wait(rng.uniform(0, 0.6))


@pytest.mark.parametrize("concurrency", [CONCURRENCY, 2 * MANY_CALLS], ids=["engines here", "engines apart"])
def test_f1_kills_at_random_points(
    base_recipe: Build, ledger_url: str, kills: int, tmp_path: Path, tally: Tally, concurrency: int
) -> None:
    expected = undisturbed(base_recipe, tmp_path)
    left, rng, number = kills, random.Random(kills), 0
    while left:
        number += 1
        forget(ledger_url)
        with FakeEndpoint(weather=Weather(latency=0.02, spread=1, seed=number)) as endpoint:
            where: dict[str, Any] = {"ledger": ledger_url, "shard_size": 64, "concurrency": concurrency}
            recipe, here = base_recipe(endpoint, name=f"run-{number}", **where), 0
            finished = False
            while not finished:
                with Child(recipe) as child:
                    if left > here:
                        let_run(child, endpoint, rng, expected.calls / kills + concurrency)
                        child.kill()
                    outcome = child.outcome()
                here += outcome.killed
                finished = not outcome.killed
                assert outcome.killed or outcome.code == 0, outcome.trace
            again = complete(recipe)
            tally(here, again.lost, repeated(endpoint))
            left -= here
            assert outcome.digest == again.digest == expected.digest
            assert (again.loaded, again.lost, again.calls) == (200, 0, 0)
            assert repeated(endpoint) <= here * concurrency


@pytest.mark.parametrize("step", ["record", "commit", "write", "sync", "rename", "link", "install"])
def test_f1_a_kill_at_every_commit_step(
    base_recipe: Build, kills: int, tmp_path: Path, tally: Tally, step: str
) -> None:
    expected = undisturbed(base_recipe, tmp_path, **SMALL)
    assert expected.steps is not None
    replies = step in ("record", "commit")  # how many are recorded together differs from run to run
    count = max(1, expected.steps[step] // 3) if replies else expected.steps[step]
    for nth, when in product(spread(count, kills // 2), ("before", "after")):
        with FakeEndpoint() as endpoint:
            where = {"name": f"killed-{nth}-{when}", "ledger": f"sqlite:///{tmp_path}/{nth}-{when}.sqlite"}
            recipe = base_recipe(endpoint, **where, **SMALL)
            assert ended(recipe, trouble=Death(step, nth, when)).killed, f"{step} {nth} was not reached"
            outcome = complete(recipe)
            tally(1, outcome.lost, repeated(endpoint))
            assert (outcome.digest, outcome.loaded, outcome.lost) == (expected.digest, 12, 0), (nth, when)
            in_flight = CONCURRENCY if replies else 0
            assert repeated(endpoint) <= in_flight, (nth, when)


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_home")
def test_f1_a_killed_run_leaves_no_process_behind(base_recipe: Build, tmp_path: Path, tally: Tally) -> None:
    expected = undisturbed(base_recipe, tmp_path, count=40)
    with FakeEndpoint(weather=Weather(latency=0.1, spread=1)) as endpoint:
        recipe = base_recipe(endpoint, count=40)
        with started(recipe, tmp_path) as process:
            wait_for(lambda: len(endpoint.journal) > 80 or process.poll() is not None)
            children = children_of(process.pid)
            process.kill()
            process.communicate()
        assert children
        wait_for(lambda: not [child for child in children if Path(f"/proc/{child}").exists()])
        again = complete(recipe)
        tally(1, again.lost, repeated(endpoint))
        assert (again.digest, again.lost) == (expected.digest, 0)
        assert repeated(endpoint) <= 4 * CONCURRENCY  # all members of a shard are asked at the same time


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
def test_f1_a_killed_run_is_not_shown_as_running_for_ever(base_recipe: Build, tmp_path: Path) -> None:
    from prefect.settings import PREFECT_API_URL

    url = str(PREFECT_API_URL.value())
    with FakeEndpoint(weather=Weather(latency=0.3)) as endpoint:
        recipe = base_recipe(endpoint, count=20, members=2, name="stale")
        with started(recipe, tmp_path, PREFECT_API_URL=url) as process:
            wait_for(lambda: len(endpoint.journal) > 20 or process.poll() is not None)
            process.kill()
            process.communicate()
        (state,) = flow_states("stale")
        assert state == "RUNNING"
        with started(recipe, tmp_path, PREFECT_API_URL=url) as process:
            assert process.communicate(timeout=SECONDS)[1] == ""
    killed, again = flow_states("stale")
    assert again == "COMPLETED"
    assert killed in ("CRASHED", "FAILED", "CANCELLED")


def flow_states(recipe: str) -> list[str]:
    """The states of a recipe's flow runs on the server, the oldest first."""

    async def read() -> list[Any]:
        from prefect import get_client

        async with get_client() as client:
            return list(await client.read_flow_runs())

    runs = [run for run in asyncio.run(read()) if run.name.startswith(f"{recipe} ")]
    return [run.state_type.value for run in sorted(runs, key=lambda run: run.created)]
