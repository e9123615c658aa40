"""Batch mode: submitted once, collected when it is done, by this run or a later one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pairsmith import testing
from pairsmith.config import Endpoint, ModelSpec, Recipe, Sampling
from pairsmith.ledger.batches import Batch
from pairsmith.ledger.ledger import Ledger
from pairsmith.llms.endpoint import batch_gathering
from pairsmith.llms.endpoint.batch import Batched
from pairsmith.llms.recorded import Recorded
from pairsmith.protocol import Reply, Request
from pairsmith.session import Session
from pairsmith.testing import FakeEndpoint
from tests.runs import generate, run


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
