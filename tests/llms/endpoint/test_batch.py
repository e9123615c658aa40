"""Batch mode: submitted once, collected when it is done, by this run or a later one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import openai
import pytest

from pairsmith import testing
from pairsmith.config import Endpoint, ModelSpec, Recipe, Sampling
from pairsmith.errors import ConfigError, RunError
from pairsmith.ledger.batches import Batch
from pairsmith.ledger.ledger import Ledger
from pairsmith.llms.endpoint import batch_gathering
from pairsmith.llms.endpoint.batch import Batched
from pairsmith.llms.endpoint.batch_client import Answers, BatchClient
from pairsmith.llms.recorded import Recorded
from pairsmith.protocol import Reply, Request
from pairsmith.session import Session
from pairsmith.testing import FakeEndpoint
from tests.runs import generate, run

ASKED = httpx.Request("GET", "http://127.0.0.1:9/v1/batches")


def refused(status: int, words: str) -> openai.APIStatusError:
    return openai.APIStatusError(words, response=httpx.Response(status, request=ASKED), body=None)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEndpoint]:
    monkeypatch.setattr(batch_gathering, "POLL_SECONDS", 0.02)
    with FakeEndpoint() as made:
        yield made


def ask(endpoint: FakeEndpoint, ledger: Ledger, count: int = 5, deadline: float = 30) -> list[Reply]:
    where = Endpoint(base_url=endpoint.url, api_key_env=None, mode="batch", deadline=deadline, attempts=1)
    texts = [f"Question {n}?" for n in range(count)]
    with Session() as session:
        llm = Batched(ModelSpec(backend="openai", model="m", endpoint=where), ledger, session)
        requests = [Request(({"role": "user", "content": text},), Sampling(), 1) for text in texts]
        return generate(Recorded(llm, ledger), requests)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")


def test_a_batch_is_submitted_polled_and_collected(endpoint: FakeEndpoint, ledger: Ledger) -> None:
    replies = ask(endpoint, ledger)
    assert all(reply.error is None and reply.text for reply in replies)
    assert ask(endpoint, ledger) == replies
    assert sum(endpoint.asked.values()) == 5
    assert ledger.batches.pending(endpoint.url, "m") == []


def test_f25_an_answer_of_a_batch_is_paid_for_once_however_often_it_is_collected(
    endpoint: FakeEndpoint, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second line holds no reply. A run that is killed before it closes the batch leaves it to the next one."""
    whole = testing.completion
    monkeypatch.setattr(ledger.batches, "close", lambda _: None)
    monkeypatch.setattr(
        testing, "completion", lambda body: whole(body) | ({"choices": []} if "1?" in str(body) else {})
    )
    for _ in range(2):
        assert sum("without a choice" in str(reply.error) for reply in ask(endpoint, ledger, count=2)) == 1
    rows = list(ledger.spending.rows())
    assert len(rows) == sum(endpoint.asked.values()) == 2
    assert sorted(row["problem"] is None for row in rows) == [False, True]
    assert all(row["n_tokens"] > 0 and not row["is_reckoned"] for row in rows)


def test_what_is_not_done_is_collected_by_a_later_run(endpoint: FakeEndpoint, ledger: Ledger) -> None:
    endpoint._batches.polls = 3
    assert all("collected by a later run" in str(reply.error) for reply in ask(endpoint, ledger, deadline=0.001))
    assert len(ledger.batches.pending(endpoint.url, "m")) == 1
    replies = ask(endpoint, ledger, count=7)  # the two more go into a batch of their own
    assert [reply.error for reply in replies] == [None] * 7
    assert sorted(endpoint.asked.values()) == [1] * 7


def test_a_batch_whose_id_was_lost_in_a_crash_is_found_again(endpoint: FakeEndpoint, ledger: Ledger) -> None:
    ask(endpoint, ledger, deadline=0.001)
    (submitted,) = ledger.batches.pending(endpoint.url, "m")
    ledger.batches.note(Batch(submitted.token, None, submitted.endpoint, submitted.model, submitted.keys))
    assert all(reply.error is None for reply in ask(endpoint, ledger))
    assert sum(endpoint.asked.values()) == 5


