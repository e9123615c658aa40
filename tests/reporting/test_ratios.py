from __future__ import annotations

from pairsmith.reporting.ratios import ratio, rounded_ratio


def test_a_part_of_nothing_is_no_number() -> None:
    assert (ratio(0, 0), rounded_ratio(0, 0)) == (None, None)


def test_a_gate_measures_all_digits_and_a_table_shows_two() -> None:
    assert ratio(1, 8) == 0.125
    assert rounded_ratio(1, 3) == 0.33
    assert rounded_ratio(2 * 10**30, 3 * 10**30) == 0.67  # sums may be larger than any float holds exactly
