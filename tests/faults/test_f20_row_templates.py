"""F20: a template over a row shows what the row says: never Python's methods, never a null's or a list's Python text.

Field names that Python's mappings, texts and lists have methods for are ordinary fields. A null is nothing. A value
that is no text, number or boolean is refused, with the field, the row's place and what to write instead.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairsmith.config import Recipe
from pairsmith.config.sources import Given
from pairsmith.errors import ConfigError, NoText
from pairsmith.sources.given_completions import read_completions
from pairsmith.stages.base import open_store
from pairsmith.storage.tables import LOAD_REJECTIONS
from pairsmith.testing import FakeEndpoint
from pairsmith.text.templating import render_text
from tests.faults.harness import complete, repeated
from tests.runs import contents, read, run

Build = Callable[..., Recipe]
Tally = Callable[..., None]
Write = Callable[[str, str | bytes], Path]
METHODS = sorted({name for kind in (dict, str, list, int) for name in dir(kind) if not name.startswith("_")})
SCALARS = st.text() | st.integers() | st.booleans() | st.none()


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@given(st.sampled_from(METHODS), SCALARS)
def test_f20_a_field_with_the_name_of_a_method_is_that_field(name: str, value: Any) -> None:
    wanted = "" if value is None else str(value)
    for template in (f"{{{{ task.{name} }}}}", f"{{{{ task['{name}'] }}}}", f"{{{{ {{'t': task}}.t.{name} }}}}"):
        assert render_text(template, "here", {"task": {name: value}}) == wanted
    one = f"{{{{ [task] | map(attribute='{name}') | join }}}}"
    assert render_text(one, "here", {"task": {name: value}}) == wanted


@pytest.mark.parametrize("name", METHODS)
def test_f20_a_field_that_is_not_there_is_an_error_and_no_method(name: str) -> None:
    for value in ({}, "text", [1], 7):
        with pytest.raises(ConfigError):
            render_text(f"{{{{ task.{name} }}}}", "here", {"task": value})


@given(st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=3), SCALARS, max_size=3))
def test_f20_a_list_or_a_mapping_becomes_no_text_by_itself(value: Any) -> None:
    for template in ("{{ a.b }}", "x {{ a.b }}", "{{ a.b ~ 'x' }}", "{{ a.b | string }}", "{{ [a.b] | join }}"):
        with pytest.raises(NoText, match=f"{type(value).__name__}.*tojson"):
            render_text(template, "here", {"a": {"b": value}})
    with pytest.raises(NoText, match=r"here: a\.b is a"):
        render_text("{{ a.b }}", "here", {"a": {"b": value}})
    for apply in ("upper", "trim", "title", "replace('a', 'b')", "truncate(9)", "e", "wordcount"):
        with pytest.raises(NoText):
            render_text(f"{{{{ a.b | {apply} }}}}", "here", {"a": {"b": value}})
    assert json.loads(render_text("{{ a.b | tojson }}", "here", {"a": {"b": value}})) == value


@pytest.mark.parametrize("apply", ["", "| upper", "| string", "| trim", "~ ''", "| e"])
def test_f20_a_null_is_nothing(apply: str) -> None:
    assert render_text(f"{{{{ a }}}} and {{{{ b {apply} }}}}", "here", {"a": "x", "b": None}) == "x and"


def test_f20_white_space_stays_where_the_template_is_the_value() -> None:
    code = "    print(1)\n"
    for alone in ("{{ code }}", "{{ code }}\n", " {{ code }} ", "{{ row.code }}", "{{ row['code'] }}"):
        assert render_text(alone, "here", {"code": code, "row": {"code": code}}) == code
    parts = ("{{ code }}{{ empty }}", "{% if code %}{{ code }}{% endif %}", "{{ code ~ empty }}", "{{ code | trim }}")
    for more in parts:
        assert render_text(more, "here", {"code": code, "empty": None}) == "print(1)"
    assert render_text("Do: {{ code }}\n\n{{ empty }}", "here", {"code": code, "empty": None}) == "Do:     print(1)"


def test_f20_names_of_a_loop_go_on_working() -> None:
    template = "{% for turn in turns %}{{ loop.index }}/{{ loop.length }} {{ loop.last }} {{ turn.title }};{% endfor %}"
    values = {"turns": [{"title": "a"}, {"title": "b"}]}
    assert render_text(template, "here", values) == "1/2 False a;2/2 True b;"
    shown = "{{ loop.previtem.title if not loop.first else 'none' }},{{ loop.revindex0 }} "
    before = f"{{% for turn in turns %}}{shown}{{% endfor %}}"
    assert render_text(before, "here", values) == "none,1 a,0"


def test_f20_rows_are_refused_with_field_place_and_remedy(file: Write) -> None:
    path = file("rows.jsonl", lines(*({"task": {"items": value}} for value in (["a", "b"], "Solve it", None))))
    accepted, rejected = read(path, columns={"prompt": "{{ task.items }}"})
    assert contents(accepted) == ["Solve it"]
    wrong, empty = rejected
    assert (wrong["reason"], empty["reason"]) == ("wrong_type", "blank")
    assert f"{path}:1: " in wrong["detail"]
    assert "task.items is a list" in wrong["detail"]
    assert "|tojson or |join" in wrong["detail"]
    assert f"{path}:3: " in empty["detail"]
    joined, _ = read(path, columns={"prompt": "{{ task.items | join(' ') if task.items is not string else 'x' }}"})
    assert "a b" in contents(joined)


def test_f20_a_null_in_a_prompt_or_a_given_answer_is_never_the_word_none(file: Write) -> None:
    rows = [{"instruction": f"Do {n}", "input": None, "good": "Yes.", "bad": None} for n in range(2)]
    path = file("rows.jsonl", lines(*rows, {"instruction": None, "input": None, "good": "", "bad": None}))
    accepted, rejected = read(path, columns={"prompt": "{{ instruction }}\n\n{{ input }}", "reference": "{{ bad }}"})
    assert contents(accepted) == ["Do 0", "Do 1"]
    assert [row["reference"] for row in accepted] == [None, None]
    assert [row["reason"] for row in rejected] == ["blank"]
    written = Given.model_validate({"text": "{{ bad }}"})
    assert [(one["text"], one["error"]) for one in read_completions(rows[0], written)] == [("", "empty")]


def test_f20_every_process_sees_the_same_prompts(
    base_recipe: Build, endpoint: FakeEndpoint, file: Write, tally: Tally
) -> None:
    tasks: list[dict[str, Any]] = [{"items": f"Solve {n}", "keys": None, "values": n} for n in range(4)]
    path = file("rows.jsonl", lines(*({"task": task} for task in [*tasks, {"items": ["not", "text"]}])))
    columns = {"prompt": "Do: {{ task.items }} {{ task.keys }} {{ task.values }}"}
    recipe = base_recipe(endpoint, 1, members=2, prompts={"sources": [{"path": str(path), "columns": columns}]})
    published, summary, _ = run(recipe)
    again = complete(recipe)
    assert (again.digest, again.calls, repeated(endpoint)) == (published.digest, 0, 0)
    assert summary.loaded == 4
    asked = {body["messages"][-1]["content"] for body in endpoint.journal if body["model"] in "ab"}
    assert asked == {f"Do: Solve {n}  {n}" for n in range(4)}
    (refused,) = open_store(recipe).read(LOAD_REJECTIONS)["detail"]
    assert f"{path}:5: prompts.columns: task.items is a list" in refused
    tally(trials=2, lost=summary.loaded - summary.paired - sum(summary.prompt_reasons.values()))
