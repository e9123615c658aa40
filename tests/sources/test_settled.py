"""A file that changed just before it was read may change once more within the same tick of the clock.

Its size and times then say nothing, so its bytes are read. A file that was settled by then is known by them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from pairsmith.config import Recipe
from pairsmith.session import process_session
from pairsmith.sources import cache
from pairsmith.stages.load import load as load_sources

Build = Callable[..., Recipe]
NOW = 1_800_000_000 * 10**9


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "source.jsonl"


@pytest.fixture
def recipe(echo_recipe: Build, source: Path) -> Recipe:
    write(source, "first")
    return echo_recipe(1, prompts={"sources": [{"path": str(source)}]})


def write(path: Path, word: str) -> None:
    """Enough prompts that notes of the file are kept; two words of one length make files of one size."""
    rows = [json.dumps({"prompt": f"{word} question {number:04}?"}) for number in range(600)]
    path.write_text("".join(f"{row}\n" for row in rows))
    assert path.stat().st_size >= cache.SMALLEST


def pretend(monkeypatch: pytest.MonkeyPatch, age: float) -> None:
    """Let the file's size, inode and times be what they are forever, its times `age` seconds before now."""
    changed = NOW - round(age * 10**9)
    stamp = {"inode": 1, "mtime_ns": changed, "ctime_ns": changed}
    monkeypatch.setattr(cache, "_stamp", lambda path: {"size": path.stat().st_size, **stamp})
    monkeypatch.setattr(cache, "time", SimpleNamespace(time_ns=lambda: NOW))


@pytest.mark.parametrize("age", [0.0, 0.01, 1.0, 1.9])
def test_a_change_that_size_and_times_hide_is_found_where_the_file_had_just_changed(
    recipe: Recipe, source: Path, age: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, age)
    load_sources(recipe, process_session())
    write(source, "other")
    assert load_sources(recipe, process_session()).new == 600


def test_a_file_that_was_settled_is_known_by_its_size_and_times(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, age=2.1)
    first = load_sources(recipe, process_session())
    monkeypatch.setattr(cache, "file_digest", lambda path: pytest.fail(f"{path} is settled, so it is not read"))
    assert load_sources(recipe, process_session()).shards == first.shards
