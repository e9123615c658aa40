"""The preflight: all that stands in the way of a run is found before it begins, each with its field and what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pairsmith.building.runs import build
from pairsmith.config import Recipe
from pairsmith.errors import ConfigError
from pairsmith.judging.rating import STAGE as RATE
from pairsmith.ledger.ledger import open_ledger
from pairsmith.llms.endpoint.client import Client
from pairsmith.planning.preflight import Finding, ask_endpoints, look, raise_fatal, told
from pairsmith.session import Session
from pairsmith.testing import FakeEndpoint, Fault
from tests.conftest import ROOT, clean_environment
from tests.service import free_port

Build = Callable[..., Recipe]


@pytest.fixture
def session() -> Iterator[Session]:
    with Session() as one:
        yield one


def member(name: str, url: str, model: str = "m", **endpoint: Any) -> dict[str, Any]:
    where = {"base_url": url, "api_key_env": None} | endpoint
    return {"name": name, "backend": "openai", "model": model, "endpoint": where, "system_prompt": f"You are {name}."}


def recipe_of(echo_recipe: Build, *members: dict[str, Any], **more: Any) -> Recipe:
    return echo_recipe(4, pool={"members": list(members)}, evolution=None, **more)


def refused(status: int, words: str) -> Fault:
    return Fault(status=status, body=words)


def test_a_recipe_that_can_run_has_no_finding(echo_recipe: Build, session: Session) -> None:
    assert look(echo_recipe(4), session) == []


def test_a_single_answer_a_prompt_makes_no_pair(echo_recipe: Build, session: Session) -> None:
    alone = {"name": "one", "backend": "echo", "model": "e"}
    (found,) = look(echo_recipe(4, pool={"members": [alone]}, evolution=None), session)
    assert found.place == "pool"
    assert "a pair takes two: add a member, set `samples: 2`" in found.problem
    twice = [alone | {"samples": 2}]
    assert look(echo_recipe(4, pool={"members": twice}, evolution=None), session) == []
    drawn = {"members": [alone, alone | {"name": "two", "model": "f"}], "draw": 1}
    assert [one.place for one in look(echo_recipe(4, pool=drawn, evolution=None), session)] == ["pool"]
    assert look(echo_recipe(4, pool=drawn | {"always": ["one"]}, evolution=None), session) == []
    assert look(echo_recipe(4, pool={"members": [alone]}), session) == [], "an evolved answer is the second one"


def test_every_key_that_is_absent_is_named_at_once(
    echo_recipe: Build, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KEY_A", "KEY_B"):
        monkeypatch.delenv(name, raising=False)
    members = [member(name, "http://127.0.0.1:9/v1", api_key_env=f"KEY_{name.upper()}") for name in "ab"]
    found = look(recipe_of(echo_recipe, *members), session)
    assert [one.place for one in found] == ["pool.members.0 (a): endpoint", "pool.members.1 (b): endpoint"]
    assert "the environment variable KEY_B holds no key" in found[1].problem
    assert look(recipe_of(echo_recipe, *members), session, stages=()) == [], "who asks nobody needs no key"


def test_a_workspace_that_cannot_be_one(
    echo_recipe: Build, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    (found,) = look(echo_recipe(4, workspace=str(tmp_path / "file" / "data")), session)
    assert (found.place, "is a file, not a folder" in found.problem) == ("workspace", True)
    monkeypatch.setattr(os, "access", lambda *_: False)
    (found,) = look(echo_recipe(4), session)
    assert "cannot be written by this user" in found.problem


def test_endpoints_are_asked_once_each_and_pay_from_the_budget(echo_recipe: Build, session: Session) -> None:
    with FakeEndpoint() as endpoint:
        members = [member("a", endpoint.url), member("b", endpoint.url), member("c", endpoint.url, "other")]
        recipe = recipe_of(echo_recipe, *members)
        assert ask_endpoints(recipe, session) == []
        assert [call["model"] for call in endpoint.journal] == ["m", "other"]
        assert [call["max_tokens"] for call in endpoint.journal] == [1, 1]
        ledger = open_ledger(recipe.ledger_url, session)
        assert sum(ledger.spending.spent(recipe.name)) == endpoint.bill > 0
        assert ask_endpoints(recipe, session) == []
        assert len(endpoint.journal) == 2, "what went well is not asked again for ten minutes"
        poor = recipe_of(echo_recipe, *members, budget={"tokens": 1}, name="poor")
        assert ask_endpoints(poor, session) == []
        assert len(endpoint.journal) == 2, "the budget allows no call"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (refused(401, "no such key"), "status 401: no such key; look at the key: endpoint.api_key_env is null"),
        (refused(404, "no such model"), "status 404: no such model; look at the model's id"),
        (refused(403, "not for you"), "status 403: not for you; look at the key"),
    ],
    ids=["401", "404", "403"],
)
def test_a_status_that_waiting_does_not_mend_is_fatal_where_all_have_it(
    echo_recipe: Build, session: Session, fault: Fault, words: str
) -> None:
    with FakeEndpoint([fault]) as endpoint:
        (a, b) = ask_endpoints(recipe_of(echo_recipe, member("a", endpoint.url), member("b", endpoint.url)), session)
    assert (a.place, b.place) == ("pool.members.0 (a)", "pool.members.1 (b)")
    assert (a.is_fatal, b.is_fatal) == (True, True)
    assert words in a.problem
    with pytest.raises(ConfigError, match=r"a run cannot begin:\n  pool.members.0 \(a\), pool.members.1 \(b\): m at"):
        raise_fatal([a, b])


def test_one_dead_endpoint_beside_one_that_answers_is_told_and_stops_nothing(
    echo_recipe: Build, session: Session
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}/v1"
    with FakeEndpoint() as endpoint:
        (found,) = ask_endpoints(recipe_of(echo_recipe, member("a", endpoint.url), member("b", nowhere)), session)
    assert found.place == "pool.members.1 (b)"
    assert "connection refused, nothing listens there; start the server" in found.problem
    raise_fatal([found])
    assert told([found]) == [f"{found.place}: {found.problem}"]


def test_a_server_that_is_waited_for_is_no_finding(echo_recipe: Build, session: Session) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}/v1"
    members = [member("a", nowhere, wait_for=300), member("b", nowhere, wait_for=300)]
    assert ask_endpoints(recipe_of(echo_recipe, *members), session) == []


def test_an_endpoint_that_is_busy_is_told_and_asked_again(echo_recipe: Build, session: Session) -> None:
    with FakeEndpoint([refused(503, "loading")]) as endpoint:
        recipe = recipe_of(echo_recipe, member("a", endpoint.url), member("b", endpoint.url))
        found = ask_endpoints(recipe, session)
        assert {one.is_fatal for one in found} == {False}
        assert ask_endpoints(recipe, session) == []
        assert len(endpoint.journal) == 2


@pytest.mark.parametrize(
    "fault",
    [
        refused(400, "logprobs is not supported"),
        refused(200, '{"choices": [{"message": {"content": "1"}, "finish_reason": "stop"}]}'),
    ],
    ids=["refused", "left out"],
)
def test_a_readout_that_an_endpoint_does_not_give_is_told_before_the_run(
    echo_recipe: Build, session: Session, fault: Fault
) -> None:
    with FakeEndpoint([fault]) as endpoint:
        judge = {name: value for name, value in member("judge", endpoint.url).items() if name != "system_prompt"}
        rating = {"aspects": ["helpfulness"], "judges": [judge | {"readout": "logprobs", "protocol": "pointwise"}]}
        (found,) = ask_endpoints(echo_recipe(4, rating=rating, evolution=None), session)
    assert found.place == "rating.judges.0 (judge)"
    assert "readout" in found.problem


def test_findings_with_one_problem_are_one_line() -> None:
    assert told([Finding("a", "x"), Finding("b", "y"), Finding("c", "x")]) == ["a, c: x", "b: y"]


@pytest.mark.parametrize(
    "answer", ["no choice at all", '{"choices": [{"message": {"content": "1"}, "finish_reason": "stop"}]}']
)
def test_an_answer_that_cannot_be_used_is_not_remembered_as_a_good_one(
    echo_recipe: Build, session: Session, answer: str
) -> None:
    with FakeEndpoint([refused(200, answer)] * 2) as endpoint:
        judge = {name: value for name, value in member("judge", endpoint.url).items() if name != "system_prompt"}
        rating = {"aspects": ["helpfulness"], "judges": [judge | {"readout": "logprobs", "protocol": "pointwise"}]}
        recipe = echo_recipe(4, rating=rating, evolution=None)
        assert [len(ask_endpoints(recipe, session)) for _ in range(2)] == [1, 1]


def test_a_run_that_could_make_no_pair_asks_nobody(echo_recipe: Build) -> None:
    with FakeEndpoint() as endpoint, pytest.raises(ConfigError, match="a pair takes two"):
        build(recipe_of(echo_recipe, member("a", endpoint.url)))
    assert not endpoint.journal


def test_in_batch_mode_only_the_list_of_models_is_asked_for(echo_recipe: Build, session: Session) -> None:
    with FakeEndpoint() as endpoint:
        members = [member(name, endpoint.url, mode="batch") for name in "ab"]
        assert ask_endpoints(recipe_of(echo_recipe, *members), session) == []
        assert not endpoint.journal


def test_in_batch_mode_nobody_there_and_a_wrong_key_are_found(
    echo_recipe: Build, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}/v1"
    recipe = recipe_of(echo_recipe, *(member(name, nowhere, mode="batch", wait_for=300) for name in "ab"))
    found = ask_endpoints(recipe, session)
    assert [one.is_fatal for one in found] == [True, True]
    where = nowhere.removeprefix("http://").removesuffix("/v1")
    mend = "start the server, or correct endpoint.base_url"
    assert found[0].problem == f"m at {where}: connection refused, nothing listens there; {mend}"

    async def refuse(_: Client) -> tuple[int, dict[str, str], bytes]:
        return 401, {}, b"no such key"

    monkeypatch.setattr(Client, "list_models", refuse)
    assert "status 401: no such key; look at the key" in ask_endpoints(recipe, session)[0].problem


@pytest.mark.parametrize("words", [["validate", "--check"], ["versions"], ["status"], ["inspect"], ["show"]])
def test_what_needs_no_prefect_never_imports_it(echo_recipe: Build, tmp_path: Path, words: list[str]) -> None:
    recipe = echo_recipe(4)
    build(recipe)
    data = Path(recipe.workspace)
    (tmp_path / "recipe.yaml").write_text((ROOT / "recipes" / "echo.yaml").read_text())
    shutil.copytree(ROOT / "recipes" / "prompts", tmp_path / "prompts")
    place = {"validate": "recipe.yaml", "status": data, "inspect": recipe.prompts.sources[0].path}
    code = (
        "import sys; from pairsmith_flows.__main__ import main\n"
        f"try: main({[words[0], str(place.get(words[0], data / recipe.name)), *words[1:]]!r})\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert 'prefect' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=clean_environment(), check=True, timeout=120)


def test_what_the_ledger_has_answers_of_may_be_gone(echo_recipe: Build, session: Session) -> None:
    with FakeEndpoint() as endpoint:
        recipe = recipe_of(echo_recipe, member("a", endpoint.url), member("b", endpoint.url))
        build(recipe)
    found = ask_endpoints(recipe, session)
    assert [one.place for one in found] == ["pool.members.0 (a)", "pool.members.1 (b)"]
    raise_fatal(found)


def test_rating_alone_asks_no_member(echo_recipe: Build, session: Session) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}/v1"
    recipe = recipe_of(echo_recipe, member("a", nowhere), member("b", nowhere))
    assert ask_endpoints(recipe, session, [RATE]) == []
    assert len(ask_endpoints(recipe, session)) == 2


def test_a_key_in_a_secret_block_is_left_to_prefect(echo_recipe: Build, session: Session) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}/v1"
    blocked = [member(name, nowhere, api_key_block="a-block") for name in "ab"]
    assert look(recipe_of(echo_recipe, *blocked), session) == []
    assert ask_endpoints(recipe_of(echo_recipe, *blocked), session) == []
