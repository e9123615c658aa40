"""What length is worth is known in steps of SLOPE_STEP: a margin that the rounding alone may have made is a tie."""

from __future__ import annotations

import pytest

from pairsmith.config import Pairing
from pairsmith.judging.scoring import Scores, log_length
from pairsmith.pairing.candidates import SLOPE_STEP, TOTAL, Evidence
from pairsmith.pairing.select import Selection, select
from tests.runs import completion

LONG, SHORT = "long " * 400, "brief"
LONGER_BY = log_length(LONG) - log_length(SHORT)
CONTROLLED, PLAIN = Pairing(length_control=True), Pairing()


def selected(pairing: Pairing, margin: float) -> Selection:
    """Of two texts one point apart, where the slope leaves just so much of that point to the longer one."""
    made = [completion("long", text=LONG), completion("short", text=SHORT)]
    slope = (1.0 - margin) / LONGER_BY
    scores = {"long": Scores(4.0), "short": Scores(3.0)}
    return select("p", made, pairing, Evidence(scores, slopes={TOTAL: slope}))


@pytest.mark.parametrize("share", [-0.98, -0.5, -0.02, 0.02, 0.5, 0.98])
def test_a_margin_within_the_rounding_of_the_slope_is_a_tie(share: float) -> None:
    selection = selected(CONTROLLED, share * SLOPE_STEP / 2 * LONGER_BY)
    assert not selection.pairs
    assert [row["reason"] for row in selection.rejections if row["completion_id"] is None] == ["tie"]


@pytest.mark.parametrize(("share", "chosen"), [(1.02, "long"), (2.0, "long"), (-1.02, "short"), (-2.0, "short")])
def test_a_margin_beyond_it_makes_a_pair(share: float, chosen: str) -> None:
    (pair,) = selected(CONTROLLED, share * SLOPE_STEP / 2 * LONGER_BY).pairs
    assert pair["chosen_id"] == chosen
    assert pair["margin"] == pytest.approx(abs(share) * SLOPE_STEP / 2 * LONGER_BY)


def test_without_length_control_nothing_is_rounded() -> None:
    (pair,) = selected(PLAIN, SLOPE_STEP / 4 * LONGER_BY).pairs
    assert pair["chosen_id"] == "long"
