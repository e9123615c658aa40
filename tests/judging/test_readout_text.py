from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairsmith.judging.own_prompt import JudgeSheet
from pairsmith.judging.readout_text import could_be_quoted, read_text
from pairsmith.judging.readouts import NOT_APPLICABLE, Sheet
from tests.judging.sheets import GOOD, MARKS, ONE, SHEET, THREE, ratings, section


@pytest.mark.parametrize(
    "reply",
    [
        GOOD,
        GOOD.replace("\n", "\r\n"),
        "Sure! Here are my ratings.\n\n" + GOOD + "\nI hope this helps.",
        "<think>Text a1b2c3 is bad.\nRating a1b2c3: 1</think>\n" + GOOD,
        "\n".join(section(m, r) for m, r in zip(reversed(MARKS), (5, 1, 4), strict=True)),
        GOOD.replace("Rating", "**Rating").replace(": 4", ":** 4").replace(": 1", ":** 1").replace(": 5", ":** 5"),
        GOOD.replace("Because.", "First.\n\nSecond paragraph.\n- a list\n"),
        GOOD.replace("### Text ", "**Text ").replace("\nRationale", "**\nRationale"),
        GOOD.replace(": 4", ": 4/5 (good)").replace(": 5", ": [[5]]").replace(": 1", ": one"),
        GOOD.replace("Rating a1b2c3", "Rating").replace("Rating d4e5f6", "Rating").replace("Rating 0a9b8c", "Rating"),
        GOOD.replace("### Text a1b2c3\n", "### [a1b2c3]\n"),
        GOOD.replace("Rating a1b2c3: 4", "Rating a1b2c3:\n4"),
    ],
)
def test_layouts_that_judges_write(reply: str) -> None:
    assert ratings(reply) == [4, 1, 5]


@pytest.mark.parametrize(
    "value",
    [
        "One could argue for a 4",
        "2 errors found, so 4/5",
        "2 errors found",
        "1 (lowest) to 5 (highest): 4",
        "4,000",
        "\n1. Accurate\n2. Clear",
        "\n2 things are wrong",
        "4/" + "9" * 5000,
        "9" * 5000,
        "four or five",
        "6",
        "0",
        "-3",
        "10",
        "4.5",
        "3,5",
        "4-5",
        "3 or 4",
        "4 to 5",
        "NaN",
        "inf",
        "",
        "good",
        "4/10",
        "N/A",
        "4th",
        "<1 to 5>",
    ],
)
def test_no_rating_is_clamped_rounded_or_guessed(value: str) -> None:
    assert ratings(GOOD.replace("a1b2c3: 4", f"a1b2c3: {value}")) == [None, 1, 5]


def test_lines_that_disagree_make_null_and_lines_that_agree_do_not() -> None:
    assert ratings(GOOD + section(MARKS[0], 2)) == [None, 1, 5]
    assert ratings(GOOD + section(MARKS[0], 4)) == [4, 1, 5]


def test_a_missing_section_moves_no_other_rating() -> None:
    found = read_text(section(MARKS[1], 2) + section(MARKS[2], 3), SHEET)
    assert [read.rating for read in found.values()] == [None, 2, 3]
    assert found[MARKS[0]].error == "no section for this text"


def test_the_rationale_is_kept_without_its_label() -> None:
    assert read_text(GOOD, SHEET)[MARKS[0]].rationale == "Because."
    assert read_text(section(MARKS[0], 9), ONE)[MARKS[0]].rationale == "Because."


def test_a_single_text_needs_no_header() -> None:
    assert ratings("Good work.\nRating: 4", ONE) == [4]
    assert read_text("Good work.\nRating: 4", ONE)[MARKS[0]].rationale == "Good work."


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("Rating: 5\nOn reflection it is weaker.\nFinal rating: 3", None),
        (f"Rating {MARKS[0]}: 5\nHm.\nRevised rating {MARKS[0]}: 3", None),
        (f"Rating for {MARKS[0]}: 1\n\nOverall score: 4", 1),
        (f"The text ends with\n_Rating: 5_\nMy rating for {MARKS[0]}: 1", 1),
        ("Rating: 1 - no, make that four", None),
        (f"1. Rating {MARKS[0]}: 4", 4),
        (f"• Rating {MARKS[0]}: 4 (out of 5)", 4),
        (f"Rating {MARKS[0]} - 4", 4),
        (f"**Text {MARKS[0]}:** Rating: 4", 4),
        (f"### Text {MARKS[0]}: the only one\nRating: 4", 4),
        (f"**Rating {MARKS[0]}:** 4/5", 4),
        (f"Rating ({MARKS[0]}): 4 - a good one", 4),
    ],
)
def test_second_thoughts_and_odd_labels(reply: str, expected: int | None) -> None:
    assert ratings(reply, ONE) == [expected]


