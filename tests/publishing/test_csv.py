"""The CSV export: no text that a spreadsheet would take for a formula stands in it as one."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pairsmith.config import Recipe
from pairsmith.publishing.data_files import write_data
from pairsmith.publishing.pair_rows import to_table

Build = Callable[..., Recipe]
FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"]
HARMLESS = ["1+1", " =1", "'=1", "a\n=1", "", '"=1"']


def chat(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def row(text: str) -> dict[str, Any]:
    """A pair that says the same text wherever it holds one."""
    chats = {name: chat(text) for name in ("prompt", "chosen", "rejected")}
    members = {"chosen_member": text, "rejected_member": text, "source": text}
    return {**chats, **members, "chosen_score": -1.5, "rejected_score": -2.0, "margin": 0.5, "prompt_id": "p"}


def cells(build: Build, folder: Path, text: str) -> dict[str, str]:
    """The row as a reader of CSV sees it."""
    write_data(build(1, publishing={"exports": ["csv"]}), folder, [to_table([row(text)])])
    with open(folder / "csv" / "train.csv", encoding="utf-8-sig", newline="") as file:
        (found,) = csv.DictReader(file, strict=True)
    return found


TEXTS = ("prompt", "chosen", "rejected", "chosen_member", "rejected_member", "source")


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_gets_an_apostrophe_before_it(echo_recipe: Build, tmp_path: Path, text: str) -> None:
    found = cells(echo_recipe, tmp_path, text)
    assert {name: found[name] for name in TEXTS} == dict.fromkeys(TEXTS, f"'{text}")


@pytest.mark.parametrize("text", HARMLESS)
def test_any_other_text_stays_as_it_is(echo_recipe: Build, tmp_path: Path, text: str) -> None:
    found = cells(echo_recipe, tmp_path, text)
    assert {name: found[name] for name in TEXTS} == dict.fromkeys(TEXTS, text)


def test_numbers_stay_numbers_though_a_minus_begins_them(echo_recipe: Build, tmp_path: Path) -> None:
    found = cells(echo_recipe, tmp_path, "x")
    assert (found["chosen_score"], found["rejected_score"], found["score_margin"]) == ("-1.5", "-2.0", "0.5")
