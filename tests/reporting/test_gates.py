"""Quality gates, and checks in a run: what is not good enough is not published, and it is said why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pairsmith.config import Recipe
from pairsmith.errors import RunError
from pairsmith.session import process_session
from pairsmith.stages.base import open_store
from pairsmith.stages.load import load as load_sources
from pairsmith.stages.publish import gate_table
from tests.runs import run

Build = Callable[..., Recipe]
UNMEASURED = {"max_found_rate", "min_gold_accuracy"}  # nothing was looked for, and there is no calibration
OTHER = {"name": "other", "backend": "echo", "model": "echo-other"}


def test_a_table_tells_of_every_gate_what_was_measured_and_whether_it_is_passed(echo_recipe: Build) -> None:
    recipe = echo_recipe(12, gates={"min_pairs": 5, "max_null_rate": 0.5})
    run(recipe)
    table = {row["gate"]: row for row in gate_table(recipe, load_sources(recipe, process_session()), process_session())}
    assert set(table) == set(type(recipe.gates).model_fields) - UNMEASURED
    pairs = {"gate": "min_pairs", "measured": "12", "wanted": "at least 5", "passed": "yes"}
    assert table["min_pairs"] == pairs
    assert table["max_null_rate"]["wanted"] == "at most 0.5"
    assert table["min_agreement"] == {
        "gate": "min_agreement", "measured": "cannot be measured", "wanted": "", "passed": ""
    }  # fmt: skip
    wanting = recipe.model_copy(update={"gates": recipe.gates.model_copy(update={"min_pairs": 13})})
    assert gate_table(wanting, load_sources(recipe, process_session()), process_session())[0]["passed"] == "no"


@pytest.mark.parametrize(
    ("gates", "told"),
    [
        ({"min_pairs": 1000}, "min_pairs: 12, at least 1000"),
        ({"min_yield": 1.0, "min_pairs": 12}, None),
        ({"max_null_rate": 0.0}, None),
        ({"max_tie_rate": 0.0, "max_length_bias": 0.5}, None),
        ({"min_agreement": 0.9}, "min_agreement: cannot be measured, at least 0.9"),
    ],
)
def test_a_data_set_that_fails_a_gate_is_not_published(echo_recipe: Build, gates: dict[str, Any], told: Any) -> None:
    recipe = echo_recipe(12, gates=gates)
    if told is None:
        assert run(recipe)[0].new
        return
    with pytest.raises(RunError, match=told):
        run(recipe)
    assert open_store(recipe).points_to("latest") is None
    published, _, calls = run(echo_recipe(12))
    assert (published.version, calls.total()) == ("v0001", 0)


def test_judges_that_disagree_fail_the_gate_with_the_number(echo_recipe: Build) -> None:
    judges = [{"name": "judge", "backend": "echo", "model": "echo-judge"}, OTHER]
    with pytest.raises(RunError, match=r"min_agreement: -?0\.\d+, at least 0.5"):
        run(echo_recipe(12, rating={"judges": judges}, gates={"min_agreement": 0.5}))


def test_the_report_and_card_of_a_panel_tell_how_far_it_agrees(echo_recipe: Build) -> None:
    judges = [{"name": "judge", "backend": "echo", "model": "echo-judge"}, OTHER]
    published, summary, _ = run(echo_recipe(12, rating={"judges": judges, "aggregation": "z-scored"}))
    assert summary.paired > 0
    report = Path(published.folder, "report.html").read_text()
    assert "Agreement of the judges" in report
    assert "Bias of the judges" in report


def test_checks_rate_beside_judges_and_gates_bar(echo_recipe: Build) -> None:
    words = {"kind": "regex", "name": "says-step", "pattern": r"\bstep\b"}
    gate = {"kind": "regex", "name": "no-view", "pattern": r"\bviews\b", "negate": True, "gate": True}
    recipe = echo_recipe(20, rating={"checks": [words, gate]}, pairing={"min_margin": 0.0})
    published, summary, _ = run(recipe)
    rows = [row for file in Path(published.folder, "data").iterdir() for row in pq.read_table(file).to_pylist()]
    assert rows
    texts = [row[side][-1]["content"] for row in rows for side in ("chosen", "rejected")]
    assert not any("views" in text for text in texts)
    assert summary.completion_reasons["check_failed"] > 0
    assert {"says-step", "no-view"} <= {rating["aspect"] for row in rows for rating in row["chosen_ratings"]}
    assert summary.loaded == summary.paired + sum(summary.prompt_reasons.values())
    assert run(recipe)[2].total() == 0
    changed = echo_recipe(20, rating={"checks": [words]}, pairing={"min_margin": 0.0})
    again, _, calls = run(changed)
    assert (again.new, calls.total()) == (True, 0)


def test_checks_alone_can_judge(echo_recipe: Build) -> None:
    check = {"kind": "regex", "name": "says-step", "pattern": r"\bstep\b"}
    published, summary, calls = run(echo_recipe(20, rating={"judges": [], "aspects": ["overall"], "checks": [check]}))
    assert calls["rate"] == 0
    rows = [row for file in Path(published.folder, "data").iterdir() for row in pq.read_table(file).to_pylist()]
    assert len(rows) == summary.paired > 0
    assert all("step" in row["chosen"][-1]["content"] for row in rows)
    assert {(row["chosen_score"], row["rejected_score"]) for row in rows} == {(5.0, 1.0)}


def test_another_family_of_a_judge_rates_anew_and_asks_only_what_it_had_not(echo_recipe: Build) -> None:
    judges = [{"name": "judge", "backend": "echo", "model": "echo-judge"}, OTHER]
    run(echo_recipe(6, rating={"judges": judges}))
    stranger = [judges[0], OTHER | {"family": "stranger"}]
    recipe = echo_recipe(6, rating={"judges": stranger})
    published, _, _ = run(recipe)
    rows = [row for file in Path(published.folder, "data").iterdir() for row in pq.read_table(file).to_pylist()]
    assert {rating["judge"] for row in rows for rating in row["chosen_ratings"]} == {"other"}
    assert run(recipe)[2].total() == 0
