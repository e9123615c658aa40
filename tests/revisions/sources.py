"""What each step's code is: the sources that decide its tables, found by reading imports, and a hash of each.

A step's code is its file in `pairsmith/stages`, the modules of pure wings that this file imports, and whatever these
import in turn, lazily too; and every file beside these modules that is no Python, such as templates. Of a module only
the syntax tree counts, without comments and docstrings.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.conftest import ROOT
from tests.test_layering import IMPORTS, MODULES, house

PURE = {"generation", "judging", "pairing", "sources", "reporting", "publishing"}  # wings whose code makes tables
NUMBERS = "pairsmith.storage.revisions"  # a raised number is no change of code
FRONT_DOOR = "pairsmith"  # imports everything, on demand


def sources_of(step: str) -> dict[str, str]:
    """Name of each source of a step's code -> its hash."""
    stage = f"pairsmith.stages.{step}"
    left = [name for name in IMPORTS[stage] if house.wing_of(name) in PURE]
    assert left, f"{stage} imports no module of {sorted(PURE)}"
    found = {stage}
    while left:
        name = left.pop()
        if name not in found and name not in (NUMBERS, FRONT_DOOR):
            found.add(name)
            left += [*IMPORTS[name], name.rpartition(".")[0]]
    hashes = {name: module_hash(MODULES[name].read_text(encoding="utf-8")) for name in found}
    for folder in {MODULES[name].parent for name in found - {stage}} - {ROOT / "pairsmith"}:
        for path in _data_files(folder):
            hashes[str(path.relative_to(ROOT))] = _short(path.read_bytes())
    return dict(sorted(hashes.items()))


@cache
def module_hash(source: str) -> str:
    """A hash of a module's syntax tree without comments and docstrings, the same under every version of Python."""
    return _short("\n".join(_nodes(ast.parse(source))).encode("utf-8", "surrogatepass"))


def _nodes(node: ast.AST) -> Iterator[str]:
    """Each node of a tree with its fields. Empty fields are left out, since versions of Python differ in them."""
    yield type(node).__name__
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            value = value[ast.get_docstring(node, clean=False) is not None :]
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, ast.AST):
                yield f"{name}("
                yield from _nodes(item)
                yield ")"
            elif item is not None or (isinstance(node, ast.Constant) and name == "value"):
                yield f"{name}={item!r}"


def _data_files(folder: Path) -> Iterator[Path]:
    """The files of a wing that are no Python: beside its modules, and in folders that are no packages."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name != "__pycache__" and not (path / "__init__.py").exists():
            yield from (file for file in sorted(path.rglob("*")) if file.is_file() and file.suffix != ".pyc")
        elif path.is_file() and path.suffix != ".py":
            yield path


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
