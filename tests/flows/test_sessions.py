"""The session that tasks work in: the run's own within its process, and one of the process's own elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from types import SimpleNamespace
from typing import Any

import pytest

from pairsmith.config import Recipe
from pairsmith.session import Session, process_session
from pairsmith_tasks.sessions import run_session, task_session

Build = Callable[..., Recipe]


def test_a_task_works_in_the_session_of_its_run() -> None:
    with run_session() as session, ThreadPoolExecutor(1) as threads:
        assert task_session() is session
        assert threads.submit(copy_context().run, task_session).result() is session
        with run_session() as again:
            assert again is session
    assert task_session() is process_session()


def test_the_next_run_has_a_session_of_its_own() -> None:
    closed: list[str] = []
    with run_session() as one:
        one.keep("weights", lambda: "loaded", closed.append)
    with run_session() as other:
        assert other.keep("weights", lambda: "anew") == "anew"
    assert closed == ["loaded"]


@pytest.mark.parametrize(
    ("endpoint", "shares"),
    [({"requests_per_minute": 60}, [0.25]), ({"tokens_per_minute": 60}, [0.25]), ({}, [])],
)
def test_a_process_of_four_has_a_quarter_of_the_rates_and_that_of_a_run_all(
    echo_recipe: Build, monkeypatch: pytest.MonkeyPatch, endpoint: dict[str, Any], shares: list[float]
) -> None:
    from pairsmith_tasks.endpoints import at_endpoint

    where = {"base_url": "http://127.0.0.1:9/v1", "api_key_env": None, **endpoint}
    member = {"name": "a", "backend": "openai", "model": "a", "samples": 2, "endpoint": where}
    (spec,) = echo_recipe(2, pool={"members": [member]}, evolution=None).pool.members
    divided: list[float] = []
    monkeypatch.setattr("pairsmith_tasks.endpoints.engine_for", lambda *_: SimpleNamespace(divide=divided.append))
    with run_session() as session, at_endpoint(spec, session, 1):
        assert divided == []
    with Session() as session, at_endpoint(spec, session, 4):
        assert divided == shares


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
def test_all_tasks_of_a_flow_run_share_one_session_that_ends_with_it(
    echo_recipe: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pairsmith_flows.preferences import build_preference_dataset

    def elsewhere() -> Session:
        raise AssertionError("a task of this process works in the session of its run")

    monkeypatch.setattr("pairsmith_tasks.sessions.process_session", elsewhere)
    closed: list[Session] = []
    close = Session.close
    monkeypatch.setattr(Session, "close", lambda self: (closed.append(self), close(self))[1])
    result: dict[str, Any] = build_preference_dataset(echo_recipe(6, name="sessions", shard_size=3))
    assert result["pairs"] > 0
    assert len(closed) == 1
