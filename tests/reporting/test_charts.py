from __future__ import annotations

import pytest

from pairsmith.reporting import charts


@pytest.mark.parametrize("size", [0, 1, 2, 3, 10, 99, 4096, 100_000, 20_000_000])
def test_a_length_counts_in_the_step_between_its_edges(size: int) -> None:
    step = charts.length_step(size)
    assert charts.length_edge(step) <= size < charts.length_edge(step + 1)


def test_a_share_of_wins_is_of_the_pairs_of_two_members() -> None:
    matrix = charts.win_matrix({("a", "b"): 3, ("b", "a"): 1, ("a", "a"): 7}, ["a", "b"])
    assert [[cell["share"] for cell in row["cells"]] for row in matrix] == [["", "75%"], ["25%", ""]]
    assert [(row["won"], row["share"]) for row in matrix] == [(10, "56%"), (1, "25%")]


def test_histograms_fit_scales_of_any_width() -> None:
    wide = {("margin", step): 1 for step in range(-40, 190)}
    chart = charts.margins(wide)
    assert chart is not None
    assert len(chart.bars) <= 25
    assert sum(int(bar.description.split(": ")[1].split()[0]) for bar in chart.bars) == len(wide)
    near = charts.margins({("margin", charts.margin_step(margin)): 1 for margin in (0.05, 0.2, 0.45)})
    assert near is not None
    assert len(near.bars) == 5  # small margins are told apart
    scores = {
        ("a", "check", 0): 3,
        ("a", "check", 1): 1,
        ("a", "own", 100): 2,
        ("a", "own", 9): 2,
        ("a", "usual", 4): 1,
    }
    ((_, cells),) = charts.score_grid(scores, ["a"], ["check", "own", "usual"])
    assert [(cell.ticks, cell.description) for cell in cells if cell] == [
        (["0", "1"], "0: 75%, 1: 25%"), (["1", "100"], "0 to 9: 50%, 100 to 100: 50%"), (["1", "5"], "4: 100%")
    ]  # fmt: skip


def test_a_column_of_numbers_with_gaps_is_one() -> None:
    rows = [{"a": None, "b": 1, "c": None, "d": True}, {"a": 2.5, "b": "x", "c": None, "d": False}]
    assert charts.number_columns(rows) == {"a", "c"}


@pytest.mark.parametrize(
    ("value", "told"), [(0.00006896, "0.000069"), (0.00058, "0.00058"), (0.0, "0.00"), (None, "–")]
)
def test_small_costs_are_told_in_digits(value: float, told: str) -> None:
    assert charts.number(value) == told
