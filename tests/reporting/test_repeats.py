"""Texts that stand at many prompts are counted while pairs are written, in bounded memory, and change no pair."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pairsmith.config.loading import parse_recipe
from pairsmith.errors import RunError
from pairsmith.reporting.repeats import LEAST, Repeats
from pairsmith.reporting.summary import Summary
from pairsmith.storage.datafiles import PREFERENCE
from tests.runs import run

CONSTANT = "I would rather talk about the weather."


def table(*pairs: tuple[str, str, str]) -> pa.Table:
    """Pairs of a prompt, a chosen and a rejected text; a completion is told by its prompt and text."""
    rows = [
        {"prompt_id": prompt}
        | {
            side: [{"role": "assistant", "content": text}]
            for side, text in zip(("chosen", "rejected"), texts, strict=True)
        }
        | {f"{side}_id": f"{prompt} {text}" for side, text in zip(("chosen", "rejected"), texts, strict=True)}
        | {"chosen_member": "m", "rejected_member": "n"}
        for prompt, *texts in pairs
    ]
    return pa.Table.from_pylist(rows, schema=PREFERENCE)


def told(repeats: Repeats) -> dict[str, int]:
    return {what: count for (_, what), count in repeats.counted_in(Summary()).flags.items()}


def test_a_text_counts_once_for_each_prompt_and_completion() -> None:
    repeats = Repeats()
    repeats.add(table(*((f"p{n}", f"a{n}", CONSTANT) for n in range(LEAST - 1)), ("p0", "b", CONSTANT)))
    assert told(repeats) == {}
    repeats.add(table(("q", f" {CONSTANT}\r\n", "other")))
    assert told(repeats) == {"completions": LEAST, "chosen": 1, "rejected": LEAST - 1}
    (example,) = repeats.counted_in(Summary()).examples
    assert (example["kind"], example["excerpt"], example["member"]) == ("repeated", CONSTANT, "n")


def test_what_is_frequent_is_found_among_many_in_the_memory_of_few() -> None:
    repeats, drawn, most = Repeats(most=20), random.Random(3), 0
    for shard in range(60):
        places = [f"{shard}.{n}" for n in range(50)]
        repeats.add(table(*((p, CONSTANT if drawn.random() < 0.2 else f"a{p}", f"b{p}") for p in places)))
        most = max(most, len(repeats._texts))
    assert most <= 40
    flags = told(repeats)
    assert set(flags) == {"completions", "chosen"}
    assert 400 < flags["chosen"] < 800


@pytest.mark.parametrize(("guard", "chosen"), [({}, 8), ({"repeated": 3}, 8), ({"repeated": 3, "on_flag": "drop"}, 0)])
def test_the_report_and_card_tell_of_them_and_only_the_guard_acts(
    tmp_path: Path, guard: dict[str, Any], chosen: int
) -> None:
    rows = [{"prompt": f"{n}?", "yes": CONSTANT, "no": f"Answer {n}.", "a": 5, "b": 2} for n in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"yes": {"text": "yes", "ratings": {"overall": "a"}}, "no": {"text": "no", "ratings": {"overall": "b"}}}
    given = {"name": "given", "backend": "given"}
    recipe = parse_recipe(
        {
            "name": "set", "workspace": str(tmp_path / "data"), "pairing": {"guard": guard},
            "prompts": {"sources": [{"path": "rows.jsonl", "completions": {"columns": columns}}]},
            "pool": {"members": [given]}, "rating": {"judges": [given]},
        },
        base=tmp_path,
    )  # fmt: skip
    if not chosen:
        with pytest.raises(RunError, match="no pair to publish"):
            run(recipe)
        return
    published, summary, _ = run(recipe)
    card, report = (Path(published.folder, page).read_text() for page in ("README.md", "report.html"))
    assert f"| repeated | {chosen} | {chosen} | 0 |" in card
    assert CONSTANT in report
    assert ("nothing becomes of them" in card) == ("nothing becomes of them" in report) == ("repeated" not in guard)
    assert bool(summary.flags) == ("repeated" in guard)  # what shards noted stays as it was
