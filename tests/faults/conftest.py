"""What the fault tests share: the base run, and the table of faults at the end."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from pairsmith.config import Recipe
from pairsmith.testing import FakeEndpoint

ROW = re.compile(r"test_([fs]\d+)_")
CONCURRENCY = 16


@dataclass
class Row:
    """What the tests of one fault noted, and how they ended."""

    trials: int | None = None
    lost: int = 0
    repeated: int = 0
    ended: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        return next((end for end in ("FAILED", "passed") if end in self.ended), "skipped")


_rows: dict[str, Row] = {}


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Notes trials, and what they lost and repeated, for the table: `tally(trials=6, lost=0, repeated=3)`."""
    found = ROW.match(request.node.name)
    assert found, f"{request.node.name}: the name says no fault"

    def note(trials: int = 1, lost: int = 0, repeated: int = 0) -> None:
        row = _row(found[1])
        row.trials = (row.trials or 0) + trials
        row.lost += lost
        row.repeated += repeated

    return note


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    found = ROW.match(report.nodeid.rpartition("::")[2])
    if found and (report.when == "call" or report.outcome != "passed"):
        _row(found[1]).ended.append("FAILED" if report.failed else str(report.outcome))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not _rows:
        return
    terminalreporter.section("faults")
    terminalreporter.line(f"{'fault':<6}{'trials':>8}{'lost':>8}{'repeated':>10}  verdict")
    for name, row in sorted(_rows.items(), key=lambda item: (item[0][0], int(item[0][1:]))):
        numbers = ("", "", "") if row.trials is None else (row.trials, row.lost, row.repeated)
        terminalreporter.line("{:<6}{:>8}{:>8}{:>10}  {}".format(name.upper(), *numbers, row.verdict))


def _row(name: str) -> Row:
    return _rows.setdefault(name, Row())


@pytest.fixture
def kills() -> int:
    """How many kills at random points: 6, or what PAIRSMITH_KILLS says (`make faults`: 100)."""
    return int(os.environ.get("PAIRSMITH_KILLS", "6"))


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    """A model of this process, whose journal outlives the runs that ask it."""
    with FakeEndpoint() as started:
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
