"""The short form: which recipes it takes, in which words it refuses, and that no code comes in by it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import yaml

from pairsmith.errors import ConfigError
from tests.conftest import ROOT

pytestmark = pytest.mark.prefect


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A service's folder of recipes, as a deployment's run sees it."""
    folder = tmp_path / "recipes"
    shutil.copytree(ROOT / "recipes" / "prompts", folder / "prompts")
    shutil.copy(ROOT / "recipes" / "echo.yaml", folder / "echo.yaml")
    monkeypatch.setenv("PAIRSMITH_RECIPES", str(folder))
    monkeypatch.delenv("PAIRSMITH_ALLOW_CODE", raising=False)
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "a-deployment")
    return folder


def read(file: str = "", text: str = "", *overrides: str) -> object:
    from pairsmith_flows.short_form import recipe_of

    return recipe_of(file, text, list(overrides))


def refused(file: str = "", text: str = "", *overrides: str) -> str:
    with pytest.raises(ConfigError) as told:
        read(file, text, *overrides)
    return str(told.value)


def test_a_file_and_its_text_are_the_same_recipe_and_overrides_count_in_both(recipes: Path) -> None:
    text = (recipes / "echo.yaml").read_text()
    by_file, by_text = read("echo.yaml", "", "prompts.limit=3"), read("", text, "prompts.limit=3")
    assert by_file == by_text
    assert by_file.prompts.limit == 3  # type: ignore[attr-defined]
    assert by_file != read("echo.yaml")


def test_text_counts_instead_of_a_file_and_one_of_the_two_is_wanted(recipes: Path) -> None:
    text = (recipes / "echo.yaml").read_text()
    assert read("absent.yaml", text) == read("", text)
    assert refused() == refused(" ", "\n") == "give a recipe file, or a recipe as text"


def test_only_recipes_of_the_folder_are_read_wherever_links_lead(recipes: Path, tmp_path: Path) -> None:
    shutil.copy(recipes / "echo.yaml", tmp_path / "outside.yaml")
    (recipes / "link.yaml").symlink_to(tmp_path / "outside.yaml")
    outside = f"this is outside {recipes}, the folder whose recipes this service runs"
    for name in ("../outside.yaml", str(tmp_path / "outside.yaml"), "link.yaml", "/etc/passwd"):
        assert refused(name) == f"{name}: {outside}"
    (recipes / "notes.txt").write_text("secret")
    assert refused("notes.txt") == "notes.txt: a recipe's file ends in .yaml or .yml"
    assert "absent.yaml: no such recipe; in its folder are echo.yaml" in refused("absent.yaml")


def test_mistakes_are_told_as_the_command_line_tells_them(recipes: Path) -> None:
    from pairsmith.config.loading import load_recipe

    wrong = recipes / "wrong.yaml"
    wrong.write_text((recipes / "echo.yaml").read_text().replace("shard_size", "shard_siz") + "\nshard_siz: 3\n")
    with pytest.raises(ConfigError) as told:
        load_recipe(wrong)
    assert refused("wrong.yaml") == str(told.value)
    assert "shard_siz" in str(told.value)
    assert refused("", wrong.read_text()) == str(told.value).replace(str(wrong), "the pasted recipe")
    assert "nonsense" in refused("echo.yaml", "", "nonsense")


def test_no_code_is_imported_that_the_service_does_not_allow(recipes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\n"
    code += "def longest(candidates, pairing):\n    return []\n"
    (recipes / "short_form_own.py").write_text(code)
    data = yaml.safe_load((recipes / "echo.yaml").read_text()) | {"pairing": {"strategy": "short_form_own:longest"}}
    for given in (("", yaml.safe_dump(data)), ("echo.yaml", "", "pairing.strategy=short_form_own:longest")):
        assert "which this service does not allow" in refused(*given)
        assert "pairing.strategy" in refused(*given)
    assert not (recipes / "ran").exists()
    monkeypatch.setenv("PAIRSMITH_ALLOW_CODE", str(recipes))
    assert read("", yaml.safe_dump(data))
    assert (recipes / "ran").exists()
    sys.modules.pop("short_form_own", None)


def test_the_form_is_short() -> None:
    from pairsmith_flows.short_form import build_from_recipe_file

    fields = build_from_recipe_file.parameters.properties
    assert list(fields) == ["recipe_file", "recipe_text", "overrides", "approval_days"]
    assert all(field["description"] for field in fields.values())
