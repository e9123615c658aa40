"""Whose endpoint gave a reply: noted beside it, no part of its key, and said where two hosts share a model's name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pairsmith.building.runs import build
from pairsmith.config import ModelSpec, Recipe
from pairsmith.ledger.bookkeeping import ledger_at
from pairsmith.protocol import Identity
from pairsmith.testing import FakeEndpoint
from tests.ledger.helpers import request


@pytest.fixture
def servers() -> Iterator[tuple[FakeEndpoint, FakeEndpoint]]:
    """Two servers, both of which call their model `default`."""
    with FakeEndpoint() as one, FakeEndpoint() as other:
        yield one, other


@pytest.fixture
def make(echo_recipe: Callable[..., Recipe]) -> Callable[..., Recipe]:
    """Builds a recipe of a member at an endpoint, and one that makes answers up."""

    def recipe(endpoint: FakeEndpoint, **member: Any) -> Recipe:
        where = {"backend": "openai", "model": "default", "endpoint": {"base_url": endpoint.url, "api_key_env": None}}
        members = [{"name": "asked", **where, **member}, {"name": "echo", "backend": "echo", "model": "echo"}]
        return echo_recipe(6, pool={"members": members})

    return recipe


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [one for one in caplog.messages if "`identity: a-name`" in one]
    caplog.clear()
    return found


def test_a_second_host_for_a_models_name_is_said(
    servers: tuple[FakeEndpoint, FakeEndpoint], make: Callable[..., Recipe], caplog: pytest.LogCaptureFixture
) -> None:
    one, other = servers
    hosts = [server.url.split("/")[2] for server in servers]
    with caplog.at_level(logging.WARNING):
        build(make(one))
        assert (len(one.journal), said(caplog)) == (6, [])
        build(make(other))  # the same model elsewhere, as far as anyone can know
        assert len(other.journal) == 0
        (warning,) = said(caplog)
        assert all(host in warning for host in hosts)
        build(make(other, identity="the-other"))
        assert (len(other.journal), said(caplog)) == (6, [])
        build(make(one))
        assert (len(one.journal), said(caplog)) == (6, [])
    rows = list(ledger_at(Path(make(one).workspace)).replies.rows())
    kept = {(row["alias"], row["host"]) for row in rows if row["model"] == "default"}
    assert kept == {(None, hosts[0]), ("the-other", hosts[1])}
    assert {row["host"] for row in rows if row["backend"] == "echo"} == {None}


def test_two_hosts_of_one_recipe_are_said_before_anything_is_asked(
    servers: tuple[FakeEndpoint, FakeEndpoint],
    echo_recipe: Callable[..., Recipe],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    members = [
        {
            "name": name, "backend": "openai", "model": "default", "sampling": {"seed": seed},
            "endpoint": {"base_url": server.url, "api_key_env": None},
        }
        for seed, (name, server) in enumerate(zip("ab", servers, strict=True))
    ]  # fmt: skip
    with caplog.at_level(logging.WARNING):
        build(echo_recipe(2, pool={"members": members}))
    assert len(said(caplog)) == 1
    named = [{**members[0], "identity": "mine"}, {**members[1], "sampling": {}}]
    elsewhere = str(tmp_path / "elsewhere")
    build(echo_recipe(2, pool={"members": named}, workspace=elsewhere))  # named apart, they may be asked alike
    assert said(caplog) == []


def test_the_default_key_is_without_host_and_name() -> None:
    asked = request("Hi")
    assert asked.key(Identity("openai", "default")) == asked.key(Identity("openai", "default", None, None))
    assert asked.key(Identity("openai", "default", None, "mine")) != asked.key(Identity("openai", "default"))


def test_weights_of_this_process_need_no_name() -> None:
    with pytest.raises(ValidationError, match="identity goes with backend openai"):
        ModelSpec(model="org/model", identity="mine")
