"""`import pairsmith` offers what its docstring says, and imports nothing heavy for it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import pairsmith
from tests.conftest import clean_environment


def test_all_names_are_there_and_no_others() -> None:
    offered = {"load_recipe", "build", "preview", "generate", "evolve", "rate", "pair", "Dataset", "Session"}
    assert {*pairsmith.__all__} == offered | {"__version__"}
    assert dir(pairsmith) == sorted(pairsmith.__all__)
    for name in offered:
        assert callable(getattr(pairsmith, name))
        assert getattr(pairsmith, name).__doc__
    with pytest.raises(AttributeError, match="module 'pairsmith' has no attribute 'bild'"):
        _ = pairsmith.bild
    namespace: dict[str, object] = {}
    exec("from pairsmith import *", namespace)
    assert offered <= set(namespace)


def test_the_door_alone_imports_nothing_heavy() -> None:
    program = (
        "import sys, json, pairsmith; "
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})), pairsmith.__version__)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=clean_environment(), check=True
    )
    modules, version = ended.stdout.rsplit(" ", 1)
    assert not {"pandas", "numpy", "pyarrow", "pydantic", "prefect", "torch", "datasets"} & set(json.loads(modules))
    assert version.strip() == pairsmith.__version__
