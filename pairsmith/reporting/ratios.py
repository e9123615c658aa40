"""A part of a whole, as the report and its gates measure it."""

from __future__ import annotations


def ratio(part: float, whole: float) -> float | None:
    """`part` / `whole`; None where the whole is nothing, since there is nothing to measure then."""
    return part / whole if whole else None


def rounded_ratio(part: float, whole: float) -> float | None:
    """A ratio with the two digits that tables show."""
    return round(part / whole, 2) if whole else None
