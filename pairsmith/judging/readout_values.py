"""Read a single rating, written by a judge or found in data: a number on the scale, or an error that says why not."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fractions import Fraction
from typing import Any
from unicodedata import category, normalize

from pairsmith.judging.readouts import NOT_APPLICABLE, Read, Scale, Sheet

_NA = re.compile(r"^(?:n/?\.?a\.?|not applicable)\b", re.IGNORECASE)
_NUMBER = re.compile(
    r"(?P<number>[+-]?\d{1,6}(?:\.\d{1,6})?)(?:\s*+(?:\(\s*+)?(?:/|out of)\s*+(?P<of>\d{1,6})\)?)?(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_PLAIN_NUMBER = re.compile(r"[+-]?[0-9]{1,20}(?:\.[0-9]{1,30})?")
# What may follow a rating on its line: nothing, or a remark that is separated from it and contains no other number.
_REMARK = re.compile(r"\s*+(?:stars?|points?)?[\s\])>*_`\"']*+(?:[-–—]\s++(?=\S)\D*|[.;:!(\[,]\D*)?", re.IGNORECASE)
_WORDS = {word: n for n, word in enumerate("zero one two three four five six seven eight nine ten".split())}
_SPELT = rf"(\d{{1,6}}(?:\.0)?|{'|'.join(_WORDS)})"
# `four`, `4 (four)`, `four out of five`: only as the whole text, since many sentences begin with `one`.
_SPELT_OUT = re.compile(
    rf"{_SPELT}(?:\s*[(\[]\s*{_SPELT}\s*[)\]])?(?:\s*(?:/|(?:out )?of)\s*{_SPELT})?[\s.*_`\])】\"”]*",
    re.IGNORECASE,
)
# A second number beside the rating, as far as English words and Unicode show; it is then not clear which one counts.
_OTHER_NUMBER = re.compile(
    rf"\b(?:{'|'.join(word for word in _WORDS if word != 'one')}|eleven|twelve|half|halves|quarter|minus|plus)\b"
    r"|(?:[(\[]|\b(?:that|actually|or|rather|to|say|is))\s*\bone\b|\b(?-i:[IVX]{2,})\b",
    re.IGNORECASE,
)

# Numbers as words, from zero on: English, German, French, Spanish.
_NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty",
    "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn "
    "achtzehn neunzehn zwanzig",
    "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dix-sept dix-huit "
    "dix-neuf vingt",
    "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis diecisiete "
    "dieciocho diecinueve veinte",
)
_ROMAN = {2: "II", 3: "III", 4: "IV", 6: "VI", 7: "VII", 8: "VIII", 9: "IX"}  # not I, V and X, which are letters too
# These are articles too, so they are numbers only where a line has nothing else.
_ARTICLES = re.compile(r"^[^\w\n]*(?:un|une|una|ein|eine)[^\w\n]*$", re.MULTILINE | re.IGNORECASE)
_BY = r"\s*(?:[/÷:⁄]|divided by|over|out of|of|geteilt durch|von|divisé par|sur|dividido (?:entre|por)|entre|de)\s*"
_RATIO = re.compile(rf"(\d{{1,6}}){_BY}(\d{{1,6}})|frac\s*\{{(\d{{1,6}})\}}\s*\{{(\d{{1,6}})\}}", re.IGNORECASE)
_DECIMAL = re.compile(r"(\d{0,6})[.,](\d{1,6})(?!\d)")
_PERCENT = re.compile(r"(\d{1,6})\s*(?:%|percent|per cent|prozent|pour cent|por ciento)", re.IGNORECASE)


def read_given(value: Any, sheet: Sheet, fractions: bool = False) -> Read:
    """A rating from data: a number, or text that holds one, read by the rules for a judge's reply.

    `fractions`: whether it may be between two whole numbers.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return Read(error="no rating")
    if isinstance(value, str):
        text = value.strip()
        number = float(text) if _PLAIN_NUMBER.fullmatch(text) else None
        found = written_rating(text, sheet, fractions) if number is None else _on_scale(number, sheet.scale, fractions)
        return as_read(found)
    return as_read(number_on_scale(value, sheet.scale, fractions))


