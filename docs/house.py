"""Draw the wings of pairsmith from its imports, those inside functions included.

    python docs/house.py

prints the picture that stands in docs/design.md. It ends with exit code 1, and says where, if modules import each other
in a circle or a wing imports one above it. `ORDER` is the one list of which wing stands above which; the tests in
tests/test_layering.py hold each module to it. Nothing is imported to find this out: the source is read.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"pairsmith": "pairsmith", "pairsmith_tasks": "tasks", "pairsmith_flows": "flows"}  # package -> its folder

# The wings, the lowest first: each may import those before it, and nothing else of ours.
ORDER = [
    "about", "ids", "errors", "memory", "session", "text", "config", "protocol", "storage", "ledger", "progress",
    "llms", "generation", "judging", "pairing", "sources", "reporting", "publishing", "planning", "stages",
    "status", "building", "worth", "labelling", "pairsmith", "tasks", "flows",
]  # fmt: skip
FREE = "testing"  # may import every wing, and none imports it

Modules = Mapping[str, Path]  # name of a module -> its file
Imports = Mapping[str, set[str]]  # module -> the modules of ours that it imports


def find_modules(root: Path = ROOT) -> dict[str, Path]:
    """All modules of ours by the names under which they are imported."""
    return {
        ".".join([package, *path.relative_to(root / folder).with_suffix("").parts]).removesuffix(".__init__"): path
        for package, folder in FOLDERS.items()
        for path in sorted((root / folder).rglob("*.py"))
    }


def wing_of(name: str) -> str:
    """The wing that a module belongs to; `pairsmith` for the front door itself."""
    package, *rest = name.split(".")
    return FOLDERS[package] if package != "pairsmith" or not rest else rest[0]


def imported(path: Path, modules: Modules, top_level_only: bool = False) -> set[str]:
    """The modules, ours and others', that a file names in its imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{path}: imports name their module in full"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in modules else node.module for name in names}
    return found


def find_imports(modules: Modules) -> dict[str, set[str]]:
    """What each module imports of ours, itself left out."""
    return {
        name: {other for other in imported(path, modules) if other.split(".")[0] in FOLDERS} - {name}
        for name, path in modules.items()
    }


def upward(imports: Imports) -> list[tuple[str, str]]:
    """Every import that runs upwards: the module, and the one of a higher wing that it imports."""
    return [(name, other) for name, others in imports.items() for other in sorted(others) if not _allowed(name, other)]


def _allowed(name: str, other: str) -> bool:
    wing, below = wing_of(name), wing_of(other)
    return wing in (below, FREE) or below in ORDER[: ORDER.index(wing)]


def circle(imports: Imports) -> list[str]:
    """Modules that import each other in a circle, the first one again at the end; empty where there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def picture(imports: Imports) -> str:
    """The wings as a mermaid graph. An arrow that follows from others is left out, or there were over a hundred."""
    wings: dict[str, set[str]] = {wing: set() for wing in (FREE, *reversed(ORDER))}
    for name, others in imports.items():
        wings[wing_of(name)] |= {wing_of(other) for other in others} - {wing_of(name)}
    return "\n".join(["flowchart TD", *_arrows(wings)])


def _arrows(wings: Imports) -> Iterator[str]:
    for wing, others in wings.items():
        implied = {far for other in others for far in _reached(wings, other)}
        direct = [other for other in wings if other in others - implied]
        yield f"  {wing} --> {' & '.join(direct)}" if direct else f"  {wing}"


def _reached(wings: Imports, start: str) -> set[str]:
    """All that a wing imports, and what that imports in turn."""
    found: set[str] = set()
    ahead = set(wings[start])
    while ahead:
        found |= ahead
        ahead = {far for other in ahead for far in wings[other]} - found
    return found


def main(root: Path = ROOT) -> int:
    """Print the picture, then what is wrong; returns the exit code."""
    imports = find_imports(find_modules(root))
    print(picture(imports))
    wrong = [f"{name} imports {other}, which stands above it" for name, other in upward(imports)]
    if around := circle(imports):
        wrong.append(f"a circle: {' -> '.join(around)}")
    print("\n".join(wrong) or "no circle, no import upwards", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
