from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pairsmith.errors import DataError
from pairsmith.sources.sharding import Loaded, shard_prompts
from pairsmith.storage.store import Store
from pairsmith.storage.tables import prompts_ref
from tests.generation.test_pool import prompt


def load(store: Store, names: Any, size: int = 10) -> Loaded:
    return shard_prompts([prompt(f"Question {name}?") for name in names], store, size)


def held(store: Store, loaded: Loaded) -> list[str]:
    return [name for shard in loaded.shards for name in store.read(prompts_ref(shard))["prompt_id"]]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def ids_of(names: Any) -> set[str]:
    return {prompt(f"Question {name}?")["prompt_id"] for name in names}


def test_the_same_prompts_get_the_same_shards(store: Store) -> None:
    first = load(store, range(25))
    assert list(first.shards.values()) == [10, 10, 5]
    assert load(store, range(25)).shards == first.shards
    assert first.new == 25
    assert load(store, range(25)).new == 0


def test_new_prompts_get_a_shard_of_their_own(store: Store) -> None:
    first, second = load(store, range(20)), load(store, range(22))
    assert set(second.shards) > set(first.shards)
    assert (second.new, second.accepted) == (2, 22)


@pytest.mark.parametrize("names", [range(5), range(3, 25), [0, 24, 7], range(10, 20), list(range(24, -1, -1))])
def test_a_run_holds_exactly_what_was_read(store: Store, names: Any) -> None:
    load(store, range(25))
    loaded = load(store, names)
    assert sorted(held(store, loaded)) == sorted(ids_of(names))
    assert loaded.new == 0
    assert load(store, range(25)).shards.keys() >= load(store, range(10)).shards.keys()


def test_many_different_runs_never_lose_or_double_a_prompt(store: Store) -> None:
    for step in (1, 2, 3, 5, 7):
        for start in (0, 4):
            names = range(start, 30, step)
            assert sorted(held(store, load(store, names, size=4))) == sorted(ids_of(names))


def test_a_damaged_shard_is_laid_out_again(store: Store) -> None:
    first = load(store, range(20))
    Path(store.path(prompts_ref(next(iter(first.shards))).path)).write_bytes(b"PAR1")
    again = load(store, range(20))
    assert again.shards == first.shards
    assert sorted(held(store, again)) == sorted(ids_of(range(20)))


def test_a_changed_reference_is_a_new_row_of_the_same_prompt(store: Store) -> None:
    shard_prompts([prompt("x", reference="old"), prompt("y")], store, 10)
    loaded = shard_prompts([prompt("x", reference="new"), prompt("y")], store, 10)
    references = [name for shard in loaded.shards for name in store.read(prompts_ref(shard))["reference"].dropna()]
    assert references == ["new"]


def test_no_prompt_at_all_is_an_error_that_says_why(store: Store) -> None:
    with pytest.raises(DataError, match="no prompts: 1 rows read, none accepted. file:1: blank"):
        shard_prompts([{"stage": "load", "reason": "blank", "detail": "file:1: blank"}], store, 10)
