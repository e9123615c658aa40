"""F29: a member, evolver or judge that is dead, refused or unreadable throughout is named, with its cause.

Where nobody answers the run stops within seconds and says what to change; where others do it goes on, and says who
failed, at which endpoint, why, how often, and whether running again can help.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pairsmith import build
from pairsmith.building.runs import Outcome
from pairsmith.config import Recipe
from pairsmith.config.models import Endpoint
from pairsmith.errors import ConfigError, RunError
from pairsmith.testing import KINDS, FakeEndpoint, Fault
from tests import warm  # noqa: F401 - what a process imports for its first run is no part of what is timed here
from tests.faults.test_f12_dead_member import Outage, closed_address

Build = Callable[..., Recipe]
Tally = Callable[..., None]
SOON = 60.0  # seconds, on a busy machine; trying again to the end takes three times that
NO_HOST = "http://no-such-host.invalid/v1"
ECHO = [{"name": name, "backend": "echo", "model": name} for name in ("a", "b")]


def model(name: str, url: str, **endpoint: Any) -> dict[str, Any]:
    where = {"base_url": url, "api_key_env": None, **endpoint}
    return {"name": name, "backend": "openai", "model": f"m-{name}", "endpoint": where}


class Late(FakeEndpoint):
    """A fake endpoint at a port of which nobody is there for the first five seconds."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port

    def __enter__(self) -> Late:
        self._thread = threading.Timer(5, lambda: asyncio.run(self.serve(self._port)))
        self._thread.start()
        return self


def recipe_of(echo_recipe: Build, members: list[dict[str, Any]], count: int = 6, **changes: Any) -> Recipe:
    order = {"strategy": "member-order", "member_order": [member["name"] for member in members]}
    plain = {"pool": {"members": members}, "evolution": None, "rating": None}
    return echo_recipe(count, **(plain | ({} if "rating" in changes else {"pairing": order}) | changes))


def told(outcome: Outcome) -> dict[str, dict[str, Any]]:
    assert outcome.release
    return {row["who"]: row for row in outcome.release.failures}


def test_f29_a_run_in_which_nobody_answers_stops_and_says_where_and_what_to_do(
    echo_recipe: Build, tally: Tally
) -> None:
    url = closed_address()
    members = [model("a", url), model("b", NO_HOST, concurrency=64)]
    begun = time.monotonic()
    with pytest.raises(ConfigError) as error:
        build(recipe_of(echo_recipe, members, 200, shard_size=20))
    assert time.monotonic() - begun < SOON
    said = str(error.value)
    assert f"member a (m-a at {url}): not reached: connection refused" in said
    assert f"member b (m-b at {NO_HOST}): not reached: no such host" in said
    assert "start the server, or correct endpoint.base_url" in said
    assert "endpoint.wait_for" in said
    tally()


def test_f29_a_dead_judge_stops_the_run_and_what_members_answered_is_kept(
    echo_recipe: Build, endpoint: FakeEndpoint, tally: Tally
) -> None:
    def judged(url: str) -> Recipe:
        members = [model(name, endpoint.url) for name in "ab"]
        return recipe_of(echo_recipe, members, rating={"judges": [model("j", url)], "aspects": ["overall"]})

    begun = time.monotonic()
    with pytest.raises(ConfigError, match=r"judge j \(m-j at http://127.0.0.1:\d+/v1\): not reached"):
        build(judged(closed_address()))
    assert time.monotonic() - begun < SOON
    answered = len(endpoint.journal)
    build(judged(endpoint.url))
    assert {call["model"] for call in endpoint.journal[answered:]} == {"m-j"}
    tally()


@pytest.mark.parametrize(
    ("status", "where", "mend"),
    [
        (401, {}, "endpoint.api_key_env is null, so none is sent"),
        (403, {"api_key_env": "A_KEY"}, "endpoint.api_key_env is A_KEY"),
        (404, {}, "the model's id and at endpoint.base_url"),
    ],
)
def test_f29_a_wrong_key_or_model_stops_the_run_and_says_what_to_change(
    echo_recipe: Build, monkeypatch: pytest.MonkeyPatch, status: int, where: dict[str, Any], mend: str, tally: Tally
) -> None:
    monkeypatch.setenv("A_KEY", "key-of-the-test")
    with FakeEndpoint(weather=Outage(fate=Fault(status))) as refusing:
        begun = time.monotonic()
        with pytest.raises(ConfigError) as error:
            build(recipe_of(echo_recipe, [model(name, refusing.url, **where) for name in "ab"]))
    assert time.monotonic() - begun < SOON
    said = str(error.value)
    assert re.match(rf"the run stopped; what was answered is kept, .*: member [ab]: endpoint {refusing.url}, ", said)
    for words in ("model m-", f"status {status}", mend):
        assert words in said
    assert "key-of-the-test" not in said
    tally()


