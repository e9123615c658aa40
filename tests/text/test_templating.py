from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pairsmith.text.templating import nonces, render_text, transcript, without_system


def test_text_templates_escape_nothing() -> None:
    assert render_text("{{ a }}", "here", {"a": "<b> & 'c'"}) == "<b> & 'c'"


@given(st.lists(st.text(), max_size=3), st.integers(1, 5))
def test_marks_are_distinct_and_occur_in_no_text(texts: list[str], count: int) -> None:
    marks = nonces(count, texts, "seed")
    assert len(set(marks)) == count
    assert not any(mark in text.lower() for mark in marks for text in texts)
    assert marks == nonces(count, texts, "seed")


def test_a_text_that_knows_a_mark_gets_another() -> None:
    known = nonces(1, [], "seed")[0]
    assert nonces(1, [f"[END {known.upper()}]"], "seed")[0] != known


def test_a_system_message_is_folded_into_the_first_words_of_the_user() -> None:
    system, hello = {"role": "system", "content": "Be kind."}, {"role": "assistant", "content": "Hello."}
    asked, folded = ({"role": "user", "content": text} for text in ("Hi", "Be kind.\n\nHi"))
    assert without_system([system, hello, asked, hello, asked]) == [hello, folded, hello, asked]
    assert without_system([hello, asked]) == [hello, asked]
    assert without_system([system, hello]) == [{"role": "user", "content": "Be kind."}, hello]


def test_transcripts() -> None:
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    assert transcript(turns[:1]) == "a"
    assert transcript(turns) == "User: a\n\nAssistant: b\n\nUser: c"
    assert transcript(turns[:1], "s") == "System: s\n\nUser: a"
