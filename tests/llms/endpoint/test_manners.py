"""Each manner of providers, as the fake endpoint has it and as pairsmith takes it; docs/endpoints.md lists them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pairsmith.errors import ConfigError
from pairsmith.generation.pool import trouble
from pairsmith.judging.readout_json import schema_for
from pairsmith.judging.readouts import Scale, Sheet, Text
from pairsmith.llms.endpoint import attempts as backend
from pairsmith.protocol import Reply
from pairsmith.testing import FakeEndpoint, completion
from pairsmith.testing.manners import MANNERS, REFUSAL, THOUGHT
from tests.llms.endpoint.test_openai import ask, request

ANSWERED = {
    *(f"ends:{end}" for end in ("eos", "STOP", "COMPLETE", "null", "absent")),
    "content-parts", "usage:none", "usage:anthropic", "usage:gemini",
}  # fmt: skip
CUT = {"ends:MAX_TOKENS", "ends:model_length"}
THINKING = {
    "thinking-parts", "reasoning-field", "think-tags", "half-think-tags", "thought-tags", "think-marks", "channels",
}  # fmt: skip
REFUSING: dict[str, dict[str, Any]] = {  # with what a recipe says about it
    "temperature-or-top-p": {"top_p": None},
    "no-sampling": {"temperature": None, "top_p": None},
    "no-seed": {"seed": False},
    "no-system": {"fold_system": True},
}
STOPPING = {"error-in-200:401", "error-in-200:402", "no-money"}
PASSING = {"error-in-200:429", "error-in-200:server_error"}
OTHERS = {"thought-alone", "refusal", "filtered", "max-completion-tokens", "strict-schema"}
ALL = {*ANSWERED, *CUT, *THINKING, *REFUSING, *STOPPING, *PASSING, *OTHERS}


def answer(manner: str, sampling: dict[str, Any] | None = None, **fields: Any) -> tuple[Reply, str]:
    """A reply, and the text that the endpoint would have given without its manner."""
    chat = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a tree"})
    asked = request("", sampling=sampling or {})
    with FakeEndpoint(manner=manner) as endpoint:
        (reply,) = ask(endpoint, type(asked)(chat, asked.sampling, 1), attempts=2, **fields)
        return reply, completion(endpoint.journal[-1])["choices"][0]["message"]["content"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "backoff", lambda *_: 0.01)


def test_every_manner_is_tried_here_and_stands_in_the_docs() -> None:
    assert {name.partition(":")[0] for name in ALL} == set(MANNERS)
    text = (Path(__file__).parents[3] / "docs" / "endpoints.md").read_text(encoding="utf-8")
    part = text.partition("## What providers do otherwise")[2].partition("\n## ")[0]
    rows = [line.rsplit("|", 2)[1] for line in part.split("\n") if line.startswith("|")]
    listed = {name for row in rows for name in re.findall(r"`([\w:-]+)`", row) if name.partition(":")[0] in MANNERS}
    assert listed == ALL


@pytest.mark.parametrize("manner", sorted(ANSWERED | CUT | THINKING))
def test_an_answer_is_an_answer_in_every_manner(manner: str) -> None:
    reply, text = answer(manner)
    assert (reply.text, reply.error) == (text, None)
    assert reply.finish_reason == ("length" if manner in CUT else "stop")
    assert reply.reasoning == (THOUGHT if manner in THINKING else None)
    bill = reply.charged
    assert bill
    assert bill.n_tokens > 0
    assert bill.is_reckoned == (manner == "usage:none")


@pytest.mark.parametrize("manner", REFUSING)
def test_a_refused_field_can_be_left_out(manner: str) -> None:
    refused, _ = answer(manner)
    assert str(refused.error).startswith("refused: status 400")
    reply, text = answer(manner, REFUSING[manner])
    assert (reply.text, reply.error) == (text, None)


def test_a_name_and_a_schema_can_be_as_the_endpoint_takes_them() -> None:
    assert "max_completion_tokens" in str(answer("max-completion-tokens")[0].error)
    assert answer("max-completion-tokens", max_tokens_name="max_completion_tokens")[0].error is None
    sheet = Sheet((Text("c", "a1b2c3", "x"),), Scale(1, 5), may_be_na=True)
    with FakeEndpoint(manner="strict-schema") as endpoint:
        (reply,) = ask(endpoint, request("Rate", schema=schema_for(sheet, True)))
    assert reply.error is None


@pytest.mark.parametrize("manner", sorted(STOPPING))
def test_what_no_request_can_mend_ends_the_run(manner: str) -> None:
    with pytest.raises(ConfigError, match="Told by the provider|exceeded your current quota"):
        answer(manner)


@pytest.mark.parametrize("manner", sorted(PASSING))
def test_what_may_pass_is_tried_again(manner: str) -> None:
    reply, _ = answer(manner)
    assert str(reply.error).startswith("2 attempts failed; the last: status ")
    assert not reply.final


def test_refusals_and_lost_thoughts_say_what_they_are() -> None:
    for manner in ("refusal", "filtered"):
        reply, _ = answer(manner)
        assert REFUSAL in str(reply.error)
        assert reply.final
    reply, _ = answer("thought-alone")
    assert "max_tokens went to the thought" in str(trouble(reply))


def test_manners_are_joined_and_unknown_ones_named() -> None:
    reply, text = answer("think-tags,ends:null,content-parts,usage:none")
    assert (reply.text, reply.reasoning, reply.finish_reason) == (text, THOUGHT, "stop")
    with pytest.raises(ValueError, match="no manner rude; known are ends"):
        FakeEndpoint(manner="no-seed,rude")
