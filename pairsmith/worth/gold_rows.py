"""Rows of gold: which rows of files are read as a prompt, two answers and votes.

The prompt is read as in any source (docs/layouts.md). The answers stand in two columns of `SIDES`, in a list, or as
chosen and rejected. Who is better stands in `votes`, in `ratings`, in a column of `VERDICT_COLUMNS`, or in a column for
each person, such as `annotator1`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pairsmith.config import Given, Source
from pairsmith.errors import DataError
from pairsmith.sources.chats import as_data
from pairsmith.sources.layout_readers import is_filled
from pairsmith.sources.prompts import read_row
from pairsmith.sources.readers import read_source
from pairsmith.sources.row_fields import Refused
from pairsmith.storage.schemas import Reason
from pairsmith.worth.gold import NOBODY, Better, Gold, GoldPair, Rejected, Vote, gold_pair, united

SIDES = (
    ("a", "b"),
    *((f"{stem}{mark}{one}", f"{stem}{mark}{two}")
      for stem in ("response", "answer", "output", "completion", "text", "conversation")
      for mark in ("", "_", "-")
      for one, two in (("1", "2"), ("a", "b"), ("A", "B"))),
)  # fmt: skip
LISTS = ("completions", "responses", "answers", "outputs")
VERDICT_COLUMNS = ("better", "winner", "preference", "preferred", "verdict", "label")
PERSON_COLUMNS = ("who", "judge", "annotator", "voter", "rater")
_PEOPLE = re.compile(r"(?:annotator|voter|vote|rater|labeler|labeller)[_-]?(\w+)")
_WORDS: dict[str, Better] = {
    **dict.fromkeys(("a", "model_a", "response_a", "answer_a", "left", "first", "1", "response1"), "a"),
    **dict.fromkeys(("b", "model_b", "response_b", "answer_b", "right", "second", "2", "response2"), "b"),
    **dict.fromkeys(("tie", "draw", "equal", "both", "same", "0", "tie (bothbad)", "both good", "both bad"), "tie"),
    **dict.fromkeys(("skip", "skipped"), "skip"),
}
LONGEST = 1_000_000  # characters of a prompt
_ANSWERS = Given(of_layout=True)
_OURS = ("chosen", "rejected")
Row = Mapping[str, Any]


def read_gold(path: str, name: str | None = None) -> Gold:
    """The gold in a file, a folder or a data set, by the readers of sources. `name`: what reports call it.

    A row that cannot be used is in `rejected`, with its place. Raises DataError for a file that cannot be read, and
    where no row is gold.
    """
    source, gold = Source(path=path, completions=_ANSWERS), Gold(name or path.rstrip("/").rpartition("/")[2])
    found: list[GoldPair] = []
    numbers: set[str] = set()
    for item in read_source(source, {}):
        gold.rows += 1
        try:
            if item.refused:
                raise item.refused
            found.append(pair_in(item.row or {}, source))
            numbers |= _numbers(item.row or {})
        except Refused as refused:
            gold.rejected.append(Rejected(item.place, refused.reason, refused.detail))
    if {"0", "1"} == numbers:
        raise DataError(
            f"{path}: verdicts are 0 and 1, so 0 may be a tie or the first answer: write a, b and tie instead"
        )
    if not found:
        why = f": {gold.rejected[0].place}: {gold.rejected[0].detail}" if gold.rejected else ""
        raise DataError(f"{path}: no row is a prompt with two answers and who is better{why}")
    gold.pairs, gold.repeated = united(found)
    return gold


def pair_in(row: Row, source: Source | None = None) -> GoldPair:
    """The pair in a row. Raises Refused where it has no prompt, no two different answers, or no verdict.

    >>> pair_in({"prompt": "Name a tree", "a": "Oak", "b": "Cod", "better": "a"}).better in ("a", "b")
    True
    """
    places, a, b = _answers_in(row)
    votes = [Vote("a")] if places == _OURS and not is_filled(row.get("votes")) else list(_votes(row))
    if not votes:
        names = ", ".join(("votes", "ratings", *VERDICT_COLUMNS))
        raise Refused(Reason.MISSING, f"nothing says which answer is better: looked for {names}, annotator1")
    for place, answer in zip(places, (a, b), strict=True):
        if not is_filled(answer):
            raise Refused(Reason.EMPTY, f"the answer in {place} is blank")
    rest = {name: value for name, value in row.items() if name not in (*places, *VERDICT_COLUMNS)}
    plain = rest | dict(zip(_OURS, (a, b), strict=True))
    source = source or Source(path="rows", completions=_ANSWERS)
    _, _, prompt = read_row(plain, source, LONGEST)
    texts = {item.get("member"): item for item in json.loads(prompt["extras"] or "{}").get("completions", [])}
    first, second = (_text(texts[side], place) for side, place in zip(_OURS, places, strict=True))
    try:
        return gold_pair(
            json.loads(prompt["messages"]),
            first,
            second,
            votes,
            system_prompt=prompt["system_prompt"],
            reference=prompt["reference"],
            drawn=row["drawn"] if isinstance(row.get("drawn"), str) else None,
        )
    except DataError as error:
        raise Refused(Reason.IDENTICAL, str(error)) from None


def _text(item: Row, place: str) -> str:
    if error := item.get("error"):
        reason, _, detail = str(error).partition(": ")
        told = detail.replace(", ".join(_OURS), "it") or reason
        raise Refused(Reason(reason), f"the answer in {place} cannot be used: {told}")
    text = str(item["text"])
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise Refused(Reason.UNREADABLE, f"the answer in {place} holds a lone surrogate, which no encoding can store")
    return text


def _answers_in(row: Row) -> tuple[tuple[str, str], Any, Any]:
    """The two places of a row where answers stand, and what is there."""
    for one, two in (*SIDES, _OURS):
        if one in row and two in row:
            return (one, two), row[one], row[two]
    for name in LISTS:
        found = as_data(row.get(name))
        if isinstance(found, list | tuple) and found:
            if len(found) != 2:
                raise Refused(Reason.WRONG_TYPE, f"{name} holds {len(found)} answers; a pair has two")
            first, second = (item.get("text") if isinstance(item, Mapping) else item for item in found)
            return (name, name), first, second
    raise Refused(Reason.MISSING, f"no two answers: looked for a and b, chosen and rejected, {', '.join(LISTS)}")


def _votes(row: Row) -> Iterator[Vote]:
    """The votes of a row, in the first of the places where there are any."""
    if is_filled(given := as_data(row.get("votes"))):
        yield from _listed(given)
        return
    people = [(found[1], value) for name, value in row.items() if (found := _PEOPLE.fullmatch(name))]
    if people:
        yield from (Vote(_verdict(value, f"annotator {who}"), who) for who, value in people if is_filled(value))
        return
    who = next((text for name in PERSON_COLUMNS if isinstance(text := row.get(name), str) and text), NOBODY)
    note = row["note"] if isinstance(row.get("note"), str) else None
    for name in VERDICT_COLUMNS:
        if is_filled(row.get(name)):
            yield Vote(_verdict(row[name], name), who, note)
            return
    ratings = as_data(row.get("ratings"))
    if not is_filled(ratings):
        for name in LISTS:
            items = as_data(row.get(name))
            if isinstance(items, list | tuple) and all(isinstance(one, Mapping) and "rating" in one for one in items):
                ratings = [one["rating"] for one in items]
    if is_filled(ratings):
        yield Vote(_by_ratings(ratings), who, note)


def _listed(given: Any) -> Iterator[Vote]:
    """Votes as a list of objects or of verdicts, or as person -> verdict."""
    if isinstance(given, Mapping):
        given = [{"who": who, "better": better} for who, better in given.items()]
    if not isinstance(given, list | tuple):
        raise Refused(Reason.WRONG_TYPE, f"votes holds {type(given).__name__}, not a list of votes")
    for number, one in enumerate(given, start=1):
        if not isinstance(one, Mapping):
            yield Vote(_verdict(one, f"vote {number}"), str(number))
            continue
        better = _by_ratings(one["ratings"]) if "ratings" in one else _verdict(one.get("better"), f"vote {number}")
        texts = {name: one.get(name) for name in ("who", "note", "at")}
        if wrong := [name for name, text in texts.items() if text is not None and not isinstance(text, str)]:
            raise Refused(Reason.WRONG_TYPE, f"vote {number}: {wrong[0]} is no text")
        yield Vote(better, texts["who"] or str(number), texts["note"], texts["at"])


def _verdict(value: Any, where: str) -> Better:
    found = _WORDS.get(_word(value))
    if found is None:
        raise Refused(Reason.WRONG_TYPE, f"{where} says {value!r:.60}: write a, b or tie (1, 2 or 0)")
    return found


def _word(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:g}"
    return value.strip().lower() if isinstance(value, str) else ""


def _numbers(row: Row) -> set[str]:
    """The verdicts of a row that are numbers, as text."""
    votes = as_data(row.get("votes"))
    values = [row.get(name) for name in VERDICT_COLUMNS] + [v for name, v in row.items() if _PEOPLE.fullmatch(name)]
    values += list(votes.values() if isinstance(votes, Mapping) else votes if isinstance(votes, list | tuple) else ())
    words = {_word(one.get("better") if isinstance(one, Mapping) else one) for one in values}
    return words & {"0", "1", "2"}


def _by_ratings(ratings: Any) -> Better:
    """Which answer is rated higher, of `{a: 4, b: 2}` or of `[4, 2]`."""
    values: Any = [ratings.get("a"), ratings.get("b")] if isinstance(ratings, Mapping) else ratings
    is_two = isinstance(values, list | tuple) and len(values) == 2
    if not is_two or not all(isinstance(one, int | float) and not isinstance(one, bool) for one in values):
        raise Refused(Reason.WRONG_TYPE, f"ratings holds {ratings!r:.60}: write {{a: 4, b: 2}} or [4, 2]")
    one, two = values
    return "tie" if one == two else "a" if one > two else "b"
