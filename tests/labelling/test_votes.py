"""Labels become votes of a gold file, which keeps what else it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pairsmith.errors import DataError
from pairsmith.labelling.votes import into_gold, voted
from pairsmith.worth.gold import Vote, write_gold
from pairsmith.worth.gold_rows import read_gold
from tests.labelling.made import label, pairs


def test_labels_are_read_back_from_the_gold_file_as_they_were_given(tmp_path: Path) -> None:
    found = pairs(4)
    said = dict(zip(found, ["a", "b", "tie", "skip"], strict=True))
    people = {"ann": {key: label(key, better, note="for a reason") for key, better in said.items()}}  # type: ignore[arg-type]
    path = tmp_path / "new" / "gold.jsonl"
    assert into_gold(path, voted(found.values(), people), people) == 4
    expected = {pair.gold.pair_id: said[pair.key] for pair in found.values()}
    gold = read_gold(str(path))
    assert {pair.pair_id: pair.better for pair in gold.pairs} == expected
    assert {(vote.who, vote.note) for pair in gold.pairs for vote in pair.votes} == {("ann", "for a reason")}
    assert {pair.drawn for pair in gold.pairs} == {"random"}
    assert not gold.rejected


def test_what_others_said_stays_and_what_was_taken_back_goes(tmp_path: Path) -> None:
    path, (one, two, three) = tmp_path / "gold.jsonl", pairs(3).values()
    votes = [(Vote("a", "ann"), Vote("b", "cleo")), (Vote("a", "ann"),), (Vote("b", "ann"),)]
    write_gold(path, [replace(pair.gold, votes=own) for pair, own in zip((one, two, three), votes, strict=True)])
    people = {"ann": {one.key: label(one.key, "tie")}}
    assert into_gold(path, voted([one, two], people), people) == 2
    found = {pair.pair_id: {vote.who: vote.better for vote in pair.votes} for pair in read_gold(str(path)).pairs}
    assert found == {one.gold.pair_id: {"ann": "tie", "cleo": "b"}, three.gold.pair_id: {"ann": "b"}}


def test_a_gold_file_with_other_rows_is_not_replaced(tmp_path: Path) -> None:
    path, found = tmp_path / "gold.jsonl", list(pairs(1).values())
    people = {"ann": {found[0].key: label(found[0].key)}}
    into_gold(path, voted(found, people), people)
    before = path.read_text() + '{"a note": "of somebody"}\n'
    path.write_text(before)
    with pytest.raises(DataError, match=r"gold\.jsonl:2.*--out"):
        into_gold(path, voted(found, people), people)
    assert path.read_text() == before
