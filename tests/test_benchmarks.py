"""The benchmarks that `benchmarks/README.md` names say what they measure and take."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

FOLDER = ROOT / "benchmarks"
NAMES = re.findall(r"^\| `(\w+\.py)` \|", (FOLDER / "README.md").read_text(), re.MULTILINE)


def test_the_readme_names_benchmarks() -> None:
    assert len(NAMES) == 8


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_has_help(name: str) -> None:
    command = [sys.executable, str(FOLDER / name), "--help"]
    told = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=True).stdout
    assert f"python benchmarks/{name}" in told
