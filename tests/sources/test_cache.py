"""A file that is as it was is not parsed again, and what comes of it is the same as if it were."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pairsmith.config import Recipe
from pairsmith.errors import DataError
from pairsmith.session import process_session
from pairsmith.sources import cache, readers
from pairsmith.sources.prompts import read_prompts
from pairsmith.sources.sharding import Loaded, shard_prompts
from pairsmith.stages.base import open_store
from pairsmith.stages.load import load as load_sources
from pairsmith.storage.schemas import rows
from pairsmith.storage.store import Store
from pairsmith.storage.tables import LOAD_REJECTIONS, SHARD_INDEX, prompts_ref

Build = Callable[..., Recipe]


@pytest.fixture(autouse=True)
def parsed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file was parsed, by name; small files are noted too, and fresh ones are trusted."""
    count = Counter[str]()

    def watched(real: Callable[[readers.File], Iterator[Any]]) -> Callable[[readers.File], Iterator[Any]]:
        def read(file: readers.File) -> Iterator[Any]:
            count[file.path.name] += 1
            return real(file)

        return read

    monkeypatch.setattr(readers, "_READERS", {kind: watched(real) for kind, real in readers._READERS.items()})
    monkeypatch.setattr(cache, "SMALLEST", 0)
    monkeypatch.setattr(cache, "RECENT_NS", 0)
    return count


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sources").mkdir()
    return tmp_path / "sources"


@pytest.fixture
def recipe(echo_recipe: Build, folder: Path) -> Recipe:
    return echo_recipe(1, prompts={"sources": [{"path": str(folder)}]}, shard_size=3)


def write(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))


def lines_of(*texts: str) -> list[str]:
    return [json.dumps({"prompt": text}) for text in texts]


def held(store: Store, loaded: Loaded) -> list[dict[str, Any]]:
    return [row for shard in loaded.shards for row in rows(store.read(prompts_ref(shard)))]


def outcome_of(store: Store, load: Callable[[], Loaded]) -> Any:
    """All that a load gives: the shards, what they hold byte by byte, and the rejections; or its error."""
    try:
        loaded = load()
    except DataError as error:
        return str(error)
    files = {shard: store.file_digest(prompts_ref(shard).path) for shard in store.shards()}
    return loaded, files, rows(store.read(LOAD_REJECTIONS)), held(store, loaded)


# What may stand in a line: prompts that come again, also with another reference or other line ends, and bad rows.
bad = [" ", '{"prompt": "a", "reference": "r"}', "not json", '{"q": 1}', ""]
line = st.sampled_from([*lines_of("a", "b", "c", "d", "e", "x\r\ny", "x\ny"), *bad])
contents = st.lists(line, max_size=6)
edit = st.tuples(st.sampled_from(["one.jsonl", "two.jsonl", "three.jsonl"]), st.one_of(st.none(), contents))
options = st.fixed_dictionaries(
    {}, optional={"limit": st.integers(1, 12), "sample": st.integers(1, 4), "columns": st.just({"prompt": "prompt"})}
)
step = st.tuples(st.lists(edit, max_size=3), options)


