"""Who may import whom, read from the source: the house stays as `docs/design.md` draws it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGES = ("pairsmith", "tasks", "flows")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
HEAVY = {"torch", "transformers", "datasets", "huggingface_hub", "llguidance", "vllm"}
LEAVES = {"config", "schemas", "ids", "errors", "sandbox", "templating"}
STEPS = {
    "prompts", "reading", "querying", "fields", "given", "gathering", "overlap", "generation", "evolution",
    "rating", "readouts", "wrapping", "checks", "scoring", "guard", "survey", "pairing", "progress",
}  # fmt: skip
STEPS_MAY_KNOW = LEAVES | STEPS | {"llms.base"}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def ours(path: Path, package: str) -> set[str]:
    known = {name_of(module) for module in MODULES}
    found = {name.removeprefix(f"{package}.") for name in imports(path) & known if name.startswith(f"{package}.")}
    return {"config" if name.startswith("config.") else name for name in found}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_knows_only_those_below_it(path: Path) -> None:
    name, found = name_of(path), imports(path)
    package = name.split(".")[0]
    below = {"pairsmith": set(), "tasks": {"pairsmith"}, "flows": {"tasks", "pairsmith"}}[package]
    above = {"prefect", *PACKAGES} - below - {package} - ({"prefect"} if package != "pairsmith" else set())
    assert not {other for other in above for module in found if module == other or module.startswith(f"{other}.")}
    assert not {module.split(".")[0] for module in imports(path, top_level_only=True)} & HEAVY
    if package == "pairsmith":
        local = name.removeprefix("pairsmith.")
        local = "config" if local.startswith("config.") else local
        if local in LEAVES:
            assert ours(path, "pairsmith") <= LEAVES
        if local in STEPS:
            assert ours(path, "pairsmith") <= STEPS_MAY_KNOW


def test_every_module_says_what_it_is() -> None:
    for path in MODULES:
        assert ast.get_docstring(ast.parse(path.read_text())), path
