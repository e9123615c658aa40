"""Read a judge's reply: text, JSON or digit probabilities -> one rating or null per text.

The readers are total: any reply gives exactly one `Read` per text, and a rating is taken only where it is bound to
its text by the text's mark and is unambiguous, whole and on the scale. Everything else is null with an error that
says why; nothing is clamped, rounded or guessed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pairsmith.ids import no_doubles
from pairsmith.llms.base import Reply

NOT_APPLICABLE = "not_applicable"


@dataclass(frozen=True)
class Scale:
    """Whole ratings from `low` to `high`, both included."""

    low: int
    high: int

    def digits(self, may_be_na: bool) -> tuple[str, ...]:
        """The first tokens that a logprobs reply can begin with; N stands for not applicable."""
        return tuple(str(n) for n in range(self.low, self.high + 1)) + (("N",) if may_be_na else ())


@dataclass(frozen=True)
class Text:
    """A completion as a judge sees it."""

    completion_id: str
    mark: str
    text: str


@dataclass(frozen=True)
class Sheet:
    """What a judge was asked to fill in. `unbound`: whether a rating line without a mark can be trusted, which it
    cannot where a text or the prompt holds such a line itself, since the judge may be quoting it."""

    texts: tuple[Text, ...]
    scale: Scale
    may_be_na: bool
    unbound: bool = True


@dataclass(frozen=True)
class Read:
    """What a reply says of one text. `rating` is null where `error` is set."""

    rating: int | None = None
    score: float | None = None
    rationale: str | None = None
    error: str | None = None


# A thought before the answer, closed (whether or not it was opened in the reply) or never ended.
_THINK = re.compile(
    r"\A.*</(?:think|thinking|reasoning)>|\A\s*<(?:think|thinking|reasoning)>.*\Z", re.DOTALL | re.IGNORECASE
)
_DECORATION = r"[\s#*_`\-•\[\]()]*+(?:\d{1,2}[.)]\s++)?[*_`]*+"
_DRESSING = r"[\s*_`\[\]()]*+"  # around a value; a minus sign is not dressing
_SEPARATOR = r"(?::|：|=|\bis\b|[-–—](?=\s))"
_LABEL_OF_RATING = r"(?:(?:my|the|final|overall|revised|updated|corrected|new)\s+){0,3}(?:rating|score)"
# Anything that, quoted by a judge, could be taken for the judge's own rating, and any rating that we cannot place.
_COULD_BE_A_RATING = re.compile(
    r"(?:rating|score)(?:\s+(?:for|of)\b[^\n:]{0,40})?[\s\W_]*(?:is\b[\s\W_]*)?"
    r"(?:\d|(?:one|two|three|four|five|six|seven|eight|nine|ten)\b)",
    re.IGNORECASE,
)
_NA = re.compile(r"^(?:n/?\.?a\.?|not applicable)\b", re.IGNORECASE)
_NUMBER = re.compile(
    r"(?P<number>[+-]?\d{1,6}(?:\.\d{1,6})?)(?:\s*\(?\s*(?:/|out of)\s*(?P<of>\d{1,6})\)?)?(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
# What may follow a rating on its line: nothing, or a remark that is set apart from it and holds no other number.
_REMARK = re.compile(r"\s*(?:stars?|points?)?[\s\])>*_`\"']*(?:[-–—.;:!(\[,]\D*)?", re.IGNORECASE)
_WORDS = {word: n for n, word in enumerate("zero one two three four five six seven eight nine ten".split())}
_OTHER_NUMBER = re.compile(rf"\b(?:{'|'.join(word for word in _WORDS if word != 'one')})\b", re.IGNORECASE)
_LABEL = re.compile(
    rf"^{_DECORATION}(?:rationale|reason|reasoning|explanation|feedback|critique|justification){_DECORATION}"
    rf"(?::|：){_DECORATION}",
    re.IGNORECASE,
)


def read_text(reply: str, sheet: Sheet, cut: bool = False) -> dict[str, Read]:
    """Ratings from free text. A section runs from the line that begins with a text's mark to the next such line.

    `Rating <mark>:` lines count wherever they stand; only where a text has none, the plain `Rating:` lines of its
    section do. Lines that disagree make the rating null. The last line of a reply that was `cut` counts for nothing:
    a 1 may have been a 10.
    """
    body = _THINK.sub("", reply.replace("\r\n", "\n").replace("\r", "\n"))
    if cut:
        body = body.rpartition("\n")[0]
    sections = _sections(body, [text.mark for text in sheet.texts])
    return {text.mark: _read_text(body, sections[text.mark], text.mark, sheet) for text in sheet.texts}


def could_be_quoted(text: str) -> bool:
    """Whether a text holds something that, quoted by a judge, would look like the judge's own rating."""
    return bool(_COULD_BE_A_RATING.search(text))


