"""The pairs of a shard as they are published: rows of the data files, and the digest of their content."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from pairsmith.config.selecting import SIGNAL
from pairsmith.generation.pool import with_system
from pairsmith.ids import canonical_json
from pairsmith.publishing.kept_columns import KEPT
from pairsmith.storage.datafiles import EARLIER, PAIRS, RATINGS
from pairsmith.storage.schemas import rows
from pairsmith.storage.tables import ShardTables

Reasons = dict[tuple[str, ...], str]  # two completions, judge and aspect -> why one is better than the other
_OF_A_PAIR = tuple(PAIRS.names)
_OF_A_RATING = tuple(field.name for field in RATINGS.value_type)


def content_digest(found: Iterable[dict[str, Any]]) -> int:
    """A digest of a set of rows in any order; the digest of two sets together is the sum of their digests.

    Columns count under their names in tables, whichever they have. It is the sum modulo 2^256 of the rows' sha256:
    https://doi.org/10.1007/3-540-69053-0_13 (AdHash).
    """
    named = ({EARLIER.get(name, name): value for name, value in row.items()} for row in found)
    return sum(int(hashlib.sha256(canonical_json(row).encode()).hexdigest(), 16) for row in named) % 2**256


def to_table(found: list[dict[str, Any]]) -> pa.Table:
    """Rows as a shard's table: with the columns that sources keep as JSON, where a row has any.

    `data_files.write_data` gives the columns the names of published ones.
    """
    if not any(KEPT in row for row in found):
        return pa.Table.from_pylist(found, schema=PAIRS)
    rows_found = [row | {KEPT: canonical_json(row[KEPT]) if KEPT in row else None} for row in found]
    return pa.Table.from_pylist(rows_found, schema=PAIRS.append(pa.field(KEPT, pa.string())))


def published_rows(tables: ShardTables) -> list[dict[str, Any]]:
    """The pairs of a shard in TRL's conversational preference format, with scores, ratings and provenance.

    The columns are those of `datafiles.PAIRS`; `datafiles.as_published` gives them the names of published ones.

    Format: https://huggingface.co/docs/trl/dataset_formats
    """
    prompts = {row["prompt_id"]: row for row in rows(tables.prompts)}
    texts = {row["completion_id"]: row["text"] for row in rows(tables.completions)}
    ratings: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows(tables.ratings):
        ratings[row["completion_id"]].append({name: row[name] for name in _OF_A_RATING})
    reasons = _reasons(tables)
    published = []
    for pair in rows(tables.pairs):
        prompt = prompts[pair["prompt_id"]]
        row = {name: pair.get(name) for name in _OF_A_PAIR}
        row["prompt"] = with_system(json.loads(prompt["messages"]), prompt["system_prompt"])
        row["source"] = prompt["source"]
        kept = json.loads(prompt["extras"] or "{}").get(KEPT, {})
        if kept := kept | ({SIGNAL: pair[SIGNAL]} if SIGNAL in pair else {}):
            row[KEPT] = kept
        two = pair["chosen_id"], pair["rejected_id"]
        for side in ("chosen", "rejected"):
            row[side] = [{"role": "assistant", "content": texts[pair[f"{side}_id"]]}]
            found = ratings[pair[f"{side}_id"]]
            row[f"{side}_ratings"] = [_with_reason(one, two, reasons) for one in found] if reasons else found
        published.append(row)
    return published


def _with_reason(rating: dict[str, Any], two: tuple[str, str], reasons: Reasons) -> dict[str, Any]:
    """A rating with the reason that its judge gave where it compared these two completions."""
    return rating | {"rationale": reasons.get((*two, rating["judge"], rating["aspect"]), rating["rationale"])}


def _reasons(tables: ShardTables) -> Reasons:
    """Two completions, judge and aspect -> why one is better than the other, in the first order that has a reason."""
    found: Reasons = {}
    for row in sorted(rows(tables.verdicts), key=lambda row: row["order"]):
        if row["rationale"]:
            found.setdefault((row["completion_id"], row["against"], row["judge"], row["aspect"]), row["rationale"])
    return found
