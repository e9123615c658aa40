"""Golden tables: what each step makes of rows that touch all its branches, as one digest a step.

As long as a step's digest is the same, its code may change as it likes. Rows may be added at any time: a digest that
changes while the code does not is recorded as the new one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from tests.revisions.golden import criteria, evolve, generate, load, pair, publish, rate
from tests.revisions.golden.rows import Row

TABLES: dict[str, Callable[[], dict[str, list[Row]]]] = {
    "load": load.tables,
    "generate": generate.tables,
    "evolve": evolve.tables,
    "criteria": criteria.tables,
    "rate": rate.tables,
    "survey": pair.survey_tables,
    "pair": pair.tables,
    "publish": publish.tables,
}


def digest_of(tables: dict[str, list[Row]]) -> str:
    """A digest of tables and the order of their rows. Numbers count to nine digits: the last ones differ by machine."""
    return hashlib.sha256(json.dumps(_rounded(tables), sort_keys=True).encode()).hexdigest()


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return {str(name): _rounded(part) for name, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list | tuple) else value
