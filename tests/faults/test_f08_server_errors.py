"""F8: an endpoint where 30% of the calls end in 500, 503 or a broken connection costs time, and nothing else.

The data set is complete and the same to the last row; no request is asked more often than the recipe allows; attempts
are spread by chance, and further apart the longer the endpoint answers nobody, so that callers do not come back
together. What failed in all its
attempts is counted, says why, and is asked again by the next run.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import pytest

from pairsmith.config import Recipe
from pairsmith.ids import fingerprint
from pairsmith.llms.endpoint import attempts as backend
from pairsmith.reporting.summary_tables import aspect_table, member_table
from pairsmith.testing import KINDS, FakeEndpoint, Fault, Weather
from tests.faults.harness import repeated
from tests.llms.endpoint.test_openai import ask, request
from tests.runs import run

Build = Callable[..., Recipe]
Tally = Callable[..., None]
COUNT = 60
PASSING = {
    **{str(status): Fault(status) for status in (408, 409, 425, 429, 500, 502, 503, 504, 529)},
    "reset": KINDS["reset"],
    "cut": KINDS["cut"],
}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter waits between attempts, drawn as the real ones are."""
    monkeypatch.setattr(backend, "backoff", lambda bad: min(bad, 0.2) + random.uniform(0.01, 0.02))


def of(endpoint: FakeEndpoint, names: str = "abcd", **limits: Any) -> dict[str, Any]:
    """Members and a judge at an endpoint with these limits, as changes to a recipe."""
    where = {"base_url": endpoint.url, "api_key_env": None, "breaker": 1000, **limits}
    model = {"backend": "openai", "endpoint": where}
    members = [{"name": name, "model": name, **model} for name in names]
    judges = [{"name": "judge", "model": "judge", **model}]
    return {"pool": {"members": members}, "rating": {"aspects": ["overall"], "judges": judges}}


def undisturbed(base_recipe: Build, tmp_path: Path, count: int = COUNT) -> str:
    with FakeEndpoint() as endpoint:
        other = base_recipe(endpoint, count, name="undisturbed", ledger=f"sqlite:///{tmp_path}/other.sqlite")
        return run(other)[0].digest


@pytest.mark.usefixtures("quick")
def test_f8_a_run_through_errors_gives_the_same_data_set(base_recipe: Build, tmp_path: Path, tally: Tally) -> None:
    expected = undisturbed(base_recipe, tmp_path)
    with FakeEndpoint(weather=Weather(latency=0.005, spread=1, errors=0.3)) as endpoint:
        recipe = base_recipe(endpoint, COUNT, **of(endpoint, attempts=12))
        published, summary, calls = run(recipe)
        tries = endpoint.asked.values()
        assert published.digest == expected
        assert len(tries) == calls.total() == 5 * COUNT
        assert max(tries) <= 12
        # about 0.3 of the calls fail: 129 of 429
        assert 60 <= repeated(endpoint) <= 220
        before = len(endpoint.journal)
        again = run(recipe)
        tally(1, summary.loaded - COUNT, len(endpoint.journal) - before)
    assert (again[0].digest, again[2].total(), len(endpoint.journal)) == (expected, 0, before)
    assert summary.completion_reasons["failed"] == 0


@pytest.mark.usefixtures("quick")
def test_f8_what_failed_in_all_its_attempts_is_asked_again_by_the_next_run(
    base_recipe: Build, tmp_path: Path, tally: Tally
) -> None:
    expected, runs, answered = undisturbed(base_recipe, tmp_path, 20), 0, Counter[str]()
    with FakeEndpoint(weather=Weather(errors=0.5)) as endpoint:
        recipe = base_recipe(endpoint, 20, **of(endpoint, attempts=2))
        failed = 1
        while failed:
            before = Counter(endpoint.asked)
            published, summary, _ = run(recipe)
            runs += 1
            asked = endpoint.asked - before
            assert max(asked.values()) <= 2
            assert not answered.keys() & asked.keys()  # an answer that was paid for is not asked for again
            # two attempts that failed are a request that failed; fewer were answered
            answered += Counter(name for name, times in asked.items() if times < 2)
            failed = sum(int(row["failed"]) for row in member_table(summary))
            failed += sum(int(row["null"]) for row in aspect_table(summary))
            assert runs > 1 or failed
            assert runs < 20
            assert summary.loaded == summary.paired + sum(summary.prompt_reasons.values()) == 20
        tally(runs)
    assert published.digest == expected


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", PASSING)
def test_f8_passing_failures_are_tried_again_and_bounded(name: str) -> None:
    fault = PASSING[name]
    with FakeEndpoint([fault, fault]) as endpoint:
        assert ask(endpoint, request("Hi"))[0].error is None
        assert len(endpoint.journal) == 3
    with FakeEndpoint([fault] * 9) as endpoint:
        (reply,) = ask(endpoint, request("Hi"), attempts=3)
        assert len(endpoint.journal) == 3
    assert "3 attempts failed; the last: " in str(reply.error)
    assert (f"status {name}" if name.isdigit() else "ConnectionError") in str(reply.error)
    assert not reply.final


class Unlucky(Weather):
    """Fails the calls of one request, and answers all others."""

    def fault(self, mark: str, elapsed: float) -> Fault | None:
        return KINDS["500"] if mark.split(" ")[0] == self.kinds[0] else None


def test_f8_a_request_that_is_unlucky_is_asked_again_soon_while_others_are_answered() -> None:
    unlucky = request("why me?")
    with FakeEndpoint() as endpoint:
        ask(endpoint, unlucky)
        name = fingerprint(endpoint.journal[0])
    with FakeEndpoint(weather=Unlucky(latency=0.05, kinds=(name,))) as endpoint:
        replies = ask(endpoint, unlucky, *(request(f"{n}") for n in range(300)), concurrency=8, attempts=6)
        times = [at for at, body in zip(endpoint.times, endpoint.journal, strict=True) if fingerprint(body) == name]
    assert [index for index, reply in enumerate(replies) if reply.error] == [0]
    assert len(times) == 6
    assert max(b - a for a, b in pairwise(times)) < 1  # doubled at each attempt, the last wait alone were 4 seconds


def test_f8_attempts_are_spread_by_chance_and_further_apart_each_time() -> None:
    count, arrived = 30, dict[str, list[float]]()
    begun = time.monotonic()
    with FakeEndpoint([Fault(500)] * (2 * count)) as endpoint:
        replies = ask(endpoint, *(request(f"{n}") for n in range(count)), concurrency=count, breaker=1000)
        for body, at in zip(endpoint.journal, endpoint.times, strict=True):
            arrived.setdefault(fingerprint(body), []).append(at)
    assert [reply.error for reply in replies] == [None] * count
    assert time.monotonic() - begun < 15
    steps = [[b - a for a, b in pairwise(times)] for times in arrived.values()]
    first, second = [step[0] for step in steps], [step[1] for step in steps if len(step) > 1]
    assert len(second) > count // 4
    assert min(first) >= 0.01
    assert fmean(second) > fmean(first)
    for found in (first, second):  # even draws from a tenth of a second have a deviation of 0.03
        assert 0.015 < pstdev(found) < 0.25
        assert max(found) - min(found) > 0.05
