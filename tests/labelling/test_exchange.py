"""Labels go to Argilla and Label Studio and come back as they were; what is wrong in their files is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairsmith.errors import DataError
from pairsmith.labelling.drawing import Candidate
from pairsmith.labelling.exchange import TOOLS, Imported, read_foreign, take_in
from pairsmith.labelling.foreign import ForeignLabel
from pairsmith.labelling.journal import labels_in
from pairsmith.labelling.pairs import LabelPair, VersionPairs
from pairsmith.worth.gold import VERDICTS, Vote
from tests.labelling.made import pairs

NOTES = st.none() | st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
NAMES = st.text(st.characters(categories=["L", "N"], include_characters="@. "), min_size=1, max_size=10)
VOTES = st.lists(
    st.builds(Vote, st.sampled_from(VERDICTS), NAMES, NOTES, st.none() | st.just("2026-01-02T03:04:05+00:00")),
    max_size=4,
    unique_by=lambda vote: vote.who,
)


def with_votes(votes: list[list[Vote]]) -> list[LabelPair]:
    found = pairs(len(votes)).values()
    return [replace(pair, gold=replace(pair.gold, votes=tuple(own))) for pair, own in zip(found, votes, strict=True)]


@pytest.mark.parametrize("tool", TOOLS)
@settings(max_examples=30)
@given(votes=st.lists(VOTES, max_size=4))
def test_what_goes_out_comes_back(tool: str, votes: list[list[Vote]]) -> None:
    given_ = with_votes(votes)
    found = set(TOOLS[tool].imported(json.loads(TOOLS[tool].exported(given_))))
    tells_when = tool == "label-studio"
    assert found == {
        ForeignLabel(pair.key, vote.who, vote.better, vote.note or "", vote.at if tells_when else None, "random")
        for pair in given_
        for vote in pair.gold.votes
    }


def test_labels_come_into_the_journals_of_those_who_gave_them_once(tmp_path: Path) -> None:
    given_ = with_votes([[Vote("a", "ann", "why"), Vote("tie", "bob")], [Vote("skip", "ann")], []])
    file = tmp_path / "records.json"
    file.write_text(TOOLS["argilla"].exported(given_), encoding="utf-8")
    version = VersionPairs("v0001", [])
    version.__dict__["candidates"] = [Candidate(0, given_[0].key)]
    assert take_in(tmp_path, read_foreign("argilla", file), version) == Imported(taken=2, known=0, absent=1)
    assert take_in(tmp_path, read_foreign("argilla", file), version) == Imported(taken=0, known=2, absent=1)
    people = labels_in(tmp_path)
    found = {(who, pair, one.better, one.note) for who, said in people.items() for pair, one in said.items()}
    assert found == {("ann", given_[0].key, "a", "why"), ("bob", given_[0].key, "tie", "")}


def test_a_user_whom_argilla_alone_knows_is_named_by_the_uuid() -> None:
    record = {"id": "k", "fields": {}, "responses": {"better": [{"value": "b", "user_id": "11-22"}]}}
    assert list(TOOLS["argilla"].imported([record])) == [ForeignLabel("k", "11-22", "b")]


def test_label_studios_own_accounts_cancelled_tasks_and_pairwise_tags() -> None:
    pairwise = {"from_name": "pw", "to_name": "a,b", "type": "pairwise", "value": {"selected": "right"}}
    annotations: list[dict[str, Any]] = [
        {"completed_by": {"id": 3, "email": "ann@example.org"}, "result": [pairwise]},
        {"completed_by": 7, "was_cancelled": True, "result": []},
    ]
    task = {"id": 1, "data": {"key": "k"}, "annotations": annotations, "predictions": []}
    assert list(TOOLS["label-studio"].imported([task])) == [
        ForeignLabel("k", "ann@example.org", "b"),
        ForeignLabel("k", "label-studio 7", "skip"),
    ]


@pytest.mark.parametrize(
    ("tool", "content", "told"),
    [
        ("argilla", "{", "line 1"),
        ("argilla", "{}", "no list of Argilla's records"),
        ("argilla", '[{"fields": {}}]', "record 1: it has no id"),
        ("argilla", '[{"id": "k", "responses": {"better": [{"value": "b"}]}}]', "record 1.*no user_id"),
        (
            "argilla",
            '[{"id": "k", "responses": {"better": [{"value": 4, "user_id": "u"}]}}]',
            "1: 4 is no verdict",
        ),
        ("label-studio", '[{"better": "a", "annotator": 1}]', "task 1: data has no key; export as JSON"),
        ("label-studio", '[{"data": {"key": "k"}, "annotations": [{"result": []}]}]', "task 1: None is no verdict"),
        ("label-studio", '[{"data": {"key": "k"}, "annotations": [{"result": [3]}]}]', "task 1: value is no object"),
        ("label-studio", "[3]", "task 1: data is no object"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place(tmp_path: Path, tool: str, content: str, told: str) -> None:
    file = tmp_path / "other.json"
    file.write_text(content)
    with pytest.raises(DataError, match=rf"other\.json: .*{told}"):
        read_foreign(tool, file)