def test_f29_one_dead_member_of_three_is_named_everywhere_and_the_run_goes_on(echo_recipe: Build, tally: Tally) -> None:
    url = closed_address()
    begun = time.monotonic()
    outcome = build(recipe_of(echo_recipe, [*ECHO, model("c", url)], 40, shard_size=10))
    assert time.monotonic() - begun < SOON
    row = told(outcome)["member c"]
    assert (row["failed"], row["of"], row["run again"]) == (40, 40, "may help")
    assert row["endpoint"] in url
    assert row["commonest causes"] == "not reached: connection refused, nothing listens there"
    assert outcome.release
    for place in (outcome.release.published.card, outcome.release.published.report):
        page = Path(place).read_text(encoding="utf-8")
        assert "connection refused, nothing listens there" in page
        assert "member c" in page
    tally()


def test_f29_a_dead_evolver_is_called_one(echo_recipe: Build, tally: Tally) -> None:
    evolution = {"evolver": model("e", closed_address()), "rounds": 1}
    outcome = build(recipe_of(echo_recipe, ECHO, evolution=evolution))
    (row,) = told(outcome).values()
    assert row["who"] == "evolver e"
    assert row["failed"] == row["of"] > 0
    assert "connection refused" in row["commonest causes"]
    tally()


def test_f29_a_judge_that_cannot_be_read_leaves_no_pair_and_the_error_says_why(
    echo_recipe: Build, tally: Tally
) -> None:
    judge = {"name": "j", "backend": "echo", "model": "j", "sampling": {"max_tokens": 1}}
    told = r"no pair to publish: 6 prompts, fewer than two answers to choose from \(6\).*j failed 12 of 12 times \("
    with pytest.raises(RunError, match=told):
        build(recipe_of(echo_recipe, ECHO, rating={"judges": [judge], "aspects": ["overall"]}))
    tally()


def test_f29_an_endpoint_that_answers_nonsense_is_told_with_its_first_words_and_retries(
    echo_recipe: Build, tally: Tally
) -> None:
    with FakeEndpoint(weather=Outage(fate=KINDS["garbage"])) as nonsense:
        member = model("c", nonsense.url, attempts=2, breaker=3, breaker_seconds=0.1)
        outcome = build(recipe_of(echo_recipe, [*ECHO, member]))
    row = told(outcome)["member c"]
    assert row["failed"] == row["of"] == 6
    assert "JSONDecodeError" in row["commonest causes"]
    (usage,) = [one for one in outcome.usage if one["who"] == "c"]
    assert 0 < usage["retries"] < len(nonsense.journal)
    tally()


def test_f29_retries_are_counted_for_whom_they_were(echo_recipe: Build, tally: Tally) -> None:
    with FakeEndpoint([Fault(500)] * 3) as shaky:
        outcome = build(recipe_of(echo_recipe, [ECHO[0], model("c", shaky.url, concurrency=1)]))
        assert {row["who"]: row["retries"] for row in outcome.usage} == {"a": 0, "c": 3}
        assert len(shaky.journal) == 6 + 3
    tally()


@pytest.mark.parametrize("concurrency", [4, 64])
def test_f29_a_server_that_is_starting_is_waited_for(
    echo_recipe: Build, caplog: pytest.LogCaptureFixture, concurrency: int, tally: Tally
) -> None:
    """Also where it is longer in starting than calls without `wait_for` are patient."""
    url = closed_address()
    with Late(int(url.rpartition(":")[2].partition("/")[0])) as late:
        with caplog.at_level(logging.WARNING, logger="pairsmith"):
            members = [model(name, url, wait_for=60, concurrency=concurrency) for name in "ab"]
            outcome = build(recipe_of(echo_recipe, members))
        assert outcome.release
        assert outcome.release.failures == []
        assert len(late.journal) == 12
        assert sum(row["retries"] for row in outcome.usage) > 0
        if concurrency <= 32:  # otherwise a process of its own says so
            assert (
                f"waiting up to 60 s (endpoint.wait_for) for {url}, model m-a: ConnectionError: connect" in caplog.text
            )
            assert f"{url}, model m-a answers after" in caplog.text
    tally()


def test_f29_how_long_a_server_is_waited_for_changes_no_data(
    echo_recipe: Build, endpoint: FakeEndpoint, tally: Tally
) -> None:
    assert Endpoint.model_validate({"base_url": endpoint.url}).wait_for == 0
    members = [model(name, endpoint.url) for name in "ab"]
    first = build(recipe_of(echo_recipe, members))
    patient = [model(name, endpoint.url, wait_for=300) for name in "ab"]
    again, calls = build(recipe_of(echo_recipe, patient)), len(endpoint.journal)
    assert first.release
    assert again.release
    assert first.release.published.digest == again.release.published.digest
    assert not again.release.published.new
    assert calls == 12
    tally()
