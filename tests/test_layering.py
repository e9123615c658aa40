"""Who may import whom, read from the source, lazy imports included: the house stays as `docs/design.md` draws it.

The order of the wings (`ORDER`) and the reading of imports are those of `docs/house.py`, which draws that picture.
"""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import ROOT


def load_house() -> ModuleType:
    """`docs/house.py` as a module: a script is in no package."""
    spec = importlib.util.spec_from_file_location("house", ROOT / "docs" / "house.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


house = load_house()
MODULES: dict[str, Path] = house.find_modules()
IMPORTS: dict[str, set[str]] = house.find_imports(MODULES)
HEAVY = {"torch", "transformers", "datasets", "huggingface_hub", "llguidance", "vllm"}
STEPS = {"generation", "judging", "pairing", "sources"}
PROTOCOL_KNOWS = {"ids", "config"}
MOST_ENTRIES = 26


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_nothing_above_its_wing(name: str) -> None:
    path, wing = MODULES[name], house.wing_of(name)
    upwards = house.upward({name: IMPORTS[name]})
    assert not upwards, f"{name} imports {upwards}"
    found = {house.wing_of(other) for other in IMPORTS[name]} - {wing}
    if wing == "protocol":
        assert found <= PROTOCOL_KNOWS
    if wing in STEPS:
        assert "llms" not in found, "a step knows the protocol, never a backend"
    outside = {other.split(".")[0] for other in house.imported(path, MODULES)} - set(house.FOLDERS)
    assert "prefect" not in outside or wing in ("tasks", "flows")
    assert not {other.split(".")[0] for other in house.imported(path, MODULES, top_level_only=True)} & HEAVY


def test_no_modules_import_each_other_in_a_circle() -> None:
    around = house.circle(IMPORTS)
    assert not around, f"a circle: {' -> '.join(around)}"


def test_the_names_of_folders_that_users_have_too_are_never_imported() -> None:
    assert not [
        name
        for name, path in MODULES.items()
        if {part.split(".")[0] for part in house.imported(path, MODULES)} & {"flows", "tasks"}
    ]


def test_the_house_can_be_taken_in_at_a_glance() -> None:
    entries = [entry.name for entry in (ROOT / "pairsmith").iterdir() if entry.name not in ("__pycache__", "py.typed")]
    assert len(entries) <= MOST_ENTRIES, entries


def test_every_module_says_what_it_is_and_every_wing_what_it_offers() -> None:
    for name, path in MODULES.items():
        told = ast.get_docstring(ast.parse(path.read_text()))
        assert told, path
        if path.name == "__init__.py" and "." in name:
            assert "import" in told, f"{path}: say which wings it may import"
