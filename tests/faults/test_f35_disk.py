"""F35: a data set does not only grow: unchanged parts are stored once, and old versions go by rule, never `latest`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pairsmith.config import Recipe
from pairsmith.errors import ConfigError, DataError
from pairsmith.publishing import parts
from pairsmith.stages.base import open_store
from pairsmith.storage import pruning, versions
from pairsmith.storage.addresses import named_version
from pairsmith.storage.pruning import prune
from tests.command_line import cli
from tests.runs import run

Build = Callable[..., Recipe]
Tally = Callable[..., None]
WHO = {"by": "ann", "reason": "looked at it"}
BIG = {"shard_size": 4, "publishing": {"exports": ["kto", "jsonl"]}}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "LEAST_ROWS_A_PART", 8)


def data_of(folder: str) -> dict[str, int]:
    """Digest -> inode of the data files of a version on a disk."""
    files = json.loads(Path(folder, "version.json").read_text())["files"]
    return {digest: Path(folder, name).stat().st_ino for name, digest in files.items()}


def test_f35_a_refresh_stores_only_the_parts_that_changed(echo_recipe: Build, tally: Tally) -> None:
    first, second = (run(echo_recipe(count, **BIG))[0] for count in (48, 50))
    old, new = data_of(first.folder), data_of(second.folder)
    shared = [digest for digest in new if old.get(digest) == new[digest]]
    assert len(new) > 6
    assert len(shared) >= len(new) - 6, "more than the last part of each of three groups was stored anew"
    rows = sum(len(path.read_text().splitlines()) for path in Path(second.folder, "jsonl").iterdir())
    assert rows == second.pairs
    tally()


def test_f35_parts_are_read_in_their_order_and_by_load_dataset(
    echo_recipe: Build, tmp_path: Path, tally: Tally
) -> None:
    import datasets

    from pairsmith import Dataset

    published = run(echo_recipe(48, shard_size=4, publishing={"test_fraction": 0.2}))[0]
    found = Dataset(tmp_path / "data" / "echo").pairs()
    loaded = datasets.load_dataset(published.folder, cache_dir=str(tmp_path / "cache"))
    assert len(list(Path(published.folder, "data").glob("train-*-of-*"))) > 1
    assert [*loaded["train"]["prompt_id"], *loaded["test"]["prompt_id"]] == list(found["prompt_id"])
    tally()


def test_f35_a_disk_without_hard_links_gets_copies(
    echo_recipe: Build, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    first, second = (run(echo_recipe(count, **BIG))[0] for count in (24, 25))
    old, new = data_of(first.folder), data_of(second.folder)
    assert old.keys() & new.keys()
    assert not set(old.values()) & set(new.values())
    tally()


def test_f35_a_damaged_part_is_not_shared(echo_recipe: Build, tally: Tally) -> None:
    first = run(echo_recipe(24, **BIG))[0]
    for path in Path(first.folder, "data").iterdir():
        path.write_bytes(b"PAR1")
    run(echo_recipe(25, **BIG))
    store = open_store(echo_recipe(1))
    assert versions.is_whole(store, named_version(store, "v0002"))
    tally()


def test_f35_pruning_keeps_latest_the_candidate_and_the_newest(echo_recipe: Build, tally: Tally) -> None:
    store = open_store(echo_recipe(1))
    for count in (3, 4, 5):
        run(echo_recipe(count))
    versions.rollback(store, "v0001", **WHO)
    run(echo_recipe(6, publishing={"approval": "required"}))
    assert prune(store, 1) == ["v0002", "v0003"]
    assert versions.version_names(store) == ["v0001", "v0004"]
    assert (versions.latest_name(store), versions.history(store).waiting) == ("v0001", "v0004")
    assert Path(store.path("latest"), "version.json").exists()
    with pytest.raises(DataError, match="no version v0002 any more: it was pruned; there are v0001, v0004"):
        named_version(store, "v0002")
    assert run(echo_recipe(7, publishing={"approval": "required"}))[0].version == "v0005"
    tally()


def test_f35_what_was_rolled_back_from_stays_away_after_it_was_pruned(echo_recipe: Build, tally: Tally) -> None:
    store = open_store(echo_recipe(1))
    run(echo_recipe(3))
    run(echo_recipe(4))
    versions.rollback(store, "v0001", **WHO)
    run(echo_recipe(5))
    assert prune(store, 1) == ["v0001", "v0002"]
    again = run(echo_recipe(4))[0]
    assert (again.version, again.new, again.state, again.latest) == ("v0002", False, "withdrawn", "v0003")
    tally()


def test_f35_a_recipe_says_how_many_versions_are_kept(echo_recipe: Build, tmp_path: Path, tally: Tally) -> None:
    digests = [run(echo_recipe(count, publishing={"keep": 2}))[0].digest for count in (3, 4, 5)]
    store, folder = open_store(echo_recipe(1)), str(tmp_path / "data" / "echo")
    assert versions.version_names(store) == ["v0002", "v0003"]
    unchanged = run(echo_recipe(5))[0]
    assert (unchanged.new, unchanged.digest) == (False, digests[-1])
    run(echo_recipe(6))
    with pytest.raises(ConfigError, match="--keep: say how many versions to keep"):
        pruning.kept_by_recipe(store)
    assert cli("versions", folder, "--prune").returncode == 2
    assert "removed: v0002" in cli("versions", folder, "--prune", "--keep", "2").stdout
    assert "removed: none" in cli("versions", folder, "--prune", "--keep", "2").stdout
    tally()


@pytest.mark.s3
def test_f35_on_object_storage_a_part_is_named_by_each_version_that_has_it(
    s3: str, echo_recipe: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    place = {"workspace": f"{s3}/ws", "ledger": f"sqlite:///{tmp_path}/ledger.sqlite"}
    for count in (12, 13, 14):
        run(echo_recipe(count, **BIG, **place))
    store = open_store(echo_recipe(1, **place))
    first, second, third = (named_version(store, name).parts for name in versions.version_names(store))
    assert set(first.values()) & set(second.values()) & set(third.values())
    store.write_bytes("data/20200101T000000-cut/data/train.parquet", b"of an upload that was cut short")
    assert prune(store, 1) == ["v0001", "v0002"]
    assert {f"data/{name}" for name in store.files.tree("data")} == set(third.values())
    assert versions.is_whole(store, named_version(store, "latest"))
    tally()
