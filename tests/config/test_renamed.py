"""Old names of fields, with made-up tables; and the format of a recipe."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from pairsmith.about import __version__
from pairsmith.config import Recipe
from pairsmith.config import recipe as module
from pairsmith.config.loading import load_recipe
from pairsmith.config.renamed import RENAMED, Renamed, RenamedFieldWarning, with_new_names
from pairsmith.errors import ConfigError, WrongFields
from pairsmith.reporting.card import recipe_yaml
from pairsmith.stages.plan import plan_fingerprint
from tests.conftest import ROOT

ECHO = ROOT / "recipes" / "echo.yaml"
TABLE = (
    Renamed("pairing.margin", "min_margin", since="0.3"),
    Renamed("rating.judges.*.order_count", "orders", since="0.3"),
    Renamed("rating.rubrics.*.least", "low", since="0.9.2"),
    Renamed("judging", "rating", since="1.4"),
)


def renamed(data: Any) -> tuple[Any, list[str]]:
    """A recipe's data with new names, and what was said about it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = with_new_names(data, TABLE)
    assert {warning.category for warning in caught} <= {RenamedFieldWarning}
    return found, [str(warning.message) for warning in caught]


GOES = "the old name goes in pairsmith"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            {"name": "a", "pairing": {"margin": 1, "seed": 2}},
            {"name": "a", "pairing": {"min_margin": 1, "seed": 2}},
            f"pairing.margin is called min_margin since pairsmith 0.3; {GOES} 0.4",
        ),
        (
            {"rating": {"judges": [{}, {"order_count": 2}, {"order_count": 3}]}},
            {"rating": {"judges": [{}, {"orders": 2}, {"orders": 3}]}},
            f"rating.judges.*.order_count is called orders since pairsmith 0.3; {GOES} 0.4",
        ),
        (
            {"rating": {"rubrics": {"clear": {"least": 0}, "short": {"low": 1}}}},
            {"rating": {"rubrics": {"clear": {"low": 0}, "short": {"low": 1}}}},
            f"rating.rubrics.*.least is called low since pairsmith 0.9.2; {GOES} 0.10",
        ),
        (
            {"name": "a", "judging": {}},
            {"name": "a", "rating": {}},
            f"judging is called rating since pairsmith 1.4; {GOES} 1.5",
        ),
    ],
    ids=["field", "list", "mapping", "top"],
)
def test_an_old_name_is_taken_for_the_new_one_with_one_warning(old: Any, new: Any, said: str) -> None:
    before = repr(old)
    assert renamed(old) == (new, [said])
    assert repr(old) == before


@pytest.mark.parametrize(
    "data", [{"pairing": {"min_margin": 1}}, {"pairing": None}, {"rating": {"judges": "x"}}, None, []]
)
def test_what_has_no_old_name_stays_the_same_object(data: Any) -> None:
    found, said = renamed(data)
    assert found is data
    assert said == []


def test_both_names_at_once_are_an_error_that_names_the_place() -> None:
    with pytest.raises(ValueError) as error:
        with_new_names({"rating": {"judges": [{}, {"order_count": 2, "orders": 2}]}}, TABLE)
    assert "rating.judges.1.order_count and rating.judges.1.orders are one field" in str(error.value)


def test_the_warning_is_of_a_kind_that_python_shows_to_everybody() -> None:
    assert issubclass(RenamedFieldWarning, FutureWarning)


def test_no_old_name_stays_longer_than_a_minor_version() -> None:
    def parts(version: str) -> list[int]:
        return [int(part) for part in version.split(".")[:2]]

    assert [field.old for field in RENAMED if parts(field.until) <= parts(__version__)] == []


@pytest.fixture
def with_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "with_new_names", partial(with_new_names, table=TABLE))


@pytest.mark.usefixtures("with_table")
def test_files_and_overrides_and_parameters_of_flows_may_have_old_names(tmp_path: Path) -> None:
    data = yaml.safe_load(ECHO.read_text())
    data["prompts"]["sources"][0]["path"] = str(ROOT / "recipes" / "prompts" / "demo.jsonl")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(data | {"pairing": {"margin": 0.5}}))
    ways: list[Callable[[], Recipe]] = [
        lambda: load_recipe(tmp_path / "recipe.yaml"),
        lambda: load_recipe(ECHO, ["pairing.margin=0.5"]),
        lambda: TypeAdapter(Recipe).validate_python(data | {"pairing": {"margin": 0.5}}),
    ]
    for way in ways:
        with pytest.warns(RenamedFieldWarning) as caught:
            assert way().pairing.min_margin == 0.5
        assert len(caught) == 1


@pytest.mark.usefixtures("with_table")
def test_a_recipe_with_both_names_is_refused_with_its_file() -> None:
    with pytest.raises(ConfigError, match=r"echo\.yaml:\n.*pairing\.margin and pairing\.min_margin are one field"):
        load_recipe(ECHO, ["pairing.margin=0.5", "pairing.min_margin=0.5"])


def test_a_recipe_of_a_newer_format_is_refused_in_one_sentence_whatever_else_it_holds() -> None:
    with pytest.raises(ConfigError) as error:
        load_recipe(ECHO, ["format=2", "pairing.of_the_future=1"])
    assert str(error.value).splitlines() == [
        f"{ECHO}:",
        f"  recipe: this recipe is of format 2, made for a newer pairsmith; this is pairsmith {__version__}",
    ]


@pytest.mark.parametrize("number", [0, -1, "two", 1.5, None])
def test_what_is_no_format_is_refused(number: Any) -> None:
    with pytest.raises(WrongFields, match="format"):
        Recipe.model_validate(yaml.safe_load(ECHO.read_text()) | {"format": number})


def test_the_format_leaves_no_trace_in_what_is_made() -> None:
    silent, says = load_recipe(ECHO), load_recipe(ECHO, ["format=1"])
    assert says == silent
    assert says.format == 1
    assert "format" not in yaml.safe_load(recipe_yaml(says))
    assert plan_fingerprint(says) == plan_fingerprint(silent.model_copy(update={"format": 99}))
