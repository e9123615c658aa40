"""Read a judge's free text (sections headed by marks, rating lines, tables) into one rating or null for each text."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import cache

from pairsmith.judging.readout_values import as_read, holds_a_number, stands_in, written_rating
from pairsmith.judging.readouts import MARK, Read, Scale, Sheet
from pairsmith.judging.wrapping import table_rows, without_thoughts

_DECORATION = r"[\s>#*_`\-•\[\]()【】]*+(?:\d{1,2}[.)]\s++)?[*_`]*+"
_DRESSING = r"[\s*_`\[\]()【】\"“”]*+"  # signs around a value; a minus sign is part of the value
_SEPARATOR = r"(?::|：|=|\bis\b|[-–—](?=\s))"
_LABEL_OF_RATING = r"(?:(?:my|the|final|overall|revised|updated|corrected|new)\s+){0,3}(?:rating|score)"
_MARK = rf"(?P<mark>{MARK})"  # anything that looks like a mark; whether it is one of the sheet's is checked later
_HEADER = re.compile(
    rf"^{_DECORATION}(?:text|answer|response)?{_DECORATION}{_MARK}\b[\s\])*_`#]*(?P<rest>.*)$", re.IGNORECASE
)
_VALUE = rf"{_DRESSING}{_SEPARATOR}{_DRESSING}(?P<value>.*)$"
_PLAIN = re.compile(rf"^{_DECORATION}{_LABEL_OF_RATING}{_VALUE}", re.IGNORECASE)
_BOUND = re.compile(
    rf"^{_DECORATION}{_LABEL_OF_RATING}(?:\s+(?:for|of))?(?:\s+text)?\W{{0,8}}{_MARK}{_VALUE}", re.IGNORECASE
)
# `Text <mark>, rating: 4` and `<mark>: 4/5`: trusted only where this cannot be a quotation from a text.
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
_ANY_MARK = re.compile(rf"\b{MARK}\b", re.IGNORECASE)
_MISWRITTEN = re.compile(r"\W{0,8}([0-9a-f]{4,8})\W{0,8}", re.IGNORECASE)
# A line that may head another text's section although its mark is misspelt or missing.
_OTHER_HEADER = re.compile(
    rf"^(?:\s*#+\s*+(?!{_DECORATION}(?:{_LABEL_OF_RATING}|rationale|reason|explanation|feedback|critique|justification))"
    r"|\W{0,8}(?:text|answer|response|completion|option)\b\W{0,8}\w{0,12}\W{0,8}$)",
    re.IGNORECASE,
)
# Whatever would look like a judge's own rating if the judge quoted it, and any rating that cannot be tied to a text.
_COULD_BE_A_RATING = re.compile(
    r"(?:rating|score)(?:\s+(?:for|of)\b[^\n:]{0,40})?[\s\W_]{0,100}+(?:is\b[\s\W_]{0,100}+)?"
    r"(?:\d|(?:one|two|three|four|five|six|seven|eight|nine|ten)\b|n/?\.?a\b|not applicable)",
    re.IGNORECASE,
)
# A rating without a label or a mark: alone on its line, or as the judges of MT-Bench write it, at the end of one.
_ALONE = re.compile(
    r"[\s*_`(\[]{0,8}(?P<value>(?:0|[1-9][0-9]{0,5})(?:\s*(?:/|out of)\s*(?P<of>[0-9]{1,6}))?)[\s*_`)\]]{0,8}\.?",
    re.IGNORECASE,
)
_BRACKETED = re.compile(r"\[\[\s*(?P<value>0|[1-9][0-9]{0,5})\s*\]\]")
# A value that takes back the rating above it: `Correction: 3`, `So my final answer: three`, `I would now say 3/5.`
_SECOND_THOUGHT = re.compile(
    rf"^{_DECORATION}(?:[^\W\d]{{1,20}},?[ \t]{{1,3}}){{0,5}}"
    r"(?:(?:correction|corrected|final|verdict|updated?|edit|revised|answer|grade|overall|instead|changed to)"
    rf"{_DRESSING}[:：=]|make (?:it|that)(?: an?)?\b|changed? (?:it|that|this) to){_DRESSING}(?P<value>[^\n]{{1,40}})$",
    re.IGNORECASE,
)
_OUT_OF_AT_END = re.compile(
    r"(?:^|[\s(:*_])(?P<value>[0-9]{1,6}\s?(?:/|out of)\s?[0-9]{1,6})[\s.!*_`)\]]{0,8}$", re.IGNORECASE
)
_OF_QUOTES = " \t*_`\"'“”<>.#-"
_FENCE = re.compile(r"(?:```|~~~)\w{0,20}")
_FRACTION = re.compile(r"\d\s*/\s*\d")
_FINISHED = re.compile(r"[.!?。！？][\s\"'”’)*_`]*\Z")
_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u2060\ufeff"))
_REASON = r"(?:rationale|reason|reasoning|explanation|feedback|critique|justification)"
_LISTED = re.compile(r"\W{0,8}\d{1,2}[.)]\s+\S")
_LABEL = re.compile(rf"^{_DECORATION}{_REASON}{_DECORATION}(?::|：)[\s*_`]*+", re.IGNORECASE)


@dataclass(frozen=True)
class _RatingLine:
    """A line that gives a rating, and the mark of its text. `rationale`: the reason, if the table's row holds one.

    `below`: the line of the value, where that is another than the label's.
    """

    number: int
    value: str
    mark: str | None
    rationale: str = ""
    below: int | None = None


def read_text(reply: str, sheet: Sheet, cut: bool = False) -> dict[str, Read]:
    """Ratings from free text. A section runs from the line that begins with a text's mark to the next such line.

    `Rating <mark>:` lines and rows of tables count wherever they are. Only if a text has none of these, the plain
    `Rating:` lines of its section count; only if it has none of these either, `<mark>: 4`; and at last, on a sheet of
    one text, a rating that stands alone (`_alone`). Lines that disagree make the rating null. The last line of a reply
    that was `cut` is ignored: a 1 may have been the beginning of a 10.
    """
    body = reply.replace("\r\n", "\n").replace("\r", "\n").translate(_INVISIBLE)
    if sheet.thoughts:
        body = without_thoughts(body)
    if cut:
        body = body.rpartition("\n")[0]
    labels = _labels_with(sheet.scale)
    lines = [labels.sub(r"\1", line) if "(" in line or "[" in line else line for line in body.split("\n")]
    sections = _sections(lines, [text.mark for text in sheet.texts])
    bound = [*_rating_lines(lines, _BOUND), *_ratings_in_tables(lines)]
    if sheet.unbound:
        bound += _rating_lines(lines, _MARK_FIRST)
    return {text.mark: _read_text(lines, sections[text.mark], bound, text.mark, sheet) for text in sheet.texts}


@cache
def _labels_with(scale: Scale) -> re.Pattern[str]:
    """A label of a rating that names the scale, as in `Rating (1-5):`; the first group is the label without it."""
    return re.compile(
        rf"^({_DECORATION}{_LABEL_OF_RATING}(?:\s+(?:for|of))?(?:\s+text)?(?:\W{{0,8}}{MARK})?)[\s*_]{{0,8}}"
        rf"[(\[]\s?{scale.low}\s?(?:[-–—]|to)\s?{scale.high}\s?[)\]](?=[*_\s]{{0,4}}[:：=])",
        re.IGNORECASE,
    )


def could_be_quoted(text: str) -> bool:
    """Whether a text contains something that would look like a judge's own rating if the judge quoted it."""
    return bool(_COULD_BE_A_RATING.search(text))


