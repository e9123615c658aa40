"""Which criteria count, and what their readings come to as a score.

Dropped are, each with its reason: what is beyond the recipe's number; an item that repeats an earlier one; two of which
one denies the other; and, by the judges' readings, an item that tells the prompt's answers not apart, and two about the
same thing that are met by opposite answers. Of two that contradict each other neither counts, since nothing says which
is right. Two different demands that no answer meets together, such as short and complete, are no contradiction.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from statistics import StatisticsError, correlation, fmean

import pandas as pd
from rapidfuzz import fuzz

from pairsmith.config import Criteria
from pairsmith.judging.criteria_reply import Item
from pairsmith.judging.scoring import HIGH, LOW
from pairsmith.storage.row_types import CriterionRow, RatingRow, rows_as
from pairsmith.storage.schemas import frame

PROTOCOL = "criteria"  # of readings, and of the ratings that they come to
ALIKE = 90  # of 100, by the words in any order: the same question in other words
SAME_THING = 60  # of 100: two questions about the same thing
NO_CRITERIA = "no criteria: "  # begins the error of a rating of an answer for whose prompt there are none
TIED = "no question tells the answers apart"
OPPOSITE, FEWEST = -0.9, 3  # correlation of two items over so many answers at least
_WORD = re.compile(r"\w+(?:['’]\w+)?")
_DENIALS = {"not", "no", "never", "without", "avoid", "avoids", "lack", "lacks", "free"}
_FILLERS = {"the", "a", "an", "does", "do", "is", "are", "it", "answer", "text", "response", "of", "any", "there"}


def told_apart(items: Sequence[Item], most: int) -> list[Item]:
    """Items as they were written, with an error for those that their words tell against."""
    errors: dict[int, str] = {}
    for (one, first), (two, second) in combinations([*enumerate(items)], 2):
        if one in errors or two in errors or first.error or second.error:
            continue
        found = _compared(first.question or "", second.question or "")
        if found == "repeats" or (first.check and first.check == second.check):
            errors[two] = f"repeats item {one + 1}"
        elif found == "denies":
            errors |= {one: f"contradicts item {two + 1}", two: f"contradicts item {one + 1}"}
    sound = [place for place, item in enumerate(items) if not item.error and place not in errors]
    errors |= dict.fromkeys(sound[most:], f"one of more than {most} items")
    return [replace(item, error=errors[place]) if place in errors else item for place, item in enumerate(items)]


def sifted(
    ratings: pd.DataFrame, criteria: pd.DataFrame, settings: Criteria | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ratings with scores in place of readings, and criteria with those dropped that the readings tell against.

    A score is on the scale 1 to 5: 1 + 4 x the share of yes, which is the mean of an item's probability of yes by
    weights. It is null where a reading of an item that counts is. Where no item counts, all answers are tied: they
    have the mean of all readings as their score. The rationale has a line for each item that counts: the probability of
    yes, and the question.
    """
    if settings is None:
        return ratings, criteria
    items: dict[str, list[CriterionRow]] = defaultdict(list)
    for row in sorted(rows_as(CriterionRow, criteria), key=lambda row: row["item"]):
        items[row["prompt_id"]].append(row)
    readings: dict[str, list[RatingRow]] = defaultdict(list)
    plain = list[RatingRow]()
    for rated in rows_as(RatingRow, ratings):
        is_reading = rated["protocol"] == PROTOCOL
        (readings[rated["prompt_id"]] if is_reading else plain).append(rated)
    made = list[CriterionRow]()
    for prompt_id, written in items.items():
        found = _dropped(written, readings[prompt_id], settings.min_spread)
        kept = [{**row, "error": found.get(row["item"], row["error"])} for row in written]
        made += kept  # type: ignore[arg-type]
        plain += _scored(kept, readings[prompt_id])  # type: ignore[arg-type]
    return frame("ratings", plain), frame("criteria", made)


def _compared(first: str, second: str) -> str | None:
    """Whether one question `repeats` or `denies` another. Questions with other numbers in them do neither."""
    sides = [_WORD.findall(text.casefold().replace("’", "'")) for text in (first, second)]
    if sorted(word for word in sides[0] if word.isdigit()) != sorted(word for word in sides[1] if word.isdigit()):
        return None
    denials = [sum(word in _DENIALS or word.endswith("n't") for word in side) for side in sides]
    plain = [" ".join(word for word in side if not _says_nothing(word)) for side in sides]
    if fuzz.token_sort_ratio(*plain) < ALIKE:
        return None
    return "denies" if (denials[0] + denials[1]) % 2 else "repeats"


