"""F9: what an endpoint refuses is not asked a second time.

A wrong key, model or address stops the run, within the calls that are under way, with an error that names the endpoint
and the model; what was answered beside it is kept. A request that is refused by itself is an error of that request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from pairsmith.config import Recipe
from pairsmith.errors import ConfigError
from pairsmith.ids import fingerprint
from pairsmith.ledger.replies import Ledger
from pairsmith.llms.recorded import Recorded
from pairsmith.llms.registry import open_llm
from pairsmith.reporting.summary_tables import member_table
from pairsmith.stages.base import open_store
from pairsmith.storage.tables import pool_ref
from pairsmith.testing import FakeEndpoint, Fault
from tests.faults.conftest import CONCURRENCY
from tests.faults.harness import repeated
from tests.llms.endpoint.test_openai import SCHEMA, ask, request, spec
from tests.runs import generate, run

Build = Callable[..., Recipe]
Tally = Callable[..., None]
COUNT = 40
NO_TIES = 1  # a seed with which the fake judge, whose ratings follow from its requests, finds none
STOPPING = (401, 402, 403, 404, 405, 301, 302, 307, 308)


@pytest.mark.parametrize("status", STOPPING)
def test_f9_a_wrong_key_model_or_address_stops_within_the_calls_under_way(status: int) -> None:
    headers = {"location": "https://elsewhere.example/v1"} if status < 400 else {}
    with FakeEndpoint([Fault(status, headers=headers)] * 50) as endpoint:
        with pytest.raises(ConfigError) as error:
            ask(endpoint, *(request(f"{n}") for n in range(50)), model="some-model", concurrency=4)
        assert len(endpoint.journal) <= 4
        assert repeated(endpoint) == 0
        told = str(error.value)
        assert endpoint.url in told
        assert "some-model" in told
        assert f"status {status}" in told
        assert "told to fail" in told
        assert ("https://elsewhere.example/v1" in told) == (status < 400)


@pytest.mark.parametrize("status", [400, 422, 413, 418])
def test_f9_a_refused_request_is_asked_once_and_concerns_no_other(status: int) -> None:
    with FakeEndpoint([Fault(status, body='{"error": "not like this"}')]) as endpoint:
        replies = ask(endpoint, *(request(f"{n}") for n in range(20)), concurrency=4)
        assert len(endpoint.journal) == 20
        assert repeated(endpoint) == 0
    (refused,) = [reply for reply in replies if reply.error]
    assert refused.error == f'refused: status {status}: {{"error": "not like this"}}'
    assert refused.final == (status == 413)  # another setting or endpoint may take the others


def test_f9_a_refusal_says_what_to_try() -> None:
    with FakeEndpoint([Fault(400)]) as endpoint:
        (reply,) = ask(endpoint, request("Hi", schema=SCHEMA))
        assert len(endpoint.journal) == 1
    assert "use readout text or logprobs" in str(reply.error)
    with FakeEndpoint([Fault(400)]) as endpoint:
        (reply,) = ask(endpoint, request("Hi", choices=("1", "2")))
        assert len(endpoint.journal) == 1
    assert "use readout text or json" in str(reply.error)


def test_f9_a_403_after_an_answer_is_about_its_prompt_alone() -> None:
    with FakeEndpoint() as endpoint:
        assert ask(endpoint, request("Hi"))[0].error is None
        endpoint.fail(Fault(403))
        refused, fine = ask(endpoint, request("bad"), request("good"))
        assert len(endpoint.journal) == 3
    assert sorted([refused.error is None, fine.error is None]) == [False, True]


def test_f9_what_was_answered_beside_a_wrong_key_is_kept(tmp_path: Path) -> None:
    asked = [request(f"{n}") for n in range(COUNT)]
    with FakeEndpoint([Fault(401, hang=0.2)], latency=0.01) as endpoint:
        llm = Recorded(open_llm(spec(endpoint, concurrency=4)), ledger := Ledger(f"sqlite:///{tmp_path}/ledger.sqlite"))
        with pytest.raises(ConfigError, match="status 401"):
            generate(llm, asked)
        answered = len(endpoint.journal) - 1
        assert ledger.count() == answered > 4
        assert [reply.error for reply in generate(llm, asked)] == [None] * COUNT
        assert len(endpoint.journal) == COUNT + 1
        assert repeated(endpoint) == 1


@pytest.mark.parametrize("status", [401, 404])
def test_f9_a_run_stops_and_goes_on_once_the_recipe_is_right(
    base_recipe: Build, tmp_path: Path, tally: Tally, status: int
) -> None:
    with FakeEndpoint() as endpoint:
        other = base_recipe(endpoint, COUNT, name="undisturbed", ledger=f"sqlite:///{tmp_path}/other.sqlite")
        expected = run(other)[0].digest
    with FakeEndpoint([Fault(status, hang=0.2)] * CONCURRENCY) as endpoint:
        recipe = base_recipe(endpoint, COUNT)
        with pytest.raises(ConfigError, match=f"{endpoint.url}, model a: status {status}"):
            run(recipe)
        assert len(endpoint.journal) == CONCURRENCY
        published, summary, calls = run(recipe)
        tally(1, summary.loaded - COUNT, repeated(endpoint) - CONCURRENCY)
        assert (published.digest, calls.total()) == (expected, 5 * COUNT)
        assert len(endpoint.journal) == 5 * COUNT + CONCURRENCY


def test_f9_a_run_with_refused_requests_ends_and_says_so(base_recipe: Build, tmp_path: Path, tally: Tally) -> None:
    with FakeEndpoint() as endpoint:
        other = base_recipe(
            endpoint, COUNT, name="undisturbed", ledger=f"sqlite:///{tmp_path}/other.sqlite", seed=NO_TIES
        )
        expected = run(other)[0].digest
    with FakeEndpoint([Fault(400), Fault(422), Fault(413)]) as endpoint:
        recipe = base_recipe(endpoint, COUNT, seed=NO_TIES)
        published, summary, _ = run(recipe)
        assert repeated(endpoint) == 0
        assert published.digest != expected
        assert summary.completion_reasons == {"failed": 2, "refused": 1}
        assert {row["member"]: row["failed"] for row in member_table(summary)} == {"a": 3, "b": 0, "c": 0, "d": 0}
        store = open_store(recipe)
        (shard,) = [path.name for path in Path(store.root, "tables").iterdir() if path.name != "load"]
        errors = sorted(store.read(pool_ref(shard, "a"))["error"].dropna())
        assert [error[: error.index(": {")] for error in errors] == [
            "failed: refused: status 400", "failed: refused: status 422", "refused: refused: status 413"
        ]  # fmt: skip
        first_two = {fingerprint(body) for body in endpoint.journal[:2]}
        calls = len(endpoint.journal)
        summary = run(recipe)[1]
        asked = endpoint.journal[calls:]
        tally(1, summary.loaded - COUNT, repeated(endpoint) - 2)
    # one that is too large would be refused again; the two others are asked, and what they are part of is rated
    assert Counter(body["model"] for body in asked) == {"a": 2, "judge": 2}
    assert {fingerprint(body) for body in asked if body["model"] == "a"} == first_two
    assert summary.completion_reasons == {"refused": 1}