def _sections(lines: Sequence[str], marks: Sequence[str]) -> dict[str, list[str] | None]:
    """Mark -> the lines of its sections, beginning with the rest of its header line; None if it has no section.

    If there is a single text and no header, the whole reply is its section.
    """
    sections: dict[str, list[str] | None] = dict.fromkeys(marks)
    current: str | None = None
    for line in lines:
        found = _HEADER.match(line)
        if found and found["mark"].lower() in sections:
            rest = found["rest"]
            heads = not rest or rest[0] in ":：-–—("  # otherwise it is prose that begins with a mark
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
    """Whether a line does not belong to the section of `mark`: it names another text or an unknown mark, or is another
    header."""
    named = {found.lower() for found in _ANY_MARK.findall(line)} - {mark}
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
        found = [line for line in _marks_with_values(lines) if line.mark == mark]
    if not found and not plain and sheet.unbound and len(sheet.texts) == 1:
        plain = _alone(section or [], sheet)
    if not found and section is None:
        return Read(error="no section for this text")
    beside = next((line.rationale for line in found if line.rationale), None)
    rationale = _rationale(section or [], plain if not found else [], sheet) or beside
    values = {written_rating(line.value, sheet) for line in found or plain}
    if not values:
        return Read(rationale=rationale, error="no rating")
    if len(sheet.texts) == 1:
        labelled = [number for number, line in enumerate(lines) if _PLAIN.match(line) or _BOUND.match(line)]
        start = max(labelled, default=len(lines)) + 1
        values |= values_beside(lines[start:], sheet) if found else values_beside(lines, sheet, start)
    searched = [line if mark in line else "" for line in lines] if found else section or []
    if len(values) > 1 or _has_another(searched, {line.number for line in found or plain}, mark):
        return Read(rationale=rationale, error="ratings that contradict each other")
    return as_read(values.pop(), rationale)


