"""What sources say of two answers: verdicts, which rate both, and votes, which become comparisons in the ratings table.

An item of a prompt's completions carries its votes as `{aspect: [{against, value, voter}]}`: `against` is the other
answer (see `key_of`), `value` is better, worse, tie or text that says neither. Both answers carry each vote.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from pairsmith.config import Given
from pairsmith.ids import canonical_json, short_id
from pairsmith.sources.row_fields import lookup
from pairsmith.storage.row_types import RatingRow

_VERDICTS = {
    "a": (0,), "model_a": (0,), "response_a": (0,), "answer_a": (0,), "left": (0,), "first": (0,),
    "b": (1,), "model_b": (1,), "response_b": (1,), "answer_b": (1,), "right": (1,), "second": (1,),
    "tie": (0, 1), "draw": (0, 1), "both": (0, 1), "equal": (0, 1), "both good": (0, 1),
    "tie (bothbad)": (), "both bad": (), "bothbad": (), "neither": (), "none": (),
}  # fmt: skip
BETTER, WORSE, TIE = "better", "worse", "tie"
_RATINGS = {BETTER: 1, WORSE: 0, TIE: 0}
_TURNED = {BETTER: WORSE, WORSE: BETTER}
Item = dict[str, Any]


def with_verdicts(items: Sequence[Item], row: Mapping[str, Any], given: Given) -> Iterator[Item]:
    """Two completions with a rating each, true or false, for what the row says of which one is better.

    A verdict that names neither stays as text in which no rating can be read.
    """
    said = {aspect: lookup(row, place) for aspect, place in given.verdicts.items()}
    for place, item in enumerate(items):
        found = {aspect: [{"value": plain(_is_better(value, place, given))}] for aspect, value in said.items()}
        rated = {} if "error" in item else item.get("ratings", {}) | found
        yield item | ({"ratings": rated} if rated else {})


def _is_better(verdict: Any, place: int, given: Given) -> Any:
    """Whether a verdict is for the completion at `place`: that alone, both (a tie), none; else the verdict as text."""
    word = verdict.strip().lower() if isinstance(verdict, str) else None
    if isinstance(verdict, int | float) and not isinstance(verdict, bool):
        word = f"{verdict:g}"  # it can be a label alone
    winners = _VERDICTS.get(word or "")
    for number, label in enumerate(given.columns):
        if word == label.lower():
            winners = (number,)
    if winners is not None:
        return place in winners
    return None if verdict is None else f"verdict: {verdict}"


def plain(value: Any) -> Any:
    """A value of a row as JSON holds it; what no rating can be is empty."""
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, list | tuple | Mapping):
        return {} if isinstance(value, Mapping) else []  # no rating, whatever it contains
    return value if value is None or isinstance(value, str | int | float) else str(value)


def key_of(item: Mapping[str, Any]) -> str:
    """What names an answer within its prompt, before it has an id."""
    return short_id("answer", item.get("member", ""), item["text"])


def with_votes(items: Sequence[Item], row: Mapping[str, Any], given: Given) -> Iterator[Item]:
    """The two completions of a row, each with the votes of the row."""
    sound = len(items) == 2 and not any("error" in item for item in items)
    for place, item in enumerate(items):
        if not sound or not given.votes:
            yield item
            continue
        voter = lookup(row, given.voter) if given.voter else None
        votes = dict[str, list[Item]]()
        for aspect, where in given.votes.items():
            mine, theirs = (_is_better(lookup(row, where), one, given) for one in (place, 1 - place))
            if mine is not None:
                vote = {"against": key_of(items[1 - place]), "value": _value(mine, theirs)}
                votes[aspect] = [vote | ({} if voter is None else {"voter": str(voter)})]
        yield item | ({"votes": votes} if votes else {})


def _value(mine: Any, theirs: Any) -> str:
    if isinstance(mine, bool):
        return TIE if mine == theirs else BETTER if mine else WORSE
    return str(mine)


def united_votes(items: Iterable[Item]) -> dict[str, list[Any]]:
    """The votes of items that are the same answer: each once, since equal votes of one voter, or of nobody named, are
    one; sorted by their content."""
    votes: dict[str, dict[str, Any]] = defaultdict(dict)
    for item in items:
        for aspect, said in item.get("votes", {}).items():
            votes[aspect].update({canonical_json(one): one for one in said})
    return {aspect: [one for _, one in sorted(said.items())] for aspect, said in sorted(votes.items())}


def verdicts_of(row: RatingRow, votes: Sequence[Mapping[str, Any]], ids: Mapping[str, str]) -> list[RatingRow]:
    """The rows of an answer's votes in an aspect, with `row` as what they have in common; one with null where it has
    none. `ids`: `key_of` an answer -> its completion_id.

    The votes on two answers are numbered alike from both sides.
    """
    name, made = row["completion_id"], list[RatingRow]()
    against: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for vote in votes:
        if ids.get(vote["against"], name) != name:
            against[ids[vote["against"]]].append(vote)
    for other, said in sorted(against.items()):
        for number, vote in enumerate(sorted(said, key=lambda vote: _place(vote, name < other))):
            made.append({**row, "order": number, "against": other, **_read(vote)})  # type: ignore[typeddict-item]
    return made or [{**row, "error": "no given verdict"}]


def _read(vote: Mapping[str, Any]) -> dict[str, Any]:
    rating = _RATINGS.get(vote["value"])
    return {
        "rating": rating,
        "score": None if rating is None else float(rating),
        "reply": canonical_json({name: value for name, value in vote.items() if name != "against"}),
        "error": None if rating is not None else "the given verdict names neither answer, and no tie",
    }


def _place(vote: Mapping[str, Any], is_first: bool) -> str:
    """The place of a vote among those on the same two answers, whichever of both tells it."""
    value = vote["value"] if is_first else _TURNED.get(vote["value"], vote["value"])
    return canonical_json([vote.get("voter", ""), value])
