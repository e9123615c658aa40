"""Some pairs of a version as markdown, for a person who decides about it. Texts are escaped, so none is markup."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pairsmith.reporting.markdown import markdown_text
from pairsmith.storage.datafiles import data_files, first_pairs
from pairsmith.storage.store import Store
from pairsmith.storage.versions import Version

SHOWN_CHARACTERS = 400  # of each text


def some_pairs(store: Store, version: Version, count: int) -> list[dict[str, Any]]:
    """The first pairs of a version; `train` before `test`."""
    return first_pairs(data_files(store, version), count)


def render_samples(pairs: Iterable[Mapping[str, Any]]) -> str:
    """Prompts with their chosen and rejected completions, long ones shortened."""
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
