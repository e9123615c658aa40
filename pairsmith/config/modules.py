"""Modules that a recipe names: finding them, importing them, and reading the sources they consist of.

A module in the recipe's folder is never imported under its own name, but inside a package whose name contains a hash of
the sources. So a recipe's file never shadows a library, two recipes can have modules of the same name, an edited file
is a new module, and `sys.path` is not changed. Within such a module, `import helper` prefers a `helper.py` beside it to
any other module of that name.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import decode_source, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from pairsmith.ids import fingerprint

PACKAGE = "pairsmith_recipe_"  # prefix of the packages in which modules of a recipe's folder are imported


def file_of(name: str, folder: str | None) -> Path | None:
    """The file of a module in a folder; None if the module, or the package that it is in, is not there."""
    if folder is None:
        return None
    top, dot, _ = name.partition(".")
    return _file(folder, name) if not dot or _file(folder, top) else None


def import_module(name: str, folder: str | None) -> ModuleType:
    """Import a module from a folder, or from Python's path if it is not there."""
    if folder is None or file_of(name, folder) is None:
        return importlib.import_module(name)
    package = PACKAGE + fingerprint(folder, _sources_below(name, folder))[:16]
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
    made = ModuleType(package)
    made.__path__ = [folder]
    sys.modules.setdefault(package, made)
    return importlib.import_module(f"{package}.{name}")


def sources_of(name: str, folder: str | None) -> dict[str, str]:
    """Module -> its source, for a module and the modules beside it that it imports. Empty where there is no source.

    The imported ones are found by reading the import statements. For a module on Python's path, the modules beside it
    are those of its own package.
    """
    if folder is not None and file_of(name, folder):
        return _sources_below(name, folder)
    module = importlib.import_module(name)
    try:
        file = Path(inspect.getsourcefile(module) or "")
    except TypeError:  # written in C
        return {}
    is_package = file.name == "__init__.py"
    root = file.parents[name.count(".") + is_package] if file.is_file() else None
    if root is None or file_of(name, str(root)) != file:
        return {name: decode_source(file.read_bytes())} if file.is_file() else {}
    return _sources_below(name, str(root), within=name.partition(".")[0])


def _file(folder: str, name: str) -> Path | None:
    path = os.path.join(folder, *name.split("."))  # pathlib would take most of a check's time: this runs for each text
    return next((Path(file) for file in (f"{path}/__init__.py", f"{path}.py") if os.path.isfile(file)), None)


def _sources_below(name: str, folder: str, within: str | None = None) -> dict[str, str]:
    """The sources of a module in a folder and of all that it imports there. `within`: only those of that package."""
    found: dict[str, str] = {}
    left = [name]
    while left:
        one = left.pop()
        if not one or one in found or within not in (None, one.partition(".")[0]):
            continue
        file = file_of(one, folder)
        if file is None:
            continue
        found[one] = decode_source(file.read_bytes())
        package = one if file.name == "__init__.py" else one.rpartition(".")[0]
        left += [*_imported(found[one], package), one.rpartition(".")[0]]
    return dict(sorted(found.items()))


@lru_cache(maxsize=256)
def _imported(source: str, package: str) -> tuple[str, ...]:
    """All names in a module's import statements that may be modules, as absolute names. `package`: the module's own."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # importing the module reports it
        return ()
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: -(node.level - 1) or None] if package and node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            found |= {base, *(f"{base}.{alias.name}".lstrip(".") for alias in node.names)}
    return tuple(sorted(name for name in found if name and "*" not in name))


class _Finder:
    """Finds the modules of packages whose names begin with `PACKAGE`, and no others."""

    @staticmethod
    def find_spec(fullname: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if not package.startswith(PACKAGE) or package not in sys.modules:
            return None
        file = file_of(name, sys.modules[package].__path__[0])
        return spec_from_file_location(fullname, file, loader=_Loader(fullname, str(file))) if file else None


class _Loader(SourceFileLoader):
    """Runs a module's source, never a compiled file, which can be out of date after an edit within the same second."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)

    def exec_module(self, module: ModuleType) -> None:
        package = self.name.partition(".")[0]
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": partial(_import, package)}
        super().exec_module(module)


def _import(
    package: str,
    name: str,
    globals: Mapping[str, object] | None = None,
    locals: Mapping[str, object] | None = None,
    fromlist: Sequence[str] = (),
    level: int = 0,
) -> ModuleType:
    """Stands in for `__import__` in modules of a recipe's folder: looks beside the importing module first."""
    top = name.partition(".")[0]
    if level or not file_of(top, sys.modules[package].__path__[0]):
        return __import__(name, globals, locals, fromlist, level)
    found = __import__(f"{package}.{name}", globals, locals, fromlist, 0)
    return found if fromlist else sys.modules[f"{package}.{top}"]
