"""A step's code does not change without its number, unless it still makes the same golden tables."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pairsmith import ids
from pairsmith.storage.revisions import REVISIONS
from pairsmith.text import templating
from tests.revisions.golden import TABLES, digest_of
from tests.revisions.golden.rows import COUNT
from tests.revisions.record import RENEW, Record, Step, outdated, recorded, refusals
from tests.revisions.sources import module_hash, sources_of

STEPS = list(REVISIONS)
CODE = '''"""Says what it is."""

import os  # for the path


def f(x: int = 1) -> int:
    """Adds."""
    return x + 1
'''


def raised(step: str) -> bool:
    return REVISIONS[step] > recorded().steps[step].revision


@pytest.mark.parametrize("step", STEPS)
def test_the_code_of_a_step_does_not_change_without_its_number(step: str) -> None:
    changed = recorded().changed(sources_of(step))
    assert not changed or raised(step), outdated(step, changed)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_makes_its_golden_tables(step: str) -> None:
    assert COUNT >= 50
    same = digest_of(TABLES[step]()) == recorded().steps[step].golden
    assert same or raised(step), f"{step} makes other tables: raise its number, or undo it; see {RENEW}"


def test_the_record_is_of_these_numbers() -> None:
    noted = {step: state.revision for step, state in recorded().steps.items()}
    assert noted == REVISIONS, f"run {RENEW}: later changes would go unnoticed"


@pytest.mark.parametrize(
    ("function", "steps"),
    [(templating.transcript, ("evolve", "rate", "publish")), (ids.draw, ("generate", "rate", "pair", "publish"))],
)
def test_other_draws_and_transcripts_are_noticed(
    monkeypatch: pytest.MonkeyPatch, function: Callable[..., Any], steps: tuple[str, ...]
) -> None:
    """In the code of each step that uses them, and by its golden tables, so that only a raised number helps."""
    name = function.__name__
    other = {"transcript": lambda *a: f"{function(*a)} ", "draw": lambda *parts: function("other", *parts)}[name]
    for module in [one for one in sys.modules.values() if getattr(one, "__name__", "").startswith("pairsmith.")]:
        if getattr(module, name, None) is function:
            monkeypatch.setattr(module, name, other)
    for step in steps:
        assert function.__module__ in sources_of(step)
        assert digest_of(TABLES[step]()) != recorded().steps[step].golden


def test_comments_docstrings_and_layout_are_no_code() -> None:
    same = [
        CODE.replace("Says what it is.", "Says something else."),
        CODE.replace("Adds.", "Adds one."),
        CODE.replace("  # for the path", "").replace("x + 1", "(x\n            + 1)"),
        CODE + "\n# the end\n",
    ]
    other = [
        CODE.replace("x + 1", "x + 2"),
        CODE.replace("int = 1", "int"),
        CODE.replace("x + 1", "x - 1"),
        CODE + "f(None)\n",
    ]
    assert {module_hash(text) for text in same} == {module_hash(CODE)}
    assert len({module_hash(text) for text in [CODE, *other]}) == 5


def test_what_a_step_imports_lazily_and_its_data_files_are_its_code() -> None:
    assert {"pairsmith/config/principles.yaml", "pairsmith.ids", "pairsmith.protocol"} <= set(sources_of("generate"))
    assert {"pairsmith/judging/templates/honesty.jinja", "pairsmith.judging.wrapping"} <= set(sources_of("rate"))
    assert "pairsmith.reporting.charts" in sources_of("publish")
    lazily = "pairsmith.reporting.page"  # imported by `publishing.publish`, never by what selects pairs
    assert lazily in sources_of("publish")
    assert not {lazily, "pairsmith.llms.echo", "pairsmith.stages.rate"} & set(sources_of("pair"))


@pytest.mark.parametrize(
    ("code", "golden", "number", "refused"),
    [(0, 0, 1, False), (1, 0, 1, False), (0, 1, 1, False), (1, 1, 1, True), (1, 1, 2, False), (1, 1, 0, True)],
)
def test_code_and_golden_tables_change_together_only_with_the_number(
    code: int, golden: int, number: int, refused: bool
) -> None:
    sources = sources_of("rate")
    old = Record({"rate": Step(1, "before")}, {**sources, "pairsmith.ids": "other"} if code else sources)
    new = replace(old, steps={"rate": Step(number, "after" if golden else "before")})
    assert bool(refusals(old, new)) == refused
