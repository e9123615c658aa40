"""F10: a server that drips, hangs, breaks off, floods, or answers what is no answer costs no more than the deadline.

The deadline of a reply covers all its attempts; what is held of a response is bounded; the error says what was wrong.
Whatever a response holds, it becomes a reply or a reason, and the run goes on.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairsmith import testing
from pairsmith.config import Recipe
from pairsmith.ledger.ledger import Ledger
from pairsmith.llms.endpoint import attempts as backend
from pairsmith.llms.endpoint.wire import NoReply, reply_of
from pairsmith.llms.recorded import Recorded
from pairsmith.llms.registry import open_llm
from pairsmith.protocol import Reply
from pairsmith.reporting.summary_tables import member_table
from pairsmith.session import process_session
from pairsmith.testing import KINDS, FakeEndpoint, Fault, Weather
from tests.conftest import ROOT
from tests.llms.endpoint.test_openai import ask, request, spec
from tests.runs import generate, run

Build = Callable[..., Recipe]
Tally = Callable[..., None]
ASKED = request("Question?")
GOOD = testing.completion({"model": "m", "messages": [{"role": "user", "content": "Question?"}], "logprobs": True})
ANSWER = json.dumps(GOOD)
DEADLINE = 1.0

# What a server does to every call, and what the error says of it.
BAD: dict[str, tuple[Fault, str]] = {
    "drip": (Fault(200, ANSWER, drip=0.05), "no answer within 1 s"),
    "hang": (Fault(200, ANSWER, hang=60), "no answer within 1 s"),
    "reset": (KINDS["reset"], "ConnectionError: "),
    "cut": (Fault(200, ANSWER, cut=60), "ConnectionError: "),
    "cut before the last byte": (Fault(200, ANSWER, cut=len(ANSWER)), "ConnectionError: "),
    "no JSON": (Fault(200, "<html>try again</html>"), "JSONDecodeError: "),
    "nothing": (Fault(200, ""), "JSONDecodeError: "),
    "deep": (Fault(200, "[" * 200_000), "RecursionError: "),
    "a list": (Fault(200, "[]"), "NoReply: an answer without a choice"),
    "null": (Fault(200, "null"), "NoReply: an answer without a choice"),
    "no choice": (Fault(200, '{"choices": []}'), "NoReply: an answer without a choice"),
    "no message": (Fault(200, '{"choices": [{"index": 0}]}'), "NoReply: an answer without a message"),
    "an error with status 200": (Fault(200, '{"error": {"message": "no GPU"}}'), "NoReply: an answer without a choice"),
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "backoff", lambda *_: 0.01)


@pytest.mark.parametrize("name", BAD)
def test_f10_the_deadline_is_held_and_the_error_says_why(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fault, reason = BAD[name]
    monkeypatch.setitem(KINDS, "bad", fault)
    with FakeEndpoint(weather=Weather(errors=1, kinds=("bad",))) as endpoint:
        begun = time.monotonic()
        replies = ask(endpoint, *(request(f"{n}") for n in range(4)), deadline=DEADLINE, attempts=3)
        assert time.monotonic() - begun < DEADLINE + 15  # a hang takes 60 s, a drip 30
        slow = reason.startswith("no answer")
        assert set(endpoint.asked.values()) == {1 if slow else 3}
    for reply in replies:
        assert reason in str(reply.error)
        assert slow or str(reply.error).startswith("3 attempts failed; the last: ")
        assert (reply.text, reply.final) == ("", False)


@pytest.mark.parametrize("name", [name for name, (fault, _) in BAD.items() if not fault.drip and not fault.hang])
def test_f10_the_next_attempt_is_answered(name: str) -> None:
    with FakeEndpoint([BAD[name][0]]) as endpoint:
        assert ask(endpoint, ASKED, deadline=20)[0].error is None
        assert len(endpoint.journal) == 2


def test_f10_the_deadline_is_that_of_all_attempts_together() -> None:
    begun = time.monotonic()
    with FakeEndpoint([Fault(500, hang=0.4)] * 10) as endpoint:
        (reply,) = ask(endpoint, ASKED, deadline=DEADLINE, attempts=10)
        assert 2 <= len(endpoint.journal) <= 3
    assert time.monotonic() - begun < DEADLINE + 2.5  # ten attempts take 4 s
    assert "no answer within 1 s; last problem: status 500" in str(reply.error)


FLOODED = """
import resource, sys
from pairsmith.llms.endpoint import attempts
from tests.llms.endpoint.test_openai import ask, request

attempts.backoff = lambda *_: 0.01
def most() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

