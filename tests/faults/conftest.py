"""What the fault tests share: the base run, and the notes for the table of faults."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pairsmith.config import Recipe
from pairsmith.testing import FakeEndpoint, Weather
from tests.faults.table import TALLY, fault_of

CONCURRENCY = 16


@pytest.fixture
def tally(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Notes trials, and what they lost and repeated, for the table: `tally(trials=6, lost=0, repeated=3)`."""
    assert fault_of(request.node.name), f"{request.node.name}: the name says no fault"

    def note(trials: int = 1, lost: int = 0, repeated: int = 0) -> None:
        record_property(TALLY, [trials, lost, repeated])

    return note


@pytest.fixture
def kills() -> int:
    """How many kills at random points: 3, or what PAIRSMITH_KILLS says (`make faults`: 100)."""
    return int(os.environ.get("PAIRSMITH_KILLS", "3"))


@pytest.fixture
def histories() -> int:
    """How many histories: 5, or what PAIRSMITH_HISTORIES says (`make faults`: 200)."""
    return int(os.environ.get("PAIRSMITH_HISTORIES", "5"))


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    """A model of this process, whose journal outlives the runs that ask it."""
    with FakeEndpoint() as started:
        yield started


@pytest.fixture
def slow() -> Iterator[FakeEndpoint]:
    """A model that takes its time, so that a run can be met in the middle."""
    with FakeEndpoint(weather=Weather(latency=0.05, spread=1)) as started:
        yield started


@pytest.fixture
def base_recipe(echo_recipe: Callable[..., Recipe]) -> Callable[..., Recipe]:
    """Builds the base run against an endpoint: n prompts, four members, one judge."""

    def build(endpoint: FakeEndpoint, count: int = 200, members: int = 4, **changes: Any) -> Recipe:
        where = {"base_url": endpoint.url, "api_key_env": None, "concurrency": changes.pop("concurrency", CONCURRENCY)}
        model = {"backend": "openai", "endpoint": where}
        sampling = {"sampling": {"seed": changes.pop("seed", 0)}}
        pool = {"members": [{"name": name, "model": name, **model, **sampling} for name in "abcdefgh"[:members]]}
        rating = {"aspects": ["overall"], "judges": [{"name": "judge", "model": "judge", **model}]}
        whole: dict[str, Any] = {"name": "base", "pool": pool, "rating": rating, "evolution": None} | changes
        return echo_recipe(count, **whole)

    return build