def test_a_header_with_more_on_its_line_still_ends_the_section_before() -> None:
    reply = f"### Text {MARKS[0]}\nRating - 1\n\n### Text {MARKS[1]}: the longer one\nRating: 5"
    assert ratings(reply) == [1, 5, None]


def test_prose_that_begins_with_a_mark_is_no_header() -> None:
    reply = f"### Text {MARKS[0]}\nRationale: complete;\nText {MARKS[1]} is worse than this one.\nRating: 5"
    assert ratings(reply) == [None, None, None]


def test_the_last_line_of_a_reply_that_was_cut_rates_nothing() -> None:
    assert read_text(f"Good.\nRating {MARKS[0]}: 1", ONE, cut=True)[MARKS[0]].rating is None
    assert read_text(f"Rating {MARKS[0]}: 4\nIt is go", ONE, cut=True)[MARKS[0]].rating == 4


def test_thoughts_are_no_answer_whether_opened_closed_or_neither() -> None:
    line = f"Rating {MARKS[0]}: 2\n"
    assert ratings(f"First guess:\n{line}</think>\nRating {MARKS[0]}: 4", ONE) == [4]
    assert ratings(f"<think>{line}", ONE) == [None]


def test_a_reply_of_nothing_but_dashes_is_read_in_no_time() -> None:
    assert ratings("-" * 200_000) == [None, None, None]


def test_not_applicable_only_where_it_may_be() -> None:
    may = Sheet(ONE.texts, ONE.scale, True)
    assert read_text("Rating: N/A", may)[MARKS[0]].error == NOT_APPLICABLE
    assert read_text("Rating: N/A", ONE)[MARKS[0]].error != NOT_APPLICABLE


plain = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"))


@given(st.permutations(range(3)), st.lists(st.integers(1, 5), min_size=3, max_size=3), plain, plain)
def test_ratings_bind_by_mark_whatever_the_order_and_noise(
    order: list[int], values: list[int], noise: str, rationale: str
) -> None:
    hazards = ("rating", "score", "think>", "thinking>", "reasoning>", "text")
    if any(hazard in (noise + rationale).lower() for hazard in hazards):
        return
    reply = noise + "\n" + "\n".join(section(MARKS[i], values[i], rationale) for i in order)
    assert ratings(reply) == values


TABLE = "| Text | Rationale | Rating |\n|:---|:---|---:|\n"
ROWS = [f"| **Text {mark}** | so \\| so | **{n}/5** |" for mark, n in zip(MARKS, (4, 1, 5), strict=True)]


@pytest.mark.parametrize(
    "reply",
    [
        GOOD.replace(":", "：").replace("： 4", "：【4】"),
        GOOD.replace(": 4", ": four (4)").replace(": 1", ": 1 (one)").replace(": 5", ": five out of five"),
        GOOD.replace(": 4", ": 4.0/5.0").replace(": 5", ": 5 of 5"),
        GOOD.replace(": 4", ": \u200b4").replace("Rating d4e5f6", 'Rating "d4e5f6"'),
        "Sure:\n```markdown\n" + GOOD + "```\nLet me know.",
        "\n".join(f"**Text {mark} rating:** {n}" for mark, n in zip(MARKS, (4, 1, 5), strict=True)),
        "\n".join(f"{n}. **{mark}**: {n}/5 - a remark" for mark, n in zip(MARKS, (4, 1, 5), strict=True)),
        "\n".join(f"Text {mark}: {n}" for mark, n in zip(MARKS, (4, 1, 5), strict=True)),
        TABLE + "\n".join(ROWS),
        "> " + "\n> ".join([*TABLE.strip().split("\n"), *reversed(ROWS)]),
        "\n".join(f"### Text {m}\nGood.\n" for m in MARKS) + "\n| text | score |\n|-|-|\n"
        + "\n".join(f"| {m} | {n} |" for m, n in zip(MARKS, (4, 1, 5), strict=True)),
    ],
)  # fmt: skip
def test_more_layouts_in_which_each_rating_is_certain(reply: str) -> None:
    assert ratings(reply) == [4, 1, 5]