@given(st.lists(step, min_size=2, max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_an_incremental_load_gives_what_a_full_one_does(
    echo_recipe: Build, tmp_path_factory: pytest.TempPathFactory, steps: list[Any]
) -> None:
    place = tmp_path_factory.mktemp("case")
    folder, full = place / "sources", Store(str(place / "full"))
    folder.mkdir()
    write(folder / "base.jsonl", lines_of("base", "other"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "RECENT_NS", 2 * 10**9)  # edits follow each other within a tick of the clock
        for edits, fields in steps:
            for name, found in edits:
                if found is None:
                    (folder / name).unlink(missing_ok=True)
                else:
                    write(folder / name, found)
            source = {"path": str(folder), **fields}
            recipe = echo_recipe(1, prompts={"sources": [source]}, shard_size=3, workspace=str(place / "data"))
            made = outcome_of(open_store(recipe), partial(load_sources, recipe, process_session()))
            expected = outcome_of(full, lambda: shard_prompts(read_prompts(recipe.prompts), full, 3))  # noqa: B023
            assert made == expected


def test_only_files_that_changed_are_parsed(recipe: Recipe, folder: Path, parsed: Counter[str]) -> None:
    for name in "abc":
        write(folder / f"{name}.jsonl", lines_of(f"{name}1", f"{name}2"))
    first = load_sources(recipe, process_session())
    again = load_sources(recipe, process_session())
    assert (parsed, again.shards, again.new) == ({"a.jsonl": 1, "b.jsonl": 1, "c.jsonl": 1}, first.shards, 0)
    write(folder / "b.jsonl", lines_of("b1", "b3"))
    write(folder / "d.jsonl", lines_of("d1"))
    assert load_sources(recipe, process_session()).new == 2
    assert parsed == {"a.jsonl": 1, "b.jsonl": 2, "c.jsonl": 1, "d.jsonl": 1}


def test_a_file_with_new_times_and_the_same_bytes_is_not_parsed(
    recipe: Recipe, folder: Path, parsed: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "a.jsonl", lines_of("a"))
    load_sources(recipe, process_session())
    os.utime(folder / "a.jsonl", (1, 1))
    load_sources(recipe, process_session())
    assert parsed == {"a.jsonl": 1}
    monkeypatch.setattr(cache, "file_digest", lambda _: pytest.fail("the new times were noted, so they are trusted"))
    load_sources(recipe, process_session())


def test_an_edit_that_hides_its_time_and_size_is_found(recipe: Recipe, folder: Path, parsed: Counter[str]) -> None:
    path = folder / "a.jsonl"
    write(path, lines_of("a", "b"))
    load_sources(recipe, process_session())
    before = path.stat()
    time.sleep(0.02)
    write(path, lines_of("a", "c"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert load_sources(recipe, process_session()).new == 1
    assert parsed["a.jsonl"] == 2


def test_a_file_that_has_just_changed_is_not_trusted_by_its_times(
    recipe: Recipe, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "RECENT_NS", 10**12)
    write(folder / "a.jsonl", lines_of("a", "b"))
    load_sources(recipe, process_session())
    hashed: list[Path] = []
    real = cache.file_digest
    monkeypatch.setattr(cache, "file_digest", lambda path: (hashed.append(path), real(path))[1])
    load_sources(recipe, process_session())
    assert hashed == [folder / "a.jsonl"]


@pytest.mark.parametrize("what", ["notes", "index", "a shard", "all shards"])
def test_what_is_lost_or_damaged_is_made_again(recipe: Recipe, folder: Path, parsed: Counter[str], what: str) -> None:
    write(folder / "a.jsonl", lines_of(*"abcdefg"))
    first = load_sources(recipe, process_session())
    store = open_store(recipe)
    names = {
        "notes": [f"tables/load/{name}" for name in store.names_in("tables/load") if name.startswith("notes.")],
        "index": [SHARD_INDEX.path],
        "a shard": [prompts_ref(next(iter(first.shards))).path],
        "all shards": [prompts_ref(shard).path for shard in first.shards],
    }[what]
    assert names
    expected = held(store, first)
    for name in names:
        store.write_bytes(name, b"PAR1")
    again = load_sources(recipe, process_session())
    assert (again.shards, held(store, again)) == (first.shards, expected)
    assert parsed["a.jsonl"] == (1 if what == "index" else 2)
    load_sources(recipe, process_session())
    assert parsed["a.jsonl"] == (1 if what == "index" else 2)


def test_a_duplicate_that_no_shard_holds_does_not_make_its_file_new(
    recipe: Recipe, folder: Path, parsed: Counter[str]
) -> None:
    write(folder / "a.jsonl", lines_of("a", "b"))
    write(folder / "b.jsonl", [*lines_of("a", "c"), '{"prompt": "c", "reference": "another"}'])
    first = load_sources(recipe, process_session())
    assert (first.accepted, first.rejected) == (3, 2)
    assert load_sources(recipe, process_session()) == Loaded(first.shards, 2)
    assert parsed == {"a.jsonl": 1, "b.jsonl": 1}
    (folder / "a.jsonl").unlink()  # so that it counts now
    again = load_sources(recipe, process_session())
    assert (again.accepted, again.new, parsed["b.jsonl"]) == (2, 1, 2)


def test_other_columns_read_again_and_a_part_is_not_taken_for_the_whole(
    echo_recipe: Build, folder: Path, parsed: Counter[str]
) -> None:
    write(folder / "a.jsonl", [json.dumps({"prompt": name, "other": name * 2}) for name in "abc"])

    def load(limit: int | None = None, **source: Any) -> list[str]:
        prompts = {"sources": [{"path": str(folder), **source}], "limit": limit}
        recipe = echo_recipe(1, prompts=prompts)
        loaded = load_sources(recipe, process_session())
        return [json.loads(row["messages"])[0]["content"] for row in held(open_store(recipe), loaded)]

    assert load(limit=2) == ["a", "b"]
    assert load(limit=2) == ["a", "b"]
    assert (load(), parsed["a.jsonl"]) == (["a", "b", "c"], 2)
    assert (load(limit=2), load(**{"limit": 1})) == (["a", "b"], ["a"])
    assert parsed["a.jsonl"] == 2
    assert load(columns={"prompt": "other"}) == ["aa", "bb", "cc"]
    assert parsed["a.jsonl"] == 3


def test_notes_of_files_that_are_gone_go_too(recipe: Recipe, folder: Path) -> None:
    for name in "ab":
        write(folder / f"{name}.jsonl", lines_of(name))
    load_sources(recipe, process_session())
    (folder / "a.jsonl").unlink()
    load_sources(recipe, process_session())
    names = open_store(recipe).names_in("tables/load")
    assert len([name for name in names if name.startswith("notes.")]) == 1


def test_on_object_storage_notes_are_kept_too(echo_recipe: Build, folder: Path, tmp_path: Path, parsed: Any) -> None:
    write(folder / "a.jsonl", lines_of("a", "b"))
    place = {"workspace": f"memory://{tmp_path.name}", "ledger": f"sqlite:///{tmp_path}/ledger.sqlite"}
    recipe = echo_recipe(1, prompts={"sources": [{"path": str(folder)}]}, **place)
    assert load_sources(recipe, process_session()).shards == load_sources(recipe, process_session()).shards
    assert parsed == {"a.jsonl": 1}


@pytest.mark.parametrize("change", [{"where": "stars > 1"}, {"keep": ["stars"]}, {"layout": "messages"}])
def test_a_file_is_parsed_again_where_a_source_reads_it_otherwise(
    change: dict[str, Any], echo_recipe: Build, folder: Path, parsed: Counter[str]
) -> None:
    chat = [{"role": "user", "content": "a"}]
    write(folder / "a.jsonl", [json.dumps({"messages": chat, "stars": 1}), json.dumps({"prompt": "b", "stars": 2})])
    for source in ({}, {}, change, change):
        recipe = echo_recipe(1, prompts={"sources": [{"path": str(folder), **source}]})
        load_sources(recipe, process_session())
    assert parsed["a.jsonl"] == 2
