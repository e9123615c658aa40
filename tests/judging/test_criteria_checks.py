"""The forms of checks that an author of criteria can write, held to Python's own counting and looking."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairsmith.judging.criteria_checks import check_of, decided

TEXTS = st.text(alphabet="ab \n\t-*•.1)AÄß", max_size=40)
_BULLET = re.compile(r"[^\S\n]*(?:[-*•‣–]|[0-9]{1,4}[.)])[^\S\n]")
COUNTS: dict[str, Callable[[str], int]] = {
    "words": lambda text: len(text.split()),
    "lines": lambda text: sum(bool(line.strip()) for line in text.split("\n")),
    "paragraphs": lambda text: len([part for part in re.split(r"\n[^\S\n]*\n", text) if part.strip()]),
    "bullets": lambda text: sum(bool(_BULLET.match(line)) for line in text.split("\n")),
}


@pytest.mark.parametrize("unit", COUNTS)
@given(text=TEXTS, low=st.integers(0, 4), more=st.integers(0, 3))
def test_counts_are_those_of_python(unit: str, text: str, low: int, more: int) -> None:
    count, high = COUNTS[unit](text), low + more
    assert decided(f"{unit} {low} to {high}", text).rating == int(low <= count <= high)
    assert decided(f"{unit} at least {low}", text).rating == int(count >= low)
    assert decided(f"{unit} at most {low}", text).rating == int(count <= low)
    assert decided(f"{unit} {low}", text).rating == int(count == low)


@given(text=TEXTS, word=st.text(alphabet="ab.)*A", min_size=1, max_size=3))
def test_words_are_found_in_any_case_and_stand_for_themselves(text: str, word: str) -> None:
    quoted, low, plain = json.dumps(word), word.lower(), text.lower()
    assert decided(f"contains {quoted}", text).rating == int(low in plain)
    assert decided(f"lacks {quoted}", text).rating == int(low not in plain)
    assert decided(f"begins {quoted}", text).rating == int(plain.strip().startswith(low))
    assert decided(f"ends {quoted}", text).rating == int(plain.strip().endswith(low))


@pytest.mark.parametrize(
    ("form", "passes", "fails"),
    [("lower case", "a 1 ß", "aB"), ("upper case", "A 1", "Ab"), ("json", '```json\n{"a": 1}\n```', "{a}")],
)
def test_letters_and_json(form: str, passes: str, fails: str) -> None:
    assert (decided(form, passes).rating, decided(form, fails).rating) == (1, 0)


@pytest.mark.parametrize(
    ("form", "wrong"),
    [
        ("words 5 to 2", "the first number is the larger one"),
        ("words at most 9000", "the numbers go up to 5000"),
        ('contains ""', "names no words"),
        ("contains Paris", "none of the forms"),
        ("short", "none of the forms"),
        ("words", "none of the forms"),
    ],
)
def test_what_is_no_form_is_refused(form: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        check_of(form)