@pytest.mark.parametrize(
    "reply",
    [
        f"| {MARKS[0]} | 4 |",  # no head that says what the number is
        f"| Text | Rating | Score |\n|-|-|-|\n| {MARKS[0]} | 4 | 3 |",
        f"| Text | Rating | Rating |\n|-|-|-|\n| {MARKS[0]} | 4 | 4 |",
        f"| Text | Rationale | Rating |\n|-|-|-|\n| {MARKS[0]} | 4 |",
        f"| Text | Rating |\n|-|-|\n| {MARKS[0]}, {MARKS[1]} | 4 |",
        f"| Text | Rating |\n|-|-|\n\n| {MARKS[0]} | 4 |",
        f"{TABLE}{ROWS[0]}\n\nRating {MARKS[0]}: 3",
        f"Rating {MARKS[0]}: 4 (two)",
        f"Rating {MARKS[0]}: four (2)",
        f"{MARKS[0]}: 1. Accurate",
        f"{MARKS[0]}: 4 things are right",
        f"{MARKS[0]}: 4/10",
        f"**Text {MARKS[0]} rating:** 4\n**Text {MARKS[0]} rating:** 2",
        f"{MARKS[0]}: 4\n{MARKS[0]}: 3",
    ],
)
def test_a_number_that_may_be_something_else_rates_nothing(reply: str) -> None:
    assert ratings(reply)[0] is None


def test_where_a_text_could_be_quoted_only_lines_that_begin_with_the_rating_count() -> None:
    quotes = Sheet(SHEET.texts, SHEET.scale, False, unbound=False)
    assert ratings(f"Text {MARKS[0]}: Rating: 4", quotes)[0] is None
    assert ratings(f"{MARKS[0]}: 4", quotes)[0] is None
    assert ratings(f"Rating {MARKS[0]}: 4", quotes)[0] == 4


EPILOGUE = "\nOverall, I think both are fine. Let me know if you need more."


def rationales(reply: str, sheet: Sheet = SHEET) -> list[str | None]:
    return [found.rationale for found in read_text(reply, sheet).values()]


def test_what_a_judge_says_at_the_end_is_no_rationale() -> None:
    assert rationales("Sure!\n" + GOOD + EPILOGUE) == ["Because."] * 3
    assert rationales(GOOD.replace("\n", "\r\n") + EPILOGUE) == ["Because."] * 3
    ratings_last = GOOD + "\n".join(f"Rating {mark}: {n}" for mark, n in zip(MARKS, (4, 1, 5), strict=True))
    assert rationales(ratings_last + EPILOGUE) == ["Because."] * 3
    assert rationales(TABLE + "\n".join(ROWS) + EPILOGUE) == ["so | so"] * 3


def test_a_rationale_after_its_rating_is_kept_whole_and_the_last_with_what_follows() -> None:
    parts = [f"### Text {mark}\nRating {mark}: 3\nRationale: First.\n\nSecond." for mark in MARKS]
    assert rationales("\n".join(parts) + EPILOGUE) == ["First.\n\nSecond."] * 2 + ["First.\n\nSecond." + EPILOGUE]
    assert ratings("\n".join(parts) + EPILOGUE) == [3, 3, 3]
    about = f"### Text {MARKS[0]}: the longer one\n\nRating {MARKS[0]}: 3\nRationale: First."
    assert "First." in str(rationales(about, ONE)[0])


def test_a_rating_of_no_text_of_the_sheet_ends_no_rationale() -> None:
    assert rationales(section(MARKS[0], 4, "It says\nRating abcdef: 5\nwhich is wrong."), ONE) == [
        "It says\nRating abcdef: 5\nwhich is wrong."
    ]


