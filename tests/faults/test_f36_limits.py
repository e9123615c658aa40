"""F36: what a load with a limit has read is remembered and used by the next one, whichever limit that has."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pairsmith.config import Recipe
from pairsmith.session import process_session
from pairsmith.sources import cache, prompts, readers
from pairsmith.sources.prompts import read_prompts
from pairsmith.sources.sharding import shard_prompts
from pairsmith.stages.base import open_store
from pairsmith.stages.load import load
from pairsmith.storage.schemas import rows
from pairsmith.storage.store import Store
from pairsmith.storage.tables import LOAD_REJECTIONS, prompts_ref

Build = Callable[..., Recipe]
Tally = Callable[..., None]
ROWS = 20  # of each file; every fifth is refused


@pytest.fixture(autouse=True)
def work(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many files were parsed, and how many rows were looked at; small and fresh files are noted too."""
    count, judge = Counter[str](), prompts.asked_in

    def watched(real: Callable[[readers.File], Iterator[Any]]) -> Callable[[readers.File], Iterator[Any]]:
        def read(file: readers.File) -> Iterator[Any]:
            count["files"] += 1
            return real(file)

        return read

    def judged(*words: Any) -> Any:
        count["rows"] += 1
        return judge(*words)

    monkeypatch.setattr(readers, "_READERS", {kind: watched(real) for kind, real in readers._READERS.items()})
    monkeypatch.setattr(prompts, "asked_in", judged)
    monkeypatch.setattr(cache, "SMALLEST", 0)
    monkeypatch.setattr(cache, "RECENT_NS", 0)
    return count


@pytest.fixture
def limited(echo_recipe: Build, tmp_path: Path) -> Callable[[int | None], Recipe]:
    """A recipe over two files with a limit for all rows."""
    folder = tmp_path / "sources"
    folder.mkdir()
    for name in "ab":
        texts = [{"prompt": f"{name}{n}"} if n % 5 < 4 else {"other": n} for n in range(ROWS)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
    return lambda limit: echo_recipe(1, prompts={"sources": [{"path": str(folder)}], "limit": limit}, shard_size=3)


def loaded(recipe: Recipe, work: Counter[str]) -> tuple[int, int]:
    """The files that a load parsed, and the rows that it made prompts."""
    work.clear()
    load(recipe, process_session())
    return work["files"], work["rows"]


def test_f36_a_limited_load_is_remembered(
    limited: Callable[[int | None], Recipe], work: Counter[str], tally: Tally
) -> None:
    assert loaded(limited(10), work) == (1, 10)
    assert loaded(limited(10), work) == (0, 0)
    assert loaded(limited(4), work) == (0, 0)
    assert loaded(limited(25), work) == (2, 15), "the first ten rows are known"
    assert loaded(limited(None), work) == (1, 15), "the first file is known, and five rows of the second"
    assert loaded(limited(None), work) == (0, 0)
    tally(trials=6)


def test_f36_a_full_load_serves_limited_ones_and_outlives_them(
    limited: Callable[[int | None], Recipe], work: Counter[str], tally: Tally
) -> None:
    assert loaded(limited(None), work) == (2, 2 * ROWS)
    for limit in (3, ROWS + 3, 1, None):
        assert loaded(limited(limit), work) == (0, 0)
    tally(trials=5)


def test_f36_a_file_that_changed_after_a_limited_load_is_read_anew(
    limited: Callable[[int | None], Recipe], work: Counter[str]
) -> None:
    load(limited(10), process_session())
    file = Path(limited(None).prompts.sources[0].path, "a.jsonl")
    file.write_text(file.read_text().replace("a3", "new"))
    assert loaded(limited(10), work) == (1, 10)
    store = open_store(limited(10))
    assert any('"new"' in row["messages"] for row in held(store))


def held(store: Store) -> list[dict[str, Any]]:
    return [row for shard in store.shards() for row in rows(store.read(prompts_ref(shard)))]


@given(st.lists(st.none() | st.integers(1, 2 * ROWS + 2), min_size=2, max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
def test_f36_limits_in_any_order_give_what_reading_afresh_does(
    limited: Callable[[int | None], Recipe], tmp_path_factory: pytest.TempPathFactory, limits: list[int | None]
) -> None:
    place = tmp_path_factory.mktemp("case")
    afresh = Store(str(place / "afresh"))
    for limit in limits:
        recipe = limited(limit).model_copy(update={"workspace": str(place / "data")})
        made = load(recipe, process_session())
        assert made == shard_prompts(read_prompts(recipe.prompts), afresh, 3)
        rejected = [store.read(LOAD_REJECTIONS).to_dict("records") for store in (open_store(recipe), afresh)]
        assert rejected[0] == rejected[1]
