"""Thoughts in every dress are taken apart from answers; answers that talk about their marks stay whole."""

from __future__ import annotations

import pytest

from pairsmith.text.thoughts import PAIRS, apart

THOUGHT, ANSWER = "The user wants a lake.\nAn easy one.", "Lake Constance."


@pytest.mark.parametrize(("opening", "closing"), PAIRS)
@pytest.mark.parametrize("case", [str, str.upper])
def test_a_marked_thought_is_taken_from_the_front(opening: str, closing: str, case: type) -> None:
    for between in ("", "\n", "\n\n"):
        text = f"{case(opening)}\n{THOUGHT}\n{case(closing)}{between}{ANSWER}"
        assert apart(text) == (THOUGHT, ANSWER)
        assert apart(f"\n {text}") == (THOUGHT, ANSWER)
    assert apart(f"{THOUGHT}\n{closing}\n\n{ANSWER}") == (THOUGHT, ANSWER)  # the chat template wrote the opening
    assert apart(f"{opening}\n{THOUGHT}", cut=True) == (THOUGHT, "")


@pytest.mark.parametrize(
    "text",
    [
        f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant<|channel|>final<|message|>{ANSWER}<|return|>",
        f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant<|channel|>final<|message|>{ANSWER}",
        f"<|start|>assistant<|channel|>analysis<|message|>{THOUGHT}<|end|>\n<|channel|>final <|message|>{ANSWER}",
        f"analysis{THOUGHT}assistantfinal{ANSWER}",
        f"<think>{THOUGHT}</think>\n<answer>\n{ANSWER}\n</answer>",
        f"<|START_THINKING|>{THOUGHT}<|END_THINKING|><|START_RESPONSE|>{ANSWER}<|END_RESPONSE|>",
        f"{THOUGHT}</think>{ANSWER}",
        f"<think>{THOUGHT} </think> {ANSWER}",
    ],
)
def test_channels_and_frames_give_the_answer_alone(text: str) -> None:
    assert apart(text) == (THOUGHT, ANSWER)


def test_a_thought_may_be_empty_twice_cut_or_quote_its_own_mark() -> None:
    assert apart(f"<think>\n\n</think>\n\n{ANSWER}") == ("", ANSWER)
    assert apart(f"<think>one</think>\n<think>two</think>\n{ANSWER}") == ("one\n\ntwo", ANSWER)
    assert apart("<|channel|>analysis<|message|>Let me", cut=True) == ("Let me", "")
    assert apart("<think>Let me see") == ("Let me see", "")
    assert apart(f"<think>\nHe asks about <think> and </think> in R1.\n</think>\n{ANSWER}")[1] == ANSWER
    assert apart(f"<think>I end with `</think>` here.\n</think>\n{ANSWER}") == ("I end with `</think>` here.", ANSWER)


@pytest.mark.parametrize(
    ("text", "thought"),
    [
        ("<think>\nHm.\n<think>\nDeep.\n</think>\nWell.\n</think>\n{}", "Hm.\n<think>\nDeep.\n</think>\nWell."),
        ("<think>\nHm <think>deep</think> So.\n</think>\n{}", "Hm <think>deep</think> So."),
        ("<think>\nIt is:\n```\n</think>\n```\nSo.\n</think>\n{}", "It is:\n```\n</think>\n```\nSo."),
        ("<think>\nThe mark </think> ends it.\n</think>\n\n{}", "The mark </think> ends it."),
        ("<thought>\nA </thought> after it.\n</thought>\n\n{}", "A </thought> after it."),
        ("<think>Hm.</think>\n</think>\n\n{}", "Hm."),
        ("Hm.\n</think>\n</think>\n{}", "Hm."),
        ("</think>{}", ""),
        ("\n</think>\n{}", ""),
        ("</think>" * 1500 + "{}", ""),
        ("<think></think>" * 1500 + "{}", ""),
        ("<think>\n" + "Say </think> then " * 60 + ".\n</think>\n{}", "Say </think> then " * 60 + "."),
        ("<think>Hm.</thinking>{}", "Hm."),
        ("<thinking>\nHm.\n</think>\n{}", "Hm."),
        ("<think>Hm.[/THINK]{}", "Hm."),
        ("<think>Hm.</think><|begin_of_box|>{}<|end_of_box|>", "Hm."),
        ("<think>A fence ``` is open.</think>\n{}", "A fence ``` is open."),
        ("<think>\nA layout:\n<think>\n</think>{}", "A layout:\n<think>"),
    ],
)
def test_a_thought_may_show_its_marks_repeat_them_or_end_with_anothers(text: str, thought: str) -> None:
    assert apart(text.format(ANSWER)) == (thought, ANSWER)


@pytest.mark.parametrize("text", ["</think>\n{}", "</think>\n</think>{}", "<|begin_of_box|>{}<|end_of_box|>",
                                  "\n<|START_RESPONSE|>{}<|END_RESPONSE|>"])  # fmt: skip
def test_marks_at_the_ends_go_where_the_thought_came_apart_too(text: str) -> None:
    assert apart(text.format(ANSWER), quotable=True)[1] == ANSWER


@pytest.mark.parametrize(
    "text",
    [
        "R1 writes its reasoning between `<think>` and `</think>`.",
        "<think> and </think> are the marks of R1.",
        "<think> is how R1 begins.",
        "[THINK] is how Magistral begins, and [/THINK] how it ends.",
        "Stop at </think> and cut what comes before it.",
        "The mark is </think>.",
        'He wrote "</think>" twice.',
        "It ends with </think>\nand then the answer comes.",
        "Here is the layout:\n<think>\nsteps\n</think>\nanswer",
        "Here is the layout:\n```\n<think>\nsteps\n</think>\nanswer\n```\nGood luck.",
        "```python\ntext.split('''\n</think>\n''')\n```",
        "Marks:\n1. `</think>`: the end",
        "<|channel|> begins a channel of harmony.",
        "analysis of the final: nothing",
        "As `<|channel|>analysis<|message|>x<|end|>` shows, it thinks first.",
        "Use <reasoning> for steps.",
        "<answer>42</answer>",
        "The parser stops at the line\n</think>\nand then reads on.",
        "It ends with: </think>",
        "The last line is:\n</think>",
        "    </think>\n\nis code, since it is indented.",
        "analysis of what assistantfinal means",
        "Cut it with re.sub(r'<think>.*?</think>', '', text).",
        "> </think>\n\nis a quote.",
        "</think> is how it ends.",
        "The box is <|begin_of_box|>42<|end_of_box|>.",
        "<think> is R1's mark, </thinking> another.",
        "",
    ],
)
def test_an_answer_that_talks_about_marks_stays_whole(text: str) -> None:
    assert apart(text) == (None, text)


def test_a_quote_of_the_question_ends_no_thought() -> None:
    text = f"You wrote:\n</think>\n{ANSWER}"
    assert apart(text, quotable=True) == (None, text)
    assert apart(f"<think>hm</think>{text}", quotable=True) == ("hm", text)