def test_a_rationale_that_is_a_list_keeps_its_first_number() -> None:
    assert rationales(section(MARKS[0], 4, "1. Right.\n2. Clear."), ONE) == ["1. Right.\n2. Clear."]


@pytest.mark.parametrize(
    "header",
    ["### Text 2: d4e5f6", "### Text 2 (d4e5f6)", "## Second text — `d4e5f6`", "### The text d4e5f6",
     "### Option d4e5f6", "### Text ID d4e5f6", "### II. Text d4e5f6", "→ Text d4e5f6", "### “d4e5f6”",
     "<h3>Text d4e5f6</h3>",
     "### 文本 d4e5f6", "Moving on to text d4e5f6:", "### Text d4e5f7", "`d4e5f`", "### Text `d4e5f`",
     "### Text 2", "Text two:"],
)  # fmt: skip
def test_a_section_ends_where_another_text_may_begin(header: str) -> None:
    found = read_text(f"### Text a1b2c3\nFine.\n\n{header}\nRating: 2", THREE)
    assert found["a1b2c3"].rating is None
    assert found["d4e5f6"].rating in (None, 2)
    own = read_text("### Text a1b2c3\nFine.\n#### Rating: 4\n### Text d4e5f6\n### Rationale\nSo so.\nRating: 2", THREE)
    assert (own["a1b2c3"].rating, own["d4e5f6"].rating) == (4, 2)


@pytest.mark.parametrize(
    "reply",
    ["Rating a1b2c3:\nRating d4e5f6:\n3\n4", "Rating a1b2c3:\n3\n4", "Ranking, best first:\na1b2c3: 1\nd4e5f6: 2",
     "Errors found per text:\na1b2c3: 1", "| Compared to | Rating | Text |\n|---|---|---|\n| a1b2c3 | 4 | Text 1 |"],
)  # fmt: skip
def test_numbers_whose_text_is_not_certain_are_no_ratings(reply: str) -> None:
    assert {mark: read.rating for mark, read in read_text(reply, THREE).items()} == dict.fromkeys(MARKS)


@pytest.mark.parametrize(
    "value",
    ["4 (one)", "4 - no, make that one", "1. Accurate\n2. Clear\n3. Short", "4 (and a half)", "4-", "4 (½ off)",
     "4 - minus half a point", "4 (Ⅲ)", "4 (③)", "4 : III", "4 (eleven)"],
)  # fmt: skip
def test_a_rating_beside_another_number_is_none(value: str) -> None:
    assert read_text(f"Rating a1b2c3: {value}", THREE)["a1b2c3"].rating is None


@pytest.mark.parametrize(
    "reply",
    ["Rating a1b2c3:\n" + "_" * 100_000 + " !", "Rating a1b2c3: 4" + " " * 200_000 + "x", "rating for " + "-" * 200_000,
     "Rating a1b2c3: 4" + " -" * 100_000, "rating for " * 20_000 + "-" * 1000, "\n" * 200_000 + "!"],
)  # fmt: skip
def test_long_replies_are_read_in_a_moment(reply: str) -> None:
    begun = time.process_time()
    read_text(reply, THREE)
    could_be_quoted(reply)
    ratings("1", replace(ONE, texts=(replace(ONE.texts[0], text=reply),)))
    assert time.process_time() - begun < 3  # one that backtracks takes minutes


