from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from pairsmith.config import Source
from pairsmith.config.sources import LayoutName
from pairsmith.sources.layout_readers import Asked
from pairsmith.sources.layouts import BY_NAME, ask
from pairsmith.sources.prompts import asked_in, to_prompt
from pairsmith.sources.row_fields import Refused
from tests.conftest import ROOT
from tests.runs import contents, read

ROW = re.compile(r"^\| `([\w-]+)` \| (?:.*?) \| `(\{.*?\})` \| ", re.MULTILINE)
TABLE = ROW.findall((ROOT / "docs" / "layouts.md").read_text(encoding="utf-8"))


def turn(text: str, role: str = "user") -> dict[str, str]:
    return {"role": role, "content": text}


def said(asked: Asked) -> list[str]:
    return [message["content"] for message in asked.messages]


def refusal(row: dict[str, Any], **source: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        asked_in(row, Source(path="x.jsonl", **source))
    return caught.value


def test_the_recipe_the_code_and_the_document_name_the_same_layouts() -> None:
    assert set(get_args(LayoutName)) == {"auto", *BY_NAME}
    assert {name for name, _ in TABLE} == set(BY_NAME)


@pytest.mark.parametrize(("name", "example"), TABLE)
def test_the_examples_of_the_document(name: str, example: str) -> None:
    row = json.loads(example)
    assert ask(row).layout == name
    named = ask(row, name)
    assert (named.system, named.messages) == (ask(row).system, ask(row).messages)
    assert named.messages[-1]["role"] == "user"


@pytest.mark.parametrize(
    ("row", "texts", "system"),
    [
        ({"instruction": "Sum up.", "input": "A text."}, ["Sum up.\n\nA text."], None),
        ({"instruction": "Sum up.", "input": ""}, ["Sum up."], None),
        ({"instruction": "Sum up.", "input": None}, ["Sum up."], None),
        ({"instruction": "Sum up.", "input": "<noinput>"}, ["Sum up."], None),
        ({"instruction": "Double it.", "input": 21}, ["Double it.\n\n21"], None),
        ({"instruction": "", "input": "What is rain?"}, ["What is rain?"], None),
        ({"instruction": None, "input": "What is rain?"}, ["What is rain?"], None),
        ({"instruction": " kept \n", "input": ""}, [" kept \n"], None),
        ({"instruction": "a", "history": [], "system": "S"}, ["a"], "S"),
        ({"instruction": "c", "history": '[["a", "b"]]'}, ["a", "b", "c"], None),
        (
            {"instruction": "c", "history": [turn("S", "system"), turn("a"), turn("b", "assistant")]},
            ["a", "b", "c"],
            "S",
        ),
        ({"question": "Q", "choices": {"text": ["x", "y"], "label": ["1", "2"]}}, ["Q\n\n1. x\n2. y"], None),
        ({"question": "Q", "choices": '["x", "y"]'}, ["Q\n\nA. x\nB. y"], None),
        ({"question": "Q", "options": {"A": "x", "B": "y"}, "context": "C"}, ["Q\n\nC\n\nA. x\nB. y"], None),
        ({"question": "Q", "A": "x", "B": "y", "C": "", "answer": "A"}, ["Q\n\nA. x\nB. y"], None),
        ({"question": "Q", "opa": "x", "opb": "y", "opc": "z", "opd": "w"}, ["Q\n\nA. x\nB. y\nC. z\nD. w"], None),
        ({"question": "Q", "options": {"temperature": 1, "n": 2}}, ["Q"], None),
        (
            {"question": "Q", "choices": [{"label": "A", "text": "x"}, {"label": "B", "text": "y"}]},
            ["Q\n\nA. x\nB. y"],
            None,
        ),
        ({"instruction": "I", "context": "C", "system": "S"}, ["I\n\nC"], "S"),
        ({"messages": ['{"role": "system", "content": "S"}', '{"role": "user", "content": "a"}']}, ["a"], "S"),
        ({"messages": float("nan"), "prompt": "p"}, ["p"], None),
        ({"question": "Q", "context": {"title": ["t"]}}, ["Q"], None),
        ({"system": "S", "question": "Q", "chosen": "a", "rejected": "b"}, ["Q"], "S"),
        ({"system": "gpt-4", "prompt": "p"}, ["p"], None),
        ({"messages": [turn("a")], "system": "S"}, ["a"], "S"),
        ({"messages": [turn("S", "system"), turn("a")], "system": "S"}, ["a"], "S"),
        ({"messages": "", "prompt": "p"}, ["p"], None),
        ({"prompt": "p", "conversations": [{"from": "human", "value": "a"}]}, ["p"], None),
        ({"prompt": "", "conversations": [{"from": "human", "value": "a"}]}, ["a"], None),
        ({"prompt": "\n\nHuman: kept\n\nAssistant:"}, ["\n\nHuman: kept\n\nAssistant:"], None),
        ({"prompt": '["kept"]'}, ['["kept"]'], None),
        ({"prompt": '[{"a": 1}]'}, ['[{"a": 1}]'], None),
        ({"turns": '["one", "two"]'}, ["one"], None),
    ],
)
def test_rows_are_read_whole(row: dict[str, Any], texts: list[str], system: str | None) -> None:
    asked = ask(row)
    assert (said(asked), asked.system) == (texts, system)


def test_what_a_row_says_beside_its_prompt_tells_it_from_others(file: Any) -> None:
    rows = [{"instruction": "Translate.", "input": text} for text in ("One.", "Two.", "One.")]
    accepted, rejected = read(file("a.jsonl", "\n".join(map(json.dumps, rows))))
    assert contents(accepted) == ["Translate.\n\nOne.", "Translate.\n\nTwo."]
    assert [row["reason"] for row in rejected] == ["duplicate"]


def test_a_row_whose_context_is_empty_keeps_its_id() -> None:
    source = Source(path="x.jsonl")
    ids = {
        to_prompt(row, source, 100)["prompt_id"]
        for row in ({"instruction": "a"}, {"prompt": "a"}, {"instruction": "a", "input": "", "output": "b"})
    }
    assert len(ids) == 1


def test_several_layouts_in_one_file(file: Any) -> None:
    rows = [
        {"prompt": "a"},
        {"instruction": "b", "input": "c"},
        {"conversations": [{"from": "human", "value": "d"}]},
        {"text": "### Human: e"},
        {"text": "no transcript"},
    ]
    accepted, rejected = read(file("a.jsonl", "\n".join(map(json.dumps, rows))))
    assert contents(accepted) == ["a", "b\n\nc", "d", "e"]
    assert [row["reason"] for row in rejected] == ["missing"]


def test_the_common_beginning_of_chosen_and_rejected() -> None:
    before = [turn("S", "developer"), turn("a"), turn("b", "assistant"), turn("c")]
    row = {side: [*before, turn(side, "assistant")] for side in ("chosen", "rejected")}
    asked = ask(row)
    assert (said(asked), asked.system) == (["a", "b", "c"], "S")
    assert asked.answers.texts == (("chosen", "chosen"), ("rejected", "rejected"))
    same = ask(row | {"rejected": row["chosen"]})
    assert said(same) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("chosen", "rejected", "why"),
    [
        ([turn("a"), turn("b", "assistant")], [turn("x"), turn("b", "assistant")], "no common beginning"),
        ([turn("b", "assistant")], [turn("c", "assistant")], "no common beginning"),
        (
            [turn("a"), turn("b", "assistant"), turn("c"), turn("d", "assistant")],
            [turn("a"), turn("x", "assistant")],
            "chosen: one answer must follow the common beginning of 1 messages; is assistant, user, assistant",
        ),
        ([turn("a"), turn("b")], [turn("a"), turn("c")], "one answer must follow"),
        ("same words here", "same words there", "texts without turns"),
        (
            [turn("a"), turn("b", "assistant"), turn("c", "assistant")],
            [turn("a"), turn("b", "assistant"), turn("d", "assistant")],
            "the common beginning of chosen and rejected ends with the assistant",
        ),
    ],
)
def test_chosen_and_rejected_without_a_prompt_are_refused(chosen: Any, rejected: Any, why: str) -> None:
    assert why in refusal({"chosen": chosen, "rejected": rejected}).detail


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_a_layout_that_is_named_refuses_rows_of_another(name: str) -> None:
    refused = refusal({"other": "x"}, layout=name)
    assert (refused.reason, "the row has other" in refused.detail) == ("missing", True)