def test_a_batch_that_was_noted_but_never_made_is_submitted(endpoint: FakeEndpoint, ledger: Ledger) -> None:
    ledger.batches.note(Batch("never", None, endpoint.url, "m", ("k",)))
    assert all(reply.error is None for reply in ask(endpoint, ledger))
    assert ledger.batches.pending(endpoint.url, "m") == []


def test_an_ended_batch_gives_what_it_has_and_the_rest_is_asked_again(
    endpoint: FakeEndpoint, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = endpoint._batches._poll

    def expire(made: dict[str, Any]) -> dict[str, Any]:
        done = real(made)
        if done["status"] == "completed":
            done["status"] = "expired"
            lines = endpoint._batches._files[done["output_file_id"]].splitlines()
            endpoint._batches._files[done["output_file_id"]] = b"\n".join(lines[:2])
        return done

    monkeypatch.setattr(endpoint._batches, "_poll", expire)
    replies = ask(endpoint, ledger)
    assert sorted("ended as expired" in str(reply.error) for reply in replies) == [False] * 2 + [True] * 3
    monkeypatch.undo()
    monkeypatch.setattr(batch_gathering, "POLL_SECONDS", 0.02)
    assert [reply.error for reply in ask(endpoint, ledger)] == [None] * 5


def test_a_run_of_batches(endpoint: FakeEndpoint, echo_recipe: Callable[..., Recipe]) -> None:
    where = {"backend": "openai", "endpoint": {"base_url": endpoint.url, "api_key_env": None, "mode": "batch"}}
    members = [{"name": name, "model": name, **where} for name in ("a", "b")]
    judges = [{"name": "j", "model": "j", **where}]
    recipe = echo_recipe(6, pool={"members": members}, evolution=None, rating={"judges": judges})
    _, summary, calls = run(recipe)
    assert summary.paired + sum(summary.prompt_reasons.values()) == 6
    assert sum(endpoint.asked.values()) == sum(calls.values()) == 12 + 12


@pytest.mark.parametrize(
    ("address", "why"),
    [("127.0.0.1:9", "connection refused, nothing listens there"), ("no-such-host.invalid", "no such host")],
)
def test_a_batch_for_an_endpoint_where_nobody_is_stops_and_says_where_and_why(
    address: str, why: str, ledger: Ledger
) -> None:
    where = Endpoint(base_url=f"http://{address}/v1", api_key_env=None, mode="batch", attempts=1)
    with Session() as session, pytest.raises(ConfigError) as error:
        llm = Batched(ModelSpec(backend="openai", model="m", endpoint=where), ledger, session)
        generate(Recorded(llm, ledger), [Request(({"role": "user", "content": "Hi"},), Sampling(), 1)])
    mend = "start the server, or correct endpoint.base_url"
    assert str(error.value) == f"endpoint http://{address}/v1, batches: not reached: {why}; {mend}"


def test_a_batch_that_is_under_way_outlives_a_server_that_is_gone_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    client = BatchClient(Endpoint(base_url="http://127.0.0.1:9/v1", mode="batch", attempts=1), "sk-of-the-test")
    assert client.collect("batch-1", Answers(), ()) is None
    assert "batch batch-1: endpoint http://127.0.0.1:9/v1, batches: not reached: connection refused" in caplog.text


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (openai.APITimeoutError(ASKED), RunError, "no connection: APITimeoutError: .*; running again may help"),
        (refused(503, "loading"), RunError, "loading; running again may help"),
        (refused(400, "no batches here"), RunError, "no batches here$"),
        (refused(429, "insufficient_quota"), ConfigError, "insufficient_quota; the account has no money left"),
        (refused(401, "no such key"), ConfigError, "no such key; look at the key"),
    ],
)
def test_why_a_batch_was_not_taken_is_told_with_the_address_and_whether_again_helps(
    error: Exception, kind: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    client = BatchClient(Endpoint(base_url="http://127.0.0.1:9/v1", mode="batch", attempts=1), "sk-of-the-test")
    monkeypatch.setattr(client, "_client", SimpleNamespace(batches=SimpleNamespace(list=fail)))
    with pytest.raises(kind, match=f"endpoint http://127.0.0.1:9/v1, batches: .*{words}"):
        client.find("token")