def _sections(body: str, marks: Sequence[str]) -> dict[str, list[str] | None]:
    """Mark -> the lines of its sections, None without any. A single text without a header owns the whole reply."""
    header = re.compile(
        rf"^{_DECORATION}(?:text|answer|response)?{_DECORATION}({'|'.join(marks)})\b([\s\])*_`#]*)(.*)$", re.IGNORECASE
    )
    sections: dict[str, list[str] | None] = dict.fromkeys(marks)
    current: str | None = None
    lines = body.split("\n")
    for line in lines:
        found = header.match(line)
        if found:
            heads = not found[3] or found[3][0] in ":：-–—("  # else it is prose that begins with a mark
            current = found[1].lower() if heads else None
            if current is not None:
                sections[current] = [*(sections[current] or []), found[3].lstrip(":：-–— \t*_`")]
        elif current is not None:
            sections[current].append(line)  # type: ignore[union-attr]
    if len(marks) == 1 and sections[marks[0]] is None:
        sections[marks[0]] = lines
    return sections


def _read_text(body: str, section: list[str] | None, mark: str, sheet: Sheet) -> Read:
    bound = rf"{_LABEL_OF_RATING}(?:\s+(?:for|of))?(?:\s+text)?\W{{0,8}}{mark}"
    lines = body.split("\n")
    found = _rating_lines(lines, bound)
    if not found and section is None:
        return Read(error="no section for this text")
    plain = _rating_lines(section or [], _LABEL_OF_RATING)
    if not found and plain and not sheet.unbound:
        return Read(error="a rating without the text's mark, which may be a quotation")
    ours = {number for number, _ in (_rating_lines(section or [], bound) if found else plain)}
    rationale = _rationale([line for number, line in enumerate(section or []) if number not in ours])
    searched = [line if mark in line else "" for line in lines] if found else section or []
    placed = {number for number, _ in found or plain}
    unplaced = any(number not in placed and could_be_quoted(line) for number, line in enumerate(searched))
    values = {_value(value, sheet) for _, value in found or plain}
    if not values:
        return Read(rationale=rationale, error="no rating")
    if len(values) > 1 or unplaced:
        return Read(rationale=rationale, error="ratings that contradict each other")
    return _as_read(values.pop(), rationale)


def _as_read(value: int | str, rationale: str | None) -> Read:
    if isinstance(value, str):
        return Read(rationale=rationale, error=value)
    return Read(value, float(value), rationale)


def _rating_lines(lines: Sequence[str], label: str) -> list[tuple[int, str]]:
    """(line number, what follows the label); a label alone on its line takes the next line that says something."""
    pattern = re.compile(rf"^{_DECORATION}{label}{_DRESSING}{_SEPARATOR}{_DRESSING}(.*)$", re.IGNORECASE)
    found = []
    for number, line in enumerate(lines):
        match = pattern.match(line)
        if match:
            value = match[1].strip() or _alone(next((later for later in lines[number + 1 :] if later.strip()), ""))
            found.append((number, value.lstrip("*_`[(<\"' ")))
    return found


def _alone(line: str) -> str:
    """A line that is nothing but a rating; no first item of a list, no sentence."""
    return line.strip() if re.fullmatch(r"[\s*_`\[(]*\w+(?:\s*/\s*\d+)?[\s*_`\])]*", line) else ""


