"""Ratios for the report and its gates."""

from __future__ import annotations


def ratio(part: float, whole: float) -> float | None:
    """`part` / `whole`; None where the whole is 0, since there is nothing to measure then."""
    return part / whole if whole else None


def rounded_ratio(part: float, whole: float) -> float | None:
    """The same, rounded to the two digits that tables show."""
    return round(part / whole, 2) if whole else None
