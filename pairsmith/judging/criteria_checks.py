"""Criteria that a program can decide: short forms, each of which stands for a check of `config.check_kinds`.

    words 50 to 100 | words at least 50 | words at most 100 | words 3, and so with lines, paragraphs and bullets
    contains "a word" | lacks "a word" | begins "Dear" | ends "?" | lower case | upper case | json

Words are what stands between white space, lines and paragraphs those that are not blank, and a bullet a line that
begins with `-`, `*`, `•` or a number and a dot or bracket. Quoted words are found in upper and lower case.
"""

from __future__ import annotations

import re
from functools import lru_cache

import regex  # type: ignore[import-untyped]
from pydantic import ValidationError

from pairsmith.config import Check, JsonSchema, Regex
from pairsmith.ids import strict_json
from pairsmith.judging.checks import judge_text
from pairsmith.judging.readouts import Read

MOST = 5_000  # of what is counted; the patterns write counts out
_COUNT = re.compile(
    r"(?P<unit>words?|lines?|paragraphs?|bullets?) (?:(?P<one>[0-9]{1,6})(?: to (?P<high>[0-9]{1,6}))?"
    r"|at least (?P<least>[0-9]{1,6})|at most (?P<most>[0-9]{1,6}))"
)
_QUOTED = re.compile(r'(?P<how>contains|lacks|begins|ends) (?P<words>".*")', re.DOTALL)
_BULLET = r"[^\S\n]*+(?:[-*•‣–]|[0-9]{1,4}[.)])[^\S\n]"
_LINE = r"[^\n]*+(?:\n|\Z)"
_OTHERS = rf"(?:(?!{_BULLET})[^\n]*+\n)*+"  # lines that are no bullets
# What comes before each of those that are counted, one of them, and what may come after the last.
_COUNTED = {
    "word": (r"\s*+", r"\S++", r"\s*+"),
    "line": (r"\s*+", r"\S[^\n]*+", r"\s*+"),
    "paragraph": (r"\s*+", r"\S[^\n]*+(?:\n[^\S\n]*+\S[^\n]*+)*+", r"\s*+"),
    "bullet": (_OTHERS, rf"{_BULLET}{_LINE}", rf"{_OTHERS}(?!{_BULLET})[^\n]*+"),
}  # fmt: skip
NAME = "criterion"  # of the checks that are made; it is shown nowhere


@lru_cache(maxsize=4096)
def check_of(form: str) -> Check:
    """The check that a form stands for. Raises ValueError that says what is wrong with the form."""
    plain = form.strip()
    try:
        if plain == "json":
            return JsonSchema(name=NAME, kind="json-schema", schema_={})
        if plain in ("lower case", "upper case"):
            other = r"[\p{Lu}\p{Lt}]" if plain == "lower case" else r"\p{Ll}"
            return Regex(name=NAME, kind="regex", pattern=other, negate=True)
        if found := _COUNT.fullmatch(plain):
            return _counted(found)
        if found := _QUOTED.fullmatch(plain):
            return _quoted(found)
    except ValidationError as error:
        raise ValueError(f"{form!r}: {error.errors()[0]['msg']}") from None
    raise ValueError(f"{form!r:.80} is none of the forms of a check")


def decided(form: str, text: str) -> Read:
    """Whether a text passes: rating and score 1 or 0, or the error that says why it could not be decided."""
    return judge_text(check_of(form), text, (), None, {})


def _counted(found: re.Match[str]) -> Regex:
    one, high, least, most = (
        None if found[name] is None else int(found[name]) for name in ("one", "high", "least", "most")
    )
    low = one if one is not None else least or 0
    top = high if high is not None else one if one is not None else most
    if top is not None and top < low:
        raise ValueError(f"{found[0]!r}: the first number is the larger one")
    if max(low, top or 0) > MOST:
        raise ValueError(f"{found[0]!r}: the numbers go up to {MOST}")
    before, counted, after = _COUNTED[found["unit"].removesuffix("s")]
    pattern = rf"(?:{before}{counted}){{{low},{'' if top is None else top}}}+{after}"
    return Regex(name=NAME, kind="regex", pattern=pattern, whole=True)


def _quoted(found: re.Match[str]) -> Regex:
    words = strict_json(found["words"])
    if not isinstance(words, str) or not words.strip():
        raise ValueError(f"{found[0]!r:.80} names no words")
    begin, end = r"\A\s*+", r"\s*\Z"
    literal = regex.escape(words.strip(), literal_spaces=True)
    pattern = {"begins": begin + literal, "ends": literal + end}.get(found["how"], literal)
    return Regex(name=NAME, kind="regex", pattern=pattern, negate=found["how"] == "lacks", ignore_case=True)
