from __future__ import annotations

import json
from typing import Any

import pytest

from pairsmith.sources.chats import as_data, is_chat, is_transcript, read_chat, turns_of
from pairsmith.sources.layouts import ask
from pairsmith.sources.row_fields import Refused
from tests.runs import contents, read

CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


@pytest.mark.parametrize(
    "form",
    [
        CHAT,
        [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}],
        [{"role": "prompter", "text": "Hi"}, {"role": "bot", "text": "Hello"}],
        [{"role": "user", "content": "Hi", "from": None, "weight": 1}, {"role": "assistant", "content": "Hello"}],
        [{"role": "user", "parts": [{"text": "Hi"}]}, {"role": "model", "parts": [{"text": "Hello"}]}],
        [["Hi", "Hello"]],
        [{"human": "Hi", "assistant": "Hello"}],
        [{"user": "Hi", "assistant": "Hello"}],
        {"role": ["user", "assistant"], "content": ["Hi", "Hello"]},
        {"messages": CHAT, "id": 1},
        [{"input": "Hi", "output": "Hello"}],
        [{"instruction": "Hi", "input": "", "output": "Hello", "system": None}],
        [{"instruction": "", "input": "Hi", "output": "Hello"}],
        [{"role": "system", "content": " "}, *CHAT],
        [{"role": "system", "content": None}, *CHAT],
    ],
)
def test_forms_of_a_chat(form: Any) -> None:
    assert read_chat(form, "x") == read_chat(json.dumps(form), "x") == CHAT


@pytest.mark.parametrize(
    ("role", "names"),
    [
        ("system", "system developer System"),
        ("user", "user human prompter Human"),
        ("assistant", "assistant gpt bot model chatbot ai chatgpt GPT"),
    ],
)
def test_roles(role: str, names: str) -> None:
    found = [read_chat([{"from": f" {name}", "value": "x"}], "x")[0]["role"] for name in names.split()]
    assert set(found) == {role}


def test_parts() -> None:
    parts = [{"type": "text", "text": "Name"}, {"type": "input_text", "text": "a tree"}, "now"]
    assert read_chat([{"role": "user", "content": parts}], "x")[0]["content"] == "Name\na tree\nnow"
    with pytest.raises(Refused, match="a part of kind image_url"):
        read_chat([{"role": "user", "content": [*parts, {"type": "image_url", "image_url": {}}]}], "x")


@pytest.mark.parametrize(
    "text",
    [
        "\n\nHuman: Hi\n\nAssistant: Hello",
        "Human: Hi\n\nAssistant: Hello",
        "### Human: Hi### Assistant: Hello",
        "### User:\nHi\n\n### Assistant:\nHello",
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>",
        "<s>[INST] Hi [/INST] Hello </s>",
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>",
    ],
)
def test_transcripts(text: str) -> None:
    assert is_transcript(text)
    assert read_chat(text, "text") == CHAT
    assert ask({"text": text}).answers.texts == ((None, "Hello"),)


def test_a_transcript_with_a_system_prompt_and_several_turns() -> None:
    text = "<s>[INST] <<SYS>>\nBe brief\n<</SYS>>\n\na [/INST] b </s><s>[INST] c [/INST]"
    turns = turns_of(read_chat(text, "text"), "text")
    assert turns.system == "Be brief"
    assert [message["content"] for message in turns.messages] == ["a", "b", "c"]


@pytest.mark.parametrize("text", ["Say: Human: x", "Assistant: first", "a\n\nHuman: b", "", "[INST", "Humans: x"])
def test_texts_that_are_no_transcripts(text: str) -> None:
    assert not is_transcript(text)


