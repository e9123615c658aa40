"""A run says who gave nothing and why; answers of any backend come without their thoughts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pairsmith import build, preview
from pairsmith.config import Recipe, Sampling
from pairsmith.errors import ConfigError, RunError
from pairsmith.llms.endpoint import reach
from pairsmith.progress import ask
from pairsmith.protocol import Finished, Identity, Reply, Request
from pairsmith.testing import FakeEndpoint, Fault

ECHO = [{"name": name, "backend": "echo", "model": name} for name in ("a", "b")]


def at(endpoint: FakeEndpoint, name: str, **fields: Any) -> dict[str, Any]:
    where = {"base_url": endpoint.url, "api_key_env": None, "attempts": 1}
    return {"name": name, "backend": "openai", "model": name, "endpoint": where} | fields


def test_the_outcome_the_card_and_the_report_say_who_failed_and_whether_to_run_again(
    echo_recipe: Callable[..., Recipe],
) -> None:
    with FakeEndpoint(manner="no-seed") as choosy, FakeEndpoint(manner="error-in-200:503") as busy:
        members = [*ECHO, at(choosy, "c"), at(busy, "d"), at(choosy, "e", sampling={"seed": False})]
        members.append({"name": "f", "backend": "echo", "model": "f", "sampling": {"max_tokens": 2}})
        outcome = build(echo_recipe(4, pool={"members": members}, evolution=None))
    assert outcome.release
    told = {row["who"]: row for row in outcome.release.failures}
    assert set(told) == {"member c", "member d", "member f"}
    assert told["member f"]["commonest causes"] == "the answer was cut off at max_tokens"
    assert told["member c"]["commonest causes"] == 'refused: status 400: Unknown name "seed": Cannot find field.'
    assert "status 503: Told by the provider behind." in told["member d"]["commonest causes"]
    assert [row["run again"] for row in told.values()] == ["will not help", "may help", "will not help"]
    asked = {row["who"]: (row["failed"], row["refused"]) for row in outcome.usage}
    assert (asked["c"], asked["d"], asked["e"]) == ((4, 4), (4, 0), (0, 0))
    for place in (outcome.release.published.card, outcome.release.published.report):
        page = Path(place).read_text(encoding="utf-8")
        assert "Cannot find field." in page
        assert "will not help" in page


def test_a_run_without_a_pair_says_whose_failures_left_it_so(echo_recipe: Callable[..., Recipe]) -> None:
    with FakeEndpoint(manner="no-seed") as choosy:
        recipe = echo_recipe(
            3,
            pool={"members": ECHO},
            evolution=None,
            rating={"judges": [at(choosy, "k")], "aspects": ["overall"]},
        )
        with pytest.raises(
            RunError, match=r"judge k at [\d.:]+ failed 6 of 6 times \(refused: .*; running again will not"
        ):
            build(recipe)


class Thinker:
    """A model of a backend that knows nothing of thoughts."""

    identity = Identity("own", "thinker")

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        for index, request in enumerate(requests):
            yield [(index, Reply(request.messages[-1]["content"], "stop", 1, 1))]


def test_steps_see_the_answer_alone_whichever_backend_gave_it() -> None:
    chats = [
        ({"role": "user", "content": f"{thought}Oak."},) for thought in ("<think>Hm.</think>\n", "[THINK]Hm.[/THINK]")
    ]
    for reply in ask(Thinker(), [Request(chat, Sampling(), 1) for chat in chats], "generate", 1):
        assert (reply.text, reply.reasoning) == ("Oak.", "Hm.")


def test_what_quotes_a_mark_of_the_question_or_is_json_stays_whole() -> None:
    for text in ('{"why": "It ends.</think>Then"}', "You wrote:\n</think>\nwhich ends it"):
        asked = Request(({"role": "user", "content": text},), Sampling(), 1)
        (reply,) = ask(Thinker(), [asked], "generate", 1)
        assert (reply.text, reply.reasoning) == (text, None)


def test_a_wrong_key_of_one_member_stops_the_run_and_is_told_with_what_to_mend(
    echo_recipe: Callable[..., Recipe],
) -> None:
    """A mistake in the recipe: the run ends before more is paid, though others answer; what they answered is kept."""
    with FakeEndpoint() as alive, FakeEndpoint([Fault(401, "no such key")]) as locked:
        recipe = echo_recipe(4, pool={"members": [at(alive, "a"), at(locked, "b")]}, evolution=None)
        with pytest.raises(ConfigError) as error:
            build(recipe)
        paid = len(alive.journal)
        build(recipe)
    assert str(error.value) == (
        "the run stopped; what was answered is kept, and the next run goes on from it: "
        f"member b: endpoint {locked.url}, model b: status 401: no such key; "
        "look at the key: endpoint.api_key_env is null, so none is sent"
    )
    assert (paid, len(alive.journal)) == (4, 4)


def test_a_preview_of_which_nobody_answers_stops_as_a_run_does(
    echo_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "PATIENCE", 0.0)
    nowhere = {"base_url": "http://127.0.0.1:9/v1", "api_key_env": None}
    members = [{"name": name, "backend": "openai", "model": name, "endpoint": nowhere} for name in "ab"]
    with FakeEndpoint() as judging:
        recipe = echo_recipe(3, pool={"members": members}, evolution=None, rating={"judges": [at(judging, "j")]})
        with pytest.raises(ConfigError, match="no endpoint answers, so nothing can be done: member a .*; member b "):
            preview(recipe, 2)
        assert not judging.journal
