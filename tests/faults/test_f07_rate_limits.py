"""F7: an endpoint that says 429 is not called by anyone earlier than it told, in whatever form it told it.

What it told holds every request for that model at that address with that key, not just the one that was refused. Being
told to wait longer than the deadline ends in giving up at once, and visibly: the row says why, the run finishes and
counts what failed, and the next run asks just that.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path

import pytest

from pairsmith.config import Recipe
from pairsmith.ids import fingerprint
from pairsmith.llms.endpoint import attempts as backend
from pairsmith.llms.endpoint.engines import MANY_CALLS
from pairsmith.llms.endpoint.wire import retry_after
from pairsmith.reporting.summary_tables import member_table
from pairsmith.stages.base import open_store
from pairsmith.storage.tables import pool_ref
from pairsmith.testing import FakeEndpoint, Fault, Weather
from tests.faults.harness import executed, repeated
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
    with FakeEndpoint(latency=0.3) as endpoint:
        for n in range(len(forms())):  # what is loaded at the first call takes its time
            ask(endpoint, request("Hi"), model=f"m{n}")
        told, before = forms(), len(endpoint.times)
        endpoint.fail(*(Fault(429, headers=headers) for headers, _, _ in told))
        with ThreadPoolExecutor(len(told)) as pool:  # a model each, since what is told holds all calls of a model
            asked = [pool.submit(ask, endpoint, request("?"), model=f"m{n}") for n in range(len(told))]
    assert [reply.error for one in asked for reply in one.result()] == [None] * len(told)
    found = waits(endpoint)
    for place, (headers, seconds, until) in enumerate(told, before):
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


PLACES = 8
TOLD = 1.2
LATENCY = 0.2


@pytest.mark.parametrize(
    "places", [(PLACES,), (PLACES, PLACES + 1), (2 * MANY_CALLS,), (PLACES, 2 * MANY_CALLS)],
    ids=["one engine", "two engines", "in a process of its own", "one here, one in a process of its own"],
)  # fmt: skip
@pytest.mark.parametrize(
    "headers", [{"retry-after-ms": f"{1000 * TOLD:.0f}"}, {"retry-after": f"{TOLD}"}], ids=["ms", "s"]
)
def test_f7_nobody_calls_an_endpoint_before_the_time_that_it_told(
    places: tuple[int, ...], headers: dict[str, str]
) -> None:
    """One call of many is refused; those that wait for the same model, address and key keep still."""
    count = 3 * max(places)
    with FakeEndpoint(latency=LATENCY) as endpoint, ThreadPoolExecutor(len(places)) as pool:
        for most in places:
            ask(endpoint, request("Hi"), concurrency=most)  # what is loaded at the first call takes its time
        before = len(endpoint.times)
        endpoint.fail(Fault(429, headers=headers))
        asked = [
            pool.submit(ask, endpoint, *(request(f"{most} {n}") for n in range(count)), concurrency=most)
            for most in places
        ]
        replies = [reply for one in asked for reply in one.result()]
    told = endpoint.times[before] + LATENCY
    early = [at - told for at in endpoint.times[before:] if told + 0.1 < at < told + TOLD]  # 0.1: calls under way
    assert not early
    assert len(endpoint.times) - before == len(places) * count + 1
    assert [reply.error for reply in replies] == [None] * (len(places) * count)


def test_f7_other_models_are_called_meanwhile() -> None:
    with FakeEndpoint([Fault(429, headers={"retry-after": "2"})]) as endpoint, ThreadPoolExecutor(1) as pool:
        limited = pool.submit(ask, endpoint, request("Hi"), model="limited")
        while not endpoint.journal:
            time.sleep(0.01)
        ask(endpoint, *(request(f"Question {n}?") for n in range(20)), model="other")
        assert not limited.done()
        assert limited.result()[0].error is None


@pytest.mark.parametrize(("most", "rate"), [(4, 240), (2 * MANY_CALLS, None)])
def test_f7_what_would_have_to_wait_longer_than_the_deadline_is_not_asked_and_says_so(
    most: int, rate: float | None
) -> None:
    begun, count = time.monotonic(), 20 * most  # which would take 20 s at that rate
    with FakeEndpoint([Fault(429, headers={"retry-after": "99999"})], latency=LATENCY) as endpoint:
        replies = ask(
            endpoint, *(request(f"Question {n}?") for n in range(count)), concurrency=most, requests_per_minute=rate
        )
        assert len(endpoint.journal) <= 2 * most  # those under way when it was told
    assert time.monotonic() - begun < 10
    errors = [str(reply.error) for reply in replies if reply.error]
    assert len(errors) == count - len(endpoint.journal) + 1
    assert all("longer than the deadline: status 429" in error for error in errors)
    assert not any(reply.final for reply in replies)


def test_f7_a_wait_longer_than_the_deadline_gives_up_at_once_and_says_so() -> None:
    begun = time.monotonic()
    with FakeEndpoint([Fault(429, headers=headers) for headers in HUGE], latency=0.3) as endpoint:
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
        missed = summary.completion_reasons["failed"]  # refused, or held back after that
        assert len(HUGE) <= missed <= 20
        assert {row["member"]: row["failed"] for row in member_table(summary)} == {"a": missed, "b": 0}
        assert summary.loaded == summary.paired + sum(summary.prompt_reasons.values()) == 20
        store = open_store(recipe)
        (shard,) = [path.name for path in Path(store.root, "tables").iterdir() if path.name != "load"]
        errors = store.read(pool_ref(shard, "a"))["error"].dropna()
        assert len(errors) == missed
        assert all(error.startswith(("failed: told to wait ", "failed: not asked, told to wait ")) for error in errors)
        refused = {fingerprint(body) for body in limited.journal[: len(HUGE)]}
        calls = len(limited.journal)
        again = executed(recipe, tmp_path)  # another process: this one has been told to wait
        asked = Counter(body["model"] for body in limited.journal[calls:])
        tally(1, 0, repeated(limited) - len(HUGE))
    assert asked == {"a": missed, "judge": missed}  # the judge sees the answers of a prompt together
    assert {fingerprint(body) for body in limited.journal[calls:] if body["model"] == "a"} >= refused
    assert again.digest == expected != published.digest
