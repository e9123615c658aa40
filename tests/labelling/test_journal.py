"""What people said is kept, the last word counts, and half a line does no harm."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pairsmith.errors import ConfigError, DamagedFile, RunError
from pairsmith.labelling.journal import check_name, journal_of, labels_in, open_journal, read_labels
from tests.labelling.made import label

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
BETTER = st.sampled_from(["a", "b", "tie", "skip", None])
SAID = st.lists(st.tuples(st.sampled_from("uvwxyz"), BETTER, TEXTS), max_size=15)


@settings(max_examples=15)
@example(said=[("u", "a", "one\u2028two\x85three\r")], who="ann")
@given(said=SAID, who=TEXTS.map(str.strip).filter(lambda name: name and name.isprintable()))
def test_the_last_label_of_a_pair_counts_also_after_the_journal_was_left(
    tmp_path_factory: pytest.TempPathFactory, said: list[tuple[str, str | None, str]], who: str
) -> None:
    folder, who = tmp_path_factory.mktemp("labels"), check_name(who)
    for pair, better, note in said:
        with open_journal(folder, who) as journal:
            journal.add(label(pair, better, who, note=note))  # type: ignore[arg-type]
    last = {pair: (better, note) for pair, better, note in said}
    expected = {pair: value for pair, value in last.items() if value[0]}
    found = labels_in(folder)
    assert {pair: (one.better, one.note) for pair, one in found.get(who, {}).items()} == expected
    if said:
        assert len(list(read_labels(journal_of(folder, who)))) == len(said)


@settings(max_examples=20)
@given(cut=st.integers(1, 60))
def test_half_a_line_is_cut_off_and_the_rest_stays(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    folder = tmp_path_factory.mktemp("labels")
    with open_journal(folder, "ann") as journal:
        journal.add(label("one"))
        journal.add(label("two"))
    os.truncate(journal.path, journal.path.stat().st_size - cut)
    assert list(labels_in(folder)["ann"]) == ["one"]
    with open_journal(folder, "ann") as journal:
        assert list(journal.now) == ["one"]
        journal.add(label("three"))
    assert list(labels_in(folder)["ann"]) == ["one", "three"]


def test_a_line_that_is_no_label_is_named(tmp_path: Path) -> None:
    with open_journal(tmp_path, "ann") as journal:
        journal.add(label("one"))
    whole = journal.path.read_text()
    for wrong in ("what", "{}", whole.strip().replace('"a"', '"left"', 1), whole.strip().replace("10", '"10"')):
        journal.path.write_text(f"{whole}{wrong}\n")
        with pytest.raises(DamagedFile, match=r"by-ann\.jsonl:2: no label"):
            labels_in(tmp_path)


def test_a_label_that_cannot_be_saved_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with open_journal(tmp_path, "ann") as journal:
        journal.add(label("one"))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space"):
                journal.add(label("two"))
        assert list(journal.now) == list(labels_in(tmp_path)["ann"]) == ["one"]
        journal.add(label("three"))
    assert list(labels_in(tmp_path)["ann"]) == ["one", "three"]


def test_one_person_labels_once_at_a_time(tmp_path: Path) -> None:
    with (
        open_journal(tmp_path, "ann"),
        open_journal(tmp_path, "bob"),
        pytest.raises(RunError, match="ann is labelling already"),
        open_journal(tmp_path, "ann"),
    ):
        pass


def test_half_a_character_in_a_note_loses_nothing(tmp_path: Path) -> None:
    with open_journal(tmp_path, "ann") as journal:
        journal.add(label("one", note="so \ud83d it is"))
        assert journal.now == labels_in(tmp_path)["ann"]
        assert journal.now["one"].note == "so ? it is"


@pytest.mark.parametrize("who", ["", "  ", "x" * 61, "a\nb", "a\udc80"])
def test_a_name_that_cannot_be_is_refused(who: str) -> None:
    with pytest.raises(ConfigError, match="--by"):
        check_name(who)


def test_no_name_leads_out_of_the_folder(tmp_path: Path) -> None:
    assert {journal_of(tmp_path, who).parent for who in ("../x", "a/b", "..", "C:\\x")} == {tmp_path}
