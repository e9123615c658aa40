"""Answers that are whole chats, and prompts and answers that are lists of turns or transcripts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from pairsmith.config import Given, Source
from pairsmith.sources.given_completions import carried
from pairsmith.sources.prompts import to_prompt
from pairsmith.sources.row_fields import Refused
from tests.sources.test_given_completions import WIDE, items


def turns(*texts: str, system: str | None = None) -> list[dict[str, str]]:
    """A chat whose turns have these texts, the user's first."""
    said = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]
    return [*([{"role": "system", "content": system}] if system else []), *said]


def as_text(chat: list[dict[str, str]]) -> str:
    names = {"user": "Human", "assistant": "Assistant"}
    return "".join(f"\n\n{names[turn['role']]}: {turn['content']}" for turn in chat)


SHORT, LONG_CHAT = ("Q1",), ("Q1", "A1", "Q2")
LAYOUT: dict[str, Any] = {"of_layout": True}


@pytest.mark.parametrize(
    ("row", "layout", "asked", "system"),
    [
        *(({"prompt": "Q1", "chosen": form(turns(*LONG_CHAT, "good")), "rejected": form(turns(*LONG_CHAT, "bad"))},
           layout, LONG_CHAT, None) for form in (list, json.dumps, as_text) for layout in (LAYOUT, WIDE)),
        ({"prompt": "Q1", **{side: turns("Q1", text, system="S")
                             for side, text in (("chosen", "good"), ("rejected", "bad"))}}, LAYOUT, SHORT, "S"),
        ({"prompt": "Q1 ", "system_prompt": "S", **{side: turns("Q1", text, system="S")
                             for side, text in (("chosen", "good"), ("rejected", "bad"))}}, LAYOUT, ("Q1 ",), "S"),
        ({"prompt": "Q1", "chosen": turns("Q1", "good"), "rejected": "bad"}, LAYOUT, SHORT, None),
        ({"prompt": "Q1", "chosen": {"messages": turns("Q1", "good")}, "rejected": "bad"}, WIDE, SHORT, None),
        ({"messages": turns(*LONG_CHAT), "chosen": turns(*LONG_CHAT, "good"), "rejected": "bad"}, LAYOUT, LONG_CHAT,
         None),
        ({"system": "S", "prompt": "Q1", "chosen": turns("Q1", "good"), "rejected": turns("Q1", "bad")}, LAYOUT,
         SHORT, "S"),
    ],
)  # fmt: skip
def test_answers_that_are_whole_chats_keep_all_that_was_said_before(
    row: dict[str, Any], layout: dict[str, Any], asked: tuple[str, ...], system: str | None
) -> None:
    prompt = to_prompt(row, Source(path="x.jsonl", completions=Given(**layout)), 1000)
    assert json.loads(prompt["messages"]) == turns(*asked)
    assert prompt["system_prompt"] == system
    assert {item["member"]: item["text"] for item in carried(prompt)} == {"chosen": "good", "rejected": "bad"}