def _has_another(lines: Sequence[str], placed: Container[int], mark: str) -> bool:
    """Whether any line but those `placed` may hold a rating. All are searched at once first: most replies have none."""
    others = [line.replace(mark, "") for number, line in enumerate(lines) if number not in placed]
    return could_be_quoted("\n".join(others)) and any(map(could_be_quoted, others))


def _rating_lines(lines: Sequence[str], pattern: re.Pattern[str]) -> list[_RatingLine]:
    """The lines that give a rating. For a label alone on its line, the value is the next line that is not blank.

    That is not done where several labels or several values stand one below the other, since it is not certain which
    belongs to which. The first item of a list is no rating either.
    """
    found = []
    for number, line in enumerate(lines):
        match = pattern.match(line)
        if match:
            value, mark = match["value"].strip(), match.groupdict().get("mark")
            before = next((line for line in reversed(lines[max(0, number - 3) : number]) if line.strip()), "")
            follow = [place for place in range(number + 1, min(number + 6, len(lines))) if lines[place].strip()]
            below, beyond = ([lines[place] for place in follow] + ["", ""])[:2]
            place = None
            if not value:
                above = pattern.match(before)
                stacked = _bare_rating(beyond) or (above and not above["value"].strip())
                value = "" if stacked else _bare_rating(below)
                place = follow[0] if value else None
            elif _LISTED.match(value) and _LISTED.match(below):
                value = "a list"
            mark = mark.lower() if mark else None
            found.append(_RatingLine(number, value.lstrip("*_`[(<\"' "), mark, below=place))
    return found


def _alone(lines: Sequence[str], sheet: Sheet) -> list[_RatingLine]:
    """The rating in a reply about one text that has neither a label nor a mark, where nothing else can be meant by it.

    It is all of the reply; or `[[4]]` at its end; or `4/5` or `4` in its last line, after a finished sentence. Another
    number in the reply, or the same or something alike in what the judge was shown, leaves in doubt which is meant.
    """
    said = [(number, line.strip()) for number, line in enumerate(lines) if line.strip()]
    if not said:
        return []
    if len(said) > 2 and _FENCE.fullmatch(said[0][1]) and _FENCE.fullmatch(said[-1][1]):
        said = said[1:-1]
    number, last = said[-1]
    before = "\n".join(line for _, line in said[:-1])
    bracketed = [*_BRACKETED.finditer("\n".join(line for _, line in said))]
    if bracketed:
        ends = last.rstrip(" .*_`").endswith(bracketed[0][0])
        certain = len(bracketed) == 1 and ends and not any("[[" in text for text in sheet.shown)
        return [_RatingLine(number, bracketed[0]["value"], None)] if certain else []
    alone = _ALONE.fullmatch(last)
    if not alone:
        return []
    if stands_in(alone["value"], sheet.shown):
        doubted = True
    elif not before:
        doubted = False
    elif not _FINISHED.search(before) or _has_a_number(before):
        doubted = True
    else:
        doubted = any(_FRACTION.search(text) if alone["of"] else _has_a_number(text) for text in sheet.shown)
    return [] if doubted else [_RatingLine(number, alone["value"], None)]


