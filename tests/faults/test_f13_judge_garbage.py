"""F13: a judge that writes garbage, numbers off the scale, too few, too many, doubled or reordered sections, or thinks
aloud, never gives a text a wrong rating.

A rating is the one that the judge gave to that text, or null with the reply kept. An unreadable reply was paid for: it
is not asked for again.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairsmith.config import Judge, Rating, Recipe
from pairsmith.errors import RunError
from pairsmith.judging.asking import JudgeRequest, judge_requests
from pairsmith.judging.rating import to_rows
from pairsmith.judging.readout_json import read_json
from pairsmith.judging.readout_logprobs import read_logprobs
from pairsmith.judging.readout_text import read_text
from pairsmith.judging.readouts import Scale, Sheet, Text
from pairsmith.llms.endpoint.wire import choice_logprobs
from pairsmith.protocol import Identity, Reply
from pairsmith.stages.base import open_store
from pairsmith.storage.tables import judge_ref
from pairsmith.testing import KINDS, FakeEndpoint, Fault, Weather
from tests.faults.harness import repeated
from tests.generation.test_pool import prompt
from tests.runs import completion, run

Build = Callable[..., Recipe]
Tally = Callable[..., None]
MARKS = ("a1b2c3", "d4e5f6", "0a9b8c")
SHEET = Sheet(tuple(Text(f"id-{mark}", mark, f"the text {mark}") for mark in MARKS), Scale(1, 5), False)
ONE = Sheet(SHEET.texts[:1], Scale(1, 5), False)
TEN = Sheet(SHEET.texts, Scale(1, 10), False)
PROMPT = prompt("What rises?")
TEXTS = [completion(f"c{n}", prompt_id=PROMPT["prompt_id"], text=f"Answer number {n}.") for n in range(3)]


def asked(**fields: Any) -> list[JudgeRequest]:
    """What a judge is asked about three texts in one aspect, and the judge."""
    judge = Judge(name="j", backend="echo", model="judge", **fields)
    return list(judge_requests([PROMPT], TEXTS, Rating(judges=(judge,), aspects=("overall",)), judge))


def ratings(reply: str, item: JudgeRequest, finish_reason: str = "stop") -> list[int | None]:
    """The ratings of a request's texts, in its order; every row keeps the reply, and says why where it has none."""
    judge = Judge(name="j", backend="echo", model="judge")
    made = to_rows(item, Reply(reply, finish_reason), judge, Identity("echo", "judge"))
    assert [row["completion_id"] for row in made] == [text.completion_id for text in item.sheet.texts]
    assert {row["reply"] for row in made} == {reply}
    assert all((row["rating"] is None) == (row["score"] is None) == (row["error"] is not None) for row in made)
    return [row["rating"] for row in made]


def section(mark: str, rating: object) -> str:
    return f"### Text {mark}\nRationale: Because.\nRating {mark}: {rating}\n"


