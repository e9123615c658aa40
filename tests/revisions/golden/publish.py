"""Golden files of publish: every export of some pairs, both splits, the rows that are shown, and a version's digest."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow.parquet as pq

from pairsmith.config import Publishing
from pairsmith.publishing.data_files import write_data
from pairsmith.publishing.pair_rows import to_table
from pairsmith.publishing.publish import version_digest
from tests.revisions.golden.pair import recipe
from tests.revisions.golden.rows import COUNT, Row, number, words

SETTINGS = (
    {},
    {
        "test_fraction": 0.3,
        "seed": 2,
        "exports": ("kto", "reward", "jsonl", "csv"),
        "license": "mit",
        "language": ("en",),
    },
    {"test_fraction": 0.5, "exports": ("csv",), "approval": "required"},
)


def tables() -> dict[str, list[Row]]:
    made: dict[str, list[Row]] = {}
    for place, settings in enumerate(SETTINGS):
        publishing = Publishing.model_validate(settings)
        plan = recipe({}, {}).model_copy(update={"publishing": publishing})
        with tempfile.TemporaryDirectory() as folder:
            halves = [to_table(_pairs()[: COUNT // 2]), to_table(_pairs()[COUNT // 2 :])]
            written = write_data(plan, Path(folder), halves)
            files = {str(path.relative_to(folder)): _read(path) for path in sorted(Path(folder).glob("*/*"))}
        made |= {f"{place} {name}": found for name, found in files.items()}
        made[f"{place} version"] = [{"digest": version_digest(12345, publishing), "shown": written.shown}]
    return made


def _read(path: Path) -> list[Row]:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    return [{"line": line} for line in path.read_text(encoding="utf-8").splitlines()]


def _pairs() -> list[Row]:
    """Pairs, four or more of a prompt at times; texts that a spreadsheet would run; a text that is both."""
    return [_pair(place) for place in range(5 * COUNT)]


def _pair(place: int) -> Row:
    asked = place // 5 if place % 3 else place // 7
    chat = [{"role": "user", "content": f"=1+{asked}" if asked % 6 == 0 else words(4, "ask", asked)}]
    chat = [{"role": "system", "content": "Be kind."}, *chat] if asked % 4 == 0 else chat
    sides = {"chosen": number("chosen", place) % 5, "rejected": 4 + number("rejected", place) % 4}
    row: Row = {"prompt": chat, "prompt_id": f"p{asked:03}", "source": "@home" if asked % 9 == 0 else "golden"}
    for side, sample in sides.items():
        text = ("-" if sample == 2 else "") + words(5 + sample, side, place)
        row |= {
            side: [{"role": "assistant", "content": text}], f"{side}_score": sample / 2 if place % 8 else None,
            f"{side}_member": f"m{sample}", f"{side}_model": f"x{sample}", f"{side}_id": f"c{asked}.{sample}",
            f"{side}_ratings": [{"judge": "j", "aspect": "overall", "rating": sample, "score": 1.0, "rationale": None}],
        }  # fmt: skip
    return row | {"margin": 0.5 if place % 8 else None, "similarity": 0.25, "strategy": "best-vs-worst"}