ask(sys.argv[1], request("Hi"))
before = most()
replies = ask(sys.argv[1], request("1"), request("2"), concurrency=2, attempts=2)
print(most() - before, *(reply.error for reply in replies), sep="\\n")
"""


def test_f10_of_a_flood_little_is_held() -> None:
    flood = Fault(200, size=100_000_000)
    with FakeEndpoint([Fault(200, ANSWER)] + [flood] * 4) as endpoint:
        command = [sys.executable, "-c", FLOODED, endpoint.url]
        told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
        assert len(endpoint.journal) == 5
    growth, *errors = told.stdout.splitlines()
    assert float(growth) < 70  # MiB; two at a time of 95 each
    assert len(errors) == 2
    assert all("a response of more than 16777216 bytes" in error for error in errors)


def test_f10_a_run_against_a_bad_server_ends_and_later_gives_the_same_data_set(
    base_recipe: Build, tmp_path: Path, tally: Tally
) -> None:
    with FakeEndpoint() as endpoint:
        other = base_recipe(endpoint, 15, members=2, name="undisturbed", ledger=f"sqlite:///{tmp_path}/other.sqlite")
        expected = run(other)[0].digest
    kinds = ("hang", "cut", "garbage", "blank", "reset")
    with FakeEndpoint(weather=Weather(errors=0.3, kinds=kinds, seed=1)) as endpoint:
        limits = {"deadline": 0.6, "breaker": 1000, "concurrency": 16}
        where = {"backend": "openai", "endpoint": {"base_url": endpoint.url, "api_key_env": None, **limits}}
        recipe = base_recipe(
            endpoint,
            pool={"members": [{"name": name, "model": name, **where} for name in "ab"]},
            rating={"aspects": ["overall"], "judges": [{"name": "judge", "model": "judge", **where}]},
            count=15,
        )
        runs, failed = 0, 1.0
        while failed:
            runs += 1
            assert runs < 10
            begun = time.monotonic()
            published, summary, _ = run(recipe)
            assert time.monotonic() - begun < 30  # a hang has no end
            assert summary.loaded == summary.paired + sum(summary.prompt_reasons.values()) == 15
            failed = sum(row["failed"] for row in member_table(summary)) + summary.completion_reasons["unrated"]
        tally(runs)
    assert runs > 1
    assert published.digest == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.just(10**400) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to all parts of a value."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, part in parts for found in places(part, (*path, key)))]


def changed(value: Any, path: tuple[Any, ...], part: Any) -> Any:
    """A value with another part at a path."""
    if not path:
        return part
    copied = value.copy()
    copied[path[0]] = changed(value[path[0]], path[1:], part)
    return copied


@settings(max_examples=400)
@given(st.sampled_from(places(GOOD)), JSON, st.booleans())
def test_f10_any_response_becomes_a_reply_or_a_reason(path: tuple[Any, ...], part: Any, rated: bool) -> None:
    response = json.loads(json.dumps(changed(GOOD, path, part)))
    try:
        reply = reply_of(response, request("Hi", choices=tuple("12345") if rated else None))
    except NoReply as error:
        assert str(error)
    else:
        assert isinstance(reply.text, str)
        assert reply.error or reply.finish_reason in ("stop", "length")


ODD: dict[str, tuple[tuple[Any, ...], Any]] = {
    "finish_reason is a list": (("choices", 0, "finish_reason"), ["stop"]),
    "finish_reason is an object": (("choices", 0, "finish_reason"), {"type": "stop"}),
    "finish_reason is missing": (("choices", 0, "finish_reason"), None),
    "content is a list": (("choices", 0, "message", "content"), [{"type": "text", "text": "x"}]),
    "content holds NUL and half a pair": (("choices", 0, "message", "content"), "a\0b\ud83d"),
    "usage is a list": (("usage",), [1]),
    "usage is absurd": (("usage", "completion_tokens"), 10**30),
    "usage is beyond 64 bits": (("usage", "prompt_tokens"), 2**63),
    "usage is negative": (("usage", "completion_tokens"), -1),
    "usage is true": (("usage", "completion_tokens"), True),
}


@pytest.mark.parametrize("name", ODD)
def test_f10_an_odd_answer_stops_nothing(name: str, tmp_path: Path) -> None:
    path, part = ODD[name]
    asked = [request(f"{n}") for n in range(3)]
    odd = Fault(200, json.dumps(changed(GOOD, path, part)))
    with FakeEndpoint([odd] * 2) as endpoint:
        recorded = Recorded(
            open_llm(spec(endpoint, attempts=2), process_session()), Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
        )
        replies = generate(recorded, asked)
        assert [isinstance(reply, Reply) for reply in replies] == [True] * 3
        assert sum(reply.error is None and bool(reply.text) for reply in replies) >= 1
        assert generate(recorded, asked)[2].error is None
    assert all(0 <= reply.n_tokens < 10**9 and 0 <= reply.n_prompt_tokens < 10**9 for reply in replies)
