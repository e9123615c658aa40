"""Rows of one prompt that stand anywhere in the sources."""

from __future__ import annotations

import itertools
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairsmith.config import Prompts, Source
from pairsmith.errors import DataError, RunError
from pairsmith.sources.given_completions import carried
from pairsmith.sources.merging import MOST_LABELS, Placed, gather
from pairsmith.sources.prompts import read_prompts
from pairsmith.sources.row_fields import Refused
from pairsmith.sources.sharding import shard_prompts
from pairsmith.storage.schemas import Reason
from pairsmith.storage.store import Store
from tests.conftest import ROOT


def row(prompt: str, *texts: str, place: str = "", **fields: Any) -> Placed:
    brought = json.dumps({"completions": [{"member": "m", "text": text} for text in texts]}) if texts else None
    base = {"prompt_id": prompt, "messages": prompt, "system_prompt": None, "source": "s", "reference": None}
    return place or f"{prompt}{texts}", base | {"extras": brought} | fields


def split(found: Iterator[Placed]) -> tuple[list[dict[str, Any]], list[Refused]]:
    listed = [what for _, what in found]
    return [one for one in listed if isinstance(one, dict)], [one for one in listed if isinstance(one, Refused)]


def texts(prompt: dict[str, Any]) -> list[str]:
    return [item["text"] for item in carried(prompt)]


def test_completions_of_one_prompt_are_joined_wherever_they_stand() -> None:
    prompts, refused = split(gather([row("p", "a"), row("q", "c"), row("p", "b"), row("r"), row("p", "a", "b")]))
    assert [(prompt["prompt_id"], texts(prompt), prompt.get("rows", 1)) for prompt in prompts] == [
        ("p", ["a", "b"], 3), ("q", ["c"], 1), ("r", [], 1)
    ]  # fmt: skip
    assert not refused


def test_a_row_that_adds_nothing_is_a_duplicate() -> None:
    prompts, refused = split(gather([row("p", "a", place="f:1"), row("p"), row("p", "a"), row("p", "b")]))
    assert [(texts(prompt), prompt["rows"]) for prompt in prompts] == [(["a", "b"], 2)]
    assert [(one.reason, str(one)) for one in refused] == [
        (Reason.DUPLICATE, "same prompt as f:1, and no other completions")
    ] * 2


def test_other_fields_of_joined_rows_do_not_depend_on_their_order() -> None:
    found = [row("p", "a", source="t"), row("p", reference="gold"), row("p", "c", source="s", reference="blue")]
    for order in itertools.permutations(found):
        (one,), (refused,) = split(gather(order))
        assert one == next(prompt for _, prompt in gather(found) if isinstance(prompt, dict))
        assert "and no other completions" in str(refused)
    assert (one["source"], one["reference"]) == ("s", "blue")


def test_a_refused_row_passes_through() -> None:
    refused = Refused(Reason.BLANK, "blank")
    assert next(gather([("f:1", refused), row("p", "a", place="f:2")])) == ("f:1", refused)


@given(st.lists(st.tuples(st.sampled_from("pqr"), st.lists(st.sampled_from("abc"), max_size=2))), st.randoms())
def test_every_row_is_counted_once_in_any_order(found: list[tuple[str, list[str]]], random: Any) -> None:
    mixed = found[:]
    random.shuffle(mixed)
    results = []
    for order in (found, mixed):
        prompts, refused = split(gather([row(prompt, *sorted(set(told))) for prompt, told in order]))
        assert sum(prompt.get("rows", 1) for prompt in prompts) + len(refused) == len(found)
        results.append(sorted((prompt["prompt_id"], texts(prompt)) for prompt in prompts))
    assert results[0] == results[1]
    assert results[0] == [
        (prompt, sorted({text for other, told in found if other == prompt for text in told}))
        for prompt in sorted({prompt for prompt, _ in found})
    ]


def test_rows_of_a_prompt_that_is_refused_are_counted_too(tmp_path: Path, file: Callable[..., Path]) -> None:
    rows = [
        {"prompt": text, "a": f"answer {n}"} for text in ("one two three four", "one two three four!") for n in range(3)
    ]
    path = file("a.jsonl", "".join(json.dumps(one) + "\n" for one in rows))
    config = Prompts(sources=(Source(path=str(path), completions={"text": "a"}),), near_duplicates=0.5)  # type: ignore[arg-type]
    loaded = shard_prompts(read_prompts(config), Store(str(tmp_path)), 10)
    assert (loaded.accepted, loaded.rejected, loaded.merged) == (1, 1, 4)


def test_memory_does_not_grow_with_the_texts() -> None:
    """200 MB of completions pass through a process of their own, whose memory at its largest grows by far less."""
    code = """
import json, resource
from pairsmith.sources.merging import gather
def found():
    for half in range(2):
        for n in range(1000):
            item = {"member": "m", "text": f"{half}" * 100_000}
            row = dict.fromkeys(["system_prompt", "reference"]) | {"source": "s", "messages": "m", "prompt_id": f"p{n}"}
            yield f"{n}", row | {"extras": json.dumps({"completions": [item]})}
def largest():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = largest()
print(sum(1 for _ in gather(found())), largest() - before)
"""
    command = [sys.executable, "-c", code]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()
    assert told[0] == "1000"
    assert int(told[1]) < 40


def test_labels_that_cannot_be_names_of_members_are_told() -> None:
    def found() -> Iterator[Placed]:
        for n in range(MOST_LABELS + 1):
            brought = json.dumps({"completions": [{"member": f"m{n}", "text": "a"}]})
            place, prompt = row(f"p{n}", place=f"f:{n}")
            yield place, prompt | {"extras": brought}  # type: ignore[operator]

    with pytest.raises(DataError, match=f"f:{MOST_LABELS}: more than {MOST_LABELS} different labels"):
        list(gather(found()))


def test_a_full_disk_is_told_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(sqlite3, "connect", full)
    with pytest.raises(RunError, match="disk is full; SQLITE_TMPDIR names another folder"):
        list(gather([row("p", "a")]))


def test_of_what_rows_of_one_prompt_keep_the_least_counts_in_whichever_order(tmp_path: Path) -> None:
    rows = [json.dumps({"prompt": "a", "text": text, "id": number}) for number, text in ((2, "x"), (1, "y"))]
    for order in (rows, rows[::-1]):
        (tmp_path / "a.jsonl").write_text("\n".join(order))
        source = {"path": str(tmp_path / "a.jsonl"), "completions": {"text": "text"}, "keep": ["id"]}
        (prompt,) = read_prompts(Prompts.model_validate({"sources": [source]}))
        assert json.loads(prompt["extras"])["kept"] == {"id": 1}