@pytest.mark.parametrize(
    ("reply", "rating"),
    [
        ("4", 4), (" **4** \n", 4), ("4/5", 4), ("(4 / 5).", 4), ("[[4]]", 4), ("<think>3 or 5?</think>\n4", 4),
        ("### Text a1b2c3\n4", 4),
        ("Clear, and it says why.\n\n4/5", 4), ("Right in all. [[4]]", 4), ("It is short.\n**[[4]]**", 4),
        ("It has 2 errors, and is clear.\n\n[[4]]", 4),
        ("4 reasons why it is good", None), ("4. Clear and right", None), ("It is clear.\n\n4", None), ("4/10", None),
        ("[[8]]", None), ("4\n5", None), ("4/5\n\n3/5", None), ("[[4]] or [[5]]", None), ("[[4]]\n\n[[5]]", None),
        ("[[4]] is what I thought at first.", None), ("The result should be\n4/5", None), ("4.5", None), ("-4", None),
        ("Two of its claims are wrong.\n\n4/5", None), ("1. Clear.\n2. Right.\n\n4/5", None), ("four", None),
        ("4 5", None), ("4,000", None), ("04", None), ("[4]", 4), ("[[4, 5]]", None), ("4%", None),
        ("44", None), ("0", None), ("4 out of 5", 4), ("**4 out of 5**", 4), ("```\n4\n```", 4), ("4 out of 10", None),
    ],
)  # fmt: skip
def test_a_rating_alone_is_read_for_one_text_where_nothing_else_can_be_meant(reply: str, rating: int | None) -> None:
    assert ratings(reply, ONE) == [rating]
    assert ratings(reply, SHEET) == [None, None, None]
    assert ratings(reply, replace(ONE, unbound=False)) == [None]


@pytest.mark.parametrize(
    ("shown", "reply"),
    [("4", "4"), ("The list is [[1, 2]].", "Right. [[4]]"), ("It is 8/10 of all.", "Reduce it further.\n\n4/5")],
)
@pytest.mark.parametrize("where", ["text", "prompt", "reference"])
def test_what_a_judge_may_quote_is_no_rating_of_its_own(shown: str, reply: str, where: str) -> None:
    texts = (replace(ONE.texts[0], text=shown if where == "text" else "Bread rises."),)
    more = {} if where == "text" else {where: shown}
    assert ratings(reply, JudgeSheet(texts, ONE.scale, False, **more)) == [None]
    assert ratings(reply, ONE) == [4]


def test_a_rating_alone_that_may_be_cut_is_none() -> None:
    assert read_text("1", ONE, cut=True)[MARKS[0]].rating is None
    assert read_text("Clear.\n\n1", ONE, cut=True)[MARKS[0]].rating is None


@pytest.mark.parametrize(
    ("text", "rating"), [("Bread rises.", 4), ("Bread rises in 4 hours.", None), ("Two rise.", None)]
)
def test_a_number_below_a_sentence_is_read_where_nothing_shown_has_one(text: str, rating: int | None) -> None:
    sheet = replace(ONE, texts=(replace(ONE.texts[0], text=text),))
    assert ratings("It is clear.\n\n4", sheet) == [rating]
    assert ratings("The right number is\n\n4", sheet) == [None]


@given(st.text(alphabet="abc 45/10.[]\n*-:", max_size=30))
def test_a_rating_alone_is_the_only_number_of_its_reply(reply: str) -> None:
    """Whatever else a reply holds: where something is read, no other digit stands in it but what it is out of."""
    (found,) = ratings(reply, ONE)
    numbers = re.findall(r"\d+", reply)
    if found is not None and "[[" not in reply:
        assert numbers in ([str(found)], [str(found), "5"])


@pytest.mark.parametrize(
    ("prompt", "text", "reply"),
    [
        ("What is 3+1?", "That makes 4.", "4"), ("How many arms has a starfish?", "It has five.", "5"),
        ("Wie viele?", "Drei.", "3"), ("Combien de lunes ?", "Une", "1"), ("¿Cuántos?", "Son cuatro.", "4"),
        ("Reduce 6/10.", "No.", "3/5"), ("What is 80% as a fraction?", "No.", "4/5"), ("Write 0.4 anew.", "No.", "2/5"),
        (r"Reduce \frac{6}{10}.", "No.", "3/5"), ("What is IV?", "A numeral.", "4"), ("Is it ④?", "Yes.", "4"),
        ("Which of [3,4,5]?", "None.", "4"), ("Is it 4.0?", "Yes.", "4"), ("Divide 8 by 10", "8 divided by 10", "4/5"),
    ],
)  # fmt: skip
def test_a_rating_alone_that_may_answer_the_question_is_none(prompt: str, text: str, reply: str) -> None:
    sheet = JudgeSheet((replace(ONE.texts[0], text=text),), ONE.scale, False, prompt=prompt)
    assert ratings(reply, sheet) == [None]
    assert ratings(f"Rating: {reply}", sheet) != [None]


