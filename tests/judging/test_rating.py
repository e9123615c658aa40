"""What a judge is asked, in which order, and what becomes of its replies."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pairsmith.config import Judge, Rating
from pairsmith.judging.asking import NOTHING, JudgeRequest, judge_requests, shuffled
from pairsmith.judging.rating import asked_again, rate, read, to_rows
from pairsmith.judging.readout_text import read_text
from pairsmith.judging.readouts import Scale, Sheet, Text
from pairsmith.ledger.ledger import Ledger
from pairsmith.llms.echo import Echo
from pairsmith.llms.recorded import Recorded
from pairsmith.planning.dry_run import plan_run
from pairsmith.protocol import Finished, Identity, Reply, Request
from pairsmith.storage.schemas import frame, rows
from tests.generation.test_pool import prompt
from tests.runs import completion

WHO = Identity("echo", "judge")

ASPECTS = ("helpfulness", "honesty", "instruction-following", "truthfulness", "overall")
PROMPT = prompt("What rises?", reference="Bread does.")
TEXTS = [completion(f"c{n}", prompt_id=PROMPT["prompt_id"], text=f"Answer number {n}.") for n in range(4)]


def judge(**fields: Any) -> Judge:
    return Judge(name="j", backend="echo", model="judge", **fields)


def asked(judge: Judge, texts: list[dict[str, Any]] = TEXTS, aspects: Any = ASPECTS) -> list[Any]:
    return list(judge_requests([PROMPT], texts, Rating(judges=(judge,), aspects=aspects), judge))


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


class Scripted:
    """A judge that gives these replies, one request after another."""

    def __init__(self, *replies: str) -> None:
        self.identity, self.asked = WHO, list[Request]()
        self._replies = iter(replies)

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        for index, request in enumerate(requests):
            self.asked.append(request)
            yield [(index, Reply(next(self._replies), "stop"))]


def reply(item: Any, **ratings: int | None) -> str:
    """A reply that rates the texts c0, c1, ... named here; null leaves the number out."""
    marks = {text.completion_id: text.mark for text in item.sheet.texts}
    return "\n".join(f"Rating {marks[name]}: {value or ''}" for name, value in ratings.items())


def test_what_could_not_be_read_is_asked_for_again_with_what_was_wrong() -> None:
    one = judge(rationale=False)
    (item,) = asked(one, aspects=("overall",))
    first, second = reply(item, c0=5, c1=9, c2=2), reply(item, c0=1, c1=4, c2=1, c3=3)
    llm = Scripted(first, second)
    config = Rating(judges=(one,), aspects=("overall",))
    table = rows(rate(frame("prompts", [PROMPT]), frame("completions", TEXTS), config, one, llm))
    found = {row["completion_id"]: (row["rating"], row["reply"]) for row in table}
    assert found == {"c0": (5, first), "c1": (4, second), "c2": (2, first), "c3": (3, second)}
    assert [message["role"] for message in llm.asked[1].messages] == ["system", "user", "assistant", "user"]
    assert llm.asked[1].messages[2]["content"] == first
    marks = {text.completion_id: text.mark for text in item.sheet.texts}
    told = llm.asked[1].messages[3]["content"]
    assert marks["c1"] in told
    assert marks["c3"] in told
    assert marks["c0"] not in told


@pytest.mark.parametrize("protocol", ["listwise", "pointwise"])
def test_a_judge_that_gives_back_the_blanks_is_shown_a_filled_form(protocol: Any) -> None:
    one, texts = judge(protocol=protocol), TEXTS[:1]
    (item,) = asked(one, texts, aspects=("overall",))
    blank = item.request.messages[-1]["content"].rpartition("nothing else:\n\n")[2]
    assert re.search(r"Rating \w{6}: <1 to 5>", blank)
    llm = Scripted(blank, f"Rating {item.sheet.texts[0].mark}: 2")
    config = Rating(judges=(one,), aspects=("overall",))
    (row,) = rows(rate(frame("prompts", [PROMPT]), frame("completions", texts), config, one, llm))
    assert row["rating"] == 2
    told = llm.asked[1].messages[3]["content"]
    example = told[told.index("### Text") :].partition("\n\n")[0]
    assert re.fullmatch(r"### Text \w{6}\nRationale: .+\nRating \w{6}: 4", example)
    assert item.sheet.texts[0].mark not in example
    assert read_text(example, item.sheet)[item.sheet.texts[0].mark].rating is None  # where it is copied


def test_only_blanks_bring_an_example_so_other_requests_stay_as_they_were() -> None:
    one = judge()
    llm = Scripted("no format at all", "no format at all")
    config = Rating(judges=(one,), aspects=("overall",))
    rate(frame("prompts", [PROMPT]), frame("completions", TEXTS), config, one, llm)
    assert "### Text" not in llm.asked[1].messages[3]["content"]
    assert "### Text" not in asked_again(*_blank(judge(readout="json"))).request.messages[-1]["content"]


def _blank(one: Judge) -> tuple[Any, list[Any], list[Any]]:
    """A request, and the rows of a reply that gives back a blank."""
    (item,) = asked(one, aspects=("overall",))
    made = to_rows(item, Reply("<1 to 5>", "stop"), one, WHO)
    return item, made, made


@pytest.mark.parametrize("reasks", [0, 1, 3])
def test_asking_again_has_an_end(reasks: int) -> None:
    one = judge(reasks=reasks)
    llm = Scripted(*(["no format at all"] * 9))
    config = Rating(judges=(one,), aspects=("overall",))
    table = rows(rate(frame("prompts", [PROMPT]), frame("completions", TEXTS), config, one, llm))
    assert len(llm.asked) == 1 + reasks
    assert len({request.key(WHO) for request in llm.asked}) == 1 + reasks  # else the ledger would give the same reply
    assert [row["rating"] for row in table] == [None] * 4
    assert {row["reply"] for row in table} == {"no format at all"}


def test_several_orders_are_asked_for_and_recorded() -> None:
    made = asked(judge(orders=3), aspects=("overall",))
    seen = [[text.completion_id for text in item.sheet.texts] for item in made]
    assert len({tuple(order) for order in seen}) > 1
    assert {frozenset(order) for order in seen} == {frozenset(f"c{n}" for n in range(4))}
    table = rated(judge(orders=3), aspects=("overall",))
    assert sorted((row["completion_id"], row["order"]) for row in table) == [
        (f"c{n}", order) for n in range(4) for order in range(3)
    ]
    with pytest.raises(ValueError, match="orders goes with protocol listwise"):
        judge(orders=2, protocol="pointwise")


@pytest.mark.parametrize("readout", ["text", "json"])
@pytest.mark.parametrize(
    ("rubric", "low", "high"),
    [
        ({"criterion": "Is it clear?", "low": 0, "high": 100}, 0, 100),
        ({"criterion": "Does it answer?", "low": 0, "high": 1}, 0, 1),
        ({"criterion": "Look at each.", "items": ["greets", "thanks", "ends"]}, 0, 3),
    ],
)
def test_own_aspects_have_their_own_words_and_scale(readout: Any, rubric: dict[str, Any], low: int, high: int) -> None:
    one = judge(readout=readout)
    config = Rating.model_validate({"judges": [one.model_dump()], "rubrics": {"mine": rubric}, "aspects": ["mine"]})
    (item,) = judge_requests([PROMPT], TEXTS, config, one)
    system = item.request.messages[0]["content"]
    assert rubric["criterion"] in system
    assert all(point in system for point in rubric.get("items", ()))
    assert (item.sheet.scale.low, item.sheet.scale.high) == (low, high)
    table = rows(rate(frame("prompts", [PROMPT]), frame("completions", TEXTS), config, one, Echo(one)))
    assert all(row["rating"] in range(low, high + 1) for row in table)


def test_aspects_that_nobody_defined_and_scales_that_a_readout_cannot_read_are_refused() -> None:
    long = {"mine": {"criterion": "x", "high": 10}}
    for wrong, told in (
        ({"aspects": ["mine"]}, "there is no mine"),
        ({"rubrics": {"overall": {"criterion": "x"}}}, "pairsmith's own"),
        ({"rubrics": {"mine": {"criterion": "x", "low": 5, "high": 5}}}, "low must be less"),
        ({"rubrics": long, "aspects": ["mine"], "readout": "logprobs"}, "goes beyond 9"),
    ):
        one = judge(readout=wrong.pop("readout", "text"), protocol="pointwise")
        with pytest.raises(ValueError, match=told):
            Rating.model_validate({"judges": [one.model_dump()], **wrong})


@pytest.mark.parametrize(
    ("families", "own_family", "expected"),
    [
        (("qwen", "qwen"), "auto", {"a": 4, "b": 4}),
        (("qwen", "llama"), "auto", {"a": 0, "b": 4}),
        (("qwen", "smollm"), "auto", {"a": 4, "b": 4}),  # by one judge each, leniency alone would decide
        (("qwen", "llama"), "skip", {"a": 2, "b": 4}),
        (("qwen", "llama"), "rate", {"a": 4, "b": 4}),
        (("qwen", "qwen"), "skip", {"a": 2, "b": 2}),
    ],
)
def test_a_judge_leaves_its_own_family_to_others(families: Any, own_family: Any, expected: dict[str, int]) -> None:
    judges = [
        {"name": name, "backend": "echo", "model": f"org/{family}-7b", "protocol": "pointwise", "seed": n}
        for n, (name, family) in enumerate(zip("ab", families, strict=True))
    ]
    config = Rating.model_validate({"judges": judges, "own_family": own_family})
    texts = [row | {"member": "qwen" if n < 2 else "other"} for n, row in enumerate(TEXTS)]
    members = {"qwen": "qwen", "other": "smollm"}
    made = {one.name: len(list(judge_requests([PROMPT], texts, config, one, members))) for one in config.judges}
    assert made == expected


def test_a_dry_run_knows_which_judge_is_left_out(echo_recipe: Any) -> None:
    judges = [
        {
            "name": name,
            "backend": "echo",
            "model": model,
            "family": family,
            "readout": "logprobs",
            "protocol": "pointwise",
        }
        for name, model, family in (("own", "m1", "echo-family"), ("other", "m2", "third"))
    ]
    changes = {"evolution": None, "rating": {"judges": judges, "aspects": ["overall"]}}
    pool = {"members": [{"name": n, "backend": "echo", "model": n, "family": "echo-family"} for n in ("a", "b")]}
    lines = {line.who: line.calls for line in plan_run(echo_recipe(4, pool=pool, **changes)).lines}
    assert (lines["own"], lines["other"]) == (0, 8)  # one a prompt, and as many again where one cannot be read


class Mumbling:
    """Never says anything that can be read."""

    def __init__(self) -> None:
        self.identity = Identity("echo", "mumbling")
        self.asked: list[Request] = []

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        for request in requests:
            self.asked.append(request)
        yield [(index, Reply(f"mumble {len(self.asked)}", "stop")) for index in range(len(requests))]


def test_each_time_it_is_asked_again_is_a_request_of_its_own(tmp_path: Path) -> None:
    llm, ledger = Mumbling(), Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    one = Judge(name="j", backend="echo", model="mumbling", reasks=3)
    config = Rating(judges=(one,))
    for _ in range(2):
        recorded = Recorded(llm, ledger)
        table = rate(frame("prompts", [PROMPT]), frame("completions", list(TEXTS)), config, one, recorded)
        assert table["error"].notna().all()
    assert len(llm.asked) == len({request.key(llm.identity) for request in llm.asked}) == 4
    assert [message["content"] for message in llm.asked[3].messages[2:3]] == ["mumble 3"]


@pytest.mark.parametrize("readout", ["text", "json"])
def test_a_reply_that_was_cut_may_be_the_beginning_of_another_rating(readout: str) -> None:
    sheet = Sheet((Text("c", "a1b2c3", "Bread rises."),), Scale(1, 10), False)
    item = JudgeRequest("p", "honesty", sheet, Request((), NOTHING, 0), readout, "pointwise")
    found = {reason: read(item, Reply("1", finish_reason=reason))["a1b2c3"].rating for reason in ("stop", "length")}
    assert found == {"stop": 1, "length": None}
