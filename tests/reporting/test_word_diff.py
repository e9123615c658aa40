from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairsmith.ids import short_id
from pairsmith.reporting.word_diff import MAX_CELLS, Run, diff_words

TEXTS = st.text(alphabet=st.sampled_from("ab \n\t.éß中\u2028"), max_size=60) | st.text(max_size=40)


@given(TEXTS, TEXTS)
def test_joined_words_of_a_diff_give_back_each_text(first: str, second: str) -> None:
    one, other = diff_words(first, second)
    assert "".join(run.text for run in one) == first
    assert "".join(run.text for run in other) == second
    same = ["".join(run.text for run in runs if run.same).split() for runs in (one, other)]
    assert same[0] == same[1]
    assert diff_words(first, first)[0] == ([Run(True, first)] if first else [])


def test_a_diff_marks_the_words_that_one_text_has_alone() -> None:
    first, second = diff_words("The quick brown fox jumps over it.", "The quick red fox jumps over it.")
    assert first == [Run(True, "The quick "), Run(False, "brown"), Run(True, " fox jumps over it.")]
    assert second == [Run(True, "The quick "), Run(False, "red"), Run(True, " fox jumps over it.")]
    assert diff_words("same words", "same\nwords")[1] == [Run(True, "same\nwords")]
    assert diff_words("", "new") == ([], [Run(False, "new")])


def test_words_that_two_texts_share_by_chance_are_no_likeness() -> None:
    first, _ = diff_words("Cats sleep on a warm mat all day", "Rockets fly to a cold moon every year")
    assert first == [Run(False, "Cats sleep on a warm mat all day")]


@pytest.mark.parametrize("letters", [1, 5])
def test_a_diff_of_long_texts_is_bounded_in_time(letters: int) -> None:
    def words(seed: str, count: int) -> str:
        return " ".join(short_id(seed, n)[:letters] for n in range(count))

    count = 100_000 // (letters + 1)
    started = time.process_time()
    for first, second in (("a", "b"), ("a", "a")):
        one, other = diff_words("Same head " + words(first, count), "Same head " + words(second, count) + " tail")
        assert one[0].same
        assert "".join(run.text for run in other).endswith(" tail")
    assert time.process_time() - started < 5
    assert count**2 > MAX_CELLS or letters > 1  # both ways of comparing were taken