@pytest.mark.parametrize("text", ["Bread rises.", "It takes 14 hours, 2.4 on a hot day.", "See a4b.", "Eine Eiche."])
def test_a_rating_alone_is_read_where_the_number_was_not_shown(text: str) -> None:
    sheet = JudgeSheet((replace(ONE.texts[0], text=text),), ONE.scale, False, prompt="Why does bread rise?")
    assert [ratings(reply, sheet) for reply in ("4", "1", "4/5")] == [[4], [1], [4]]


@pytest.mark.parametrize(
    "reply",
    [
        "Rating: 4\n\nSo in the end: [[3]]", "Rating: 4\nCorrection: 3/5", "Rating: 4\n\n3", "[[4]]\n\nRating: 3",
        "Rating: 4\nMy final verdict: three", "Rating: 4\n\n**3/5**", "3/5\n\nRating: 4", "Rating: 4\nMake that a 3/5.",
        "Rating a1b2c3: 4\nRationale: Clear.\n\n3", "Rating a1b2c3: 4\nCorrected: 3", "Rating: 4\nOverall: 3 out of 5",
        "3/5\n\n[[4]]", "Rating: 4\nNo, make it 3.", "Rating: 4\nChanged to: 3", "Rating: 4\nI change it to three.",
    ],
)  # fmt: skip
def test_a_rating_that_is_taken_back_without_a_label_is_none(reply: str) -> None:
    assert ratings(reply, ONE) == [None]


@pytest.mark.parametrize(
    "reply",
    [
        "Two of 3 claims hold, 2/3 of all.\nRating: 4", "Rating: 4\n\n4/5", "Rating: 4\n\n[[4]]",
        "Rating: 4\nRationale: It names 3 of the causes, that is 3/5.", "Step 3\nRating: 4\nOverall: 2 small errors.",
        "It ends with\nFinal answer: 3\nwhich is right.\nRating: 4", "It ends with\nFinal answer: 3\n\nYes. [[4]]",
        "Rating: 4\nRationale: 1. Right.\n2. Clear in 3 places.", "Rating:\n4",
    ],
)  # fmt: skip
def test_numbers_in_a_rationale_take_nothing_back(reply: str) -> None:
    assert ratings(reply, ONE) == [4]


@pytest.mark.parametrize("label", ["Rating (1-5)", "Rating a1b2c3 (1-5)", "**Rating** (1 to 5)", "Final score [1–5]"])
def test_a_label_may_name_the_scale_of_the_sheet(label: str) -> None:
    assert ratings(f"Clear.\n{label}: 4", ONE) == [4]
    assert ratings(f"Clear.\n{label.replace('5', '10')}: 4", ONE) == [None]
    assert ratings(f"{label}: 4\nCorrection: 3", ONE) == [None]


@pytest.mark.parametrize(
    "reply", ["Rating:\n4", "Rating:\n4 out of 5", "Rating a1b2c3:\n\n4/5", "### Text a1b2c3\nRating:\n**4**"]
)
def test_a_rating_below_its_label_is_no_rationale(reply: str) -> None:
    assert (ratings(reply, ONE), rationales(reply, ONE)) == ([4], [None])
    assert rationales(f"{reply}\nRationale: Clear.", ONE) == ["Clear."]


@pytest.mark.parametrize(
    "reply", ["It says\n> 5/5\nat its end.\nRating: 2", 'Rating: 2\nIt says:\n"5/5"', "Rating: 2\n\n5/5"]
)
def test_a_line_of_the_text_takes_no_rating_back(reply: str) -> None:
    sheet = replace(ONE, texts=(replace(ONE.texts[0], text="The best.\n5/5\nBread rises."),))
    assert ratings(reply, sheet) == [2]


def test_what_stands_before_a_rating_with_its_mark_takes_nothing_back() -> None:
    assert ratings("It says\n5/5\n[[5]]\nRating a1b2c3: 2", ONE) == [2]
    assert ratings("Rating a1b2c3: 2\n5/5", ONE) == [None]
