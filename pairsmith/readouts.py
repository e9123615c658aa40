"""Read a judge's reply: text, JSON, digit probabilities or a reward -> one rating or null per text.

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
_MOST_LOGPROB = 0.01  # that of certainty is 0; a little more is rounding


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
    cannot where a text or the prompt holds such a line itself, since the judge may be quoting it. `thoughts`: whether
    a `</think>` in the reply ends a thought, which it may not where a text holds one, for the same reason."""

    texts: tuple[Text, ...]
    scale: Scale
    may_be_na: bool
    unbound: bool = True
    thoughts: bool = True


@dataclass(frozen=True)
class Read:
    """What a reply says of one text. Both numbers are null where `error` is set; `rating` also where a score need not
    be whole: a reward, or one that was given."""

    rating: int | None = None
    score: float | None = None
    rationale: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class _RatingLine:
    """A line that gives a rating, and the mark that it binds it to."""

    number: int
    value: str
    mark: str | None


# A thought before the answer, closed (whether or not it was opened in the reply) or never ended.
_THINK = re.compile(
    r"\A.*</(?:think|thinking|reasoning)>|\A\s*<(?:think|thinking|reasoning)>.*\Z", re.DOTALL | re.IGNORECASE
)
_DECORATION = r"[\s>#*_`\-•\[\]()]*+(?:\d{1,2}[.)]\s++)?[*_`]*+"
_DRESSING = r"[\s*_`\[\]()]*+"  # around a value; a minus sign is not dressing
_SEPARATOR = r"(?::|：|=|\bis\b|[-–—](?=\s))"
_LABEL_OF_RATING = r"(?:(?:my|the|final|overall|revised|updated|corrected|new)\s+){0,3}(?:rating|score)"
_MARK = r"(?P<mark>[0-9a-f]{6})"  # what `templating.nonces` makes; which of them is ours is looked at afterwards
_HEADER = re.compile(
    rf"^{_DECORATION}(?:text|answer|response)?{_DECORATION}{_MARK}\b[\s\])*_`#]*(?P<rest>.*)$", re.IGNORECASE
)
_VALUE = rf"{_DRESSING}{_SEPARATOR}{_DRESSING}(?P<value>.*)$"
_PLAIN = re.compile(rf"^{_DECORATION}{_LABEL_OF_RATING}{_VALUE}", re.IGNORECASE)
_BOUND = re.compile(
    rf"^{_DECORATION}{_LABEL_OF_RATING}(?:\s+(?:for|of))?(?:\s+text)?\W{{0,8}}{_MARK}{_VALUE}", re.IGNORECASE
)
# Anything that, quoted by a judge, could be taken for the judge's own rating, and any rating that we cannot place.
_COULD_BE_A_RATING = re.compile(
    r"(?:rating|score)(?:\s+(?:for|of)\b[^\n:]{0,40})?[\s\W_]*(?:is\b[\s\W_]*)?"
    r"(?:\d|(?:one|two|three|four|five|six|seven|eight|nine|ten)\b|n/?\.?a\b|not applicable)",
    re.IGNORECASE,
)
_NA = re.compile(r"^(?:n/?\.?a\.?|not applicable)\b", re.IGNORECASE)
_NUMBER = re.compile(
    r"(?P<number>[+-]?\d{1,6}(?:\.\d{1,6})?)(?:\s*\(?\s*(?:/|out of)\s*(?P<of>\d{1,6})\)?)?(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_PLAIN_NUMBER = re.compile(r"[+-]?[0-9]{1,20}(?:\.[0-9]{1,30})?")
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
    body = reply.replace("\r\n", "\n").replace("\r", "\n")
    if sheet.thoughts:
        body = _THINK.sub("", body)
    if cut:
        body = body.rpartition("\n")[0]
    lines = body.split("\n")
    sections = _sections(lines, [text.mark for text in sheet.texts])
    bound = _rating_lines(lines, _BOUND)
    return {text.mark: _read_text(lines, sections[text.mark], bound, text.mark, sheet) for text in sheet.texts}


def could_be_quoted(text: str) -> bool:
    """Whether a text holds something that, quoted by a judge, would look like the judge's own rating."""
    return bool(_COULD_BE_A_RATING.search(text))


def ends_a_thought(text: str) -> bool:
    """Whether a text holds what, quoted by a judge, would look like the end of the judge's own thought."""
    return bool(re.search(r"</(?:think|thinking|reasoning)>", text, re.IGNORECASE))


def _sections(lines: Sequence[str], marks: Sequence[str]) -> dict[str, list[str] | None]:
    """Mark -> the lines of its sections, None without any. A single text without a header owns the whole reply."""
    sections: dict[str, list[str] | None] = dict.fromkeys(marks)
    current: str | None = None
    for line in lines:
        found = _HEADER.match(line)
        if found and found["mark"].lower() in sections:
            rest = found["rest"]
            heads = not rest or rest[0] in ":：-–—("  # else it is prose that begins with a mark
            current = found["mark"].lower() if heads else None
            if current is not None:
                sections[current] = [*(sections[current] or []), rest.lstrip(":：-–— \t*_`")]
        elif current is not None:
            sections[current].append(line)  # type: ignore[union-attr]
    if len(marks) == 1 and sections[marks[0]] is None:
        sections[marks[0]] = list(lines)
    return sections


def _read_text(
    lines: Sequence[str], section: list[str] | None, bound: Sequence[_RatingLine], mark: str, sheet: Sheet
) -> Read:
    found = [line for line in bound if line.mark == mark]
    if not found and section is None:
        return Read(error="no section for this text")
    plain = _rating_lines(section or [], _PLAIN)
    if not found and plain and not sheet.unbound:
        return Read(error="a rating without the text's mark, which may be a quotation")
    in_section = [line for line in _rating_lines(section or [], _BOUND) if line.mark == mark] if found else plain
    ours = {line.number for line in in_section}
    rationale = _rationale([line for number, line in enumerate(section or []) if number not in ours])
    searched = [line if mark in line else "" for line in lines] if found else section or []
    placed = {line.number for line in found or plain}
    unmarked = [line.replace(mark, "") for line in searched]
    unplaced = any(number not in placed and could_be_quoted(line) for number, line in enumerate(unmarked))
    values = {_value(line.value, sheet) for line in found or plain}
    if not values:
        return Read(rationale=rationale, error="no rating")
    if len(values) > 1 or unplaced:
        return Read(rationale=rationale, error="ratings that contradict each other")
    return _as_read(values.pop(), rationale)


def _as_read(value: float | str, rationale: str | None) -> Read:
    if isinstance(value, str):
        return Read(rationale=rationale, error=value)
    return Read(int(value) if value == int(value) else None, float(value), rationale)


def _rating_lines(lines: Sequence[str], pattern: re.Pattern[str]) -> list[_RatingLine]:
    """The lines that give a rating; a label alone on its line takes the next line that says something."""
    found = []
    for number, line in enumerate(lines):
        match = pattern.match(line)
        if match:
            value = match["value"].strip() or _alone(
                next((later for later in lines[number + 1 :] if later.strip()), "")
            )
            mark = match.groupdict().get("mark")
            found.append(_RatingLine(number, value.lstrip("*_`[(<\"' "), mark.lower() if mark else None))
    return found


def _alone(line: str) -> str:
    """A line that is nothing but a rating; no first item of a list, no sentence."""
    return line.strip() if re.fullmatch(r"[\s*_`\[(]*\w+(?:\s*/\s*\d+)?[\s*_`\])]*", line) else ""


def _value(text: str, sheet: Sheet, fractions: bool = False) -> float | str:
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
    return _on_scale(float(match["number"]), sheet.scale, fractions)


def _not_applicable(sheet: Sheet) -> str:
    return NOT_APPLICABLE if sheet.may_be_na else "not applicable is no answer to this aspect"


def _on_scale(number: float, scale: Scale, fractions: bool = False) -> float | str:
    if not scale.low <= number <= scale.high:
        return f"not on the scale {scale.low} to {scale.high}"
    if number == int(number):
        return int(number)
    return number if fractions else f"{number:g} is not a whole number"


def _rationale(lines: Sequence[str]) -> str | None:
    text = "\n".join(lines).strip()
    return _LABEL.sub("", text, count=1).strip(" \n*_`#") or None


def read_json(reply: str, sheet: Sheet) -> dict[str, Read]:
    """Ratings from a JSON object keyed by mark, bare or in a fence."""
    body = reply.strip() if reply.lstrip().startswith("{") else _THINK.sub("", reply).strip()
    try:
        value = json.loads(unfenced(body), object_pairs_hook=no_doubles)
    except (ValueError, RecursionError) as error:
        return {text.mark: Read(error=f"not JSON: {error}") for text in sheet.texts}
    if not isinstance(value, dict):
        return {text.mark: Read(error="not a JSON object") for text in sheet.texts}
    return {text.mark: _read_entry(value.get(text.mark), sheet) for text in sheet.texts}


def unfenced(text: str) -> str:
    """What stands in a text that is one fence; else the text itself."""
    body = text.strip()
    first, _, rest = body.partition("\n")
    fenced = first.rstrip().lower() in ("```", "```json") and rest.endswith("```")
    return rest[:-3].strip() if fenced else body


def _read_entry(entry: Any, sheet: Sheet) -> Read:
    if not isinstance(entry, dict) or "rating" not in entry:
        return Read(error="no rating")
    rationale, rating = entry.get("rationale"), entry["rating"]
    rationale = rationale.strip() or None if isinstance(rationale, str) else None
    if rating is None:
        return Read(rationale=rationale, error=_not_applicable(sheet))
    if isinstance(rating, bool) or not isinstance(rating, int | float):
        return Read(rationale=rationale, error=f"the rating is a {type(rating).__name__}, not a number")
    return _as_read(_on_scale(rating, sheet.scale), rationale)


def read_given(value: Any, sheet: Sheet, fractions: bool = False, rationale: str | None = None) -> Read:
    """A rating as it stands in data: a number, or text that holds one, as in a judge's reply.

    `fractions`: whether it may be between two whole numbers.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return Read(rationale=rationale, error="no rating")
    if isinstance(value, str):
        text = value.strip()
        number = float(text) if _PLAIN_NUMBER.fullmatch(text) else None
        found = _value(text, sheet, fractions) if number is None else _on_scale(number, sheet.scale, fractions)
        return _as_read(found, rationale)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Read(rationale=rationale, error=f"the rating is a {type(value).__name__}, not a number")
    return _as_read(_on_scale(value, sheet.scale, fractions), rationale)


def read_logprobs(reply: Reply, sheet: Sheet) -> Read:
    """The rating with the largest probability, and as score the mean of all ratings weighted by theirs."""
    logprobs, numbers = reply.logprobs or {}, range(sheet.scale.low, sheet.scale.high + 1)
    if any(not -math.inf < logprobs.get(str(number), math.nan) <= _MOST_LOGPROB for number in numbers):
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


def read_reward(reply: str, label: int | None) -> Read:
    """The score that a reward model gave: a number, or one of a list of them, on no scale; there is no whole rating."""
    try:
        told = json.loads(reply)
    except (ValueError, RecursionError) as error:
        return Read(error=f"not a score: {error}")
    scores = told if isinstance(told, list) else [told]
    if label is None and len(scores) > 1:
        return Read(error=f"the model has {len(scores)} labels, and the judge names none")
    if (label or 0) >= len(scores):
        return Read(error=f"the model has {len(scores)} labels, and none is number {label}")
    score = scores[label or 0]
    if not isinstance(score, float) or not math.isfinite(score):
        return Read(error="not a finite number")
    return Read(score=score)


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
