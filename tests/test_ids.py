from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairsmith import ids


def test_ids_do_not_change_between_processes() -> None:
    code = "from pairsmith import ids; print(ids.prompt_id([{'role': 'user', 'content': 'é'}], None), ids.draw('a', 1))"
    told = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert told == {f"{ids.prompt_id([{'role': 'user', 'content': 'é'}], None)} {ids.draw('a', 1)}\n"}


@given(st.text(), st.text())
def test_prompts_are_one_where_their_normal_forms_are(left: str, right: str) -> None:
    same = ids.normalised(left) == ids.normalised(right)
    chats = [[{"role": "user", "content": text}] for text in (left, right)]
    assert (ids.prompt_id(chats[0], None) == ids.prompt_id(chats[1], None)) == same


def test_line_ends_and_accents_do_not_make_a_new_prompt() -> None:
    one, other = ids.prompt_id([{"role": "user", "content": "e\u0301\r\nx "}], None), "é\nx"
    assert one == ids.prompt_id([{"role": "user", "content": other}], None)
    assert one != ids.prompt_id([{"role": "user", "content": other}], "Be brief.")


@given(st.integers(), st.text())
def test_draws_are_in_range(number: int, text: str) -> None:
    assert 0 <= ids.draw(number, text) < 1
    assert 0 <= ids.seed_of(number, text) < 2**31


def test_nan_has_no_fingerprint() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        ids.fingerprint(float("nan"))


@pytest.mark.parametrize(
    ("text", "why"),
    [('{"a": 1, "a": 2}', "twice"), ("[NaN]", "NaN is not JSON"), ("-Infinity", "-Infinity is not JSON")],
)
def test_json_that_readers_take_in_different_ways_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        ids.strict_json(text)
    assert ids.strict_json('{"a": [1.5, null], "b": 2}') == {"a": [1.5, None], "b": 2}
