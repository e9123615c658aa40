"""F16: where one field, template, model or row has changed, exactly the calls that it affects are asked again.

What is told by what arrives at the endpoint: no request comes twice, and those that come anew are of the models, or
about the prompt, that the change concerns.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pairsmith.config import Recipe, Sampling
from pairsmith.protocol import Identity, Request
from pairsmith.storage import revisions
from pairsmith.testing import FakeEndpoint
from pairsmith.text import templating
from tests.faults.harness import repeated
from tests.runs import run

Build = Callable[..., Recipe]
Tally = Callable[..., None]
COUNT = 8
WHO = Identity("echo", "m")


@pytest.fixture
def build(base_recipe: Build, endpoint: FakeEndpoint, tmp_path: Path) -> Build:
    """Builds a recipe of two members, an evolver and a judge over some texts, with changes to one of them."""
    where = {"backend": "openai", "endpoint": {"base_url": endpoint.url, "api_key_env": None}}

    def make(
        texts: list[str] | None = None,
        a: dict[str, Any] | None = None,
        evolver: dict[str, Any] | None = None,
        evolution: dict[str, Any] | None = None,
        judge: dict[str, Any] | None = None,
        more: list[dict[str, Any]] | None = None,
        **changes: Any,
    ) -> Recipe:
        texts = [f"Question {n}?" for n in range(COUNT)] if texts is None else texts
        (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
        members = [{"name": "a", "model": "a", **where} | (a or {}), {"name": "b", "model": "b", **where}]
        whole: dict[str, Any] = {
            "prompts": {"sources": [{"path": str(tmp_path / "texts.jsonl")}]},
            "pool": {"members": [*members, *({"name": one["model"], **where} | one for one in more or [])]},
            "evolution": {"evolver": {"model": "e", **where} | (evolver or {}), **(evolution or {})},
            "rating": {"judges": [{"name": "j", "model": "j", **where} | (judge or {})], "aspects": ["overall"]},
        }
        return base_recipe(endpoint, 1, **whole | changes)

    return make


def new_calls(recipe: Recipe, endpoint: FakeEndpoint) -> list[dict[str, Any]]:
    """What a run asks; nothing that had been asked before."""
    before = len(endpoint.journal)
    run(recipe)
    assert repeated(endpoint) == 0
    return endpoint.journal[before:]


def models(calls: list[dict[str, Any]]) -> dict[str, int]:
    return dict(Counter(call["model"] for call in calls))


def raise_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of every step makes other tables from now on."""
    for step, number in revisions.REVISIONS.items():
        monkeypatch.setitem(revisions.REVISIONS, step, number + 1)


# Listwise, the judge sees all answers of a prompt at once, so any new one is a new request.
RATED = {"j": COUNT}


