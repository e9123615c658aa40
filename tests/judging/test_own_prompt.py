"""A judge prompt of one's own: whatever its parser does, no rating is wrong, and no text is left out."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from pairsmith.config import Judge, Rating
from pairsmith.errors import ConfigError
from pairsmith.judging.own_prompt import JudgeSheet, messages_of, read_own
from pairsmith.judging.rating import rate
from pairsmith.judging.readouts import NOT_APPLICABLE, Read, Scale, Text
from pairsmith.protocol import Finished, Identity, Message, Reply, Request
from pairsmith.storage.schemas import frame, rows
from tests.runs import completion

NAME = "own:Prompt"
SHEET = JudgeSheet((Text("c1", "aaa111", "one"), Text("c2", "bbb222", "two")), Scale(1, 5), may_be_na=False)
ASKED = [{"role": "user", "content": "Rate."}]


class Fixed:
    """A prompt that asks and reads what it is told to."""

    def __init__(self, found: Any = None, asked: Any = ASKED) -> None:
        self.found, self.asked, self.seen = found, asked, list[str]()

    def messages(self, sheet: JudgeSheet) -> Sequence[Message]:
        return self.asked() if callable(self.asked) else self.asked  # type: ignore[no-any-return]

    def read(self, reply: str, sheet: JudgeSheet) -> Mapping[str, Read]:
        self.seen.append(reply)
        return self.found() if callable(self.found) else self.found  # type: ignore[no-any-return]


def read(found: Any, sheet: JudgeSheet = SHEET, **reply: Any) -> dict[str, Read]:
    return read_own(NAME, Fixed(found), sheet, Reply(**{"text": "a reply", "finish_reason": "stop", **reply}))


def test_a_rating_on_the_scale_counts() -> None:
    found = read({"aaa111": Read(4, rationale="why"), "bbb222": Read(2, 2.5)})
    assert found == {"aaa111": Read(4, 4.0, "why"), "bbb222": Read(2, 2.5)}
    assert read({"aaa111": Read(score=1.5)})["aaa111"] == Read(None, 1.5)
    assert read({"aaa111": Read(4)})["bbb222"] == Read(error="no rating")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (Read(6), "not on the scale 1 to 5"),
        (Read(0), "not on the scale 1 to 5"),
        (Read(3, 5.5), "not on the scale 1 to 5"),
        (Read(9, 3.0), "the rating 9 is no whole number from 1 to 5"),
        (Read(2.5), "the rating 2.5 is no whole number"),  # type: ignore[arg-type]
        (Read(True), "no rating"),
        (Read(True, 3.0), "the rating True is no whole number"),
        (Read(score=math.nan), "no rating"),
        (Read(score=math.inf), "not on the scale 1 to 5"),
        (Read("4"), "no rating"),  # type: ignore[arg-type]
        (Read(), "no rating"),
        (Read(4, error="torn"), "torn"),
        (Read(error=NOT_APPLICABLE), "not applicable is no answer to this aspect"),
        (None, "no rating"),
        (4, "a int where a Read should be"),
    ],
)
def test_anything_else_is_null_with_the_reason(value: Any, told: str) -> None:
    found = read({"aaa111": value, "bbb222": Read(3)})
    assert (found["aaa111"].rating, found["aaa111"].score) == (None, None)
    assert (found["aaa111"].error or "").startswith(told)
    assert found["bbb222"] == Read(3, 3.0)


def test_not_applicable_counts_where_it_may_be() -> None:
    sheet = JudgeSheet(SHEET.texts, SHEET.scale, may_be_na=True)
    assert read({"aaa111": Read(error=NOT_APPLICABLE)}, sheet)["aaa111"].error == NOT_APPLICABLE


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (lambda: 1 / 0, "own:Prompt.read: ZeroDivisionError"),
        (lambda: sys.exit(3), "own:Prompt.read: SystemExit: 3"),
        ([Read(4)], "own:Prompt.read gave a list"),
        (None, "own:Prompt.read gave a NoneType"),
        ({"aaa111": Read(4), "ccc333": Read(5)}, "own:Prompt.read named texts that are not there: ['ccc333']"),
        ({"c1": Read(4)}, "named texts that are not there"),
        ({3: Read(4)}, "named texts that are not there"),
    ],
)
def test_a_parser_that_fails_or_names_other_texts_rates_none(found: Any, told: str) -> None:
    reads = read(found)
    assert set(reads) == {"aaa111", "bbb222"}
    assert all(told in (one.error or "") and one.rating is None and one.score is None for one in reads.values())


def test_no_parser_makes_a_wrong_rating() -> None:
    numbers = [None, -2, 0, 1, 3, 5, 6, 2.5, 5.5, True, math.nan, -math.inf, "3", 10**400]
    for rating, score, error in product(numbers, numbers, (None, "x", NOT_APPLICABLE, 3)):
        one = read({"aaa111": Read(rating, score, None, error)})["aaa111"]  # type: ignore[arg-type]
        assert (one.score is None) == (one.error is not None)
        assert one.score is None or (type(one.score) is float and 1 <= one.score <= 5)
        assert one.rating is None or (type(one.rating) is int and 1 <= one.rating <= 5 and one.error is None)


def test_the_last_line_of_a_reply_that_was_cut_is_not_read() -> None:
    prompt = Fixed({})
    for reason in ("stop", "length"):
        read_own(NAME, prompt, SHEET, Reply("Rating aaa111: 4\nRating bbb222: 1", reason))
    assert prompt.seen == ["Rating aaa111: 4\nRating bbb222: 1", "Rating aaa111: 4"]


@pytest.mark.parametrize(
    "asked",
    [
        [],
        None,
        "Rate.",
        [{"role": "user"}],
        [{"role": "judge", "content": "x"}],
        [{"role": "user", "content": 3}],
        [{"role": "user", "content": "x"}, {"role": "assistant", "content": "x"}],
        [{"role": "user", "content": "x", "name": "y"}],
        lambda: 1 / 0,
    ],
)
def test_messages_that_cannot_be_sent_are_an_error_of_the_recipe(asked: Any) -> None:
    with pytest.raises(ConfigError, match=r"^own:Prompt\.messages"):
        messages_of(NAME, Fixed(asked=asked), SHEET)


OWN = """
from pairsmith.judging.readouts import Read
class Prompt:
    @staticmethod
    def messages(sheet):
        seen = (sheet.aspect, sheet.prompt, sheet.reference, sheet.instructions != "", [t.text for t in sheet.texts])
        marks = " ".join(text.mark for text in sheet.texts)
        return [{"role": "user", "content": repr(seen)}, {"role": "user", "content": marks}]
    @staticmethod
    def read(reply, sheet):
        return {mark: Read(int(number)) for mark, number in (line.split() for line in reply.splitlines())}
