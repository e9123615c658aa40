from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from pairsmith.errors import ConfigError
from pairsmith.sources.inspection import inspect
from pairsmith_flows.__main__ import main

ROWS = [
    {"instruction": "Sum up.", "input": "One.", "output": "1", "id": 7},
    {"instruction": "Sum up.", "input": "Two.", "output": "2", "id": None},
    {"instruction": "Sum up.", "input": "Two.", "output": "3"},
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
    {"messages": [{"role": "assistant", "content": "alone"}]},
    {"text": "x"},
]


def test_a_look_at_a_file(file: Any) -> None:
    found = inspect(str(file("a.jsonl", "\n".join([*map(json.dumps, ROWS), "{broken"]))))
    assert (found.rows, found.is_whole, found.accepted) == (7, True, 3)
    assert found.layouts == {"alpaca": 3, "messages": 1}
    assert {name: (one.filled, one.use) for name, one in found.columns.items()} == {
        "instruction": (3, "prompt"), "input": (3, "prompt"), "output": (3, "answer"), "id": (1, "not read"),
        "messages": (2, "prompt"), "text": (1, "not read"),
    }  # fmt: skip
    assert found.prompts == ["Sum up.\n\nOne.", "Sum up.\n\nTwo.", "a"]
    assert found.rejected == {"duplicate": 1, "bad_chat": 1, "missing": 1, "unreadable": 1}
    assert [len(details) for details in found.details.values()] == [1, 1, 1, 1]
    assert len(found.unread) == 1


def test_no_more_rows_are_read_than_asked_for(file: Any) -> None:
    found = inspect(str(file("a.jsonl", '{"prompt": "a"}\n{"prompt": "b"}\n')), rows=1)
    assert (found.rows, found.is_whole) == (1, False)


def test_a_layout_or_a_path_that_cannot_be(file: Any) -> None:
    with pytest.raises(ConfigError, match="must be 'auto', 'messages'"):
        inspect(str(file("a.jsonl", "")), layout="alpacca")
    with pytest.raises(ConfigError, match="what format is it"):
        inspect("https://localhost/rows")


def test_the_command_says_what_it_found(file: Any) -> None:
    path = file("a.jsonl", "\n".join(map(json.dumps, ROWS)))
    shown = CliRunner().invoke(main, ["inspect", str(path)])
    assert shown.exit_code == 0
    for part in ("6 rows, 3 prompts", "layout alpaca: 3 rows", "not read", "Sum up.",
                 "1 row rejected: the chat is not a proper one", "is assistant", "`keep: [id]`"):  # fmt: skip
        assert part in shown.output, part


def test_validate_names_what_is_not_read(file: Any) -> None:
    file("a.jsonl", '{"prompt": "a", "notes": "b"}\n')
    recipe = file("r.yaml", "name: r\nprompts: {sources: [{path: a.jsonl}]}\npool: {members: [{name: a, backend: echo, "
                  "model: e}, {name: b, backend: echo, model: f}]}\npairing: {strategy: member-order, "
                  "member_order: [a, b]}\n")  # fmt: skip
    shown = CliRunner().invoke(main, ["validate", str(recipe)])
    assert (shown.exit_code, "not read: notes" in shown.output) == (0, True)


def test_a_file_without_a_prompt_is_told_by_the_exit_code(file: Any) -> None:
    shown = CliRunner().invoke(main, ["inspect", str(file("a.jsonl", '{"x": 1}'))])
    assert (shown.exit_code, "rejected: the prompt is missing" in shown.output) == (1, True)
