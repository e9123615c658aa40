from __future__ import annotations

from typing import Any

import pytest

from pairsmith.config import Judge, Rating
from pairsmith.llms.base import Identity, Reply
from pairsmith.llms.echo import Echo
from pairsmith.rating import plan, rate, shuffled, to_rows
from pairsmith.schemas import frame, rows
from tests.runs import completion
from tests.test_generation import prompt

WHO = Identity("echo", "judge")

ASPECTS = ("helpfulness", "honesty", "instruction-following", "truthfulness", "overall")
PROMPT = prompt("What rises?", reference="Bread does.")
TEXTS = [completion(f"c{n}", prompt_id=PROMPT["prompt_id"], text=f"Answer number {n}.") for n in range(4)]


def judge(**fields: Any) -> Judge:
    return Judge(name="j", backend="echo", model="judge", **fields)


def asked(judge: Judge, texts: list[dict[str, Any]] = TEXTS, aspects: Any = ASPECTS) -> list[Any]:
    return list(plan([PROMPT], texts, Rating(judges=(judge,), aspects=aspects), judge))


def rated(judge: Judge, texts: list[dict[str, Any]] = TEXTS, aspects: Any = ASPECTS) -> list[dict[str, Any]]:
    rating = Rating(judges=(judge,), aspects=aspects)
    return rows(rate(frame("prompts", [PROMPT]), frame("completions", texts), rating, judge, Echo(judge)))


@pytest.mark.parametrize(
    ("protocol", "readout"),
    [
        ("listwise", "text"),
        ("listwise", "json"),
        ("pointwise", "text"),
        ("pointwise", "json"),
        ("pointwise", "logprobs"),
    ],
)
def test_every_protocol_and_readout_rates_every_text_in_every_aspect(protocol: Any, readout: Any) -> None:
    table = rated(judge(protocol=protocol, readout=readout))
    assert len(table) == len(TEXTS) * len(ASPECTS)
    assert all(row["rating"] in range(1, 6) or row["error"] == "not_applicable" for row in table)
    assert all(row["rationale"] for row in table)
    if readout == "logprobs":
        assert any(row["score"] != row["rating"] for row in table)


def test_the_number_of_requests() -> None:
    assert len(asked(judge())) == len(ASPECTS)
    assert len(asked(judge(protocol="pointwise"))) == len(ASPECTS) * len(TEXTS)
    assert len(asked(judge(critique=True))) == len(ASPECTS) + len(TEXTS)


def test_critiques_go_up_to_ten_and_carry_feedback() -> None:
    table = [row for row in rated(judge(critique=True)) if row["aspect"] == "critique"]
    assert len(table) == len(TEXTS)
    assert all(1 <= row["rating"] <= 10 and row["rationale"] for row in table)


def test_the_order_is_shuffled_recorded_and_the_same_for_any_order_of_rows() -> None:
    orders = {tuple(row["completion_id"] for row in shuffled(TEXTS, judge(), aspect)) for aspect in ASPECTS}
    assert len(orders) > 1
    assert asked(judge()) == asked(judge(), TEXTS[::-1])
    positions = {(row["aspect"], row["completion_id"]): row["position"] for row in rated(judge())}
    for item in asked(judge()):
        for position, text in enumerate(item.sheet.texts):
            assert positions[item.aspect, text.completion_id] == position


def test_what_failed_is_not_judged() -> None:
    broken = [
        TEXTS[0] | {"error": "failed: x"},
        TEXTS[1] | {"error": "evolution_failed: unchanged"},
        *TEXTS[2:],
    ]
    assert {row["completion_id"] for row in rated(judge(), broken)} == {"c2", "c3"}
    assert not rated(judge(), [row | {"error": "empty"} for row in TEXTS])


def test_requests_show_the_reference_and_ask_for_what_the_readout_needs() -> None:
    user = asked(judge())[0].request.messages[1]["content"]
    assert "Bread does." in user
    assert "Rationale:" in user
    assert "Rationale:" not in asked(judge(rationale=False))[0].request.messages[1]["content"]
    assert asked(judge(readout="json"))[0].request.schema
    quick = asked(judge(protocol="pointwise", readout="logprobs", rationale=False))[0].request
    assert (quick.sampling.max_tokens, quick.choices) == (1, ("1", "2", "3", "4", "5"))
    assert "N" in asked(judge(protocol="pointwise", readout="logprobs"), aspects=("honesty",))[0].request.choices


def test_a_failed_request_gives_null_for_each_text_with_the_reason() -> None:
    item = asked(judge())[0]
    made = to_rows(item, Reply("", error="500"), judge(), WHO)
    assert [row["error"] for row in made] == ["failed: 500"] * len(TEXTS)


def test_garbage_gives_null_with_the_reply_kept() -> None:
    item = asked(judge())[0]
    made = to_rows(item, Reply("5 5 5 5", "stop"), judge(), WHO)
    assert [row["rating"] for row in made] == [None] * len(TEXTS)
    assert {row["reply"] for row in made} == {"5 5 5 5"}
