"""Gold is read in many forms, one vote a person, and nothing in its form tells which answer is better."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from pairsmith.errors import DataError
from pairsmith.sources.row_fields import Refused
from pairsmith.storage.schemas import Reason
from pairsmith.worth.gold import VERDICTS, Gold, GoldPair, Vote, as_line, as_row, gold_pair, united, write_gold
from pairsmith.worth.gold_rows import pair_in, read_gold
from tests.conftest import ROOT, shared

CHAT = ({"role": "user", "content": "Name a tree"},)


def better_text(pair: GoldPair) -> str:
    """The better answer of a pair, or its verdict where none is."""
    return {"a": pair.a, "b": pair.b}.get(pair.better, pair.better)


@pytest.mark.parametrize(
    ("row", "better"),
    [
        ({"prompt": "Name a tree", "a": "Oak", "b": "Cod", "better": "a"}, "Oak"),
        ({"prompt": "Name a tree", "a": "Cod", "b": "Oak", "better": "b"}, "Oak"),
        ({"messages": list(CHAT), "a": "Cod", "b": "Oak", "better": "tie"}, "tie"),
        ({"prompt": "Name a tree", "completions": ["Oak", "Cod"], "ratings": [4, 2]}, "Oak"),
        ({"prompt": "Name a tree", "a": "Cod", "b": "Oak", "ratings": {"a": 3, "b": 3}}, "tie"),
        ({"prompt": "Name a tree", "completions": [{"text": "Cod", "rating": 1}, {"text": "Oak", "rating": 2}]}, "Oak"),
        ({"prompt": "Name a tree", "chosen": "Oak", "rejected": "Cod", "label": "any", "score": 3}, "Oak"),
        ({"instruction": "Name", "input": "a tree", "response1": "Cod", "response2": "Oak", "annotator1": 2}, "Oak"),
        ({"input": "Name a tree", "output_1": "Oak", "output_2": "Cod", "label": 1, "instruction": ""}, "Oak"),
        ({"question": "Name a tree", "answer_a": "Cod", "answer_b": "Oak", "winner": "model_b"}, "Oak"),
        ({"prompt": "Name a tree", "a": "Oak", "b": "Cod", "votes": {"ann": "b", "bob": "a", "cy": "a"}}, "Oak"),
        ({"prompt": "Name a tree", "a": "Oak", "b": "Cod", "votes": ["b", "a"]}, "tie"),
        ({"prompt": "Name a tree", "a": "Oak", "b": "Cod", "votes": [{"who": "ann", "better": "skip"}]}, "skip"),
        (
            {
                "conversation_a": [*CHAT, {"role": "assistant", "content": "Oak"}],
                "conversation_b": [*CHAT, {"role": "assistant", "content": "Cod"}],
                "winner": "model_a",
            },
            "Oak",
        ),
    ],
)
def test_forms_of_a_row(row: dict[str, Any], better: str) -> None:
    pair = pair_in(row)
    assert better_text(pair) == better
    assert {pair.a, pair.b} == {"Oak", "Cod"}
    assert "tree" in pair.messages[-1]["content"]


@pytest.mark.parametrize(
    ("row", "reason", "says"),
    [
        ({"prompt": "Name", "a": "Oak", "b": " ", "better": "a"}, Reason.EMPTY, "answer in b is blank"),
        ({"prompt": "Name", "a": "Oak", "b": True, "better": "a"}, Reason.WRONG_TYPE, "answer in b .* bool"),
        ({"prompt": "Name", "a": "Oak", "b": "Oak ", "better": "a"}, Reason.IDENTICAL, "the same text"),
        ({"prompt": "Name", "a": "Oak", "b": "Cod"}, Reason.MISSING, "nothing says which answer is better"),
        ({"prompt": "Name", "a": "Oak", "b": "Cod", "better": "c"}, Reason.WRONG_TYPE, "better says 'c'"),
        ({"prompt": "Name", "a": "Oak", "b": "Cod", "ratings": [1]}, Reason.WRONG_TYPE, "ratings"),
        ({"prompt": "Name", "a": "Oak", "b": "Cod", "votes": [{"better": "a", "note": 1}]}, Reason.WRONG_TYPE, "note"),
        ({"a": "Oak", "b": "Cod", "better": "a"}, Reason.MISSING, "none of the columns"),
        ({"prompt": "Name", "better": "a"}, Reason.MISSING, "no two answers"),
        ({"prompt": "Name", "completions": ["x", "y", "z"], "better": "a"}, Reason.WRONG_TYPE, "3 answers"),
        ({"prompt": "Name", "a": "\ud800", "b": "Cod", "better": "a"}, Reason.UNREADABLE, "lone surrogate"),
    ],
)
def test_a_row_that_is_no_gold_says_why(row: dict[str, Any], reason: Reason, says: str) -> None:
    with pytest.raises(Refused, match=says) as refused:
        pair_in(row)
    assert refused.value.reason == reason


def test_the_documented_row_is_gold() -> None:
    text = (ROOT / "docs" / "calibration.md").read_text()
    row = json.loads(text.split("```json\n")[1].split("```")[0])
    pair = pair_in(row)
    assert [(vote.who, vote.note) for vote in pair.votes] == [("ann", "the other is a fish"), ("bob", None)]


texts = some.text(some.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: bool(text.strip()))
people = some.dictionaries(some.sampled_from(["ann", "bob", "cy", "gold"]), some.sampled_from(VERDICTS), min_size=1)


@given(texts, texts, people)
def test_the_sides_and_the_order_of_rows_change_nothing(one: str, other: str, said: dict[str, Any]) -> None:
    swapped = {"a": "b", "b": "a"}
    votes = [Vote(better, who) for who, better in said.items()]
    try:
        pair = gold_pair(CHAT, one, other, votes)
    except DataError:
        return
    turned = gold_pair(CHAT, other, one, [Vote(swapped.get(v.better, v.better), v.who) for v in reversed(votes)])  # type: ignore[arg-type]
    assert united([pair]) == united([turned])
    assert pair.pair_id == turned.pair_id
    assert better_text(pair) == better_text(turned)


@settings(max_examples=30)
@given(some.lists(some.tuples(texts, texts, people), min_size=1, max_size=4))
def test_what_is_written_is_read_again(rows: list[tuple[str, str, dict[str, Any]]]) -> None:
    pairs = []
    for one, other, said in rows:
        try:
            pairs.append(gold_pair(CHAT, one, other, [Vote(better, who) for who, better in said.items()]))
        except DataError:
            return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gold.jsonl"
        write_gold(path, pairs)
        found = read_gold(str(path))
    assert found.pairs == united(pairs)[0]
    assert not found.rejected
    assert found.name == "gold.jsonl"


def test_votes_of_one_person(tmp_path: Path) -> None:
    def vote(better: Any, at: str | None = None) -> GoldPair:
        return gold_pair(CHAT, "Oak", "Cod", [Vote(better, "ann", at=at)])

    for pairs in ([vote("a", "2026-01-01"), vote("b", "2026-01-02")], [vote("b", "2026-01-02"), vote("a")]):
        for rows in (pairs, pairs[::-1]):
            (pair,), repeated = united(rows)
            assert better_text(pair) == "Cod"
            assert repeated == 1
    (pair,), _ = united([vote("a"), vote("b")])
    assert pair.better == "tie"  # neither is later
    (pair,), _ = united([vote("skip"), vote("b")])
    assert better_text(pair) == "Cod"


def test_half_a_line_is_rejected_and_takes_no_other_vote_with_it(tmp_path: Path) -> None:
    path = tmp_path / "gold.jsonl"
    ann, bob = (as_line(gold_pair(CHAT, "Oak", "Cod", [Vote("a", who)])) for who in ("ann", "bob"))
    path.write_bytes(ann + b'{"messages": [{"ro\n' + bob)
    found = read_gold(str(path))
    assert [vote.who for vote in found.pairs[0].votes] == ["ann", "bob"]
    assert [(one.place, one.reason) for one in found.rejected] == [(f"{path}:2", Reason.UNREADABLE)]


def test_files_of_other_formats(tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text("prompt,chosen,rejected\nName a tree,Oak,Cod\nName a fish,,Oak\n")
    found = read_gold(str(table))
    assert [better_text(pair) for pair in found.pairs] == ["Oak"]
    assert [one.place for one in found.rejected] == [f"{table}:3"]
    rows = [{"prompt": f"Name {n}", "a": "x", "b": "y", "better": n} for n in (0, 1)]
    array = tmp_path / "pairs.json"
    array.write_text(json.dumps(rows))
    with pytest.raises(DataError, match="0 and 1"):
        read_gold(str(array))
    array.write_text(json.dumps([*rows, rows[0] | {"better": 2, "prompt": "Name 2"}]))
    assert sorted(better_text(pair) for pair in read_gold(str(array)).pairs) == ["tie", "x", "y"]
    array.write_text(json.dumps([{"prompt": "Name"}]))
    with pytest.raises(DataError, match="no row is a prompt with two answers"):
        read_gold(str(array))


def test_the_digest_is_of_what_is_said_and_not_of_who_said_it() -> None:
    ann, bob, other = (
        Gold("x", united([gold_pair(CHAT, "Oak", "Cod", [Vote(better, who)])])[0])  # type: ignore[arg-type]
        for better, who in (("a", "ann"), ("a", "bob"), ("b", "ann"))
    )
    assert ann.digest == bob.digest != other.digest
    assert "better" not in as_row(gold_pair(CHAT, "Oak", "Cod"))


def test_three_peoples_votes_are_one_majority() -> None:
    found = read_gold(str(shared("gold/pandalm_testset_3humans.json")))
    assert found.rows == 999
    assert len(found.pairs) > 800
    assert {len(pair.votes) for pair in found.pairs} == {3}
    share = sum(pair.agreement == 1 for pair in found.pairs) / len(found.pairs)
    assert 0.8 < share < 1
    assert len(found.rejected) == 60
    assert all(":row " in one.place for one in found.rejected)
