"""`docs/house.py`, and what `docs/design.md` says of the house: its picture, its tree, and what is long in it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.test_layering import IMPORTS, MODULES, house

DESIGN = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
LONGEST_MODULE, LONGEST_CLASS = 350, 150


def block(language: str) -> str:
    """The first block of code in docs/design.md in this language."""
    found = re.search(rf"^```{language}\n(.*?)\n```$", DESIGN, re.MULTILINE | re.DOTALL)
    assert found, f"docs/design.md has no block of {language}"
    return found[1]


def small_house(root: Path, **sources: str) -> None:
    """A repository with the modules that are named, `_` for a dot: `llms_echo` is pairsmith/llms/echo.py."""
    for folder in house.FOLDERS.values():
        (root / folder).mkdir()
    for name, source in sources.items():
        path = root / "pairsmith" / f"{name.replace('_', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)


def test_the_picture_in_the_design_is_drawn_from_the_code() -> None:
    assert block("mermaid") == house.picture(IMPORTS), "renew it: python docs/house.py"


def test_the_script_prints_the_picture_and_finds_nothing_wrong() -> None:
    command = [sys.executable, "-I", "-S", str(ROOT / "docs" / "house.py")]  # without any package
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        house.picture(IMPORTS) + "\n",
        "no circle, no import upwards\n",
    )


@pytest.mark.parametrize(
    ("sources", "wrong"),
    [
        ({"ids": "def f():\n    from pairsmith.stages import x"}, "pairsmith.ids imports pairsmith.stages"),
        ({"ids": "import pairsmith.testing"}, "pairsmith.ids imports pairsmith.testing"),
        (
            {"llms_a": "from pairsmith.llms import b", "llms_b": "import pairsmith.llms.a"},
            "a circle: pairsmith.llms.a -> pairsmith.llms.b -> pairsmith.llms.a",
        ),
    ],
    ids=["upwards and lazily", "what is for tests", "a circle within a wing"],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sources: dict[str, str], wrong: str
) -> None:
    small_house(tmp_path, **sources)
    assert house.main(tmp_path) == 1
    assert wrong in capsys.readouterr().err


def test_arrows_lead_downwards_and_those_that_follow_from_others_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_house(
        tmp_path,
        stages="from pairsmith.llms import echo\nimport pairsmith.ids",
        llms_echo="import pairsmith.ids, pairsmith.errors",
        testing="import pairsmith.stages",
    )
    assert house.main(tmp_path) == 0
    drawn = capsys.readouterr().out.splitlines()
    assert [line for line in drawn if "-->" in line] == [
        "  testing --> stages",
        "  stages --> llms",
        "  llms --> errors & ids",
    ]


def test_the_tree_in_the_design_names_every_module() -> None:
    wings: dict[str, str] = {}
    for line in block("text").splitlines():
        if entry := re.match(r" {0,4}(\w+)\b", line):
            wing = entry[1]
        wings[wing] = wings.get(wing, "") + line
    missing = []
    for path in MODULES.values():
        *_, folder, name = path.relative_to(ROOT).with_suffix("").parts
        line = wings.get(name if folder == "pairsmith" else folder, "")
        if name != "__init__" and not re.search(rf"\b{name}\b", line):
            missing.append(str(path.relative_to(ROOT)))
    assert not missing


def test_what_is_long_is_named_in_the_design_with_its_reason() -> None:
    long = set()
    for path in MODULES.values():
        source, place = path.read_text(encoding="utf-8"), f"`{path.relative_to(ROOT)}`"
        if len(source.splitlines()) > LONGEST_MODULE:
            long.add(place)
        classes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef))
        for each in classes:
            assert each.end_lineno
            if each.end_lineno - each.lineno + 1 > LONGEST_CLASS:
                long.add(f"`{each.name}` in {place}")
    section = DESIGN.partition("## What is long, and why")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| (`.+?) \| .", section, re.MULTILINE)) == long
