"""docs/library.md: its blocks run in order, and its tables name the columns that there are."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from pairsmith import __all__ as offered
from pairsmith.building.answers import COMPLETION_COLUMNS
from pairsmith.storage.datafiles import PREFERENCE
from tests.conftest import ROOT, clean_environment

TEXT = (ROOT / "docs" / "library.md").read_text()


def test_the_blocks_run_in_order_in_a_process_of_their_own(tmp_path: Path) -> None:
    assert len(blocks_of(TEXT)) == 10
    ended = run("\n\n".join(blocks_of(TEXT)), tmp_path)
    assert "rate judge 17 " in ended.stdout, "of 20 requests, three were asked by the preview"
    assert "1 rows have no usable prompt: the prompt is missing (1); such as row 1" in ended.stderr


def test_the_example_of_the_readme_runs(tmp_path: Path) -> None:
    (block,) = blocks_of((ROOT / "README.md").read_text())
    (tmp_path / "recipe.yaml").write_text(
        (ROOT / "recipes" / "echo.yaml").read_text().replace("name: echo\n", "name: demo\n")
    )
    shutil.copytree(ROOT / "recipes" / "prompts", tmp_path / "prompts")
    ended = run(f"{block}\nprint(len(pairs), len(pairsmith.Dataset('pairsmith-data/demo').pairs()))", tmp_path)
    one, many = map(int, ended.stdout.split())
    assert (one, many > 10) == (1, True)


def blocks_of(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def run(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What a program printed that ran without an error in a process of its own."""
    (folder / "program.py").write_text(program)
    command = [sys.executable, "program.py"]
    ended = subprocess.run(command, cwd=folder, env=clean_environment(), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended


def test_all_names_and_columns_stand_in_it() -> None:
    for name in set(offered) - {"__version__"}:
        assert re.search(rf"`{name}\b", TEXT), name
    for name in [*COMPLETION_COLUMNS, "ratings", "score"]:
        assert re.search(rf"^\| .*`{name}`.* \|", TEXT, re.MULTILINE), name
    for name in PREFERENCE.names:
        assert f"`{re.sub('^(chosen|rejected)(?=_)', '', name)}`" in TEXT, name
