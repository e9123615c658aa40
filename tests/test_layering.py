"""Who may import whom, read from the source, lazy imports included: the house stays as `docs/design.md` draws it."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT

# The wings, the lowest first: each may import those before it, and nothing else of ours.
ORDER = [
    "about", "ids", "errors", "memory", "session", "text", "config", "protocol", "storage", "ledger", "progress",
    "llms", "generation", "judging", "pairing", "sources", "reporting", "publishing", "planning", "tuning", "stages",
    "status", "building", "pairsmith", "tasks", "flows",
]  # fmt: skip
FOLDERS = {"pairsmith": "pairsmith", "pairsmith_tasks": "tasks", "pairsmith_flows": "flows"}
MODULES = {
    ".".join([package, *path.relative_to(ROOT / folder).with_suffix("").parts]).removesuffix(".__init__"): path
    for package, folder in FOLDERS.items()
    for path in sorted((ROOT / folder).rglob("*.py"))
}
HEAVY = {"torch", "transformers", "datasets", "huggingface_hub", "llguidance", "vllm"}
STEPS = {"generation", "judging", "pairing", "sources"}
PROTOCOL_KNOWS = {"ids", "config"}
MOST_ENTRIES = 26


def wing_of(name: str) -> str:
    """The wing that a module belongs to; `pairsmith` for the front door itself."""
    package, *rest = name.split(".")
    return FOLDERS[package] if package != "pairsmith" or not rest else rest[0]


def imported(path: Path, top_level_only: bool = False) -> set[str]:
    """The modules, ours and others', that a file names in its imports."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{path}: imports name their module in full"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
    return found


def ours(path: Path) -> set[str]:
    return {name for name in imported(path) if name.split(".")[0] in FOLDERS}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_nothing_above_its_wing(name: str) -> None:
    path, wing = MODULES[name], wing_of(name)
    found = {wing_of(other) for other in ours(path)} - {wing}
    if wing != "testing":
        upwards = {other for other in found if other not in ORDER[: ORDER.index(wing)]}
        assert not upwards, f"{name} imports {upwards}"
    if wing == "protocol":
        assert found <= PROTOCOL_KNOWS
    if wing in STEPS:
        assert "llms" not in found, "a step knows the protocol, never a backend"
    outside = {other.split(".")[0] for other in imported(path)} - set(FOLDERS)
    assert "prefect" not in outside or wing in ("tasks", "flows")
    assert not {other.split(".")[0] for other in imported(path, top_level_only=True)} & HEAVY


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {name: ours(path) - {name} for name, path in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


def test_the_names_of_folders_that_users_have_too_are_never_imported() -> None:
    assert not [
        name for name, path in MODULES.items() if {part.split(".")[0] for part in imported(path)} & {"flows", "tasks"}
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
