"""F12: one dead member of four does not stop a run: the others' answers are paired, and the run says who failed.

The dead one is left alone after a few calls. When it is back, at its address or at another, the next run asks what it
missed and nothing else, and the data set becomes that of an undisturbed run.
"""

from __future__ import annotations

import logging
import logging.handlers
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from pairsmith.config import Recipe
from pairsmith.errors import ManyFailed
from pairsmith.ledger.ledger import open_ledger
from pairsmith.llms.endpoint import attempts as backend
from pairsmith.reporting.summary_tables import member_table
from pairsmith.session import process_session
from pairsmith.stages.base import open_store
from pairsmith.storage.tables import pool_ref
from pairsmith.testing import KINDS, FakeEndpoint, Fault, Weather
from tests.faults.harness import repeated
from tests.runs import run

Build = Callable[..., Recipe]
Tally = Callable[..., None]
COUNT = 30
LIMITS = {"concurrency": 4, "attempts": 3, "breaker": 6, "breaker_seconds": 0.1, "deadline": 10}
PROBES = 3  # with which an endpoint is tried again before it is given up


@dataclass(frozen=True)
class Outage(Weather):
    """One fault for every call until it is over."""

    fate: Fault = KINDS["500"]
    over: Event = field(default_factory=Event)

    def fault(self, mark: str, elapsed: float) -> Fault | None:
        return None if self.over.is_set() else self.fate


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "backoff", lambda *_: 0.01)


def with_dead(base_recipe: Build, healthy: FakeEndpoint, url: str, count: int = COUNT, **limits: Any) -> Recipe:
    """The base run with its fourth member at another address."""
    model = {"backend": "openai", "endpoint": {"base_url": healthy.url, "api_key_env": None}}
    dead = {"backend": "openai", "endpoint": {"base_url": url, "api_key_env": None, **LIMITS, **limits}}
    members = [{"name": name, "model": name, **(dead if name == "d" else model)} for name in "abcd"]
    return base_recipe(healthy, count, pool={"members": members})


_undisturbed: list[str] = []


def undisturbed(base_recipe: Build, tmp_path: Path) -> str:
    """The digest of the base run, made once."""
    if not _undisturbed:
        with FakeEndpoint() as endpoint:
            other = base_recipe(endpoint, COUNT, name="undisturbed", ledger=f"sqlite:///{tmp_path}/other.sqlite")
            _undisturbed.append(run(other)[0].digest)
    return _undisturbed[0]


def models(calls: list[dict[str, Any]]) -> dict[str, int]:
    return dict(Counter(call["model"] for call in calls))


