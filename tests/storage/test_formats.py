"""What a newer pairsmith wrote in a format of its own is refused in a sentence; what has no number is of the first."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pairsmith.about import __version__
from pairsmith.config import Recipe
from pairsmith.errors import DataError
from pairsmith.session import process_session
from pairsmith.stages.base import open_store
from pairsmith.stages.load import load
from pairsmith.status import datasets_of
from pairsmith.storage import versions
from pairsmith.storage.addresses import store_at
from pairsmith.storage.datafiles import published_files
from pairsmith.storage.formats import FILE
from tests.runs import run

Build = Callable[..., Recipe]


def sentence(place: str) -> str:
    told = f"{place} is of format 2, made by a newer pairsmith; this is {__version__}: upgrade pairsmith"
    return f"^{re.escape(told)}$"


def test_a_workspace_of_a_newer_format_is_refused_by_whoever_meets_it(echo_recipe: Build) -> None:
    recipe = echo_recipe(3)
    run(recipe)
    store = open_store(recipe)
    assert store.read_json(FILE) == {"format": 1}
    store.write_json(FILE, {"format": 2})
    for meet in (
        lambda: load(recipe, process_session()),
        lambda: store_at(store.root),
        lambda: datasets_of(Path(recipe.workspace)),
    ):
        with pytest.raises(DataError, match=sentence(store.root)):
            meet()
    store.write_bytes(FILE, b"{")
    load(recipe, process_session())
    assert store.read_json(FILE) == {"format": 1}


def test_a_workspace_without_a_number_is_of_the_first_format_and_gets_it(echo_recipe: Build) -> None:
    recipe = echo_recipe(3)
    first = run(recipe)[0]
    store = open_store(recipe)
    store.files.remove(FILE)
    assert store_at(store.root).root == store.root
    again, _, calls = run(recipe)
    assert (again.digest, again.new, dict(calls)) == (first.digest, False, {})
    assert store.read_json(FILE) == {"format": 1}


def test_a_version_of_a_newer_format_is_refused(echo_recipe: Build) -> None:
    recipe = echo_recipe(3)
    published = run(recipe)[0]
    store, path = open_store(recipe), Path(published.folder, "version.json")
    about = json.loads(path.read_text())
    assert about["format"] == 1
    path.write_text(json.dumps({name: value for name, value in about.items() if name != "format"}))
    assert not run(recipe)[0].new
    path.write_text(json.dumps(about | {"format": 2}))
    for meet in (
        lambda: versions.version_at(store, "v0001"),
        lambda: published_files(Path(store.root)),
        lambda: run(recipe),
        lambda: versions.release(store, "v0001", by="ann", reason="fine"),
    ):
        with pytest.raises(DataError, match=sentence(published.folder)):
            meet()
