"""F18: a publish that is killed at any step shows nothing of the next version, or all of it, and is made up for.

A reader of `latest` finds a whole version at any time. The next run ends the publish, once: there are no two versions
of one content, and nothing is left of the killed one. Publishing again what is published changes nothing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import fsspec
import pytest

from pairsmith.config import Recipe
from pairsmith.stages.base import open_store
from pairsmith.testing import FakeEndpoint
from tests.faults.harness import Death, Outcome, complete, digest_of_latest, ended, spread
from tests.runs import run

Build = Callable[..., Recipe]
Tally = Callable[..., None]
PUBLISHING = {"exports": ["kto", "jsonl"], "test_fraction": 0.5}
STEPS = ["text", "move", "sync", "rename", "link", "install"]


@dataclass(frozen=True)
class Publish:
    """A data set of which one version is published and the next is about to be: nothing else is left to do."""

    build: Build
    endpoint: FakeEndpoint
    old: Outcome
    new: Outcome
    folder: Path

    def recipe(self, workspace: Path) -> Recipe:
        shutil.copytree(self.folder, workspace, symlinks=True)
        return self.build(self.endpoint, 12, members=2, workspace=str(workspace), publishing=PUBLISHING)


@pytest.fixture
def publish(base_recipe: Build, endpoint: FakeEndpoint, tmp_path: Path) -> Publish:
    old = complete(base_recipe(endpoint, 12, members=2, workspace=str(tmp_path / "first")))
    made = Publish(base_recipe, endpoint, old, old, tmp_path / "first")
    return Publish(base_recipe, endpoint, old, complete(made.recipe(tmp_path / "whole")), tmp_path / "first")


def versions(root: Path) -> list[str]:
    """The digests of all versions that stand in their place, each of them whole."""
    found = []
    for folder in sorted((root / "versions").iterdir()):
        about = json.loads((folder / "version.json").read_text())
        sizes = {str(path.relative_to(folder)): path.stat().st_size for path in folder.glob("*/*")}
        assert about["files"] == sizes or set(about["files"]) == set(sizes), folder
        assert all((folder / name).stat().st_size for name in ("README.md", "report.html", "recipe.yaml"))
        found.append(about["digest"])
    return found


@pytest.mark.parametrize("step", STEPS)
def test_f18_a_publish_that_is_killed_shows_nothing_or_all(
    publish: Publish, kills: int, tmp_path: Path, tally: Tally, step: str
) -> None:
    assert publish.new.steps is not None
    for nth, when in product(spread(publish.new.steps[step], kills // 2), ("before", "after")):
        recipe = publish.recipe(tmp_path / f"{nth}-{when}")
        root = Path(recipe.workspace, recipe.name)
        assert ended(recipe, trouble=Death(step, nth, when)).killed, f"{step} {nth} was not reached"
        assert digest_of_latest(root) in (publish.old.digest, publish.new.digest), (nth, when)
        assert set(versions(root)) <= {publish.old.digest, publish.new.digest}, (nth, when)
        again = complete(recipe)
        tally(1, again.lost, again.calls)
        assert (again.digest, again.calls) == (publish.new.digest, 0), (nth, when)
        assert digest_of_latest(root) == publish.new.digest, (nth, when)
        assert not (root / ".scratch").exists(), (nth, when)


@pytest.mark.parametrize("step", ["link", "rename"])
def test_f18_a_version_that_was_in_place_already_is_not_published_twice(
    publish: Publish, tmp_path: Path, step: str
) -> None:
    recipe = publish.recipe(tmp_path / "killed")
    assert publish.new.steps is not None
    last = publish.new.steps[step]  # with the last of either, `latest` moves
    assert ended(recipe, trouble=Death(step, last)).killed
    root = Path(recipe.workspace, recipe.name)
    assert versions(root) == [publish.old.digest, publish.new.digest]
    assert digest_of_latest(root) == publish.old.digest
    complete(recipe)
    assert digest_of_latest(root) == publish.new.digest
    assert versions(root) == [publish.old.digest, publish.new.digest]


def test_f18_nothing_is_left_of_killed_publishes(publish: Publish, tmp_path: Path) -> None:
    recipe = publish.recipe(tmp_path / "killed")
    root = Path(recipe.workspace, recipe.name)
    for step in STEPS:
        ended(recipe, trouble=Death(step, 1, "after"))
        shutil.rmtree(root / "versions" / "v0002", ignore_errors=True)
    complete(recipe)
    left = [path.name for path in root.rglob(".*") if path.name != ".lock"]
    assert not left


def test_f18_published_twice_the_second_is_a_no_op(publish: Publish, tmp_path: Path) -> None:
    recipe = publish.recipe(tmp_path / "twice")
    root = Path(recipe.workspace, recipe.name)
    complete(recipe)

    def state() -> dict[str, tuple[int, int]]:
        found = [root / "latest", *(root / "versions").rglob("*")]
        return {str(path): (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in found}

    before = state()
    published, _, calls = run(recipe)
    assert (published.digest, published.new, published.version) == (publish.new.digest, False, "v0002")
    assert not calls
    assert state() == before


def test_f18_a_publish_that_failed_leaves_the_old_version(echo_recipe: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _, _ = run(echo_recipe(10))
    store = open_store(echo_recipe(1))

    def die(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pairsmith.publishing.publish.render_card", die)
    with pytest.raises(OSError, match="No space left"):
        run(echo_recipe(12))
    monkeypatch.undo()
    assert store.points_to("latest") == "versions/v0001"
    Path(store.root, ".scratch", "left-by-kill").mkdir(parents=True)
    with store.lock():
        again, _, calls = run(echo_recipe(12))
    assert (again.version, dict(calls)) == ("v0002", {})
    assert not Path(store.root, ".scratch").exists()
    assert Path(first.folder, "README.md").exists()


def test_f18_an_upload_that_was_cut_short_leaves_the_old_version(
    echo_recipe: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recipe(count: int) -> Recipe:
        return echo_recipe(count, workspace=f"memory://{tmp_path.name}", ledger=f"sqlite:///{tmp_path}/ledger.sqlite")

    run(recipe(10))
    store = open_store(recipe(10))
    memory = type(fsspec.filesystem("memory"))
    upload = memory.put_file

    def cut_short(self: Any, local: str, remote: str, *words: Any, **more: Any) -> None:
        if remote.endswith("report.html"):
            raise OSError("connection lost")
        upload(self, local, remote, *words, **more)

    monkeypatch.setattr(memory, "put_file", cut_short)
    with pytest.raises(OSError, match="connection lost"):
        run(recipe(12))
    monkeypatch.undo()
    assert store.points_to("latest") == "versions/v0001"
    again, _, calls = run(recipe(12))
    assert not calls
    assert again.new
    assert store.points_to("latest") == f"versions/{again.version}"
    assert store.read_json(f"versions/{again.version}.json")["digest"] == again.digest