def _value(text: str, sheet: Sheet) -> int | str:
    """A rating on the scale, or the error that says why there is none."""
    if _NA.match(text):
        return _not_applicable(sheet)
    text = str(_WORDS.get(text.strip(" .*_`").lower(), text))
    match = _NUMBER.fullmatch(text)
    if not match:
        return "no number where the rating should be"
    if match["of"] and int(match["of"]) != sheet.scale.high:
        return f"rated out of {match['of']}, not {sheet.scale.high}"
    if not _REMARK.fullmatch(match["rest"]) or _OTHER_NUMBER.search(match["rest"]):
        return "more than a rating where the rating should be"
    return _whole(float(match["number"]), sheet.scale)


def _not_applicable(sheet: Sheet) -> str:
    return NOT_APPLICABLE if sheet.may_be_na else "not applicable is no answer to this aspect"


def _whole(number: float, scale: Scale) -> int | str:
    if not scale.low <= number <= scale.high:
        return f"not on the scale {scale.low} to {scale.high}"
    return int(number) if number == int(number) else f"{number:g} is not a whole number"


def _rationale(lines: Sequence[str]) -> str | None:
    text = "\n".join(lines).strip()
    return _LABEL.sub("", text, count=1).strip(" \n*_`#") or None


def read_json(reply: str, sheet: Sheet) -> dict[str, Read]:
    """Ratings from a JSON object keyed by mark, bare or in a fence."""
    body = reply.strip() if reply.lstrip().startswith("{") else _THINK.sub("", reply).strip()
    fenced = re.fullmatch(r"```(?:json)?\s*(.*?)\s*```", body, re.DOTALL)
    try:
        value = json.loads(fenced[1] if fenced else body, object_pairs_hook=no_doubles)
    except (ValueError, RecursionError) as error:
        return {text.mark: Read(error=f"not JSON: {error}") for text in sheet.texts}
    if not isinstance(value, dict):
        return {text.mark: Read(error="not a JSON object") for text in sheet.texts}
    return {text.mark: _read_entry(value.get(text.mark), sheet) for text in sheet.texts}


def _read_entry(entry: Any, sheet: Sheet) -> Read:
    if not isinstance(entry, dict) or "rating" not in entry:
        return Read(error="no rating")
    rationale, rating = entry.get("rationale"), entry["rating"]
    rationale = rationale.strip() or None if isinstance(rationale, str) else None
    if rating is None:
        return Read(rationale=rationale, error=_not_applicable(sheet))
    if isinstance(rating, bool) or not isinstance(rating, int | float):
        return Read(rationale=rationale, error=f"the rating is a {type(rating).__name__}, not a number")
    return _as_read(_whole(rating, sheet.scale), rationale)


def read_logprobs(reply: Reply, sheet: Sheet) -> Read:
    """The rating with the largest probability, and as score the mean of all ratings weighted by theirs."""
    logprobs, numbers = reply.logprobs or {}, range(sheet.scale.low, sheet.scale.high + 1)
    if any(not math.isfinite(logprobs.get(str(number), math.nan)) for number in numbers):
        return Read(error="the reply has no probability for some rating")
    rationale = re.sub(r"^\W*\w(?:\W+|$)", "", reply.text).strip() or None
    weights = {number: math.exp(logprobs[str(number)]) for number in numbers}
    total, best = math.fsum(weights.values()), max(numbers, key=lambda number: weights[number])
    if total == 0:
        return Read(rationale=rationale, error="the probabilities of all ratings are zero")
    if sheet.may_be_na and math.exp(logprobs.get("N", -math.inf)) > weights[best]:
        return Read(rationale=rationale, error=NOT_APPLICABLE)
    score = math.fsum(number * weight for number, weight in weights.items()) / total
    return Read(best, min(max(score, sheet.scale.low), sheet.scale.high), rationale)


def schema_for(sheet: Sheet, rationale: bool) -> dict[str, Any]:
    """JSON schema of an object keyed by mark; the rationale comes first, so that the rating follows from it."""
    ratings: list[int | None] = list(range(sheet.scale.low, sheet.scale.high + 1))
    properties: dict[str, Any] = {"rationale": {"type": "string"}} if rationale else {}
    properties["rating"] = {"enum": [*ratings, None] if sheet.may_be_na else ratings}
    entry = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    marks = [text.mark for text in sheet.texts]
    return {
        "type": "object",
        "properties": dict.fromkeys(marks, entry),
        "required": marks,
        "additionalProperties": False,
    }
