"""The notebooks of `examples/` run from the first cell to the last, anywhere, and are kept without outputs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, clean_environment

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
RUN = """
import ast, json, sys
values, names = [], {"__name__": "__main__"}
for number, source in enumerate(json.load(sys.stdin)):
    *before, last = ast.parse(source, f"cell {number}").body
    exec(compile(ast.Module(before, []), f"cell {number}", "exec"), names)
    if isinstance(last, ast.Expr):  # what a notebook shows below its cell
        values.append(str(eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)))
    else:
        exec(compile(ast.Module([last], []), f"cell {number}", "exec"), names)
print(json.dumps({"shown": values, "pairs": len(names["pairs"]), "columns": list(names["pairs"].columns)}))
"""


def cells(path: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(path.read_text())["cells"]
    return found


def test_there_is_one() -> None:
    assert [path.name for path in NOTEBOOKS] == ["library.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs_in_a_process_of_its_own(path: Path, tmp_path: Path) -> None:
    code = ["".join(cell["source"]) for cell in cells(path) if cell["cell_type"] == "code"]  # type: ignore[arg-type]
    ended = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps(code),
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout.splitlines()[-1])
    assert 0 < told["pairs"] <= 8
    assert {"prompt", "chosen", "rejected", "chosen_ratings"} <= set(told["columns"])
    assert [
        name for name in ("helpfulness", "honesty", "physics") if not any(name in text for text in told["shown"])
    ] == []
    assert [file.name for file in tmp_path.iterdir()] == ["pairsmith-data"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_of_format_4_and_has_no_outputs(path: Path) -> None:
    whole = json.loads(path.read_text())
    assert (whole["nbformat"], whole["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in cells(path)}) == len(cells(path))
    for cell in cells(path):
        if cell["cell_type"] == "code":
            assert (cell["execution_count"], cell["outputs"]) == (None, [])
