"""F28: a data set on object storage with a ledger on SQLite has one run at a time, by a lease on the storage."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pairsmith.config import Recipe
from pairsmith.errors import ConfigError
from pairsmith.ledger.ledger import open_ledger
from pairsmith.session import Session
from pairsmith.stages.base import open_store
from pairsmith.storage import lease
from pairsmith.testing import FakeEndpoint, Weather
from tests.faults.harness import Child, complete, ended, repeated, wait_for, wait_for_calls

Build = Callable[..., Recipe]
Tally = Callable[..., None]
COUNT = 30
SECONDS = 3.0
pytestmark = pytest.mark.s3


@pytest.fixture
def slow() -> Iterator[FakeEndpoint]:
    with FakeEndpoint(weather=Weather(latency=0.1, spread=1)) as started:
        yield started


def set_up(environment: dict[str, str]) -> None:
    """Let a child find the server, and its lease last for a few seconds."""
    os.environ.update(environment)
    lease.SECONDS = SECONDS


@pytest.fixture
def there(s3: str) -> dict[str, Any]:
    """Words for children that work on the bucket."""
    known = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    return {"prepare": partial(set_up, known)}


def expected(base_recipe: Build, tmp_path: Path) -> str:
    with FakeEndpoint() as endpoint:
        other = base_recipe(endpoint, COUNT, name="undisturbed", ledger=f"sqlite:///{tmp_path}/other.sqlite")
        return complete(other).digest


def test_f28_a_second_run_says_who_holds_the_lease(
    base_recipe: Build, s3: str, there: dict[str, Any], slow: FakeEndpoint, tmp_path: Path, tally: Tally
) -> None:
    digest = expected(base_recipe, tmp_path)
    recipe = base_recipe(slow, COUNT, workspace=s3, ledger=f"sqlite:///{tmp_path}/one.sqlite")
    elsewhere = recipe.model_copy(update={"ledger": f"sqlite:///{tmp_path}/other-machine.sqlite"})
    with Child(recipe, **there) as first:
        wait_for_calls(slow, first, 20)
        second = ended(elsewhere, **there)
        outcome = first.outcome()
    assert second.error.startswith("RunError")
    assert f"process {first.pid} " in second.error
    tally(1, outcome.lost, repeated(slow))
    assert (outcome.error, outcome.digest, outcome.lost, repeated(slow)) == ("", digest, 0, 0)
    assert open_store(recipe).names_in("versions")


def test_f28_a_server_that_ignores_conditions_is_refused(base_recipe: Build, careless_s3: str, tmp_path: Path) -> None:
    with FakeEndpoint() as endpoint:
        recipe = base_recipe(
            endpoint, 3, members=1, workspace=careless_s3, ledger=f"sqlite:///{tmp_path}/ledger.sqlite"
        )
        with (
            Session() as session,
            pytest.raises(ConfigError, match=r"does not keep to the condition of a write; .*PostgreSQL"),
        ):
            open_ledger(recipe.ledger_url, session).lock(open_store(recipe).files).__enter__()
        assert not endpoint.asked


def test_f28_the_lease_of_a_run_that_was_killed_lapses(
    base_recipe: Build, s3: str, there: dict[str, Any], slow: FakeEndpoint, tmp_path: Path, tally: Tally
) -> None:
    digest = expected(base_recipe, tmp_path)
    recipe = base_recipe(slow, COUNT, workspace=s3, ledger=f"sqlite:///{tmp_path}/ledger.sqlite")
    with Child(recipe, **there) as first:
        wait_for_calls(slow, first, 20)
        first.kill()
    outcome = complete(recipe, **there)
    tally(1, outcome.lost, repeated(slow))
    assert (outcome.digest, outcome.lost) == (digest, 0)
    assert repeated(slow) <= 16


def test_f28_a_run_that_slept_through_its_lease_stops_and_publishes_nothing(
    base_recipe: Build, s3: str, there: dict[str, Any], slow: FakeEndpoint, tmp_path: Path, tally: Tally
) -> None:
    recipe = base_recipe(slow, COUNT, workspace=s3, ledger=f"sqlite:///{tmp_path}/one.sqlite")
    elsewhere = recipe.model_copy(update={"ledger": f"sqlite:///{tmp_path}/other-machine.sqlite"})
    files = open_store(recipe).files
    with Child(recipe, **there) as first:
        wait_for_calls(slow, first, 20)
        os.kill(first.pid, signal.SIGSTOP)
        with Child(elsewhere, **there) as second:
            wait_for(lambda: json.loads(files.read(lease.FILE))["number"] == 2)
            os.kill(first.pid, signal.SIGCONT)
            woken, outcome = first.outcome(), second.outcome()
    tally(1, outcome.lost, 0)
    assert woken.error.startswith("RunError")
    assert f"another run has taken over this data set (pairsmith process {second.pid} " in woken.error
    assert (outcome.error, outcome.lost) == ("", 0)
    assert open_store(recipe).read_json("latest.json")["name"] == "versions/v0001"
