"""F7: an endpoint that says 429 is never asked again earlier than it told, in whatever form it told it.

Being told to wait longer than the deadline ends in giving up at once, and visibly: the row says why, the run finishes
and counts what failed, and the next run asks just that.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path

import pytest

from pairsmith.config import Recipe
from pairsmith.ids import fingerprint
from pairsmith.llms.endpoint import attempts as backend
from pairsmith.llms.endpoint.wire import retry_after
from pairsmith.reporting.summary_tables import member_table
from pairsmith.stages.base import open_store
from pairsmith.storage.tables import pool_ref
from pairsmith.testing import FakeEndpoint, Fault, Weather
from tests.faults.harness import repeated
from tests.llms.endpoint.test_openai import ask, request
from tests.runs import run

Build = Callable[..., Recipe]
Tally = Callable[..., None]
HUGE = [
    {"retry-after": "99999"},
    {"retry-after": "9" * 400},
    {"retry-after": "Tue, 01 Jan 2999 00:00:00 GMT"},
    {"retry-after-ms": "1e300"},
]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing but what the endpoint says make an attempt wait."""
    monkeypatch.setattr(backend, "backoff", lambda *_: 0.01)


def in_seconds(seconds: int) -> datetime:
    """A moment at least so many seconds from now, as dates in headers can say it."""
    return datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds + 1)


def forms() -> list[tuple[dict[str, str], float, float]]:
    """Headers that ask to wait: for so many seconds, and until a moment of the monotonic clock."""
    soon = in_seconds(2)
    until = time.monotonic() + (soon - datetime.now(UTC)).total_seconds()
    return [
        ({"retry-after": "1"}, 1.0, 0.0),
        ({"retry-after": " 1 "}, 1.0, 0.0),
        ({"Retry-After": "1.5"}, 1.5, 0.0),
        ({"retry-after-ms": "1200"}, 1.2, 0.0),
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2.0, 0.0),
        ({"retry-after": format_datetime(soon, usegmt=True)}, 0.0, until),
        ({"retry-after": soon.strftime("%A, %d-%b-%y %H:%M:%S GMT")}, 0.0, until),
        ({"retry-after": soon.strftime("%a %b %d %H:%M:%S %Y")}, 0.0, until),
        ({"retry-after": soon.strftime("%a, %d %b %Y %H:%M:%S -0000")}, 0.0, until),
        ({"retry-after": format_datetime(in_seconds(-100), usegmt=True)}, 0.0, 0.0),
        ({"retry-after": "-5"}, 0.0, 0.0),
        ({"retry-after": "soon"}, 0.0, 0.0),
        ({"retry-after": ""}, 0.0, 0.0),
        ({"retry-after-ms": "-1"}, 0.0, 0.0),
        ({"retry-after-ms": "nan"}, 0.0, 0.0),
        ({}, 0.0, 0.0),
    ]


def waits(endpoint: FakeEndpoint) -> dict[int, list[float]]:
    """By the place in the journal of a request's first attempt: the seconds between its attempts."""
    arrived: dict[str, list[int]] = {}
    for place, body in enumerate(endpoint.journal):
        arrived.setdefault(fingerprint(body), []).append(place)
    times = endpoint.times
    return {places[0]: [times[b] - times[a] for a, b in pairwise(places)] for places in arrived.values()}


def test_f7_never_asked_again_earlier_than_told() -> None:
    with FakeEndpoint() as endpoint:
        ask(endpoint, request("Hi"))  # what is loaded at the first call takes its time
        told = forms()
        endpoint.fail(*(Fault(429, headers=headers) for headers, _, _ in told))
        replies = ask(endpoint, *(request(f"Question {n}?") for n in range(len(told))), deadline=6)
    assert [reply.error for reply in replies] == [None] * len(told)
    found = waits(endpoint)
    for place, (headers, seconds, until) in enumerate(told, 1):
        (wait,) = found[place]  # one more attempt, and no other
        seconds = max(seconds, until - endpoint.times[place])
        assert seconds - 0.01 <= wait < seconds + 2, headers


def test_f7_every_attempt_waits_as_it_was_told() -> None:
    told = {429: 0.5, 503: 0.2, 529: 0.7}
    faults = [Fault(status, headers={"retry-after-ms": f"{1000 * seconds:.0f}"}) for status, seconds in told.items()]
    with FakeEndpoint(faults) as endpoint:
        (reply,) = ask(endpoint, request("Question?"))
    assert reply.error is None
    assert all(wait >= seconds for wait, seconds in zip(waits(endpoint)[0], told.values(), strict=True))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({}, 0), ({"retry-after": "2"}, 2), ({"retry-after": "-3"}, 0), ({"retry-after": "soon"}, 0),
     ({"retry-after-ms": "1500"}, 1.5), ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
     ({"retry-after-ms": "nan"}, 0), ({"retry-after-ms": "", "retry-after": "2"}, 2)],
)  # fmt: skip
def test_f7_forms_of_retry_after(headers: dict[str, str], seconds: float) -> None:
    assert retry_after(headers) == seconds