@pytest.mark.parametrize(("name", "column"), [("sharegpt", "conversations"), ("transcript", "text")])
def test_a_layout_of_chats_that_is_named_refuses_plain_text(name: str, column: str) -> None:
    assert refusal({column: "just words"}, layout=name).reason == "bad_chat"


def test_a_mapped_chat_may_have_any_form(file: Any) -> None:
    chat = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    path = file("a.jsonl", "\n".join(json.dumps({"talk": one}) for one in (chat, json.dumps(chat[:1]), "Human: c")))
    accepted, rejected = read(path, columns={"messages": "talk"})
    assert (contents(accepted), [row["reason"] for row in rejected]) == (["a", "c"], ["duplicate"])


def test_a_mapped_system_prompt_is_read_once() -> None:
    source = Source(path="x.jsonl", columns={"system_prompt": "system"})  # type: ignore[arg-type]
    prompt = to_prompt({"system": "S", "question": "Q", "response": "r"}, source, 100)
    assert prompt["system_prompt"] == "S"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"layout": "alpaca", "columns": {"prompt": "x"}}, "either a layout or columns"),
        ({"split": "train[:2]"}, "limit: 2 reads its first 2 rows"),
        ({"split": "test[10%:]"}, "limit reads its first rows"),
        ({"keep": ["id", "source"]}, "a published row has a column source"),
        ({"where": "language =="}, "where: not a valid template"),
        ({"completions": {"of_layout": True, "text": "x"}}, "leave out items and text"),
        ({"completions": {"columns": {"a": "x"}, "verdicts": {"overall": "w"}}}, "they are of two completions"),
        ({"completions": {"of_layout": True}, "columns": {"prompt": "x"}}, "columns.prompt names no answers"),
    ],
)
def test_fields_of_a_source_that_contradict_each_other(changes: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=re.escape(error)):
        Source(path="x.jsonl", **changes)