# What a judge makes of the three marks it was given, and the ratings that may be read from it.
REPLIES: dict[str, tuple[Callable[[str, str, str], str], list[int | None]]] = {
    "as asked": (lambda a, b, c: section(a, 4) + section(b, 1) + section(c, 5), [4, 1, 5]),
    "in another order": (lambda a, b, c: section(c, 5) + section(a, 4) + section(b, 1), [4, 1, 5]),
    "nothing": (lambda a, b, c: "", [None] * 3),
    "numbers alone": (lambda a, b, c: "4 1 5", [None] * 3),
    "numbered, without marks": (lambda a, b, c: "Text 1: 4\nText 2: 1\nText 3: 5", [None] * 3),
    "rating lines without marks": (lambda a, b, c: "Rating: 4\nRating: 1\nRating: 5", [None] * 3),
    "two of three": (lambda a, b, c: section(a, 4) + section(c, 5), [4, None, 5]),
    "one more": (lambda a, b, c: section(a, 4) + section(b, 1) + section(c, 5) + section("abcdef", 2), [4, 1, 5]),
    "marks of nobody": (lambda a, b, c: section("abcdef", 4) + section("fedcba", 1), [None] * 3),
    "doubled and the same": (lambda a, b, c: 2 * (section(a, 4) + section(b, 1) + section(c, 5)), [4, 1, 5]),
    "doubled and another": (
        lambda a, b, c: section(a, 4) + section(b, 1) + section(a, 2) + section(c, 5),
        [None, 1, 5],
    ),
    "doubled within one": (
        lambda a, b, c: section(a, f"4\nRating {a}: 3") + section(b, 1) + section(c, 5),
        [None, 1, 5],
    ),
    "off the scale": (lambda a, b, c: section(a, 6) + section(b, 0) + section(c, -3), [None] * 3),
    "between": (lambda a, b, c: section(a, "4.5") + section(b, "3-4") + section(c, "2 or 3"), [None] * 3),
    "out of ten": (lambda a, b, c: section(a, "4/10") + section(b, "1 out of 10") + section(c, 5), [None, None, 5]),
    "no numbers": (lambda a, b, c: section(a, "good") + section(b, "NaN") + section(c, "N/A"), [None] * 3),
    "a thought that rates": (
        lambda a, b, c: f"<think>\n{section(a, 1)}{section(b, 5)}</think>\n{section(a, 4)}{section(b, 1)}",
        [4, 1, None],
    ),
    "nothing but a thought": (lambda a, b, c: f"<think>\n{section(a, 1)}{section(b, 5)}{section(c, 3)}", [None] * 3),
    "a thought without a beginning": (lambda a, b, c: f"{section(a, 1)}</think>{section(b, 2)}", [None, 2, None]),
    "a table": (lambda a, b, c: f"| {a} | 4 |\n| {b} | 1 |\n| {c} | 5 |", [None] * 3),
    "JSON where text is asked": (lambda a, b, c: json.dumps({a: {"rating": 4}, b: {"rating": 1}}), [None] * 3),
    "a mark that is cut": (lambda a, b, c: section(a[:5], 4) + section(b, 1), [None, 1, None]),
    "a mark with more": (lambda a, b, c: section(a + "0", 4) + section(b, 1), [None, 1, None]),
    "two marks on a line": (lambda a, b, c: f"Rating {a} and {b}: 4\n" + section(c, 5), [None, None, 5]),
    "in capitals": (lambda a, b, c: (section(a, 4) + section(b, 1) + section(c, 5)).upper(), [4, 1, 5]),
}


@pytest.mark.parametrize("name", REPLIES)
def test_f13_every_text_gets_its_own_rating_or_none(name: str) -> None:
    (item,) = asked()
    write, expected = REPLIES[name]
    a, b, c = (text.mark for text in item.sheet.texts)
    assert ratings(write(a, b, c), item) == expected


@pytest.mark.parametrize("name", [name for name in REPLIES if name not in ("as asked", "in another order", "nothing")])
def test_f13_a_reply_for_json_or_a_single_text_that_is_none(name: str) -> None:
    write, expected = REPLIES[name]
    (whole,) = asked(readout="json")
    a, b, c = (text.mark for text in whole.sheet.texts)
    json_expected = [4, 1, None] if name.startswith("JSON") else [None] * 3
    assert ratings(write(a, b, c), whole) == json_expected
    for item in asked(protocol="pointwise"):
        (found,) = ratings(write(item.sheet.texts[0].mark, "abcdea", "abcdeb"), item)
        assert found in (None, expected[0])


def test_f13_a_reply_that_was_cut_gives_what_was_whole() -> None:
    (item,) = asked()
    a, b, c = (text.mark for text in item.sheet.texts)
    whole = section(a, 4) + section(b, 1) + section(c, 5)
    for end in range(len(whole)):
        found = ratings(whole[:end], item, "length")
        assert all(one in (None, right) for one, right in zip(found, [4, 1, 5], strict=True))
    assert found == [4, 1, None]
    for end in range(len(one := f"Rating {MARKS[0]}: 10")):
        assert read_text(one[:end], TEN, cut=True)[MARKS[0]].rating is None


def judged(endpoint: FakeEndpoint, base_recipe: Build, **fields: Any) -> Recipe:
    where = {"backend": "openai", "endpoint": {"base_url": endpoint.url, "api_key_env": None}}
    members = [{"name": name, "backend": "echo", "model": name} for name in "abc"]
    judge = {"name": "judge", "model": "judge", **where, **fields}
    return base_recipe(endpoint, 20, pool={"members": members}, rating={"aspects": ["overall"], "judges": [judge]})