def test_f7_a_wait_longer_than_the_deadline_gives_up_at_once_and_says_so() -> None:
    begun = time.monotonic()
    with FakeEndpoint([Fault(429, headers=headers) for headers in HUGE]) as endpoint:
        replies = ask(endpoint, *(request(f"Question {n}?") for n in range(len(HUGE))), deadline=30)
        assert len(endpoint.journal) == len(HUGE)
    assert time.monotonic() - begun < 10
    for reply in replies:
        assert "told to wait" in str(reply.error)
        assert "longer than the deadline" in str(reply.error)
        assert "status 429" in str(reply.error)
        assert not reply.final
    assert "told to wait 99999 s" in " ".join(str(reply.error) for reply in replies)


def test_f7_waits_that_are_short_but_have_no_end_are_bounded_by_the_deadline() -> None:
    begun = time.monotonic()
    with FakeEndpoint([Fault(429, headers={"retry-after-ms": "400"})] * 100) as endpoint:
        (reply,) = ask(endpoint, request("Question?"), deadline=1.5, attempts=100)
        assert 2 <= len(endpoint.journal) <= 1 + 1.5 / 0.4
    assert time.monotonic() - begun < 6
    assert "status 429" in str(reply.error)
    assert not reply.final


def test_f7_a_run_through_storms_gives_the_same_data_set(base_recipe: Build, tmp_path: Path, tally: Tally) -> None:
    with FakeEndpoint() as endpoint:
        other = base_recipe(endpoint, 15, members=2, name="undisturbed", ledger=f"sqlite:///{tmp_path}/other.sqlite")
        expected = run(other)[0].digest
    weather, log = Weather(latency=0.03, spread=1, storm=0.15, storm_every=0.35), tmp_path / "calls.jsonl"
    with FakeEndpoint(weather=weather, log=log) as endpoint:
        recipe = base_recipe(endpoint, 15, members=2, concurrency=4)
        published, summary, _ = run(recipe)
        statuses = Counter(json.loads(line)["status"] for line in log.read_text().splitlines())
        again = run(recipe)[2].total()
    tally(1, 0, again)
    assert published.digest == expected
    assert statuses[429] >= 3
    assert statuses[200] == 45
    assert repeated(endpoint) == statuses[429]
    assert min(wait for found in waits(endpoint).values() for wait in found) >= 0.2
    assert (summary.completion_reasons["failed"], again) == (0, 0)


def test_f7_a_run_that_gives_up_says_on_what_and_the_next_asks_just_that(
    base_recipe: Build, endpoint: FakeEndpoint, tmp_path: Path, tally: Tally
) -> None:
    other = base_recipe(endpoint, 20, members=2, name="undisturbed", ledger=f"sqlite:///{tmp_path}/other.sqlite")
    expected = run(other)[0].digest
    with FakeEndpoint([Fault(429, headers=headers) for headers in HUGE]) as limited:
        recipe = base_recipe(limited, 20, members=2)
        begun = time.monotonic()
        published, summary, _ = run(recipe)
        assert time.monotonic() - begun < 20
        assert summary.completion_reasons["failed"] == len(HUGE)
        assert {row["member"]: row["failed"] for row in member_table(summary)} == {"a": len(HUGE), "b": 0}
        assert summary.loaded == summary.paired + sum(summary.prompt_reasons.values()) == 20
        store = open_store(recipe)
        (shard,) = [path.name for path in Path(store.root, "tables").iterdir() if path.name != "load"]
        errors = store.read(pool_ref(shard, "a"))["error"].dropna()
        assert len(errors) == len(HUGE)
        assert all(error.startswith("failed: told to wait ") for error in errors)
        refused = {fingerprint(body) for body in limited.journal[: len(HUGE)]}
        calls = len(limited.journal)
        again, summary, _ = run(recipe)
        asked = Counter(body["model"] for body in limited.journal[calls:])
        tally(1, 0, repeated(limited) - len(HUGE))
    assert asked == {"a": len(HUGE), "judge": len(HUGE)}  # the judge sees the answers of a prompt together
    assert {fingerprint(body) for body in limited.journal[calls:] if body["model"] == "a"} == refused
    assert again.digest == expected != published.digest
    assert summary.completion_reasons["failed"] == 0