@pytest.mark.parametrize(
    ("change", "asked"),
    [
        ({"description": "another"}, {}),
        ({"name": "other"}, {}),
        ({"shard_size": 3}, {}),
        ({"shards_in_flight": 1}, {}),
        ({"budget": {"tokens": 10**9}}, {}),
        ({"pairing": {"min_margin": 1.0}}, {}),
        ({"pairing": {"strategy": "best-vs-second"}}, {}),
        ({"publishing": {"test_fraction": 0.5}}, {}),
        ({"a": {"price": {"prompt": 1}}}, {}),
        ({"a": {"model": "other"}}, {"other": COUNT, "e": COUNT, **RATED}),
        ({"a": {"system_prompt": "Be brief."}}, {"a": COUNT, "e": COUNT, **RATED}),
        ({"a": {"sampling": {"temperature": 0.1}}}, {"a": COUNT, "e": COUNT, **RATED}),
        ({"a": {"sampling": {"seed": 1}}}, {"a": COUNT, "e": COUNT, **RATED}),
        ({"a": {"samples": 2}}, {"a": COUNT, "e": COUNT, **RATED}),
        ({"more": [{"model": "c"}]}, {"c": COUNT, "e": COUNT, **RATED}),
        ({"evolver": {"model": "other"}}, {"other": 2 * COUNT, **RATED}),
        ({"evolution": {"of": ["b"]}}, RATED),
        ({"evolution": {"rounds": 2}}, {"e": 2 * COUNT, **RATED}),
        ({"judge": {"model": "other"}}, {"other": COUNT}),
        ({"judge": {"readout": "json"}}, RATED),
        ({"judge": {"rationale": False}}, RATED),
        ({"judge": {"critique": True}}, {"j": 4 * COUNT}),
        ({"judge": {"protocol": "pointwise"}}, {"j": 4 * COUNT}),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else None,
)
def test_f16_one_field(
    build: Build, endpoint: FakeEndpoint, tally: Tally, change: dict[str, Any], asked: dict[str, int]
) -> None:
    assert models(new_calls(build(), endpoint)) == {"a": COUNT, "b": COUNT, "e": 2 * COUNT, "j": COUNT}
    calls = new_calls(build(**change), endpoint)
    tally(1, 0, repeated(endpoint))
    assert models(calls) == asked
    assert new_calls(build(), endpoint) == []  # nor does the way back cost anything


def test_f16_another_revision_is_another_model(build: Build, endpoint: FakeEndpoint) -> None:
    """The endpoint is not told of revisions, so what arrives looks the same; the answers that it gives are as well."""
    run(build())
    before = len(endpoint.journal)
    run(build(a={"revision": "2"}))
    assert models(endpoint.journal[before:]) == {"a": COUNT}


@pytest.mark.parametrize("place", [0, COUNT - 1])
def test_f16_one_row(build: Build, endpoint: FakeEndpoint, tally: Tally, place: int) -> None:
    new_calls(build(), endpoint)
    texts = [f"Question {n}?" for n in range(COUNT)]
    texts[place] = "One that has changed?"
    for changed, asked in (
        (texts, {"a": 1, "b": 1, "e": 2, "j": 1}),
        ([*texts, "One more?"], {"a": 1, "b": 1, "e": 2, "j": 1}),
        (texts[1:], {}),
        (texts[::-1], {}),
        ([*texts, texts[0]], {}),
    ):
        calls = new_calls(build(changed), endpoint)
        tally(1, 0, repeated(endpoint))
        assert models(calls) == asked
        assert all("One" in json.dumps(call["messages"]) for call in calls)


def test_f16_one_template_of_the_recipe(build: Build, endpoint: FakeEndpoint) -> None:
    def own(text: str) -> Recipe:
        return build(evolution={"methods": ["mine"], "templates": {"mine": text}})

    new_calls(own("Make it shorter."), endpoint)
    assert models(new_calls(own("Make it longer."), endpoint)) == {"e": 2 * COUNT, **RATED}


@pytest.mark.parametrize(
    ("template", "where", "asked"),
    [
        ("overall.jinja", "pairsmith.judging.asking.render", RATED),
        ("honesty.jinja", "pairsmith.judging.asking.render", {}),
        ("details.jinja", "pairsmith.generation.evolution.render", {"e": 2 * COUNT, **RATED}),
        ("creativity.jinja", "pairsmith.generation.evolution.render", {}),
    ],
)
def test_f16_one_template_of_ours(
    build: Build, endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch, template: str, where: str, asked: Any
) -> None:
    recipe = build(evolution={"methods": ["details"]})
    new_calls(recipe, endpoint)
    render = templating.render

    def changed(wing: str, name: str, **values: Any) -> str:
        return render(wing, name, **values) + (" Be strict." if name == template else "")

    monkeypatch.setattr(where, changed)
    raise_numbers(monkeypatch)
    assert models(new_calls(recipe, endpoint)) == asked


def test_f16_changed_code_builds_anew_and_asks_nothing(
    build: Build, endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = build()
    new_calls(recipe, endpoint)
    raise_numbers(monkeypatch)
    assert new_calls(recipe, endpoint) == []


@pytest.mark.parametrize(
    "change",
    [
        {"text": "b"}, {"role": "system"}, {"seed": 1}, {"sample": 1}, {"schema": {"type": "object"}},
        {"choices": ("1", "2")}, {"temperature": 0.1}, {"top_p": 0.9}, {"top_k": 5}, {"max_tokens": 7},
        {"stop": ("x",)}, {"extra_body": {"min_p": 0.1}},
    ],
    ids=str,
)  # fmt: skip
def test_f16_every_field_that_can_change_an_answer_is_in_the_key(change: dict[str, Any]) -> None:
    def key(who: Identity = WHO, text: str = "a", role: str = "user", **words: Any) -> str:
        own = {name: words.pop(name) for name in ("seed", "sample", "schema", "choices") if name in words}
        return Request(({"role": role, "content": text},), Sampling(**words), **{"seed": 0, **own}).key(who)

    assert key(**change) != key()
    assert len({key(), *(key(Identity(*who)) for who in (("x", "m"), ("echo", "x"), ("echo", "m", "2")))}) == 4