def values_beside(lines: Sequence[str], sheet: Sheet, start: int = 0) -> set[float | str]:
    """Ratings of the one text of a sheet that have no label of a rating: they may take back the one that has.

    They are `[[3]]`, unless the judge was shown such brackets; `3/5` alone on its line; `3` in the last line; and, from
    the line `start` on, what follows a label such as `Correction:`, or `3/5` at the end of a line before any rationale.
    A line of what the judge was shown is a quotation and takes nothing back.
    """
    if len(sheet.texts) > 1:
        return set()
    quoted = {line.strip(_OF_QUOTES) for text in sheet.shown for line in text.splitlines()}
    lines = ["" if line.strip(_OF_QUOTES) in quoted else line for line in lines]
    after = lines[start:]
    reasons = next((number for number, line in enumerate(after) if _LABEL.match(line)), len(after))
    said = [line.strip() for line in lines if line.strip()]
    found = [_SECOND_THOUGHT.match(line) for line in after] + [_OUT_OF_AT_END.search(line) for line in after[:reasons]]
    found += [match for line in said[:-1] if (match := _ALONE.fullmatch(line)) and match["of"]]
    found += [_ALONE.fullmatch(line) for line in said[-1:]]
    if not any("[[" in text for text in sheet.shown):
        found += _BRACKETED.finditer("\n".join(said))
    values = (written_rating(match["value"], sheet) for match in found if match)
    return {value for value in values if not isinstance(value, str)}


def _has_a_number(text: str) -> bool:
    return any(letter.isdigit() for letter in text) or holds_a_number(text)


def _marks_with_values(lines: Sequence[str]) -> list[_RatingLine]:
    """Lines such as `<mark>: 4/5`. Without the `/5`, they count only at the start or after a line about ratings."""
    found, speaks = [], True
    for number, line in enumerate(lines):
        match = _MARK_AND_VALUE.match(line)
        if match and (speaks or "/" in match["value"]):
            found.append(_RatingLine(number, match["value"], match["mark"].lower()))
        elif not match and line.strip():
            speaks = bool(re.search(r"\b(?:ratings?|scores?)\b", line, re.IGNORECASE))
    return found


def _ratings_in_tables(lines: Sequence[str]) -> list[_RatingLine]:
    """The rows of tables that contain exactly one mark, and a rating in the only column for ratings."""
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


def _bare_rating(line: str) -> str:
    """A line if it is nothing but a rating, otherwise an empty text: for a sentence or an item of a list."""
    bare = line.strip().strip("*_`[]() \t")
    return line.strip() if re.fullmatch(r"\w++(?:\s*+(?:/|out of)\s*+\d++)?", bare, re.IGNORECASE) else ""


def _rationale(section: Sequence[str], plain: Sequence[_RatingLine], sheet: Sheet) -> str | None:
    """A section's text without its ratings: what comes before the first of them or, if that is blank, all the rest.

    So a judge's closing remark is no part of the last rationale, except where the rationale follows its rating. There
    the two cannot be told apart, and both are kept.
    """
    marks = {text.mark for text in sheet.texts}
    patterns = (_BOUND, _MARK_FIRST) if sheet.unbound else (_BOUND,)
    bound = [line for pattern in patterns for line in _rating_lines(section, pattern) if line.mark in marks]
    rated = {number for line in (*plain, *bound) for number in (line.number, line.below) if number is not None}
    first = min(rated, default=len(section))
    before = _joined_rationale(section[:first]) if _joined_rationale(section[1:first]) else None
    return before or _joined_rationale([line for number, line in enumerate(section) if number not in rated])


def _joined_rationale(lines: Sequence[str]) -> str | None:
    """Lines as one text, without a label such as `Rationale:` at its start; None if nothing is left."""
    text = "\n".join(lines).strip()
    return _LABEL.sub("", text, count=1).strip(" \n*_`#") or None
