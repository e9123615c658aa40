"""F24: where the code of a step changes, exactly its tables and those of the steps after it are made again.

A raised number is what says that the code makes other tables (`tests/revisions` sees to it that one is raised). All of
them are made from the ledger's replies: no model is asked. A comment changes nothing.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pairsmith.config import Recipe
from pairsmith.ids import draw
from pairsmith.judging import asking
from pairsmith.stages.base import open_store
from pairsmith.storage import versions
from pairsmith.storage.revisions import REVISIONS
from pairsmith.text.templating import transcript
from tests.conftest import ROOT, clean_environment
from tests.runs import run

Build = Callable[..., Recipe]
Tally = Callable[..., None]
STEPS = list(REVISIONS)
# A table's file, by the beginning of its name -> the step that makes it.
MADE_BY = {
    "completions.pool-": "generate", "completions.evolution": "evolve", "criteria.written": "criteria",
    "ratings.judge-": "rate", "survey": "survey", "criteria.all": "pair",
    "prompts": "load", "pairs.": "pair", "rejections.": "pair", "published.": "pair", "shard": "pair",
}  # fmt: skip


@pytest.fixture
def build(echo_recipe: Build) -> Build:
    """Builds a recipe in which every step has something to do, in several shards."""
    pairing = {"length_control": True, "guard": {"repeated": 2}}
    evolution = {"evolver": {"name": "evolver", "backend": "echo", "model": "echo-evolver"}}
    criteria = {"author": {"name": "author", "backend": "echo", "model": "echo-author"}}
    whole = {"shard_size": 5, "pairing": pairing, "evolution": evolution}
    whole |= {"rating": {"aspects": ["helpfulness", "criteria"], "criteria": criteria}}
    return lambda **changes: echo_recipe(12, **whole | changes)


def states(recipe: Recipe) -> dict[str, tuple[int, int]]:
    """Each file of the shards' tables, with what tells that it was written anew."""
    folder = Path(open_store(recipe).path("tables"))
    files = [file for file in sorted(folder.glob("*/*")) if file.parent.name != "load"]
    return {str(file.relative_to(folder)): (file.stat().st_ino, file.stat().st_mtime_ns) for file in files}


def remade(recipe: Recipe) -> set[str]:
    """The steps whose tables a run makes anew, all of them; it asks nothing."""
    before = states(recipe)
    _, _, calls = run(recipe)
    assert not calls
    after = states(recipe)
    assert after.keys() == before.keys()
    by_step: dict[str, set[bool]] = {}
    for name, state in after.items():
        if not name.endswith("facts.json"):  # written only where the merged survey has changed
            (step,) = [made_by for start, made_by in MADE_BY.items() if Path(name).name.startswith(start)]
            by_step.setdefault(step, set()).add(state != before[name])
    assert all(len(found) == 1 for found in by_step.values()), by_step
    return {step for step, found in by_step.items() if found == {True}}


@pytest.mark.parametrize("step", STEPS)
def test_f24_a_raised_number(build: Build, monkeypatch: pytest.MonkeyPatch, tally: Tally, step: str) -> None:
    recipe = build()
    first, _, _ = run(recipe)
    assert remade(recipe) == set()
    monkeypatch.setitem(REVISIONS, step, REVISIONS[step] + 1)
    expected = set(STEPS[STEPS.index(step) :]) - {"publish"} if step != "load" else set()
    assert remade(recipe) == expected
    tally(1)
    assert remade(recipe) == set()
    again, _, _ = run(recipe)
    assert (again.version != first.version) == (step == "publish")  # the content is the same in all other cases
    assert len(versions.version_names(open_store(recipe))) == 1 + (step == "publish")


def test_f24_a_raised_number_of_load_reads_all_sources_again(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = build()
    (source,) = recipe.prompts.sources
    Path(source.path).write_text("".join(f'{{"prompt": "{n} {"x" * 2000}"}}\n' for n in range(20)))

    def noted() -> list[str]:
        return sorted(file.name for file in Path(open_store(recipe).path("tables/load")).glob("notes.*"))

    run(recipe)
    before = noted()
    run(recipe)
    assert noted() == before != []
    monkeypatch.setitem(REVISIONS, "load", REVISIONS["load"] + 1)
    run(recipe)
    assert len(noted()) == 1
    assert noted() != before


def test_f24_a_step_that_a_recipe_does_without_makes_nothing_anew(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = build(evolution=None, rating={}, pairing={})
    run(recipe)
    for step in ("evolve", "criteria", "survey"):
        monkeypatch.setitem(REVISIONS, step, REVISIONS[step] + 1)
    assert remade(recipe) == set()


def test_f24_other_code_with_a_raised_number_gives_what_an_empty_workspace_gives(
    build: Build, monkeypatch: pytest.MonkeyPatch, tally: Tally, tmp_path: Path
) -> None:
    """Another order of the texts that a judge sees, and another form of the chat that it is shown."""
    recipe = build()
    run(recipe)
    monkeypatch.setattr(asking, "draw", lambda *parts: draw("other", *parts))
    monkeypatch.setattr(asking, "transcript", lambda *chat: f"{transcript(*chat)}\n")
    monkeypatch.setitem(REVISIONS, "rate", REVISIONS["rate"] + 1)
    old, _, calls = run(recipe)
    assert set(calls) == {"rate"}
    new, _, _ = run(recipe.model_copy(update={"workspace": str(tmp_path / "empty")}))
    tally(1, lost=int(old.digest != new.digest))
    assert old.digest == new.digest


@pytest.mark.parametrize(
    ("file", "more"),
    [
        ("reporting/charts.py", "\n# A comment.\n"),
        ("judging/rating.py", "\n# A comment.\n"),
        ("pairing/select.py", "\n\n"),
    ],
)
def test_f24_a_comment_makes_nothing_anew(build: Build, tmp_path: Path, tally: Tally, file: str, more: str) -> None:
    recipe = build()
    run(recipe)
    code = tmp_path / "code"
    shutil.copytree(ROOT / "pairsmith", code / "pairsmith", ignore=shutil.ignore_patterns("__pycache__"))
    with open(code / "pairsmith" / file, "a") as source:
        source.write(more)
    written = tmp_path / "recipe.yaml"
    written.write_text(yaml.safe_dump(recipe.model_dump(mode="json", exclude_defaults=True)))
    before = states(recipe)
    script = "import sys, pairsmith; assert sys.argv[1] in pairsmith.__file__; pairsmith.build(sys.argv[2])"
    command: list[Any] = [sys.executable, "-c", script, code, written]
    subprocess.run(command, check=True, env=clean_environment(PYTHONPATH=str(code)), cwd=tmp_path)
    assert states(recipe) == before
    tally(1)
