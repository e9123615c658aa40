from __future__ import annotations

import json
from typing import Any

import pytest

from pairsmith.config import Prompts, Recipe
from pairsmith.planning.dry_run import plan_run
from pairsmith.session import Session
from pairsmith.sources.inspection import unread_in
from pairsmith.sources.prompts import read_prompts
from pairsmith.sources.unread import Unread
from pairsmith.stages.load import load


def told(file: Any, rows: list[dict[str, Any]], **source: Any) -> list[str]:
    path = file("a.jsonl", "\n".join(map(json.dumps, rows)))
    unread = Unread()
    config = Prompts.model_validate({"sources": [{"path": str(path), **source}]})
    list(read_prompts(config, unread=unread))
    assert unread.told() == unread_in(config)
    return [sentence.replace(str(path), "a.jsonl") for sentence in unread.told()]


@pytest.mark.parametrize(
    ("row", "source", "parts"),
    [
        ({"instruction": "a", "input": "b"}, {}, ()),
        ({"prompt": "a", "input": None, "context": "", "tools": [], "x": {}}, {}, ()),
        ({"prompt": "a", "source": "s", "reference": "r", "system_prompt": "p"}, {}, ()),
        ({"prompt": "a", "source": "stack exchange", "reference": 2}, {}, ()),
        ({"prompt": "a", "system_prompt": {"role": "system", "content": "S"}}, {}, ()),
        ({"prompt": "a", "reference": ["r"], "system_prompt": {"s": 1}}, {}, ("not read: reference, system_prompt.",)),
        (
            {"instruction": "Translate", "source": "Hi all", "target": "Salut"},
            {},
            ("not read: source, target.", "{{ source }}"),
        ),
        ({"instruction": "Translate", "source": "It has rained for seven long days."}, {}, ("{{ source }}",)),
        ({"prompt": "a", "source": "It has rained for seven long days."}, {"columns": {"source": "source"}}, ()),
        ({"prompt": "a", "passage": "春眠不覺曉處處聞啼鳥"}, {}, ("{{ prompt }}\\n\\n{{ passage }}",)),
        ({"prompt": "a", "source_text": "b c"}, {}, ("{{ prompt }}\\n\\n{{ source_text }}",)),
        ({"prompt": "a", "system": "S"}, {}, ("`columns: {system_prompt: system}`",)),
        (
            {"instruction": "a", "input": "b", "notes": "c d"},
            {},
            ('"{{ instruction }}\\n\\n{{ input }}\\n\\n{{ notes }}"',),
        ),
        (
            {"instruction": "a", "input": "b", "system": "S", "notes": "c d"},
            {},
            ('{{ input }}\\n\\n{{ notes }}", system_prompt: system}',),
        ),
        ({"question": "a", "options": ["b", "c"], "notes": "c d"}, {}, ("{{ options|tojson }}\\n\\n{{ notes }}",)),
        (
            {"instruction": "a", "history": [["b", "c"]], "system": "S", "notes": "c d"},
            {},
            ('{system_prompt: "{{ system }}\\n\\n{{ notes }}"}',),
        ),
        ({"instruction": "a", "context": "b", "system": "S"}, {}, ()),
        ({"prompt": "a", "id": 1}, {"keep": ["id"]}, ()),
        ({"prompt": "a", "meta": {"id": 1}}, {"keep": ["meta.id"]}, ()),
        ({"prompt": "a", "lang": "en"}, {"where": "lang == 'en'"}, ("not read: lang.",)),
        ({"a": "x", "notes": "y"}, {"columns": {"prompt": "See my notes: {{ a }}"}}, ("not read: notes.",)),
        (
            {"prompt": "a", "A": "x y", "B": "z", "winner": "A"},
            {"completions": {"columns": {"a": "A", "b": "{{ B }}"}, "verdicts": {"overall": "winner"}}},
            (),
        ),
        ({"a": "x", "b c": "y"}, {"columns": {"prompt": "{{ a }}{{ 'b c' }}"}}, ()),
        ({"prompt": "a", "id": 1}, {}, ("not read: id.", "`keep: [id]`")),
        ({"prompt": "a", "input": "b"}, {}, ("not read: input.", '{prompt: "{{ prompt }}\\n\\n{{ input }}"}')),
        ({"question": "a", "context": {"t": 1}}, {}, ('"{{ question }}\\n\\n{{ context|tojson }}"',)),
        (
            {"messages": [{"role": "user", "content": "a"}], "tools": [{}]},
            {},
            ('{system_prompt: "{{ tools|tojson }}"}',),
        ),
        ({"p": "a", "input": "b"}, {"columns": {"prompt": "p"}}, ("not read: input.", '"{{ p }}\\n\\n{{ input }}"')),
        ({"prompt": "a", "response": "b"}, {}, ("`completions: {of_layout: true}`", "takes response")),
        ({"prompt": "a", "response": "b"}, {"completions": {"of_layout": True}}, ()),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, {"completions": {"of_layout": True}}, ()),
        ({"prompt": "a", "chosen": "b"}, {"completions": {"text": "chosen"}}, ()),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
            {},
            ("not read: the last answer of its chats.",),
        ),
        ({"prompt": "a"}, {"keep": ["langage"]}, ("keep: langage: no row has such a column",)),
    ],
)
def test_what_is_filled_and_not_read_is_named_with_what_would_use_it(
    file: Any, row: dict[str, Any], source: dict[str, Any], parts: tuple[str, ...]
) -> None:
    found = told(file, [row, row], **source)
    assert len(found) == bool(parts)
    assert all(part in found[0] for part in parts)


def test_duplicates_that_differ_in_what_is_not_read_are_counted(file: Any) -> None:
    rows = [{"prompt": "a", "passage": text, "id": n} for n, text in enumerate(("one two", "one two", "three", None))]
    (sentence,) = told(file, rows)
    assert "Duplicates that differ in them from an earlier row: 1." in sentence
    assert '{prompt: "{{ prompt }}\\n\\n{{ passage }}"}' in sentence


def test_duplicates_that_differ_in_the_text_to_translate_are_counted(file: Any) -> None:
    rows = [{"instruction": "Translate", "source": text, "target": "t"} for text in ("Hi", "Hello", "Hi")]
    assert "Duplicates that differ in them from an earlier row: 1." in told(file, rows)[0]


def test_many_columns_make_one_line(file: Any) -> None:
    (sentence,) = told(file, [{"prompt": "a", **{f"c{n}": n for n in range(80)}}])
    assert "and 68 more" in sentence
    assert len(sentence) < 400


def test_a_run_and_a_dry_run_say_it_before_a_model_is_asked(
    echo_recipe: Any, file: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = file("a.jsonl", '{"prompt": "a", "notes": "b"}\n{"prompt": "c", "notes": "d"}\n')
    recipe: Recipe = echo_recipe(prompts={"sources": [{"path": str(path)}]})
    assert [sentence.count("not read: notes") for sentence in plan_run(recipe).unread] == [1]
    with Session() as session:
        load(recipe, session)
    assert sum("not read: notes" in message for message in caplog.messages) == 1


def test_a_look_ahead_minds_no_absent_file_and_no_address() -> None:
    sources = [{"path": "absent.jsonl"}, {"path": "https://localhost/x.jsonl"}, {"path": "some/hub-set"}]
    assert unread_in(Prompts.model_validate({"sources": sources})) == []
