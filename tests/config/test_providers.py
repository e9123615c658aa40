"""What a recipe leaves out of an endpoint's requests: by its own words, or where its provider is known to refuse it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pairsmith.config import Judge, Member, ModelSpec, Sampling
from pairsmith.llms.endpoint.wire import body_of
from pairsmith.protocol import Identity, Request

CHAT = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"})
IDENTITY = Identity("openai", "m")


def asked(**sampling: Any) -> Request:
    return Request(CHAT, Sampling(**sampling), 7)


def test_every_field_can_be_left_out_of_a_request() -> None:
    assert {"temperature", "top_p", "seed"} <= body_of(asked(), "m", "max_tokens").keys()
    for name, none in (("temperature", None), ("top_p", None), ("seed", False)):
        assert name not in body_of(asked(**{name: none}), "m", "max_tokens")
    body = body_of(asked(temperature=None, top_p=None, seed=False), "m", "max_completion_tokens")
    assert set(body) == {"model", "messages", "max_completion_tokens"}
    assert body_of(asked(seed=0), "m", "max_tokens")["seed"] == 7


def test_a_system_message_is_folded_and_a_template_is_told_where_the_recipe_says_so() -> None:
    assert body_of(asked(), "m", "max_tokens")["messages"] == list(CHAT)
    folded = body_of(asked(fold_system=True), "m", "max_tokens")["messages"]
    assert folded == [{"role": "user", "content": "Be brief.\n\nHi"}]
    body = body_of(asked(template_kwargs={"enable_thinking": False}), "m", "max_tokens")
    assert body["chat_template_kwargs"] == {"enable_thinking": False}


def test_new_fields_are_in_a_key_only_where_they_are_used() -> None:
    changes: list[dict[str, Any]] = [
        {}, {"temperature": None}, {"top_p": None}, {"fold_system": True}, {"template_kwargs": {"a": 1}},
    ]  # fmt: skip
    assert len({asked(**change).key(IDENTITY) for change in changes}) == len(changes)
    assert not {"fold_system", "template_kwargs"} & Sampling().keyed.keys()


def spec(url: str, model: str, kind: type[ModelSpec] = Member, **fields: Any) -> ModelSpec:
    return kind(name="a", backend="openai", model=model, endpoint={"base_url": url}, **fields)  # type: ignore[call-arg]


GOOGLE = "https://generativelanguage.googleapis.com/v1beta/openai"


@pytest.mark.parametrize(
    ("url", "model", "left_out"),
    [
        ("https://api.openai.com/v1", "o3-mini", {"temperature", "top_p"}),
        ("https://api.openai.com/v1", "gpt-5-mini", {"temperature", "top_p"}),
        ("https://api.openai.com/v1", "gpt-5-chat-latest", set()),
        ("https://api.openai.com/v1", "gpt-4o", set()),
        ("https://api.mistral.ai/v1", "mistral-small-latest", {"seed"}),
        (GOOGLE, "gemini-2.5-flash", {"seed"}),
        (GOOGLE, "gemma-3-27b-it", {"seed"}),
        ("https://api.anthropic.com/v1", "claude-sonnet-4-5", {"top_p"}),
        ("https://api.anthropic.com/v1", "claude-3-5-haiku-latest", set()),
        ("https://api.mistral.ai.example.org/v1", "mistral-small-latest", set()),
    ],
)
def test_what_a_provider_is_known_to_refuse_is_left_out(url: str, model: str, left_out: set[str]) -> None:
    made = spec(url, model)
    body = body_of(Request(CHAT, made.sampling, 7), model, "max_tokens")
    assert {"temperature", "top_p", "seed"} - body.keys() == left_out
    assert made.endpoint
    is_named = "temperature" in left_out
    assert made.endpoint.max_tokens_name == ("max_completion_tokens" if is_named else "max_tokens")
    assert (len(body["messages"]) == 1) == model.startswith("gemma")
    again = Member.model_validate_json(made.model_dump_json())
    assert again == made


def test_a_recipes_own_words_stand_above_its_providers_profile() -> None:
    made = spec("https://api.openai.com/v1", "o3", sampling={"temperature": 1.0, "max_tokens": 50})
    assert (made.sampling.temperature, made.sampling.top_p, made.sampling.max_tokens) == (1.0, None, 50)
    judge = spec("https://api.openai.com/v1", "o3", Judge)
    assert (judge.sampling.temperature, judge.sampling.max_tokens) == (None, 1024)
    assert spec("https://api.mistral.ai/v1", "x", sampling=Sampling(seed=3)).sampling.seed == 3


@pytest.mark.parametrize("left_out", [{"temperature": None}, {"top_p": None}, {"seed": False}])
def test_a_model_of_this_process_needs_each_value(left_out: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="can be left out of what an endpoint is sent"):
        Member(name="a", model="m", sampling=left_out)
    assert Sampling(**left_out)


def test_a_seed_is_a_number_or_left_out() -> None:
    assert Sampling(seed=None) == Sampling(seed=False)  # type: ignore[arg-type]
    assert Sampling(seed=1).seed == 1
    with pytest.raises(ValidationError, match="a number, or false"):
        Sampling(seed=True)


def test_what_a_template_is_given_is_said_in_one_place() -> None:
    sent = {"chat_template_kwargs": {"enable_thinking": True}}
    assert Sampling(extra_body=sent)
    with pytest.raises(ValidationError, match="put all of it into template_kwargs"):
        Sampling(extra_body=sent, template_kwargs={"enable_thinking": False})


def test_what_pairsmith_says_to_a_template_cannot_be_said_by_a_recipe() -> None:
    with pytest.raises(ValidationError, match="add_generation_prompt"):
        Sampling(template_kwargs={"add_generation_prompt": False})


def test_a_provider_is_known_by_its_api_where_the_address_need_not_be_said() -> None:
    said = ModelSpec(backend="openai", model="claude-sonnet-4-5", endpoint={"base_url": "https://api.anthropic.com"})
    short = ModelSpec(backend="openai", model="claude-sonnet-4-5", endpoint={"api": "anthropic"})
    assert short == said
    assert short.sampling.top_p is None