@pytest.mark.parametrize("readout", ["text", "json"])
def test_f13_garbage_is_kept_is_null_and_is_not_asked_for_again(
    base_recipe: Build, monkeypatch: pytest.MonkeyPatch, tally: Tally, readout: str
) -> None:
    said = "Text 1 is best.\nRating: 5\n{"
    message = {"role": "assistant", "content": said}
    answer = {"id": "fake", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    monkeypatch.setitem(KINDS, "judge's garbage", Fault(200, json.dumps(answer)))
    weather = Weather(errors=0.5, kinds=("judge's garbage",))
    with FakeEndpoint(weather=weather) as endpoint:
        recipe = judged(endpoint, base_recipe, readout=readout, reasks=0)
        published, summary, _ = run(recipe)
        store = open_store(recipe)
        (shard,) = [path.name for path in Path(store.root, "tables").iterdir() if path.name != "load"]
        table = store.read(judge_ref(shard, "judge"))
        null = table[table["rating"].isna()]
        assert set(null["reply"]) == {said}
        assert set(table.loc[table["rating"].notna(), "reply"]) & {said} == set()
        assert 0 < len(null) < len(table) == 60
        assert null["error"].notna().all()
        assert summary.completion_reasons["unrated"] == len(null)
        assert summary.prompt_reasons["too_few"] == len(null) // 3
        assert summary.loaded == summary.paired + sum(summary.prompt_reasons.values()) == 20
        again = run(recipe)
        tally(1, 0, repeated(endpoint))
        assert (again[0].digest, again[2].total()) == (published.digest, 0)
        assert (repeated(endpoint), len(endpoint.journal)) == (0, 20)


def test_f13_a_judge_of_nothing_but_garbage_ends_the_run_with_the_reason(
    base_recipe: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        KINDS, "always", Fault(200, '{"choices": [{"message": {"content": "5"}, "finish_reason": "stop"}]}')
    )
    with FakeEndpoint(weather=Weather(errors=1, kinds=("always",))) as endpoint:
        recipe = judged(endpoint, base_recipe, reasks=0)
        for _ in range(2):
            with pytest.raises(
                RunError, match=r"no pair to publish: 20 prompts, fewer than two answers to choose from \(20\)"
            ):
                run(recipe)
        assert len(endpoint.journal) == 20


# A reply that is built from sections whose ratings are known, in many layouts and with many mishaps.

HEADERS = (
    "### Text {m}",
    "**Text {m}**",
    "## {m}",
    "Text {m}:",
    "[{m}]",
    "1. Text {m}",
    "Answer {m}",
    "- **{m}**",
    None,
)
BOUND = (
    "Rating {m}: {v}", "**Rating {m}:** {v}", "- Rating ({m}): {v}", "Rating for {m}: {v}", "Rating {m} is {v}",
    "Final rating {m}: {v}", "Score of text {m} = {v}", "Rating {m}:\n{v}", "rating {m}： {v}", "> Rating {m}: {v}",
)  # fmt: skip
PLAIN = ("Rating: {v}", "**Rating:** {v}", "Score: {v}", "My rating is {v}", "Overall score: {v}", "Rating:\n{v}")
VALUES = ("{v}", "{v}/5", "{v} out of 5", "[[{v}]]", "**{v}**", "{v} (fair)", "{v} - it holds up.", "{v}.", "{w}")
WORDS = ("zero", "one", "two", "three", "four", "five")
REMARKS = (
    "Because.", "It names 3 of 5 causes.", "2 errors, 1 omission.", "- a list\n- of two", "1. first\n2. second",
    "A rating of this kind is hard.", "The scores are close.", "It says that 4 is even.", "Better than the others.",
    "One could argue for a 4", "I would give it more if it were shorter.", "", "Fine\u2028and good.", "```\ncode\n```",
)  # fmt: skip
MISHAPS = ("drop", "double", "contradict", "other", "off", "between", "prose", "stranger", "reversed")
OFF = ("0", "6", "-3", "10", "55", "4.5", "3-4", "4/10", "N/A", "good", "2 or 3", "nan", "1 to 5", "")


@dataclass(frozen=True)
class Built:
    """A reply, and what it says of each mark: the values that it gives to it by its mark, and in its section without.

    What stands by the mark decides; a line without one may be a quotation.
    """

    text: str
    bound: dict[str, set[str]]
    plain: dict[str, set[str]]
    clean: bool


@st.composite
def replies(draw: st.DrawFn, marks: tuple[str, ...]) -> Built:
    claims: dict[bool, dict[str, set[str]]] = {bound: {mark: set() for mark in marks} for bound in (True, False)}
    sections, clean = [], True
    mishaps = draw(st.lists(st.sampled_from(MISHAPS), max_size=2))

    def line(mark: str, value: str, bound: bool) -> str:
        claims[bound][mark].add(value)
        shown = value
        if value in tuple("12345"):
            shown = draw(st.sampled_from(VALUES)).format(v=value, w=WORDS[int(value)])
        return draw(st.sampled_from(BOUND if bound else PLAIN)).format(m=mark, v=shown)

    for mark in marks:
        value, mishap = str(draw(st.integers(1, 5))), mishaps.pop() if mishaps else None
        clean = clean and mishap is None
        if mishap == "drop":
            continue
        header = draw(st.sampled_from(HEADERS))
        bound = header is None or draw(st.booleans())
        remark = draw(st.sampled_from(REMARKS))
        if mishap in ("off", "between"):
            value = draw(st.sampled_from(OFF))
        lines = [header.format(m=mark)] if header else []
        lines += [draw(st.sampled_from(("Rationale: ", ""))) + remark, line(mark, value, bound)]
        if mishap == "contradict":
            second = line(mark, str(draw(st.integers(1, 5))), header is None or draw(st.booleans()))
            lines.insert(draw(st.integers(1, len(lines))), second)
        if mishap == "other":  # the rating of another text in this one's section
            other = draw(st.sampled_from(marks))
            lines.insert(draw(st.integers(1, len(lines))), line(other, str(draw(st.integers(1, 5))), True))
        if mishap == "prose":
            other = draw(st.sampled_from(marks))
            lines.insert(1, f"It is better than {other}, which deserves less than {mark} does.")
        if mishap == "stranger":
            lines.insert(len(lines), f"Rating abcdef: {draw(st.integers(1, 5))}")
        if mishap == "reversed":
            lines[1:] = lines[:0:-1]
        sections.append("\n".join(lines))
        if mishap == "double":
            sections.append("\n".join(lines))
    sections = draw(st.permutations(sections))
    before = draw(
        st.sampled_from(("", "Sure! Here they are.\n", "<think>\nRating {m}: 3\n</think>\n", "Rating {m}: 2</think>"))
    )
    after = draw(st.sampled_from(("", "\n\nI hope this helps.", "\n---\nLet me know if you need 5 more.")))
    text = before.format(m=marks[0]) + draw(st.sampled_from(("\n", "\n\n"))).join(sections) + after
    text = text.replace("\n", draw(st.sampled_from(("\n", "\n", "\r\n"))))
    return Built(text, claims[True], claims[False], clean)


def right_or_null(built: Built, sheet: Sheet) -> list[int | None]:
    found = read_text(built.text, sheet)
    assert tuple(found) == tuple(text.mark for text in sheet.texts)
    for mark, read in found.items():
        assert read.rating is None or {str(read.rating)} == (built.bound[mark] or built.plain[mark]), (mark, read)
        assert (read.rating is None) == (read.error is not None)
    return [read.rating for read in found.values()]


@settings(max_examples=500)
@given(replies(MARKS))
def test_f13_of_any_layout_a_rating_is_the_right_one_or_null(built: Built) -> None:
    right_or_null(built, SHEET)


@settings(max_examples=300)
@given(replies(MARKS[:1]))
def test_f13_of_a_single_text_a_rating_is_the_right_one_or_null(built: Built) -> None:
    right_or_null(built, ONE)


@settings(max_examples=400)
@given(replies(MARKS), st.data())
def test_f13_cut_anywhere_a_rating_is_the_right_one_or_null(built: Built, data: st.DataObject) -> None:
    cut = built.text[: data.draw(st.integers(0, len(built.text)))]
    for mark, read in read_text(cut, SHEET, cut=True).items():
        # of two values that contradict each other, the second may be in what was cut off
        assert read.rating is None or str(read.rating) in built.bound[mark] | built.plain[mark]


def test_f13_plain_layouts_are_read() -> None:
    read = Counter[bool]()

    @settings(max_examples=100, database=None)
    @given(replies(MARKS).filter(lambda built: built.clean))
    def count(built: Built) -> None:
        read.update(rating is not None for rating in right_or_null(built, SHEET))

    count()
    assert read[True] > 0.6 * read.total()


entries = st.fixed_dictionaries(
    {
        "rating": st.integers(-2, 7)
        | st.sampled_from([None, True, 4.5, 4.0, "4", [4], {"value": 4}, 10**400, math.nan, math.inf])
    },
    optional={"rationale": st.none() | st.text(max_size=8) | st.integers()},
)


@settings(max_examples=400)
@given(
    st.dictionaries(st.sampled_from([*MARKS, "abcdef", MARKS[0].upper()]), entries | st.integers(1, 5)),
    st.sampled_from(
        ["{}", "```json\n{}\n```", "```\n{}\n```", "<think>a</think>{}", "Here: {}", "{},", "[{}]", "{}{}"]
    ),
)
def test_f13_of_any_json_a_rating_is_the_right_one_or_null(given_entries: dict[str, Any], around: str) -> None:
    found = read_json(around.replace("{}", json.dumps(given_entries)), SHEET)
    assert tuple(found) == MARKS
    for mark, read in found.items():
        entry = given_entries.get(mark)
        said = entry["rating"] if isinstance(entry, dict) else None
        right = said if isinstance(said, int | float) and not isinstance(said, bool) and said in range(1, 6) else None
        assert read.rating is None or read.rating == right
        assert (read.rating is None) == (read.error is not None)
        if around == "{}":
            assert read.rating == right


@pytest.mark.parametrize(
    "reply",
    [
        '{"a1b2c3": {"rating": 4}, "a1b2c3": {"rating": 5}}',
        '{"a1b2c3": {"rating": 4, "rating": 5}}',
        '{"a1b2c3": {"rating": 4}',
        '{"ratings": {"a1b2c3": {"rating": 4}}}',
        '[{"mark": "a1b2c3", "rating": 4}]',
        '{"f6f6f6": 4}',
        '{"a1b2c3": {"Rating": 4}}',
        '{"a1b2c3": {"rating": 4}} {"a1b2c3": {"rating": 5}}',
        "[" * 100_000,
    ],
)
def test_f13_json_that_is_not_what_was_asked_for_is_null(reply: str) -> None:
    assert read_json(reply, ONE)[MARKS[0]].rating is None


@settings(max_examples=300)
@given(
    st.sampled_from(["", "<think>1 or 5?</think>\n", "**", " "]),
    st.sampled_from(["1", "2", "3", "4", "5", "6", "45", "N", "I", "Rating", "four"]),
    st.lists(st.floats(-20, 0), min_size=5, max_size=5),
)
def test_f13_of_probabilities_a_rating_is_the_likeliest_or_null(before: str, first: str, drawn: list[float]) -> None:
    top = [{"token": str(n), "logprob": value} for n, value in enumerate(drawn, start=1)]
    noise = [{"token": "5", "logprob": 0.0}, {"token": "1", "logprob": 0.0}]
    answer = [
        {"token": first, "logprob": drawn[int(first) - 1] if first in tuple("12345") else 0.0, "top_logprobs": top}
    ]
    thought = [
        {"token": part, "logprob": 0.0, "top_logprobs": noise} for part in (before.partition("</think>")[:2]) if part
    ]
    found = choice_logprobs({"logprobs": {"content": thought + answer}}, tuple("12345"))
    if first not in tuple("12345"):
        assert found is None
        return
    assert found is not None
    read = read_logprobs(Reply(before + first, "stop", logprobs=found), ONE)
    assert read.rating is not None
    assert drawn[read.rating - 1] == pytest.approx(max(drawn))
    assert read.score is not None
    assert 1 <= read.score <= 5
