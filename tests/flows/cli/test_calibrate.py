"""`pairsmith calibrate` says which judges are coins, writes what recipes can use, and ends with the right exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pairsmith_flows.__main__ import main
from tests.worth.test_calibration import THREE, judge, recipe, write_cases


def written(folder: Path, *judges: dict[str, object]) -> Path:
    """A recipe's file with these judges, and gold beside it."""
    write_cases(folder)
    made = recipe(folder, *judges)
    path = folder / "recipe.json"
    path.write_text(made.model_dump_json())
    return path


def calibrated(path: Path, *words: str, gold: str = "gold.jsonl") -> Result:
    command = ["calibrate", str(path), "--gold", str(path.parent / gold), "--as-is", *words]
    return CliRunner().invoke(main, command, env={"COLUMNS": "120"})


def test_what_is_said_and_written(tmp_path: Path) -> None:
    path, target = written(tmp_path, *THREE, judge("coin", "0.5 e")), tmp_path / "calibration.json"
    planned = calibrated(path, "--dry-run")
    assert planned.exit_code == 0
    assert "Plan (nothing was asked or written)" in planned.output
    assert not (tmp_path / "ws").exists()
    done = calibrated(path, "--write", str(target))
    assert done.exit_code == 0, done.output
    assert "121 pairs, 120 with one better answer; 1 ties or skipped" in done.output
    assert "50.0% (41% to 59%)" in done.output
    assert "Judge coin (listwise, text) is a coin" in done.output
    assert set(json.loads(target.read_text())["judges"]) == {"one", "two", "three", "coin"}
    stale = ("--set", f"rating.calibration={target}", "--set", "rating.judges.0.revision=new")
    assert calibrated(path, *stale, "-n", "5").exit_code == 0  # an earlier calibration is no hindrance


@pytest.mark.parametrize(
    ("judges", "gold", "code", "says"),
    [
        ((judge("dead", "dead"),), "gold.jsonl", 1, "no judge gave a rating"),
        ((judge("one", "0.7 a"),), "absent.jsonl", 3, "absent.jsonl"),
        ((judge("one", "0.7 a"),), "none.jsonl", 3, "none.jsonl:1: nothing says which answer is better"),
    ],
)
def test_exit_codes(tmp_path: Path, judges: tuple[dict[str, object], ...], gold: str, code: int, says: str) -> None:
    path = written(tmp_path, *judges)
    (tmp_path / "none.jsonl").write_text('{"prompt": "Say", "a": "x", "b": "y"}\n')
    done = calibrated(path, "-n", "5", gold=gold)
    assert done.exit_code == code
    assert says in done.output


def test_a_calibration_that_cannot_be_made_is_not_written(tmp_path: Path) -> None:
    path, target = written(tmp_path, *THREE), tmp_path / "calibration.json"
    done = calibrated(path, "-n", "20", "--write", str(target))
    assert done.exit_code == 3
    assert "20 pairs are too few" in done.output
    assert not target.exists()
