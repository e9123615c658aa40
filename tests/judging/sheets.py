"""Sheets of texts, and replies to them, that the tests of the readouts share."""

from __future__ import annotations

from pairsmith.judging.readout_text import read_text
from pairsmith.judging.readouts import Scale, Sheet, Text

MARKS = ("a1b2c3", "d4e5f6", "0a9b8c")
SHEET = Sheet(tuple(Text(f"id-{mark}", mark, f"the text {mark}") for mark in MARKS), Scale(1, 5), False)
ONE = Sheet(SHEET.texts[:1], Scale(1, 5), False)


def ratings(reply: str, sheet: Sheet = SHEET) -> list[int | None]:
    return [found.rating for found in read_text(reply, sheet).values()]


def section(mark: str, rating: object, rationale: str = "Because.") -> str:
    return f"### Text {mark}\nRationale: {rationale}\nRating {mark}: {rating}\n"


GOOD = "\n".join(section(mark, rating) for mark, rating in zip(MARKS, (4, 1, 5), strict=True))
THREE = Sheet(
    tuple(Text(f"c{n}", mark, "t") for n, mark in enumerate(("a1b2c3", "d4e5f6", "0a9b8c"))), Scale(1, 5), False
)
