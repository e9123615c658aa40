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
from unicodedata import category

from pairsmith.judging.wrapping import only_object, table_rows
from pairsmith.protocol import Reply

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
    """A line that gives a rating, and the mark that it binds it to. `rationale`: what a row of a table says beside."""

    number: int
    value: str
    mark: str | None
    rationale: str = ""


# A thought before the answer, closed (whether or not it was opened in the reply) or never ended.
_THINK = re.compile(
    r"\A.*</(?:think|thinking|reasoning)>|\A\s*<(?:think|thinking|reasoning)>.*\Z", re.DOTALL | re.IGNORECASE
)
_DECORATION = r"[\s>#*_`\-•\[\]()【】]*+(?:\d{1,2}[.)]\s++)?[*_`]*+"
_DRESSING = r"[\s*_`\[\]()【】\"“”]*+"  # around a value; a minus sign is not dressing
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
# `Text <mark>, rating: 4` and `<mark>: 4/5`: certain only where no text could be quoted so.
_MARK_FIRST = re.compile(
    rf"^{_DECORATION}(?:text|answer|response)?\W{{0,8}}{_MARK}\W{{0,8}}{_LABEL_OF_RATING}{_VALUE}", re.IGNORECASE
)
_MARK_AND_VALUE = re.compile(
    rf"^{_DECORATION}(?:text|answer|response)?{_DECORATION}{_MARK}{_DRESSING}[:：]{_DRESSING}"
    r"(?P<value>\d{1,6}(?:\s*/\s*\d{1,6}(?:[\s)*_`]+[-–—(].*)?)?)[\s.)\]】*_`]*$",
    re.IGNORECASE,
)
_CELL_OF_MARK = re.compile(rf"(?:text|answer|response)?{_DECORATION}{_MARK}[\s\])*_`]*", re.IGNORECASE)
_OF_TEXTS = re.compile(r"(?:text|answer|response|completion)?s?\s*(?:id|mark|name|label)?|#|no\.?")  # a column's name
_SIX = re.compile(r"\b[0-9a-f]{6}\b", re.IGNORECASE)
_MISWRITTEN = re.compile(r"\W{0,8}([0-9a-f]{4,8})\W{0,8}", re.IGNORECASE)
# A line that may head another text's section, though its mark is written wrong or not at all.
_OTHER_HEADER = re.compile(
    rf"^(?:\s*#+\s*+(?!{_DECORATION}(?:{_LABEL_OF_RATING}|rationale|reason|explanation|feedback|critique|justification))"
    r"|\W{0,8}(?:text|answer|response|completion|option)\b\W{0,8}\w{0,12}\W{0,8}$)",
    re.IGNORECASE,
)
# Anything that, quoted by a judge, could be taken for the judge's own rating, and any rating that we cannot place.
_COULD_BE_A_RATING = re.compile(
    r"(?:rating|score)(?:\s+(?:for|of)\b[^\n:]{0,40})?[\s\W_]{0,100}+(?:is\b[\s\W_]{0,100}+)?"
    r"(?:\d|(?:one|two|three|four|five|six|seven|eight|nine|ten)\b|n/?\.?a\b|not applicable)",
    re.IGNORECASE,
)
_NA = re.compile(r"^(?:n/?\.?a\.?|not applicable)\b", re.IGNORECASE)
_NUMBER = re.compile(
    r"(?P<number>[+-]?\d{1,6}(?:\.\d{1,6})?)(?:\s*+(?:\(\s*+)?(?:/|out of)\s*+(?P<of>\d{1,6})\)?)?(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_PLAIN_NUMBER = re.compile(r"[+-]?[0-9]{1,20}(?:\.[0-9]{1,30})?")
# What may follow a rating on its line: nothing, or a remark that is set apart from it and holds no other number.
_REMARK = re.compile(r"\s*+(?:stars?|points?)?[\s\])>*_`\"']*+(?:[-–—]\s++(?=\S)\D*|[.;:!(\[,]\D*)?", re.IGNORECASE)
_WORDS = {word: n for n, word in enumerate("zero one two three four five six seven eight nine ten".split())}
_SPELT = rf"(\d{{1,6}}(?:\.0)?|{'|'.join(_WORDS)})"
# `four`, `4 (four)`, `four out of five`: whole texts alone, since `one` begins many a sentence.
_SPELT_OUT = re.compile(
    rf"{_SPELT}(?:\s*[(\[]\s*{_SPELT}\s*[)\]])?(?:\s*(?:/|(?:out )?of)\s*{_SPELT})?[\s.*_`\])】\"”]*",
    re.IGNORECASE,
)
_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u2060\ufeff"))
_REASON = r"(?:rationale|reason|reasoning|explanation|feedback|critique|justification)"
# One number more than the rating, as far as English and Unicode tell: then it is not clear which counts.
_OTHER_NUMBER = re.compile(
    rf"\b(?:{'|'.join(word for word in _WORDS if word != 'one')}|eleven|twelve|half|halves|quarter|minus|plus)\b"
    r"|(?:[(\[]|\b(?:that|actually|or|rather|to|say|is))\s*\bone\b|\b(?-i:[IVX]{2,})\b",
    re.IGNORECASE,
)
_LISTED = re.compile(r"\W{0,8}\d{1,2}[.)]\s+\S")
_LABEL = re.compile(rf"^{_DECORATION}{_REASON}{_DECORATION}(?::|：)[\s*_`]*+", re.IGNORECASE)


def read_text(reply: str, sheet: Sheet, cut: bool = False) -> dict[str, Read]:
    """Ratings from free text. A section runs from the line that begins with a text's mark to the next such line.

    `Rating <mark>:` lines and rows of tables count wherever they stand; only where a text has none, the plain
    `Rating:` lines of its section do, and only where there are none of these, `<mark>: 4`. Lines that disagree make the
    rating null. The last line of a reply that was `cut` counts for nothing: a 1 may have been a 10.
    """
    body = reply.replace("\r\n", "\n").replace("\r", "\n").translate(_INVISIBLE)
    if sheet.thoughts:
        body = _THINK.sub("", body)
    if cut:
        body = body.rpartition("\n")[0]
    lines = body.split("\n")
    sections = _sections(lines, [text.mark for text in sheet.texts])
    bound = [*_rating_lines(lines, _BOUND), *_tabled(lines)]
    if sheet.unbound:
        bound += _rating_lines(lines, _MARK_FIRST)
    return {text.mark: _read_text(lines, sections[text.mark], bound, text.mark, sheet) for text in sheet.texts}


def could_be_quoted(text: str) -> bool:
    """Whether a text holds something that, quoted by a judge, would look like the judge's own rating."""
    return bool(_COULD_BE_A_RATING.search(text))


def ends_a_thought(text: str) -> bool:
    """Whether a text holds what, quoted by a judge, would look like the end of the judge's own thought."""
    return bool(re.search(r"</(?:think|thinking|reasoning)>", text, re.IGNORECASE))


def _sections(lines: Sequence[str], marks: Sequence[str]) -> dict[str, list[str] | None]:
    """Mark -> the lines of its sections, the first being what its header says beside the mark; None without any.

    A single text without a header owns the whole reply.
    """
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
        elif current is not None and len(marks) > 1 and _is_of_another(line, current, marks):
            current = None
        elif current is not None:
            sections[current].append(line)  # type: ignore[union-attr]
    if len(marks) == 1 and sections[marks[0]] is None:
        sections[marks[0]] = ["", *lines]
    return sections


def _is_of_another(line: str, mark: str, marks: Sequence[str]) -> bool:
    """Whether a line names another text, or what looks like a mark and is none of ours, or heads something else."""
    named = {found.lower() for found in _SIX.findall(line)} - {mark}
    alone = _MISWRITTEN.fullmatch(line)
    named |= {alone[1].lower()} - {mark} if alone else set()
    mixed = {found for found in named if not found.isdigit() and not found.isalpha()}
    if (named & set(marks) or mixed) and not _BOUND.match(line):
        return True
    return mark not in line.lower() and bool(_OTHER_HEADER.match(line))


def _read_text(
    lines: Sequence[str], section: list[str] | None, bound: Sequence[_RatingLine], mark: str, sheet: Sheet
) -> Read:
    found = [line for line in bound if line.mark == mark]
    plain = _rating_lines(section or [], _PLAIN)
    if not found and plain and not sheet.unbound:
        return Read(error="a rating without the text's mark, which may be a quotation")
    if not found and not plain and sheet.unbound:
        found = [line for line in _valued(lines) if line.mark == mark]
    if not found and section is None:
        return Read(error="no section for this text")
    beside = next((line.rationale for line in found if line.rationale), None)
    rationale = _rationale(section or [], plain if not found else [], sheet) or beside
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
    """The lines that give a rating; a label alone on its line takes the next line that says something.

    Not where several labels or several values stand one below the other: which belongs to which is not certain. Nor is
    the first item of a list a rating.
    """
    found = []
    for number, line in enumerate(lines):
        match = pattern.match(line)
        if match:
            value, mark = match["value"].strip(), match.groupdict().get("mark")
            before = next((line for line in reversed(lines[max(0, number - 3) : number]) if line.strip()), "")
            below, beyond = ([line for line in lines[number + 1 : number + 6] if line.strip()] + ["", ""])[:2]
            if not value:
                stacked = pattern.match(before)
                value = "" if _alone(beyond) or (stacked and not stacked["value"].strip()) else _alone(below)
            elif _LISTED.match(value) and _LISTED.match(below):
                value = "a list"
            found.append(_RatingLine(number, value.lstrip("*_`[(<\"' "), mark.lower() if mark else None))
    return found


def _valued(lines: Sequence[str]) -> list[_RatingLine]:
    """Lines such as `<mark>: 4/5`; without the scale only below a line that speaks of ratings, or below none."""
    found, speaks = [], True
    for number, line in enumerate(lines):
        match = _MARK_AND_VALUE.match(line)
        if match and (speaks or "/" in match["value"]):
            found.append(_RatingLine(number, match["value"], match["mark"].lower()))
        elif not match and line.strip():
            speaks = bool(re.search(r"\b(?:ratings?|scores?)\b", line, re.IGNORECASE))
    return found


def _tabled(lines: Sequence[str]) -> list[_RatingLine]:
    """The rows of tables that hold one mark, and a rating in the one column of that name."""
    found = []
    for number, row in table_rows(lines):
        marks = [cell for name, cell in row.items() if _OF_TEXTS.fullmatch(name) and _CELL_OF_MARK.fullmatch(cell)]
        values = [cell for name, cell in row.items() if re.fullmatch(_LABEL_OF_RATING, name)]
        reasons = [cell for name, cell in row.items() if re.fullmatch(_REASON, name)]
        if len(marks) == len(values) == 1:
            mark = _CELL_OF_MARK.fullmatch(marks[0])
            assert mark
            found.append(_RatingLine(number, values[0].lstrip("[(<【"), mark["mark"].lower(), "\n".join(reasons)))
    return found


def _alone(line: str) -> str:
    """A line that is nothing but a rating; no first item of a list, no sentence."""
    bare = line.strip().strip("*_`[]() \t")
    return line.strip() if re.fullmatch(r"\w++(?:\s*+/\s*+\d++)?", bare) else ""


def _value(text: str, sheet: Sheet, fractions: bool = False) -> float | str:
    """A rating on the scale, or the error that says why there is none."""
    if _NA.match(text):
        return _not_applicable(sheet)
    match = _NUMBER.fullmatch(_in_digits(text))
    if not match:
        return "no number where the rating should be"
    if match["of"] and int(match["of"]) != sheet.scale.high:
        return f"rated out of {match['of']}, not {sheet.scale.high}"
    if not _REMARK.fullmatch(match["rest"]) or _holds_a_number(match["rest"]):
        return "more than a rating where the rating should be"
    return _on_scale(float(match["number"]), sheet.scale, fractions)


def _holds_a_number(remark: str) -> bool:
    return bool(_OTHER_NUMBER.search(remark)) or any(category(letter) in ("No", "Nl") for letter in remark)


def _in_digits(text: str) -> str:
    """A rating that is spelt out, as `four`, `4 (four)` or `four out of five`, in digits; any other text as it is."""
    spelt = _SPELT_OUT.fullmatch(text)
    if not spelt:
        return text
    number, again, most = (int(float(_WORDS.get(part.lower(), part))) if part else None for part in spelt.groups()[:3])
    if again not in (None, number):
        return text
    return f"{number}/{most}" if most is not None else str(number)


def _not_applicable(sheet: Sheet) -> str:
    return NOT_APPLICABLE if sheet.may_be_na else "not applicable is no answer to this aspect"


def _on_scale(number: float, scale: Scale, fractions: bool = False) -> float | str:
    if not scale.low <= number <= scale.high:
        return f"not on the scale {scale.low} to {scale.high}"
    if number == int(number):
        return int(number)
    return number if fractions else f"{number:g} is not a whole number"


def _rationale(section: Sequence[str], plain: Sequence[_RatingLine], sheet: Sheet) -> str | None:
    """What a section says beside its ratings: what stands before the first of them, else all that follows.

    So what a judge says at the end of its reply is no part of the last rationale, unless that follows its rating:
    there nothing tells the two apart, and the rationale is kept whole with what comes after it.
    """
    marks = {text.mark for text in sheet.texts}
    patterns = (_BOUND, _MARK_FIRST) if sheet.unbound else (_BOUND,)
    bound = [line for pattern in patterns for line in _rating_lines(section, pattern) if line.mark in marks]
    rated = {line.number for line in (*plain, *bound)}
    first = min(rated, default=len(section))
    before = _told(section[:first]) if _told(section[1:first]) else None
    return before or _told([line for number, line in enumerate(section) if number not in rated])


def _told(lines: Sequence[str]) -> str | None:
    text = "\n".join(lines).strip()
    return _LABEL.sub("", text, count=1).strip(" \n*_`#") or None


def read_json(reply: str, sheet: Sheet) -> dict[str, Read]:
    """Ratings from the one JSON object of a reply, keyed by mark, bare or in a fence, with or without prose around."""
    reply = reply.lstrip("\ufeff")
    body = reply if reply.lstrip().startswith("{") or not sheet.thoughts else _THINK.sub("", reply)
    try:
        value, around = only_object(body)
    except (ValueError, RecursionError) as error:
        return {text.mark: Read(error=f"not JSON: {error}") for text in sheet.texts}
    beside = around.split("\n")
    return {
        text.mark: Read(error="a rating beside the JSON object")
        if any(_may_rate(line, text.mark) for line in beside)
        else _read_entry(value.get(text.mark), sheet)
        for text in sheet.texts
    }


def _may_rate(line: str, mark: str) -> bool:
    """Whether a line names a text and some number."""
    if mark not in line.lower():
        return False
    rest = _SIX.sub("", line)
    return bool(re.search(r"\d", rest)) or _holds_a_number(rest)


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