def _says_nothing(word: str) -> bool:
    return word in _DENIALS or word in _FILLERS or word.endswith("n't")


def _dropped(items: Sequence[CriterionRow], readings: Sequence[RatingRow], least: float) -> dict[int, str]:
    """Item -> why it does not count by the readings of all judges: the mean of theirs for each answer."""
    values: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in readings:
        if row["score"] is not None:
            values[row["order"]][row["completion_id"]].append(row["score"])
    read = {
        item["item"]: {name: fmean(sorted(found)) for name, found in sorted(values[item["item"]].items())}
        for item in items
        if item["error"] is None
    }
    errors = {}
    for number, by_text in read.items():
        spread = max(by_text.values()) - min(by_text.values()) if by_text else 0.0
        if len(by_text) > 1 and round(spread, 9) < least:
            errors[number] = f"tells nothing apart: yes differs by {spread:.2f} at most"
    questions = {item["item"]: item["question"] or "" for item in items}
    left = [number for number in read if number not in errors]
    for one, two in combinations(left, 2):
        same_thing = fuzz.token_set_ratio(questions[one], questions[two]) >= SAME_THING
        if same_thing and _are_opposite(read[one], read[two]):
            errors.setdefault(one, f"contradicts item {two}: opposite answers meet them")
            errors.setdefault(two, f"contradicts item {one}: opposite answers meet them")
    return errors


def _are_opposite(one: Mapping[str, float], two: Mapping[str, float]) -> bool:
    both = sorted({*one} & {*two})
    if len(both) < FEWEST:
        return False
    try:
        return correlation([one[name] for name in both], [two[name] for name in both]) <= OPPOSITE
    except StatisticsError:  # one of them is the same for these answers
        return False


def _scored(items: Sequence[CriterionRow], readings: Sequence[RatingRow]) -> list[RatingRow]:
    """One rating for each judge and answer, of the readings of the items that count."""
    counted = {item["item"]: item for item in items if item["error"] is None}
    by_text: dict[tuple[str, str], dict[int, RatingRow]] = defaultdict(dict)
    for row in readings:
        by_text[row["judge"], row["completion_id"]][row["order"]] = row
    made = []
    for (judge, _), found in sorted(by_text.items()):
        first = found[min(found)]
        known = [(item, found.get(number)) for number, item in counted.items()]
        if known or first["order"] == 0:
            score, rationale, error = _of_text(known, first)
        else:
            score, rationale, error = _tied([row["score"] for row in readings if row["judge"] == judge])
        whole = {**first, "order": 0, "position": None, "rating": None, "reply": "", "request": ""}
        made.append({**whole, "score": score, "rationale": rationale, "error": error})
    return made  # type: ignore[return-value]


def _of_text(
    known: Sequence[tuple[CriterionRow, RatingRow | None]], first: RatingRow
) -> tuple[float | None, str | None, str | None]:
    """The score of one answer, its rationale and its error."""
    if first["order"] == 0:  # there are no criteria for its prompt
        return None, None, first["error"]
    lines, share, weights = [], 0.0, 0.0
    for item, row in known:
        if row is None or row["score"] is None:
            return None, None, (row["error"] if row else None) or f"item {item['item']} was not read"
        weight = item["weight"] or 1.0
        share, weights = share + weight * row["score"], weights + weight
        lines.append(f"{row['score']:.2f} {item['question']}")
    return LOW + (HIGH - LOW) * share / weights, "\n".join(lines), None


def _tied(readings: Sequence[float | None]) -> tuple[float | None, str | None, str | None]:
    """The score of every answer that a judge read, where no item counts."""
    known = sorted(score for score in readings if score is not None)
    if not known:
        return None, None, "no criterion could be read"
    return LOW + (HIGH - LOW) * fmean(known), TIED, None


def read_lines(rationale: str | None) -> dict[str, float]:
    """Question -> probability of yes, of the rationale of a rating by criteria.

    >>> read_lines("0.93 Does it rise?\\n0.07 Is it 2.5 m?")
    {'Does it rise?': 0.93, 'Is it 2.5 m?': 0.07}
    """
    lines = [line.partition(" ") for line in (rationale or "").splitlines()]
    return {question: float(value) for value, _, question in lines if re.fullmatch(r"[01]\.\d\d", value)}