@pytest.mark.parametrize(
    ("row", "layout"),
    [
        ({"prompt": "Hi", "chosen": turns("Bye", "good"), "rejected": turns("Bye", "bad")}, LAYOUT),
        ({"prompt": "Hi", "chosen": turns("Hi", "good"), "rejected": turns("Bye", "bad")}, WIDE),
        ({"prompt": "Q1", "chosen": turns(*LONG_CHAT, "good"), "rejected": turns("Q1", "B1", "Q2", "bad")}, LAYOUT),
        *(({"prompt": prompt, "chosen": form(turns(*LONG_CHAT, "good")), "rejected": form(turns(*chat, "bad"))}, LAYOUT)
          for form in (as_text, json.dumps) for prompt, chat in (("Hi", LONG_CHAT), ("Q1", ("Q1", "B1", "Q2")))),
        ({"prompt": "Q2", "chosen": turns(*LONG_CHAT, "good"), "rejected": turns(*LONG_CHAT, "bad")}, LAYOUT),
        ({"prompt": "Q1", "completion": turns(*LONG_CHAT, "good")}, LAYOUT),
        ({"prompt": "Q1", "completion": turns(*LONG_CHAT, "good")}, {"text": "completion"}),
        ({"prompt": "Q1", "completion": turns("Q1", "good", system="S")}, LAYOUT),
        ({"messages": turns(*LONG_CHAT, "good"), "b": turns("Q1", "B1", "Q2", "bad")},
         {"columns": {"a": "messages", "b": "b"}}),
    ],
)  # fmt: skip
def test_answers_that_are_chats_about_something_else_are_refused(row: dict[str, Any], layout: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        to_prompt(row, Source(path="x.jsonl", completions=Given(**layout)), 1000)
    assert caught.value.reason == "bad_chat"


def test_a_chat_about_something_else_in_a_list_of_answers_is_one_with_its_error() -> None:
    bad, good = items({"answers": [turns(*LONG_CHAT, "good"), turns("Hi", "fine")]}, items="answers")
    assert (bad["error"].startswith("bad_chat: the list's item holds a chat"), good) == (True, {"text": "fine"})


@pytest.mark.parametrize("form", [as_text, json.dumps])
@pytest.mark.parametrize("layout", [LAYOUT, {"text": "completion"}])
def test_an_answer_whose_text_is_a_dialogue_stays_as_it_is(form: Callable[..., str], layout: dict[str, Any]) -> None:
    text = form(turns("Hi", "Hello", "Bye", "Bye bye"))
    row = {"prompt": "Write a dialogue.", "completion": text}
    assert [item["text"] for item in carried(to_prompt(row, Source(path="x.jsonl", completions=layout), 1000))] == [
        text
    ]  # type: ignore[arg-type]
    both = {"prompt": "Write a dialogue.", "chosen": text, "rejected": form(turns("Hi", "Ho"))}
    found = carried(to_prompt(both, Source(path="x.jsonl", completions=Given(of_layout=True)), 1000))
    assert {item["text"] for item in found} == {both["chosen"], both["rejected"]}


def test_answers_are_no_options_of_the_prompt() -> None:
    given = {"columns": {"a": "A", "b": "{{ B }}"}, "verdicts": {"overall": "winner"}}
    row = {"question": "Name a tree", "A": "Oak is one", "B": "Cod is one", "winner": "A"}
    prompt = to_prompt(row, Source(path="x.jsonl", completions=given), 100)  # type: ignore[arg-type]
    assert json.loads(prompt["messages"]) == turns("Name a tree")
    lists = {"question": "Name a tree", "choices": ["Oak", "Cod"]}
    prompt = to_prompt(lists, Source(path="x.jsonl", completions=Given(items="choices")), 100)
    assert json.loads(prompt["messages"]) == turns("Name a tree")


@pytest.mark.parametrize(
    "text",
    [
        "\n\nHuman: Q1\n\nAssistant: A1\n\nHuman: Q2\n\nAssistant:",
        "Human: Q1\n\nAssistant: A1\n\nHuman: Q2",
        "<|im_start|>user\nQ1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n<|im_start|>user\nQ2<|im_end|>\n"
        "<|im_start|>assistant\n",
        "<s>[INST] Q1 [/INST] A1 </s><s>[INST] Q2 [/INST]",
    ],
)
@pytest.mark.parametrize("columns", [{}, {"messages": "prompt"}])
def test_a_transcript_that_waits_for_the_answers_beside_it_is_a_chat(text: str, columns: dict[str, str]) -> None:
    source = Source(path="x.jsonl", columns=columns, completions=Given(of_layout=True))  # type: ignore[arg-type]
    prompt = to_prompt({"prompt": text, "chosen": "good", "rejected": "bad"}, source, 1000)
    assert json.loads(prompt["messages"]) == turns(*LONG_CHAT)
    assert {item["member"]: item["text"] for item in carried(prompt)} == {"chosen": "good", "rejected": "bad"}
    listed = to_prompt({"prompt": text, "answers": [{"a": "x"}]}, Source(path="x.jsonl"), 1000)
    assert json.loads(listed["messages"]) == turns(*LONG_CHAT)


def test_a_mapped_chat_with_a_blank_answer_brings_none() -> None:
    source = Source(path="x.jsonl", columns={"messages": "p"}, completions=Given(of_layout=True))  # type: ignore[arg-type]
    assert carried(to_prompt({"p": "\n\nHuman: a\n\nAssistant:"}, source, 100)) == []


ARENA = {"columns": {"a": "response_a", "b": "response_b"}}


@pytest.mark.parametrize("form", [list, json.dumps])
def test_lists_of_turns_beside_lists_of_answers(form: Callable[..., Any]) -> None:
    source = Source(path="x.jsonl", completions=Given(**ARENA))
    for before in ((), ("Q1", "A1")):
        answers = {"response_a": "good", "response_b": "bad"}
        lists = {name: form([*before[1::2], text]) for name, text in answers.items()}
        row = {"prompt": form([*before[::2], "Q2"]), **lists}
        prompt = to_prompt(row, source, 100)
        assert json.loads(prompt["messages"]) == turns(*before, "Q2")
        assert {item["text"] for item in carried(prompt)} == {"good", "bad"}
    for a, b in ((["A1", "x"], ["B1", "y"]), (["x"], ["y"]), (["A1", "x"], ["y"])):
        row = {"prompt": form(["Q1", "Q2"]), "response_a": form(a), "response_b": form(b)}
        with pytest.raises(Refused) as caught:
            to_prompt(row, source, 100)
        assert caught.value.reason == "bad_chat"