def test_rows_that_fail_the_condition_are_left_out(file: Path | Any) -> None:
    rows = [{"prompt": str(n), "stars": n, "language": "en" if n % 2 else "de"} for n in range(6)]
    path = file("a.jsonl", "\n".join(map(json.dumps, [*rows, {"prompt": "x"}])))
    accepted, rejected = read(path, where="language == 'en' and stars > 1")
    assert contents(accepted) == ["3", "5"]
    assert [(row["reason"], "where" in row["detail"]) for row in rejected] == [("missing", True)]
    assert contents(read(path, where="stars is defined", limit=2)[0]) == ["0", "1"]


def test_a_condition_on_text_says_what_went_wrong(file: Any) -> None:
    path = file("a.jsonl", '{"prompt": "a", "stars": "3"}\n{"prompt": "b", "stars": "5"}\n')
    (refused, _) = read(path, where="stars > 3")[1]
    assert (refused["reason"], "where: TypeError" in refused["detail"]) == ("wrong_type", True)
    assert contents(read(path, where="stars|int > 3")[0]) == ["b"]


@pytest.mark.parametrize(
    ("where", "asked"),
    [
        ("ok", "a"), ("not ok", "bc"), ("ok == true", "a"), ("ok == false", "b"), ("stars == 5", "b"),
        ("stars > 3", "b"),
        ("3.0 >= stars", "ac"), ("stars != 5", "ac"), ("stars in [3, 4]", "a"), ("stars|int > 3", "b"),
        ("code == '007'", "a"), ("code == 7 and stars < 4", "a"), ("code", "abc"), ("ok|lower == 'false'", "b"),
    ],
)  # fmt: skip
def test_a_condition_reads_the_numbers_and_truths_of_csv(file: Any, where: str, asked: str) -> None:
    path = file("a.csv", "prompt,ok,stars,code\na,True,3,007\nb,False,5,7\nc,,2.5,x\n")
    accepted, rejected = read(path, where=where)
    assert ("".join(contents(accepted)), rejected) == (asked, [])


def test_a_condition_on_a_cell_that_is_no_number_says_so(file: Any) -> None:
    (refused,) = read(file("a.csv", "prompt,stars\na,many\n"), where="stars > 3")[1]
    assert (refused["reason"], "many" in refused["detail"]) == ("wrong_type", True)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"question": "", "context": "C"}, "blank"),
        ({"instruction": " ", "context": "C"}, "blank"),
        ({"instruction": None, "context": "C"}, "missing"),
        ({"prompt": float("nan")}, "missing"),
    ],
)
def test_a_context_alone_asks_nothing(row: dict[str, Any], reason: str) -> None:
    assert refusal(row).reason == reason