@pytest.mark.parametrize(
    ("chat", "why"),
    [
        ([{"role": "assistant", "content": "alone"}], "is assistant"),
        ([CHAT[0], CHAT[0]], "is user, user"),
        ([CHAT[0], CHAT[1], CHAT[1]], "is user, assistant, assistant"),
        ([CHAT[0], {"role": "system", "content": "late"}, CHAT[0]], "is user, system, user"),
        ([{"role": "system", "content": "alone"}], "no messages but those of the system"),
        ([], "no messages"),
        ([{"role": "tool", "content": "x"}], "message 1: needs a role"),
        ([{"role": "user", "content": "x", "images": ["a.png"]}], "message 1: has images"),
        ([{"role": "user", "content": "x", "audio": {"url": "a"}}], "message 1: has audio"),
        ([{"human": "x", "assistant": "y", "files": [1]}], "message 1: has files"),
        ([CHAT[0], {"role": "assistant", "content": None, "tool_calls": [{}]}, CHAT[0]], "message 2: calls a tool"),
        ([CHAT[0], {"role": "assistant", "content": ""}, CHAT[0]], "message 2: content must be text"),
        ([{"role": "user", "content": " "}], "message 1: content must be text"),
        ([{"role": "user", "content": {"a": 1}}], "message 1: content must be text"),
        ("[broken", "neither a chat in JSON nor a transcript"),
        ("just words", "neither a chat in JSON nor a transcript"),
        (7, "holds int"),
        ({"role": ["user"], "content": []}, "holds dict"),
    ],
)
def test_chats_that_cannot_be_read_say_where_and_why(chat: Any, why: str) -> None:
    with pytest.raises(Refused) as caught:
        turns_of(read_chat(chat, "talk"), "talk")
    assert caught.value.detail.startswith("talk")
    assert why in caught.value.detail


def test_a_chat_in_a_prompts_column_ends_with_the_user() -> None:
    with pytest.raises(Refused, match="prompt: ends with the assistant"):
        ask({"prompt": CHAT})


def test_an_answer_that_is_blank_is_none_of_the_prompt() -> None:
    turns = turns_of(read_chat([CHAT[0], {"role": "assistant", "content": ""}], "x"), "x")
    assert (len(turns.messages), turns.answer) == (1, "")


def test_chats_as_text(file: Any) -> None:
    rows = [
        json.dumps([{"role": "system", "content": "S"}, *CHAT]),
        str([{"role": "user", "content": 'It\'s "so"'}]),
        "plain words",
        '[{"a": 1}]',
        '[{"role": "user", "content": "cut',
        "",
    ]
    text = "messages;id\n" + "".join('"{}";{}\n'.format(row.replace('"', '""'), n) for n, row in enumerate(rows))
    accepted, rejected = read(file("a.csv", text))
    assert contents(accepted) == ["Hi", 'It\'s "so"', "plain words"]
    assert accepted[0]["system_prompt"] == "S"
    assert [row["reason"] for row in rejected] == ["bad_chat", "bad_chat", "blank"]


def test_turns_keep_what_stands_beside_question_and_answer() -> None:
    found = read_chat([{"system": "S", "instruction": "Sum up.", "input": "A text.", "output": "T"}], "x")
    assert [message["content"] for message in found] == ["S", "Sum up.\n\nA text.", "T"]
    assert turns_of(read_chat([{"system": "S", "human": "Hi", "assistant": "a"}], "x"), "x").system == "S"
    assert read_chat([{"role": "user", "content": "x", "images": [], "audio": None}], "x")[0]["content"] == "x"


def test_lists_that_numpy_printed_are_never_joined() -> None:
    assert as_data("['Q1' 'Q2']") == as_data("['Q1'\n \"Q2\"]") == ["Q1", "Q2"]
    assert as_data("['it\\'s' '' 'a, \\'b\\' \\'c\\'']") == ["it's", "", "a, 'b' 'c'"]
    assert as_data("['a', 'b']") == ["a", "b"]
    printed = "[{'content': 'Hi', 'role': 'user'}\n {'content': 'Hello', 'role': 'assistant'}]"
    assert read_chat(printed, "x") == CHAT


def test_text_in_a_prompts_column_is_a_chat_only_where_that_is_certain() -> None:
    assert is_chat(json.dumps(CHAT))
    assert not is_chat('[{"role": "boss", "content": "x"}]')
    assert not is_chat('[{"role": "user"}]')
    assert not is_chat("[1, 2]")
    assert not is_chat("[" * 10_000 + "'a'")
    assert not is_chat("[{'role': 'user', 'content': '" + "x" * 2**20 + "'}]")
    assert ask({"prompt": json.dumps(CHAT[:1])}).messages == CHAT[:1]
