"""The command: labelled, left, taken up again, shown, and passed to other tools, on a data set of the echo backend."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from pairsmith.config import Recipe
from pairsmith.worth.gold_rows import read_gold
from pairsmith_flows.__main__ import main
from pairsmith_flows.cli.label_command import default_gold
from tests.conftest import clean_environment
from tests.runs import run


@pytest.fixture
def dataset(echo_recipe: Callable[..., Recipe]) -> Path:
    recipe = echo_recipe(12)
    run(recipe)
    return Path(str(recipe.workspace), recipe.name)


def at_the_page(dataset: Path, who: str, many: int, ends: bool = False) -> tuple[int, str]:
    """Start the command, label so many pairs, and finish there or leave by Ctrl-C; the exit code and what was said."""
    words = ["label", str(dataset), "-n", "8", "--by", who]
    command = [sys.executable, "-u", "-m", "pairsmith_flows", *words]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, env=clean_environment(COLUMNS="140"), **pipes) as process:
        assert process.stdout
        said = ""
        while not (found := re.search(r"label at (\S+)", said)):
            line = process.stdout.readline()
            assert line, said
            said += line
        headers = {"Origin": found[1].rsplit("/", 2)[0]}
        with httpx.Client(base_url=found[1], headers=headers, trust_env=False) as client:
            state = client.get("state").json()
            for _ in range(many):
                state = client.post("label", json={"pair": state["pair"]["id"], "choice": "left"}).json()
            if ends:
                client.post("finish", json={})
        if not ends:
            process.send_signal(signal.SIGINT)
        said += process.stdout.read()
        return process.wait(30), said


def cli(*words: str) -> str:
    done = CliRunner().invoke(main, ["label", *words], env={"COLUMNS": "140"})
    assert done.exit_code == 0, done.output
    return done.output


def test_two_people_label_leave_and_go_on_and_what_they_say_is_gold(dataset: Path, tmp_path: Path) -> None:
    gold = dataset / "labels" / "gold.jsonl"
    code, said = at_the_page(dataset, "ann", 3)
    assert (code, "3 of 8 pairs are labelled by ann" in said) == (0, True)
    assert f"{gold}: 3 pairs of gold" in said
    code, said = at_the_page(dataset, "ann", 5, ends=True)
    assert (code, "ann: 3 of 8 pairs" in said, "8 of 8 pairs are labelled" in said) == (0, True, True)
    code, said = at_the_page(dataset, "bob", 8)
    assert (code, "ann, bob" in said) == (0, True)
    pairs = read_gold(str(gold)).pairs
    assert [sorted(vote.who for vote in pair.votes) for pair in pairs] == [["ann", "bob"]] * 8
    assert sorted(pair.drawn or "" for pair in pairs) == ["near_tie"] * 4 + ["random"] * 4

    shown = cli(str(dataset), "--show")
    assert re.search(r"random .*ann, bob.* 4 ", shown)
    assert re.search(r"telling .*data set", shown)

    for tool in ("argilla", "label-studio"):
        file, other = tmp_path / f"{tool}.json", tmp_path / tool / "gold.jsonl"
        assert "8 pairs of v0001" in cli(str(dataset), "-n", "8", "--export", tool, str(file))
        assert "16 labels taken, 0 known already" in cli(str(dataset), "--import", tool, str(file), "--out", str(other))
        assert [json.loads(line)["votes"] for line in without_times(other)] == [
            json.loads(line)["votes"] for line in without_times(gold)
        ]


def without_times(gold: Path) -> list[str]:
    return re.sub(r', "at": "[^"]*"', "", gold.read_text(encoding="utf-8")).splitlines()


def test_without_labels_it_says_so(dataset: Path) -> None:
    assert "no labels yet" in cli(str(dataset), "--show")


def test_an_export_replaces_no_file(dataset: Path, tmp_path: Path) -> None:
    file = tmp_path / "pairs.json"
    file.write_text("somebody's work")
    done = CliRunner().invoke(main, ["label", str(dataset), "--export", "argilla", str(file)])
    assert (done.exit_code, "File exists" in done.output) == (1, True)
    assert file.read_text() == "somebody's work"


@pytest.mark.parametrize(
    ("place", "gold"),
    [
        ("data/echo", "data/echo/labels/gold.jsonl"),
        ("data/echo/versions/v0002", "data/echo/labels/gold.jsonl"),
        ("data/echo/latest", "data/echo/labels/gold.jsonl"),
        ("s3://bucket/data/echo/", "echo-labels/gold.jsonl"),
        ("s3://bucket/data/echo/versions/v0002", "echo-labels/gold.jsonl"),
    ],
)
def test_labels_stand_beside_the_versions_or_here(place: str, gold: str) -> None:
    assert default_gold(place) == Path(gold)
