from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairsmith.judging.readout_json import read_json
from pairsmith.judging.readout_text import read_text
from tests.judging.sheets import MARKS, SHEET, ratings


@given(st.text())
def test_any_reply_gives_one_read_per_text(reply: str) -> None:
    for read in (read_text, read_json):
        found = read(reply, SHEET)
        assert tuple(found) == MARKS
        assert all(one.rating is None or 1 <= one.rating <= 5 for one in found.values())
        assert all((one.rating is None) == (one.error is not None) for one in found.values())


@pytest.mark.parametrize("reply", ['{"' + '\\"' * 100_000, "{" * 100_000, '{"a":[' + "," * 100_000, "| a |\n" * 30_000])
def test_odd_replies_are_read_in_no_time(reply: str) -> None:
    assert [one.rating for one in read_json(reply, SHEET).values()] == [None] * 3
    assert ratings(reply) == [None] * 3