def written_rating(text: str, sheet: Sheet, fractions: bool = False) -> float | str:
    """A rating in a text as a number on the scale, or the error that says why there is none."""
    if _NA.match(text):
        return not_applicable(sheet)
    match = _NUMBER.fullmatch(_in_digits(text))
    if not match:
        return "no number where the rating should be"
    if match["of"] and int(match["of"]) != sheet.scale.high:
        return f"rated out of {match['of']}, not {sheet.scale.high}"
    if not _REMARK.fullmatch(match["rest"]) or holds_a_number(match["rest"]):
        return "more than a rating where the rating should be"
    return _on_scale(float(match["number"]), sheet.scale, fractions)


def number_on_scale(value: object, scale: Scale, fractions: bool = False) -> float | str:
    """A JSON value as a rating on the scale, or the error that says why it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"the rating is a {type(value).__name__}, not a number"
    return _on_scale(value, scale, fractions)


def holds_a_number(remark: str) -> bool:
    """Whether a remark contains a number in any form. The digits before it may then not be the rating."""
    return bool(_OTHER_NUMBER.search(remark)) or any(category(letter) in ("No", "Nl") for letter in remark)


def stands_in(value: str, texts: Iterable[str]) -> bool:
    """Whether texts hold a number, in digits or as a word, or the value of a fraction.

    A judge that writes nothing but that number may be answering the question in place of rating the answer.

    >>> stands_in("2", ["How many moons has Mars?", "Two."]), stands_in("4/5", ["Simplify 8/10."])
    (True, True)
    """
    number, of = [*re.findall(r"\d+", value), ""][:2]
    plain = [normalize("NFKC", text) for text in texts]
    if of:
        return int(of) > 0 and any(Fraction(int(number), int(of)) in _fractions(text) for text in plain)
    wanted = _number_pattern(int(number))
    return any(wanted.search(text) or (int(number) == 1 and _ARTICLES.search(text)) for text in plain)


def _number_pattern(number: int) -> re.Pattern[str]:
    words = [said[number] for said in map(str.split, _NUMBER_WORDS) if number < len(said)]
    digits = rf"(?<![A-Za-z0-9])(?<!\d\.)0{{0,5}}{number}(?:\.0{{1,5}})?(?!\d|\.\d)"
    roman = rf"|\b{_ROMAN[number]}\b" if number in _ROMAN else ""
    spelt = "".join(rf"|\b(?i:{word})\b" for word in words if word != "un")
    return re.compile(digits + spelt + roman)


def _fractions(text: str) -> Iterable[Fraction]:
    """The values of the fractions, decimals and percentages in a text."""
    for found in _RATIO.finditer(text):
        number, of = (int(part) for part in found.groups() if part)
        yield from [Fraction(number, of)] if of else []
    yield from (Fraction(f"{found[1] or 0}.{found[2]}") for found in _DECIMAL.finditer(text))
    yield from (Fraction(int(found[1]), 100) for found in _PERCENT.finditer(text))


def _in_digits(text: str) -> str:
    """Turn a rating that is spelt out (`four`, `4 (four)`, `four out of five`) into digits; leave other texts as is."""
    spelt = _SPELT_OUT.fullmatch(text)
    if not spelt:
        return text
    number, again, most = (int(float(_WORDS.get(part.lower(), part))) if part else None for part in spelt.groups()[:3])
    if again not in (None, number):
        return text
    return f"{number}/{most}" if most is not None else str(number)


def not_applicable(sheet: Sheet) -> str:
    """The error for a rating that a judge calls not applicable; not every aspect allows that."""
    return NOT_APPLICABLE if sheet.may_be_na else "not applicable is no answer to this aspect"


def _on_scale(number: float, scale: Scale, fractions: bool = False) -> float | str:
    if not scale.low <= number <= scale.high:
        return f"not on the scale {scale.low} to {scale.high}"
    if number == int(number):
        return int(number)
    return number if fractions else f"{number:g} is not a whole number"


def as_read(value: float | str, rationale: str | None = None) -> Read:
    """A `Read` made from a rating, or from the error that stands in its place."""
    if isinstance(value, str):
        return Read(rationale=rationale, error=value)
    return Read(int(value) if value == int(value) else None, float(value), rationale)
