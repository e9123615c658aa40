from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pairsmith.building.previewing import preview
from pairsmith.config import Recipe
from pairsmith.ledger.ledger import Ledger
from pairsmith.publishing.kept_columns import kinds_of, united
from pairsmith.stages.base import open_store
from pairsmith.stages.forget import Choice, forget
from pairsmith.storage.datafiles import PREFERENCE
from pairsmith.storage.dataset import Dataset
from tests.runs import run

Build = Callable[..., Recipe]
FIRST = [
    {"prompt": "a", "id": 1, "language": "en", "tags": ["x"], "meta": {"n": 1}, "reference": "r", "odd": None},
    {"prompt": "b", "id": 2, "language": None, "tags": [], "meta": {"n": 2.5}, "reference": None, "odd": True},
]
SECOND = [{"question": "c", "id": "3"}]


@pytest.fixture
def recipe(echo_recipe: Build, file: Any) -> Recipe:
    first = file("first.jsonl", "\n".join(map(json.dumps, FIRST)))
    second = file("second.jsonl", "\n".join(map(json.dumps, SECOND)))
    keep = ["id", "language", "tags", "meta.n", "meta", "reference", "odd"]
    sources = [{"path": str(first), "keep": keep}, {"path": str(second), "keep": ["id"]}]
    return echo_recipe(
        prompts={"sources": sources},
        shard_size=1,
        evolution=None,
        rating=None,
        pairing={"strategy": "member-order", "member_order": ["brief", "long"]},
        publishing={"exports": ["kto", "reward", "jsonl", "csv"]},
    )


def test_kept_columns_are_in_versions_and_exports(recipe: Recipe) -> None:
    published, *_ = run(recipe)
    pairs = Dataset(f"{recipe.workspace}/{recipe.name}").pairs()
    kept = ["id", "language", "tags", "meta.n", "meta", "reference", "odd"]
    assert list(pairs.columns) == [*PREFERENCE.names, *kept]
    rows = [
        tuple(row) for row in pairs.sort_values("id").astype(object)[kept].where(lambda one: one.notna(), None).values
    ]
    assert [(row[0], row[1], None if row[2] is None else list(row[2]), *row[3:]) for row in rows] == [
        ("1", "en", ["x"], 1.0, '{"n": 1}', "r", None),
        ("2", None, [], 2.5, '{"n": 2.5}', None, True),
        ("3", None, None, None, None, None, None),
    ]
    folder = Path(published.folder)
    assert "| id, language, tags, meta.n, meta, reference, odd |" in (folder / "README.md").read_text()
    lines = [json.loads(line) for path in folder.glob("jsonl/*.jsonl") for line in path.read_text().splitlines()]
    assert {line["id"]: line["tags"] for line in lines} == {"1": ["x"], "2": [], "3": None}
    (cells,) = folder.glob("csv/*.csv")
    assert cells.read_text(encoding="utf-8-sig").splitlines()[0].endswith(",id,language,tags,meta.n,meta,reference,odd")
    assert '"[""x""]"' in cells.read_text()
    for form, own in (("kto", 4), ("reward", 3)):
        (path,) = folder.glob(f"{form}/*.parquet")
        assert pq.read_schema(path).names[own:] == kept


def test_prompts_can_be_forgotten_by_what_they_keep(recipe: Recipe) -> None:
    run(recipe)
    done = forget(open_store(recipe), Ledger(recipe.ledger_url), Choice(columns={"id": "2"}))
    assert done.prompts == 1


def test_a_preview_shows_them_as_they_are(recipe: Recipe) -> None:
    assert [row.get("id") for row in preview(recipe)] == [1, 2, "3"]


def test_without_kept_columns_a_version_has_none(echo_recipe: Build) -> None:
    recipe = echo_recipe(2, evolution=None)
    run(recipe)
    assert list(Dataset(f"{recipe.workspace}/{recipe.name}").pairs().columns) == PREFERENCE.names


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2], "whole number"),
        ([1, 2.5], "number"),
        ([True, False], "true or false"),
        ([True, 1], "text"),
        (["a"], "text"),
        (["a", 1], "text"),
        ([["a"], []], "texts"),
        ([["a"], [1]], "text"),
        ([{}], "text"),
        ([2**70], "text"),
        ([1, 2.5, "a"], "text"),
    ],
)
def test_one_type_holds_all_values_in_whichever_order(values: list[Any], kind: str) -> None:
    for ordered in (values, values[::-1]):
        assert kinds_of({"kept": {"x": value}} for value in ordered) == {"x": kind}
    assert united({"x": kind}, {"y": "text"}) == {"x": kind, "y": "text"}


def test_every_published_name_is_refused_as_one_to_keep() -> None:
    from pairsmith.config.sources import _PUBLISHED

    assert all(
        _PUBLISHED.fullmatch(name) for name in (*PREFERENCE.names, "completion", "label", "kept", "score_margin")
    )
    assert not any(_PUBLISHED.fullmatch(name) for name in ("id", "language", "tags", "reference", "labels", "sourced"))