"""


class Rater:
    """A model that gives each text of a sheet the same rating, at first one off the scale."""

    identity = Identity("test", "rater")

    def __init__(self, *numbers: int) -> None:
        self.numbers, self.asked = list(numbers), list[Request]()

    def stream(self, requests: Sequence[Request]) -> Any:
        for index, request in enumerate(requests):
            self.asked.append(request)
            number = self.numbers.pop(0)
            marks = request.messages[1]["content"].split()
            found: Finished = [(index, Reply("\n".join(f"{mark} {number}" for mark in marks), "stop"))]
            yield found


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    (tmp_path / "own_prompt_module.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))

    def judge_with(llm: Rater, **fields: Any) -> list[dict[str, Any]]:
        judge = Judge(name="j", model="m", backend="echo", prompt="own_prompt_module:Prompt", **fields)
        prompt = {
            "prompt_id": "p", "messages": '[{"role": "user", "content": "Well?"}]', "system_prompt": None,
            "source": "s", "shard": "x", "reference": "Yes.", "extras": None,
        }  # fmt: skip
        texts = [completion("c1", text="one"), completion("c2", text="two")]
        settings = Rating(judges=(judge,), aspects=("overall",))
        return rows(rate(frame("prompts", [prompt]), frame("completions", texts), settings, judge, llm))

    return judge_with


def test_a_judge_asks_and_reads_as_its_prompt_says_and_keeps_the_reply(judged: Callable[..., Any]) -> None:
    found = judged(llm := Rater(4))
    assert [(row["rating"], row["score"], row["error"]) for row in found] == [(4, 4.0, None)] * 2
    seen = llm.asked[0].messages[0]["content"]
    assert seen.startswith("('overall', 'Well?', 'Yes.', True, ['")
    assert {row["reply"] for row in found} == {"\n".join(f"{m} 4" for m in llm.asked[0].messages[1]["content"].split())}
    assert len(judged(Rater(4, 2), protocol="pointwise")) == 2


def test_a_judge_is_asked_again_with_what_was_wrong(judged: Callable[..., Any]) -> None:
    found = judged(llm := Rater(7, 3))
    assert [(row["rating"], row["error"]) for row in found] == [(3, None)] * 2
    first, again = (request.messages for request in llm.asked)
    assert again[:2] == first
    assert again[2]["role"] == "assistant"
    assert "not on the scale 1 to 5" in again[3]["content"]
    unread = judged(Rater(7, 8))
    assert {(row["rating"], row["error"]) for row in unread} == {(None, "not on the scale 1 to 5")}
    assert all(row["reply"].endswith("7") for row in unread)
