"""What rows share is computed once, and every row still gets all of its tokens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pairsmith.llms.local.prefixes import WORTHWHILE, pieces, shared_prefix

# rows that share much, little or nothing: a few runs of equal tokens, and an end of their own
ROWS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(1, 2), st.sampled_from([1, 5, 31, 32, 40])), max_size=3),
        st.lists(st.integers(1, 3), min_size=1, max_size=3),
    ).map(lambda parts: [token for token, times in parts[0] for _ in range(times)] + parts[1]),
    min_size=1,
    max_size=8,
)


@given(ROWS)
def test_pieces_put_together_are_the_rows(rows: list[list[int]]) -> None:
    rows = sorted(rows)
    known = shared_prefix(rows)
    had = [row[:known] for row in rows]
    *inner, leaves = pieces(rows, known)
    for level in [*inner, leaves]:
        for piece in level:
            for place in range(piece.first, piece.last):
                assert len(had[place]) == piece.start
                had[place] = had[place] + rows[piece.first][piece.start : piece.end]
    assert had == rows
    assert [piece.first for piece in leaves] == list(range(len(rows)))
    assert all(piece.end > piece.start for piece in leaves)  # a token to predict the answer from
    shared = [piece for level in inner for piece in level]
    assert all(piece.end - piece.start >= WORTHWHILE and piece.last > piece.first + 1 for piece in shared)


def test_a_tree_of_two_levels_computes_each_part_once() -> None:
    rubric, texts = [9] * 300, [[prompt] * 100 + [5] * 40 + [number] * 50 for prompt in (1, 2) for number in (3, 4)]
    rows = sorted(rubric + text for text in texts)
    computed = sum(piece.end - piece.start for level in pieces(rows) for piece in level)
    assert computed == 300 + 2 * 140 + 4 * 50
    assert sum(map(len, rows)) == 4 * 490


def test_shared_prefixes_leave_something_to_predict_from() -> None:
    long = list(range(100))
    assert shared_prefix([[*long, 1], [*long, 2]]) == 100
    assert shared_prefix([long, long]) == 99
    assert shared_prefix([long]) == 0
    assert shared_prefix([[1, 2, 3], [1, 2, 4]]) == 0
