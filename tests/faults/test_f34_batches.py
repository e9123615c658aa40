"""F34: in batch mode all requests of a stage are submitted at once, and no batch's end costs or hides anything.

A batch may fail whole, be half done when it expires, or take longer than a run waits. Nothing is asked twice, also
after a kill between submitting and collecting; a person is told why a batch failed.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pairsmith import build
from pairsmith.building.runs import Outcome
from pairsmith.config import Recipe
from pairsmith.errors import BudgetSpent, RunError
from pairsmith.ledger.ledger import Ledger
from pairsmith.llms.endpoint import batch_gathering
from pairsmith.stages.base import open_store
from pairsmith.storage.tables import pool_ref
from pairsmith.testing import FakeEndpoint, _FakeBatches
from tests.conftest import ROOT
from tests.faults.harness import SECONDS, repeated

Build = Callable[..., Recipe]
Tally = Callable[..., None]
COUNT = 12
MEMBERS = "abc"
TOLD = "enqueued token limit reached for this organisation"


@dataclass(frozen=True)
class Fate:
    """How a batch ends, after how many looks at it, and the share of its requests that it answers."""

    status: str = "completed"
    share: float = 1.0
    polls: int = 2
    errors: tuple[str, ...] = ()


class Fated(_FakeBatches):
    """Batches that meet the fates of a list, one each, in the order in which they are made."""

    def __init__(self, endpoint: FakeEndpoint) -> None:
        super().__init__(endpoint)
        self.fates: list[Fate] = []
        self.fate_of: dict[str, Fate] = {}
        self.events: list[str] = []  # "made" and "ended", in their order
        self.sizes: list[int] = []

    def _make(self, asked: dict[str, Any]) -> dict[str, Any]:
        made = super()._make(asked)
        self.fate_of[made["id"]] = self.fates.pop(0) if self.fates else Fate()
        self.events.append("made")
        self.sizes.append(self._files[asked["input_file_id"]].count(b"\n"))
        return made

    def _poll(self, batch: dict[str, Any]) -> dict[str, Any]:
        fate = self.fate_of[batch["id"]]
        if batch["polled"] + 1 >= fate.polls and batch["status"] == "in_progress":
            lines = self._files[batch["input_file_id"]].splitlines()
            self._files[batch["input_file_id"]] = b"\n".join(lines[: round(len(lines) * fate.share)])
            batch["polled"] = self.polls
            super()._poll(batch)
            batch["status"] = fate.status
            batch["errors"] = {"object": "list", "data": [{"message": one, "code": "x"} for one in fate.errors]}
            self.events.append("ended")
        batch["polled"] += 1
        return batch


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEndpoint]:
    monkeypatch.setattr(batch_gathering, "POLL_SECONDS", 0.02)
    with FakeEndpoint() as made:
        made._batches = Fated(made)
        yield made


@pytest.fixture
def batches(endpoint: FakeEndpoint) -> Fated:
    assert isinstance(endpoint._batches, Fated)
    return endpoint._batches


@pytest.fixture
def recipe(echo_recipe: Build, endpoint: FakeEndpoint) -> Build:
    def made(count: int = COUNT, shard_size: int = 2, limits: dict[str, Any] | None = None, **changes: Any) -> Recipe:
        where = {"base_url": endpoint.url, "api_key_env": None, "mode": "batch", **(limits or {})}
        model = {"backend": "openai", "endpoint": where}
        members = [{"name": name, "model": name, **model} for name in MEMBERS]
        rating = {"aspects": ["overall"], "judges": [{"name": "judge", "model": "judge", **model}]}
        whole = {"name": "base", "pool": {"members": members}, "rating": rating, "evolution": None}
        return echo_recipe(count, shard_size=shard_size, shards_in_flight=2, **whole | changes)

    return made


@pytest.fixture
def expected(recipe: Build, tmp_path: Path) -> str:
    """The digest of a run that nothing disturbs."""
    return digest_of(build(recipe(workspace=str(tmp_path / "undisturbed"))))


def digest_of(outcome: Outcome) -> str:
    assert outcome.release is not None
    return outcome.release.published.digest


def pending(recipe: Recipe, endpoint: FakeEndpoint) -> int:
    ledger = Ledger(recipe.ledger_url)
    return sum(len(ledger.batches.pending(endpoint.url, model)) for model in (*MEMBERS, "judge"))


def test_f34_all_shards_of_a_stage_are_submitted_before_any_is_waited_for(
    recipe: Build, endpoint: FakeEndpoint, batches: Fated, tally: Tally
) -> None:
    outcome = build(recipe())
    assert len(outcome.loaded.shards) == COUNT / 2
    assert batches.events == ["made"] * 3 + ["ended"] * 3 + ["made", "ended"]
    assert batches.sizes == [COUNT] * 4
    assert sum(endpoint.asked.values()) == 4 * COUNT
    assert pending(recipe(), endpoint) == 0
    assert sum(row["failed"] for row in outcome.usage) == 0
    tally(1, 0, repeated(endpoint))


def test_f34_batches_are_within_the_limits_and_give_the_same_data_set(
    recipe: Build, endpoint: FakeEndpoint, batches: Fated, expected: str, tally: Tally
) -> None:
    batches.events.clear()
    batches.sizes.clear()
    few = recipe(limits={"batch_requests": 5})
    assert digest_of(build(few)) == expected
    assert max(batches.sizes) == 5
    assert len(batches.sizes) == 4 * 3
    assert batches.events[:9] == ["made"] * 9  # nothing is waited for while the stage is submitted
    tally(1, 0, 0)


def test_f34_no_more_tokens_are_queued_than_the_endpoint_takes(
    recipe: Build, endpoint: FakeEndpoint, batches: Fated, expected: str, tally: Tally
) -> None:
    batches.events.clear()
    batches.sizes.clear()
    outcome = build(recipe(limits={"batch_tokens": 4 * 1100}))
    assert digest_of(outcome) == expected
    assert max(batches.sizes) == 4
    of_judge = batches.events[-6:]
    assert of_judge == ["made", "ended"] * 3  # the next goes out when there is room
    tally(1, 0, 0)


def test_f34_a_batch_that_fails_whole_says_why_and_the_next_run_asks_it_again(
    recipe: Build, endpoint: FakeEndpoint, batches: Fated, expected: str, caplog: pytest.LogCaptureFixture, tally: Tally
) -> None:
    before = sum(endpoint.asked.values())
    batches.fates = [Fate("failed", 0.0, errors=(TOLD, "line 7 is no JSON"))]
    with caplog.at_level(logging.WARNING):
        failed = build(recipe())
    assert f"{TOLD}; line 7 is no JSON; {COUNT} of {COUNT} are asked again" in caplog.text
    assert sum(row["failed"] for row in failed.usage) == COUNT
    store = open_store(recipe())
    errors = [store.read(pool_ref(shard, name))["error"].dropna() for shard in failed.loaded.shards for name in MEMBERS]
    assert sum(map(len, errors)) == COUNT
    assert all(TOLD in text for table in errors for text in table)
    again = build(recipe())
    assert digest_of(again) == expected
    assert pending(recipe(), endpoint) == 0
    tally(1, 0, sum(endpoint.asked.values()) - before - 5 * COUNT)  # the judge rated what there was, then all


def test_f34_half_a_batch_is_kept_and_the_other_half_asked_again(
    recipe: Build, endpoint: FakeEndpoint, batches: Fated, expected: str, tally: Tally
) -> None:
    before = sum(endpoint.asked.values())
    batches.fates = [Fate("expired", 0.5)]
    assert sum(row["failed"] for row in build(recipe()).usage) == COUNT / 2
    assert digest_of(build(recipe())) == expected
    of_members = sum(body["model"] in MEMBERS for body in endpoint.journal[before:])
    assert of_members == 3 * COUNT
    tally(1, 0, of_members - 3 * COUNT)


def test_f34_a_late_batch_is_collected_by_the_next_run(
    recipe: Build, endpoint: FakeEndpoint, batches: Fated, expected: str, tally: Tally
) -> None:
    before = sum(endpoint.asked.values())
    batches.fates = [Fate(polls=10**6)]
    late = build(recipe(limits={"deadline": 8}))
    assert sum(row["failed"] for row in late.usage) == COUNT
    assert pending(recipe(), endpoint) == 1
    batches.fate_of = dict.fromkeys(batches.fate_of, Fate())
    assert digest_of(build(recipe())) == expected
    assert sum(body["model"] in MEMBERS for body in endpoint.journal[before:]) == 3 * COUNT
    assert pending(recipe(), endpoint) == 0
    tally(1, 0, 0)


def test_f34_nothing_is_asked_twice_after_a_kill_between_submitting_and_collecting(
    recipe: Build, endpoint: FakeEndpoint, batches: Fated, expected: str, tmp_path: Path, tally: Tally
) -> None:
    before, made = sum(endpoint.asked.values()), len(batches.events)
    batches.fates = [Fate(polls=10**6)] * len(MEMBERS)
    file = tmp_path / "recipe.json"
    file.write_text(recipe().model_dump_json())
    run, ends = "import sys; from pairsmith import build; build(sys.argv[1])", time.monotonic() + SECONDS
    with subprocess.Popen([sys.executable, "-c", run, str(file)], cwd=ROOT) as killed:
        while len(batches.events) < made + len(MEMBERS):
            assert time.monotonic() < ends
            assert killed.poll() is None
            time.sleep(0.01)
        killed.kill()
    batches.fate_of = dict.fromkeys(batches.fate_of, Fate())
    assert digest_of(build(recipe())) == expected
    assert sum(endpoint.asked.values()) - before == 4 * COUNT
    assert batches.events.count("made") == 2 * 4
    tally(1, 0, sum(endpoint.asked.values()) - before - 4 * COUNT)


def test_f34_the_budget_counts_what_is_submitted_and_not_collected(
    recipe: Build, endpoint: FakeEndpoint, batches: Fated, tally: Tally
) -> None:
    most = 10 * 1100
    batches.fates = [Fate(polls=10**6)] * 9
    tight = recipe(budget={"tokens": most}, limits={"deadline": 0.1})
    with pytest.raises((RunError, BudgetSpent)):
        build(tight)
    first = sum(batches.sizes)
    assert 5 <= first <= 10
    with pytest.raises((RunError, BudgetSpent)):  # another process would read the same from the ledger
        build(tight)
    assert sum(batches.sizes) == first
    batches.fate_of = dict.fromkeys(batches.fate_of, Fate())
    with pytest.raises((RunError, BudgetSpent)):
        build(tight)
    tokens, _ = Ledger(tight.ledger_url).spending.spent("base")
    assert 0 < tokens <= most
    assert sum(batches.sizes) > first  # what the first did not use of its share went to others
    tally(1, 0, repeated(endpoint))


def test_f34_many_small_shards_are_few_batches(
    recipe: Build, endpoint: FakeEndpoint, batches: Fated, tally: Tally
) -> None:
    outcome = build(recipe(30, shard_size=1))
    assert len(outcome.loaded.shards) == 30
    assert batches.sizes == [30] * 4
    tally(1, 0, repeated(endpoint))
