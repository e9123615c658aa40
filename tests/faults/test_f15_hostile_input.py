"""F15: whatever stands in an input file, each of its rows becomes a prompt that is the same to the byte, or is refused.

A refusal says file, line and reason; prompts and refusals together are as many as the rows; what was accepted comes out
of a whole run as it went in.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pairsmith.config import Prompts, Recipe, Source
from pairsmith.errors import DataError
from pairsmith.sources.prompts import read_prompts
from pairsmith.stages.base import open_store
from pairsmith.storage.tables import LOAD_REJECTIONS
from tests.conftest import shared
from tests.runs import contents, read, run

Build = Callable[..., Recipe]
Write = Callable[[str, str | bytes], Path]
BOM = b"\xef\xbb\xbf"
HUGE = "x" * 10_000_000

# Each line of a JSONL file, with the text that it is accepted as or the reason why it is refused.
LINES: list[tuple[bytes, str, str | None]] = [
    (BOM + b'{"prompt": "after a BOM"}\r', "after a BOM", None),
    ('{"prompt": "\ufeffa BOM of its own"}'.encode(), "\ufeffa BOM of its own", None),
    (b'{"prompt": "windows\\r\\nlines\\r\\n"}\r', "windows\r\nlines\r\n", None),
    ('{"prompt": "U+2028 \u2028, U+0085 \u0085"}'.encode(), "U+2028 \u2028, U+0085 \u0085", None),
    (b'{"prompt": "NUL \\u0000 told"}', "NUL \0 told", None),
    (b'{"prompt": "NUL \0 raw"}', "", "unreadable"),
    (b'{"prompt": "half \\ud83d a pair"}', "", "unreadable"),
    (b'{"prompt": "\\ud83d\\ude00 a whole one"}', "\U0001f600 a whole one", None),
    (b'{"prompt": "bad UTF-8 \xff"}', "", "unreadable"),
    (b'{"prompt": "surrogates as bytes \xed\xa0\x80"}', "", "unreadable"),
    (b'{"id": 1, "prompt_id": "p", "prompt": "one of an id"}', "one of an id", None),
    (b'{"id": 1, "prompt_id": "p", "prompt": "another of that id"}', "another of that id", None),
    (b'{"id": 2, "prompt": "one of an id"}', "", "duplicate"),
    (b'{"text": "no column of a usual name"}', "", "missing"),
    (b"{}", "", "missing"),
    (b'{"prompt": null}', "", "missing"),
    (b'{"prompt": 3}', "", "wrong_type"),
    (b'{"prompt": true}', "", "wrong_type"),
    (b'{"prompt": {"text": "x"}}', "", "wrong_type"),
    (b'{"prompt": [1, "x"]}', "", "bad_chat"),
    (b'["prompt", "x"]', "", "wrong_type"),
    (b'"prompt"', "", "wrong_type"),
    (b'{"prompt": " \\t\\n\\u2003"}', "", "blank"),
    (b'{"prompt": "cut short', "", "unreadable"),
    (b'{"prompt": "a"} {"prompt": "b"}', "", "unreadable"),
    (b'{"prompt": "a", "prompt": "b"}', "", "unreadable"),
    (b'{"prompt": NaN}', "", "unreadable"),
    (b"[" * 100_000, "", "unreadable"),
    (json.dumps({"prompt": HUGE}).encode(), "", "too_long"),
    (b'{"prompt": "the last, without an end"}', "the last, without an end", None),
]  # fmt: skip


def check(path: Path, rows: int, texts: list[str], refused: dict[str, str], **source: Any) -> None:
    """`refused`: reason by line."""
    accepted, rejected = read(path, **source)
    assert contents(accepted) == texts
    assert len(accepted) + len(rejected) == rows
    found = {}
    for row in rejected:
        place, _, reason = row["detail"].removeprefix(f"{path}:").partition(": ")
        assert row["detail"].startswith(f"{path}:")
        assert reason
        found[place] = row["reason"]
    assert found == refused


def test_f15_json_lines(file: Write) -> None:
    path = file("a.jsonl", b"\n".join(line for line, _, _ in LINES))
    texts = [text for _, text, reason in LINES if reason is None]
    check(path, len(LINES), texts, {str(n): reason for n, (_, _, reason) in enumerate(LINES, 1) if reason})


def test_f15_json(file: Write) -> None:
    values = [line.removeprefix(BOM).strip() for line, _, reason in LINES if reason != "unreadable"]
    kept = [(text, reason) for _, text, reason in LINES if reason != "unreadable"]
    path = file("a.json", BOM + b"[" + b",\r\n".join(values) + b"]")
    refused = {f"row {n}": reason for n, (_, reason) in enumerate(kept, 1) if reason}
    check(path, len(kept), [text for text, reason in kept if reason is None], refused)
    for line, _, reason in LINES:
        if reason == "unreadable":
            accepted, (rejected,) = read(file("b.json", line))
            assert (accepted, rejected["reason"]) == ([], "unreadable")


def test_f15_csv(file: Write) -> None:
    rows: list[tuple[str | bytes, str, str | None]] = [
        ("plain,1", "plain", None),
        ("\ufeffa BOM of its own,1", "\ufeffa BOM of its own", None),
        ('"windows\r\nlines\r\n",2', "windows\r\nlines\r\n", None),
        ("U+2028 \u2028 and U+0085 \u0085,3", "U+2028 \u2028 and U+0085 \u0085", None),
        ("NUL \0 raw,4", "NUL \0 raw", None),
        ('"quotes "" and, commas",4', 'quotes " and, commas', None),
        (b"bad UTF-8 \xff,5", "", "unreadable"),
        (b"surrogates as bytes \xed\xa0\x80,5", "", "unreadable"),
        ("too few", "", "unreadable"),
        ("too,many,fields", "", "unreadable"),
        ("plain,6", "", "duplicate"),
        (",7", "", "blank"),
        ('" \t",8', "", "blank"),
        ("3,9", "3", None),
        ("=1+1,9", "=1+1", None),
        (f"{HUGE},9", "", "too_long"),
        ("the last,", "the last", None),
    ]
    content, line, refused = BOM + b"prompt,id\r\n", 2, dict[str, str]()
    for row, _, reason in rows:
        refused |= {str(line): reason} if reason else {}
        content += (row.encode() if isinstance(row, str) else row) + b"\r\n"
        line += 3 if isinstance(row, str) and row.startswith('"windows') else 1
    texts = [text for _, text, reason in rows if reason is None]
    check(file("a.csv", content), len(rows), texts, refused)


def test_f15_parquet(tmp_path: Path) -> None:
    texts = ["\ufeffBOM", "windows\r\nlines", "U+2028 \u2028", "NUL \0", "\U0001f600", HUGE, " \n", "NUL \0", None]
    bad = [b"bad UTF-8 \xff", b"surrogates \xed\xa0\x80"]
    column = pa.array([*(text and text.encode() for text in texts), *bad], pa.binary()).cast(pa.string(), safe=False)
    pq.write_table(pa.table({"prompt": column, "id": [1] * len(column)}), tmp_path / "a.parquet")
    reasons = ["too_long", "blank", "duplicate", "missing", "unreadable", "unreadable"]
    refused = {f"row {n}": reason for n, reason in enumerate(reasons, 6)}
    check(tmp_path / "a.parquet", 11, [text for text in texts[:5] if text], refused)
    pq.write_table(pa.table({"prompt": [1, 2]}), tmp_path / "b.parquet")
    check(tmp_path / "b.parquet", 2, [], {"row 1": "wrong_type", "row 2": "wrong_type"})
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "c.parquet")
    check(tmp_path / "c.parquet", 1, [], {"row 1": "missing"})


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet"])
@pytest.mark.parametrize("content", [b"", BOM, b"\n\n"], ids=["empty", "BOM", "blank"])
def test_f15_files_without_a_row_are_named(echo_recipe: Build, file: Write, name: str, content: bytes) -> None:
    recipe = echo_recipe(1, prompts={"sources": [{"path": str(file(name, content))}]})
    with pytest.raises(DataError, match="no prompts|not a readable parquet file"):
        run(recipe)


def test_f15_what_is_accepted_comes_out_of_a_run_as_it_went_in(echo_recipe: Build, file: Write) -> None:
    path = file("a.jsonl", b"\n".join(line for line, _, _ in LINES))
    prompts = {"sources": [{"path": str(path)}], "max_chars": 20_000_000}
    recipe = echo_recipe(1, prompts=prompts, evolution=None, publishing={"exports": ["jsonl", "kto"]})
    published, summary, _ = run(recipe)
    texts = {HUGE, *(text for _, text, reason in LINES if reason is None)}
    assert (summary.rows_read, summary.loaded) == (len(LINES), len(texts))
    assert summary.loaded == summary.paired + sum(summary.prompt_reasons.values()) == len(texts)
    rejections = open_store(recipe).read(LOAD_REJECTIONS)
    assert len(rejections) == len(LINES) - len(texts)
    assert all(rejections["detail"].str.startswith(f"{path}:"))
    (data,) = Path(published.folder, "data").iterdir()
    (kto,) = Path(published.folder, "kto").iterdir()
    (lines,) = Path(published.folder, "jsonl").iterdir()
    rows = [json.loads(line) for line in lines.read_bytes().split(b"\n") if line]
    for found in (pq.read_table(data).to_pylist(), rows, pq.read_table(kto).to_pylist()):
        there = {row["prompt"][-1]["content"] for row in found}
        assert there <= texts
        assert len(there) == summary.paired
    assert summary.paired > len(texts) // 2


@given(st.lists(st.binary(max_size=60).map(lambda content: content.replace(b"\n", b""))))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_f15_any_lines_are_accepted_or_refused(tmp_path: Path, lines: list[bytes]) -> None:
    path = tmp_path / "any.jsonl"
    path.write_bytes(b"\n".join(lines))
    accepted, rejected = read(path)
    assert len(accepted) + len(rejected) == sum(
        bool(line.strip()) for line in path.read_bytes().removeprefix(BOM).split(b"\n")
    )


@given(st.lists(st.text(st.characters(exclude_categories=())), min_size=1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_f15_any_texts_are_kept_to_the_byte_or_refused(tmp_path: Path, texts: list[str]) -> None:
    path = tmp_path / "any.jsonl"
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    for text, row in zip(texts, read_prompts(Prompts(sources=(Source(path=str(path)),))), strict=True):
        if "reason" not in row:
            assert contents([row]) == [text]
        elif row["reason"] == "blank":
            assert not text.strip()
        elif row["reason"] == "unreadable":
            assert any("\ud800" <= char <= "\udfff" for char in text)
        else:
            assert row["reason"] == "duplicate"


def test_f15_every_hostile_string_is_byte_exact_or_rejected(file: Write) -> None:
    strings = json.loads(shared("hostile/blns.json").read_text(encoding="utf-8"))
    path = file("a.jsonl", "".join(json.dumps({"prompt": text}) + "\n" for text in strings))
    accepted, rejected = read(path)
    assert len(accepted) + len(rejected) == len(strings)
    assert set(contents(accepted)) <= set(strings)
    assert {row["reason"] for row in rejected} <= {"blank", "duplicate"}


def test_f15_the_json_test_suite_never_crashes_the_reader() -> None:
    for path in sorted(shared("hostile/JSONTestSuite").glob("*.json")):
        accepted, rejected = read(path)
        if path.name.startswith("n_"):
            assert not accepted, path.name
            assert len(rejected) == 1, path.name


def test_f15_csv_spectrum_and_bad_parquet() -> None:
    for path in sorted(shared("hostile/csv_spectrum").glob("*.csv")):
        header = path.read_text(encoding="utf-8").splitlines()[0].split(",")
        read(path, columns={"prompt": header[0].strip('"')})
    for path in sorted(shared("hostile/parquet_bad_data").glob("*.parquet")):
        try:
            read(path)
        except DataError as error:
            assert path.name in str(error)
