"""F32: several processes on one data set make what threads of one make, and hold its budget and rates together.

Two worker processes of Dask, and Ray's, stand for those of many machines; `docs/scale.md` says what else was tried.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pairsmith.config import Recipe
from pairsmith.errors import ConfigError, RunError
from pairsmith.ledger.ledger import Ledger
from pairsmith.llms.endpoint.engines import MANY_CALLS
from pairsmith.progress import Progress
from pairsmith.testing import FakeEndpoint
from tests.engines import PROCESSES, THREADS, address_of, dask_cluster, require, run_on
from tests.faults.harness import quiet, repeated

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_server")]
Build = Callable[..., Recipe]
Tally = Callable[..., None]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with dask_cluster() as client:
        yield client


def usage_in(result: dict[str, Any]) -> list[dict[str, Any]]:
    return sorted(result["usage"], key=lambda row: (row["stage"], row["who"]))


def check_same(on: str, base_recipe: Build, tmp_path: Path, count: int, **more: Any) -> int:
    """A run on an engine is as one in threads: digest, calls, usage, progress. Returns the repeated calls."""
    with FakeEndpoint() as alone, FakeEndpoint() as together:
        other = f"sqlite:///{tmp_path}/other.sqlite"
        expected = run_on(THREADS, base_recipe(alone, count, name="threads", ledger=other, **more))
        done: Counter[str] = Counter()

        def note(event: Progress) -> None:
            done.update({event.stage: round(event.prompts, 6)})  # type: ignore[dict-item]

        recipe = base_recipe(together, count, name="engine", **more)
        result = run_on(on, recipe, note)
        assert result["digest"] == expected["digest"]
        assert together.asked.total() == alone.asked.total() == len(together.asked)
        assert usage_in(result) == usage_in(expected)
        assert result["failures"] == expected["failures"] == []
        assert {stage: round(prompts) for stage, prompts in done.items()} == dict.fromkeys(
            ("generate", "rate", "pair"), count
        )
        with quiet(together) as asked:
            again = run_on(on, recipe)
        assert (again["new"], again["digest"], asked.total()) == (False, expected["digest"], 0)
        return repeated(together)


def test_f32_two_processes_make_the_data_set_of_threads(
    cluster: Any, base_recipe: Build, tmp_path: Path, tally: Tally
) -> None:
    tally(repeated=check_same(address_of(cluster), base_recipe, tmp_path, 200, shard_size=25))


@pytest.mark.slow
def test_f32_two_processes_make_a_large_data_set_of_threads(
    cluster: Any, base_recipe: Build, tmp_path: Path, tally: Tally
) -> None:
    tally(
        repeated=check_same(
            address_of(cluster), base_recipe, tmp_path, 2000, shard_size=100, concurrency=2 * MANY_CALLS
        )
    )


@pytest.mark.slow
def test_f32_ray_makes_a_large_data_set_of_threads(base_recipe: Build, tmp_path: Path, tally: Tally) -> None:
    require("ray")
    tally(repeated=check_same("ray", base_recipe, tmp_path, 2000, shard_size=100, concurrency=2 * MANY_CALLS))


def test_f32_the_budget_holds_over_all_processes(cluster: Any, base_recipe: Build, ledger_url: str) -> None:
    most = 12_000
    with FakeEndpoint() as endpoint:
        recipe = base_recipe(endpoint, 200, shard_size=10, ledger=ledger_url, budget={"tokens": most})
        with pytest.raises(RunError, match="the budget is spent"):
            run_on(address_of(cluster), recipe)
        spent = Ledger(ledger_url).spending.spent("base")[0]
        assert spent == endpoint.bill
        assert most * 0.7 < spent <= most


@pytest.mark.slow
def test_f32_processes_share_the_rates_of_an_endpoint(cluster: Any, base_recipe: Build) -> None:
    a_second, count = 10, 80
    with FakeEndpoint() as endpoint:
        recipe = base_recipe(endpoint, count, members=2, shard_size=count // PROCESSES)
        where = recipe.pool.members[0].endpoint
        assert where
        limited = where.model_copy(update={"requests_per_minute": 60.0 * a_second})
        members = [member.model_copy(update={"endpoint": limited}) for member in recipe.pool.members]
        pool = recipe.pool.model_copy(update={"members": tuple(members)})
        run_on(address_of(cluster), recipe.model_copy(update={"pool": pool}))
        times = [at for at, call in zip(endpoint.times, endpoint.journal, strict=True) if call["model"] == "a"]
    assert len(times) == count
    assert times[-1] - times[0] > 0.95 * (count - a_second) / a_second  # a second's worth may be sent at once


def test_f32_nobody_at_any_endpoint_ends_a_run_with_the_reason(cluster: Any, base_recipe: Build) -> None:
    with FakeEndpoint() as endpoint:
        recipe = base_recipe(endpoint, 8, members=2, shard_size=4)
    with pytest.raises(ConfigError, match="no endpoint answers, so nothing can be done: member a .*; member b "):
        run_on(address_of(cluster), recipe)
