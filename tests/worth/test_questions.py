"""Prompts whose answers are checked: by their own check, by their instructions, or by a reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pairsmith.errors import DataError
from pairsmith.worth.questions import exam_digest, read_questions
from tests.conftest import shared
from tests.nltk_data import install_nltk_data

LOWER = {"kind": "regex", "pattern": "[A-Z]", "negate": True}


def file_of(folder: Path, *rows: dict[str, Any]) -> str:
    path = folder / "checks.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_row_is_checked_by_its_own_check_or_by_its_reference(tmp_path: Path) -> None:
    rows = [{"prompt": "Say hi", "check": LOWER}, {"prompt": "2 + 2?", "reference": "4"}]
    questions, refused = read_questions(file_of(tmp_path, *rows), 10)
    by_text = {question.messages[0]["content"]: question for question in questions}
    assert not refused
    assert [by_text["Say hi"].score(text) for text in ("hi", "Hi")] == [1, 0]
    assert [by_text["2 + 2?"].score(text) for text in ("4", "5")] == [1, 0]
    assert by_text["Say hi"].chat == [{"role": "user", "content": "Say hi"}]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"prompt": "Hi"}, "nothing to check by"),
        ({"prompt": "Hi", "check": {"kind": "regex"}}, "check.pattern: this field is required"),
        (
            {"prompt": "Hi", "check": {"kind": "python", "callable": "os:system"}},
            "check.kind: must be one of 'exact-match', 'regex'",
        ),
        ({"prompt": "", "reference": "x"}, ""),
    ],
)
def test_a_row_that_is_no_question_is_told_with_its_place(tmp_path: Path, row: dict[str, Any], told: str) -> None:
    path = file_of(tmp_path, {"prompt": "Say hi", "check": LOWER}, row, {"prompt": "Say hi", "reference": "hi"})
    questions, refused = read_questions(path, 10)
    assert len(questions) == 1
    assert [why.startswith(f"{path}:{number}: ") for why, number in zip(refused, (2, 3), strict=True)] == [True, True]
    assert told in refused[0]


def test_a_file_without_questions_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--eval .*checks.jsonl: no row can be checked; .*:1: nothing to check by"):
        read_questions(file_of(tmp_path, {"prompt": "Hi"}), 10)


def test_ifevals_rows_are_read_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytest.importorskip("nltk.data"), "path", [str(install_nltk_data(tmp_path))])
    questions, refused = read_questions(str(shared("prompts/ifeval_en_input.jsonl")), 20)
    assert len(questions) == 20
    assert not refused
    assert all(0 <= (question.score("Well, no.") or 0) <= 1 for question in questions)


def test_the_digest_of_what_is_asked_changes_with_it(tmp_path: Path) -> None:
    rows = [{"prompt": "Say hi", "check": LOWER}, {"prompt": "2 + 2?", "reference": "4"}]
    questions, _ = read_questions(file_of(tmp_path, *rows), 10)
    other, _ = read_questions(file_of(tmp_path, rows[0], {**rows[1], "reference": "5"}), 10)
    first = exam_digest(questions, ["a", "b"])
    assert exam_digest(questions[::-1], ["b", "a"]) == first
    assert (
        len(
            {
                first,
                exam_digest(other, ["a", "b"]),
                exam_digest(questions, ["a"]),
                exam_digest(questions[:1], ["a", "b"]),
            }
        )
        == 4
    )
