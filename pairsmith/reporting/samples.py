"""Some pairs of a version as markdown, for a person who decides at a glance. Nothing of a text is markup there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow.parquet as pq

from pairsmith.reporting.markdown import markdown_text
from pairsmith.storage.store import Store
from pairsmith.storage.versions import Version

SHOWN_CHARACTERS = 400  # of each text


def some_pairs(store: Store, version: Version, count: int) -> list[dict[str, Any]]:
    """The first pairs of a version; `train` before `test`."""
    found: list[dict[str, Any]] = []
    for name in sorted((name for name in version.files if name.startswith("data/")), reverse=True):
        with store.fs.open(store.path(f"versions/{version.name}/{name}"), "rb") as file, pq.ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=count):
                found += batch.to_pylist()
                if len(found) >= count:
                    return found[:count]
    return found


def render_samples(pairs: Iterable[Mapping[str, Any]]) -> str:
    """Prompts with their chosen and rejected answers, long ones cut."""
    return "\n\n".join(_one(number, pair) for number, pair in enumerate(pairs, 1)) or "No pairs."


def _one(number: int, pair: Mapping[str, Any]) -> str:
    lines = [f"#### {number}. {_shown(pair['prompt'][-1]['content'])}"]
    for side in ("chosen", "rejected"):
        score = pair[f"{side}_score"]
        author = markdown_text(pair[f"{side}_member"]) + ("" if score is None else f", {score:.2f}")
        lines.append(f"**{side}**, {author}: {_shown(pair[side][-1]['content'])}")
    return "\n\n".join(lines)


def _shown(text: str) -> str:
    cut = text[:SHOWN_CHARACTERS]
    return markdown_text(cut + ("…" if len(text) > len(cut) else ""))
