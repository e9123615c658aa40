"""Whole runs in this process: build publishes what the flows publish, and a preview publishes nothing."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pairsmith import Dataset, Session, build, preview
from pairsmith.config import Recipe
from pairsmith.errors import ConfigError, RunError
from pairsmith.reporting.summary_tables import funnel_table
from pairsmith.stages.generate import generate_shard
from tests.runs import run

Build = Callable[..., Recipe]


@pytest.mark.parametrize("changes", [{}, {"pairing": {"length_control": True}}, {"evolution": None}])
def test_build_publishes_what_the_stages_in_order_publish(
    changes: dict[str, Any], echo_recipe: Build, tmp_path: Path
) -> None:
    recipe = echo_recipe(12, shard_size=5, **changes)
    outcome = build(recipe)
    assert outcome.release is not None
    published = outcome.release.published
    expected, summary, calls = run(echo_recipe(12, shard_size=5, workspace=str(tmp_path / "other"), **changes))
    assert (published.version, published.pairs, published.digest, published.new) == (
        "v0001", summary.pairs, expected.digest, True
    )  # fmt: skip
    assert {row["stage"] for row in outcome.usage} == set(calls)
    assert sum(row["calls"] for row in outcome.usage) == calls.total()
    assert (outcome.loaded.accepted, len(outcome.loaded.shards)) == (12, 3)
    assert outcome.release.funnel == funnel_table(summary)


def test_a_second_build_asks_nothing_and_publishes_nothing_new(echo_recipe: Build, asked: Counter[str]) -> None:
    first = build(echo_recipe(5))
    assert asked.total() > 0
    asked.clear()
    again = build(echo_recipe(5))
    assert not asked
    assert first.release is not None
    assert again.release is not None
    assert (again.release.published.new, again.release.published.digest) == (
        False,
        first.release.published.digest,
    )
    more = build(echo_recipe(6))
    assert more.release is not None
    assert more.release.published.version == "v0002"
    assert asked["echo-brief"] == 1


def test_a_preview_makes_no_version_and_its_replies_are_used_by_build(
    echo_recipe: Build, asked: Counter[str], tmp_path: Path
) -> None:
    recipe = echo_recipe(8)
    pairs = preview(recipe, 3)
    assert {row["prompt"][0]["content"] for row in pairs} <= {f"Question {n}?" for n in range(3)}
    assert 0 < len(pairs) <= 3
    assert [path.name for path in (tmp_path / "data").iterdir() if path.is_dir()] == []
    assert (tmp_path / "data" / "ledger.sqlite").exists()
    paid = Counter(asked)
    assert paid["echo-brief"] == 3
    asked.clear()
    build(recipe)
    assert asked["echo-brief"] == 5
    built = Dataset(f"{recipe.workspace}/echo").pairs()
    assert {row["chosen_id"] for row in pairs} <= set(built["chosen_id"])
    first = built.set_index("prompt_id").loc[pairs[0]["prompt_id"]]
    assert {name: first[name] for name in pairs[0] if name != "prompt_id"} == {
        name: value for name, value in pairs[0].items() if name != "prompt_id"
    }
    asked.clear()
    assert preview(recipe, 3) == pairs
    assert not asked


def test_a_preview_reads_no_more_rows_than_the_recipe(echo_recipe: Build, asked: Counter[str]) -> None:
    preview(echo_recipe(8, prompts={"limit": 2}), 5)
    assert asked["echo-brief"] == 2


@pytest.mark.parametrize("count", [0, -1])
def test_a_preview_of_nothing_is_an_error(count: int, echo_recipe: Build) -> None:
    with pytest.raises(ConfigError, match=f"count is {count}; it must be 1 or more"):
        preview(echo_recipe(2), count)


@pytest.mark.parametrize("function", [build, preview])
@pytest.mark.parametrize(
    ("failure", "kind", "told"),
    [(ConfigError("no such"), ConfigError, "no such"), (OSError("broken"), RunError, "OSError: broken")],
)
def test_a_step_that_fails_ends_the_run(
    function: Callable[..., Any],
    failure: Exception,
    kind: type[Exception],
    told: str,
    echo_recipe: Build,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any) -> None:
        raise failure

    monkeypatch.setattr("pairsmith.building.runs.rate_shard", fail)
    recipe = echo_recipe(4)
    with pytest.raises(kind, match=f"the run stopped; what was answered is kept, .*: {told}"):
        function(recipe)
    monkeypatch.undo()
    function(recipe)


def test_no_shard_is_begun_after_a_failure(echo_recipe: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    def fail(_: Recipe, shard: str, *more: Any) -> None:
        begun.append(shard)
        raise OSError("broken")

    monkeypatch.setattr("pairsmith.building.runs.generate_shard", fail)
    with pytest.raises(RunError, match="broken"):
        build(echo_recipe(9, shard_size=3, shards_in_flight=1))
    assert len(set(begun)) == 1


def test_several_shards_are_under_way_at_a_time(echo_recipe: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(4, timeout=20)  # two shards, two members each

    def meet(*what: Any) -> Any:
        together.wait()
        return generate_shard(*what)

    monkeypatch.setattr("pairsmith.building.runs.generate_shard", meet)
    build(echo_recipe(6, shard_size=3, shards_in_flight=2))


def test_a_session_is_left_open_and_one_of_its_own_is_closed(
    echo_recipe: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Session] = []
    close = Session.close
    monkeypatch.setattr(Session, "close", lambda self: (closed.append(self), close(self))[1])
    with Session() as session:
        build(echo_recipe(2), session)
        preview(echo_recipe(2), 1, session)
        assert session not in closed
        ledger = session.keep(("ledger", echo_recipe(2).ledger_url), object)
        assert ledger.url
    assert session in closed
    before = len(closed)
    build(echo_recipe(2))
    assert len(closed) > before
    assert all(not one._open for one in closed)


def test_with_full_all_sources_are_read_afresh(echo_recipe: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten: list[str] = []
    monkeypatch.setattr("pairsmith.building.runs.forget_sources", lambda recipe, _: forgotten.append(recipe.name))
    build(echo_recipe(2))
    assert forgotten == []
    build(echo_recipe(2), full=True)
    assert forgotten == ["echo"]


def test_a_version_is_pushed_where_the_recipe_says_so(echo_recipe: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed: list[str] = []
    monkeypatch.setattr("pairsmith.building.runs.push", lambda recipe, published, _: pushed.append(published.version))
    build(echo_recipe(2))
    assert pushed == []
    build(echo_recipe(2, publishing={"hub": {"repo_id": "me/pairs"}}))
    assert pushed == ["v0001"]


@pytest.mark.parametrize("form", ["path", "text", "mapping"])
def test_a_recipe_may_be_its_file_or_a_mapping(form: str, echo_recipe: Build, tmp_path: Path) -> None:
    recipe = echo_recipe(4)
    data = recipe.model_dump(mode="json", exclude_defaults=True)
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(data))
    given: Any = {"path": file, "text": str(file), "mapping": data}[form]
    outcome = build(given)
    assert outcome.release is not None
    assert outcome.release.published.digest == run(echo_recipe(4, name="same"))[0].digest
    assert len(preview(given, 2)) <= 2


def test_what_is_no_recipe_is_refused_by_its_type() -> None:
    with pytest.raises(ConfigError, match="a recipe is a Recipe, the path of its file or a mapping; this is a int"):
        build(3)  # type: ignore[arg-type]