def closed_address() -> str:
    """An address where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/v1"


def errors_of(recipe: Recipe) -> list[str]:
    """Why the answers of the dead member failed."""
    store = open_store(recipe)
    (shard,) = [path.name for path in Path(store.root, "tables").iterdir() if path.name != "load"]
    return list(store.read(pool_ref(shard, "d"))["error"].dropna())


@pytest.mark.parametrize(
    ("fate", "limits", "calls", "reason"),
    [
        (KINDS["500"], {}, LIMITS["breaker"] + 2 * 4 + PROBES, "status 500"),
        (KINDS["garbage"], {}, LIMITS["breaker"] + 2 * 4 + PROBES, "JSONDecodeError"),
        (KINDS["hang"], {"deadline": 0.3}, LIMITS["breaker"] + 2 * 4 + PROBES, "no answer within 0.3 s"),
        # overload counts against it once all attempts of a request ended in it, of which four times four are under way
        (Fault(429), {}, 3 * 4 * 4 + PROBES, "status 429"),
    ],
    ids=["500", "garbage", "hang", "429"],
)
def test_f12_the_run_ends_says_who_failed_and_goes_on_when_it_is_back(
    base_recipe: Build,
    endpoint: FakeEndpoint,
    tmp_path: Path,
    tally: Tally,
    fate: Fault,
    limits: dict[str, Any],
    calls: int,
    reason: str,
) -> None:
    expected, outage = undisturbed(base_recipe, tmp_path), Outage(fate=fate)
    with FakeEndpoint(weather=outage) as dead:
        recipe = with_dead(base_recipe, endpoint, dead.url, **limits)
        begun = time.monotonic()
        published, summary, _ = run(recipe)
        assert time.monotonic() - begun < 60

        assert {row["member"]: row["failed"] for row in member_table(summary)} == {"a": 0, "b": 0, "c": 0, "d": COUNT}
        assert summary.completion_reasons["failed"] == COUNT
        assert summary.paired > COUNT // 2
        assert summary.loaded == summary.paired + sum(summary.prompt_reasons.values()) == COUNT
        assert f"| d | {COUNT} | {COUNT} |" in Path(published.folder, "README.md").read_text()
        errors = errors_of(recipe)
        assert len(errors) == COUNT
        assert all(error.startswith("failed: ") and reason in error for error in errors)
        assert sum("not asked, the endpoint is down" in error for error in errors) > COUNT // 3

        assert LIMITS["breaker"] <= len(dead.journal) <= calls < 3 * COUNT
        assert models(endpoint.journal) == dict.fromkeys(("a", "b", "c", "judge"), COUNT)

        still, before = len(dead.journal), len(endpoint.journal)
        assert run(recipe)[0].digest == published.digest
        assert 1 <= len(dead.journal) - still <= calls  # a few probes, or where their time is over as in a first run
        assert len(endpoint.journal) == before

        outage.over.set()
        still = len(dead.journal)
        again, summary, asked = run(recipe)
        tally(3, summary.loaded - COUNT, repeated(endpoint))
        assert models(dead.journal[still:]) == {"d": COUNT}
        assert models(endpoint.journal[before:]) == {"judge": COUNT}  # it sees the answers of a prompt together
        assert asked.total() == 2 * COUNT
        assert again.digest == expected != published.digest
        assert repeated(endpoint) == summary.completion_reasons["failed"] == 0
        assert run(recipe)[2].total() == 0


def test_f12_a_member_that_is_gone_may_come_back_at_another_address(
    base_recipe: Build, endpoint: FakeEndpoint, tmp_path: Path, tally: Tally
) -> None:
    expected, url = undisturbed(base_recipe, tmp_path), closed_address()
    begun = time.monotonic()
    recipe = with_dead(base_recipe, endpoint, url)
    summary = run(recipe)[1]
    assert time.monotonic() - begun < 60
    assert summary.completion_reasons["failed"] == COUNT
    assert all("ConnectionError" in error for error in errors_of(recipe))
    known = open_ledger(recipe.ledger_url, process_session()).replies.count()
    assert known == 4 * COUNT
    with FakeEndpoint() as moved:
        published, _, asked = run(with_dead(base_recipe, endpoint, moved.url))
        assert models(moved.journal) == {"d": COUNT}
        assert asked.total() == 2 * COUNT
        tally(2, 0, repeated(endpoint) + repeated(moved))
    assert published.digest == expected


def test_f12_a_member_that_dies_midway_keeps_what_it_had_answered(
    base_recipe: Build, endpoint: FakeEndpoint, tmp_path: Path, tally: Tally
) -> None:
    expected = undisturbed(base_recipe, tmp_path)

    @dataclass(frozen=True)
    class Dying(Outage):
        """An outage that begins after some calls."""

        def fault(self, mark: str, elapsed: float) -> Fault | None:
            return super().fault(mark, elapsed) if len(dead.journal) > 15 else None

    outage = Dying()
    with FakeEndpoint(weather=outage) as dead:
        recipe = with_dead(base_recipe, endpoint, dead.url)
        summary = run(recipe)[1]
        failed = summary.completion_reasons["failed"]
        assert failed == len(errors_of(recipe)) == COUNT - 15
        assert len(dead.journal) <= 15 + LIMITS["breaker"] + 2 * 4 + PROBES
        outage.over.set()
        before = len(dead.journal)
        published = run(recipe)[0]
        tally(2, 0, repeated(endpoint))
        assert models(dead.journal[before:]) == {"d": failed}
    assert published.digest == expected


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
def test_f12_the_flow_ends_and_tells_who_failed(
    base_recipe: Build, endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pairsmith_flows import preferences
    from pairsmith_flows.preferences import build_preference_dataset

    outage, log = Outage(), logging.getLogger("tests.told")
    handler = logging.handlers.BufferingHandler(1000)
    log.addHandler(handler)
    monkeypatch.setattr(preferences, "get_run_logger", lambda: log)
    with FakeEndpoint(weather=outage) as dead:
        recipe = with_dead(base_recipe, endpoint, dead.url, count=10)
        with pytest.raises(ManyFailed, match="member d at .* failed 10 of 10 times") as failed:
            build_preference_dataset(recipe)
        told = failed.value.result
        usage = {(row["stage"], row["who"]): row for row in told["usage"]}
        assert {who: row["failed"] for (_, who), row in usage.items()} == {"a": 0, "b": 0, "c": 0, "d": 10, "judge": 0}
        assert told["pairs"] > 5
        assert len(dead.journal) <= LIMITS["breaker"] + 2 * 4 + PROBES
        assert "10 requests failed and are asked again on the next run" in [
            line.getMessage() for line in handler.buffer
        ]
        outage.over.set()
        again = build_preference_dataset(recipe)
        assert sum(row["failed"] for row in again["usage"]) == 0
        assert {row["who"]: row["calls"] for row in again["usage"] if row["calls"]} == {"d": 10, "judge": 10}
