"""A report says what the judges are worth, on what gold and how old that is, and calls chance chance."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from pairsmith.config import Calibration
from pairsmith.reporting.agreement import Trust
from pairsmith.reporting.calibrated import calibration_tables
from pairsmith.reporting.summary import Summary
from pairsmith.reporting.verdict import verdict

MADE = datetime(2026, 3, 1, tzinfo=UTC)


def calibration(low: float = 0.6) -> Calibration:
    counted = {"weight": 0.5, "offset": 3.0, "model": "m", "form": "pointwise, text", "mark": "x"}
    return Calibration.model_validate(
        {
            "made_at": MADE.isoformat(),
            "gold": {"name": "gold.jsonl", "pairs": 120, "digest": "d" * 64},
            "judges": {"judge": counted},
            "right": {"count": 90, "of": 120, "low": low, "high": 0.8},
        }
    )


@pytest.mark.parametrize(("low", "weight"), [(0.6, "good"), (0.45, "bad")])
def test_the_verdict_says_how_right_the_judges_are(echo_recipe: Any, low: float, weight: str) -> None:
    recipe = echo_recipe(2, rating={"calibration": calibration(low).model_dump(mode="json")})
    said = verdict(recipe, Summary(), Trust(), datetime(2026, 3, 13, tzinfo=UTC))
    found = [one for one in said if "gold" in one.text]
    assert [one.weight for one in found] == [weight]
    assert "right in 75.0%" in found[0].text
    assert "of 120 pairs of gold.jsonl" in found[0].text
    assert "calibrated on 2026-03-01, 12 days before this version" in found[0].text
    assert ("cannot be told from a coin" in found[0].text) == (weight == "bad")


def test_the_tables_name_gold_hash_age_and_weights() -> None:
    facts, judges = calibration_tables(calibration(), datetime(2026, 3, 2, tzinfo=UTC)).values()
    assert facts[0]["hash"] == "d" * 12
    assert facts[0]["made"] == "2026-03-01, 1 day before this version"
    assert judges[0]["weight"] == 0.5
    assert calibration_tables(None, MADE) == {}
