"""Publish: pairs -> a versioned data set folder that `datasets.load_dataset` opens.

A version is built aside, renamed into place and never changed; `latest` then moves to it in one step, so a reader
sees a whole version whatever happens. Publishing the same content again changes nothing.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pairsmith import __version__
from pairsmith.config import Publishing, Recipe
from pairsmith.errors import RunError
from pairsmith.generation.pool import with_system
from pairsmith.ids import canonical_json, draw, fingerprint
from pairsmith.publishing.exports import KTO, DataWriters, kto_rows
from pairsmith.reporting.agreement import Trust
from pairsmith.reporting.card import Models, recipe_yaml, render_card
from pairsmith.reporting.changelog import changelog, measured, paid, render_changelog
from pairsmith.reporting.page import render_report
from pairsmith.reporting.summary import Summary
from pairsmith.reporting.summary_tables import reasons_text
from pairsmith.storage import versions
from pairsmith.storage.datafiles import PREFERENCE, RATINGS
from pairsmith.storage.schemas import rows
from pairsmith.storage.store import Store
from pairsmith.storage.tables import LOAD_REJECTIONS, ShardTables, published_ref
from pairsmith.storage.versions import LATEST, History, State, Version

SHOWN = 200  # pairs and refused rows in the report


@dataclass(frozen=True)
class Findings:
    """What a run knows of its data set beside the pairs. `usage`: what it has cost so far, from `usage_table`."""

    summary: Summary
    trust: Trust
    models: Models
    usage: list[dict[str, Any]]


@dataclass(frozen=True)
class Published:
    """Where a version stands, what it holds and what became of it; `latest`: the version that `latest` leads to.

    `new` is false where the same content was there before, be it released, waiting, rejected or withdrawn.
    """

    folder: str
    version: str
    pairs: int
    digest: str
    new: bool
    state: State
    latest: str | None


def publish(
    recipe: Recipe,
    store: Store,
    shards: Iterable[str],
    content: int,
    findings: Findings,
) -> Published:
    """Build the next version of the data set from its shards, unless one that counts holds the same.

    `content`: sum of the shards' `content_digest`. `latest` moves to it, but where the recipe wants approval: then it
    waits as a candidate. Raises RunError where there is no pair to publish.
    """
    summary = findings.summary
    if not summary.pairs:
        over = reasons_text(summary.completion_reasons)
        passed = f"; completions and pairs passed over: {over}" if over else ""
        raise RunError(f"no pair to publish: {summary.loaded} prompts, {reasons_text(summary.prompt_reasons)}{passed}")
    plan = recipe.publishing.model_dump(mode="json", exclude={"hub", "approval"})
    digest = fingerprint(f"{content:064x}", plan)
    with (
        versions.deciding(store),
        tempfile.TemporaryDirectory(dir=store.scratch() if store.is_local else None) as scratch,
    ):
        past = versions.settled(store)
        if found := versions.same_content(store, past, digest):
            return _found_again(recipe, store, past, found)
        folder, name = Path(scratch) / "version", past.next_name
        shown, counts = _write_named(recipe, store, shards, folder, digest)
        about = {"version": name, "pairs": summary.pairs, "digest": digest, "pairsmith": __version__}
        before = versions.version_at(store, past.latest) if past.latest else None
        about |= _standing(recipe, store, past, before, folder, findings)
        changed = render_changelog(about, before.about if before else None)
        _write_pages(recipe, store, folder, about, counts, shown, findings, changed)
        store.install(folder, f"versions/{name}")
        if recipe.publishing.approval == "none":
            store.point(LATEST, f"versions/{name}")
        return _published(store, name, summary.pairs, digest, new=True)


def _found_again(recipe: Recipe, store: Store, past: History, found: Version) -> Published:
    """A version that is there already; released now where a crash, or approval that is wanted no more, left it."""
    state, new = past.state(found.name), False
    if state is State.CANDIDATE and recipe.publishing.approval == "none":
        versions.released(store, past, found.name, "pairsmith", "the recipe asks for no approval")
        new = True
    elif state is State.RELEASED and found.name != past.latest:  # between the two steps of its publishing
        store.point(LATEST, f"versions/{found.name}")
        new = True
    return _published(store, found.name, found.pairs, found.digest, new)


def _published(store: Store, name: str, pairs: int, digest: str, new: bool) -> Published:
    past = versions.history(store)
    return Published(store.url(f"versions/{name}"), name, pairs, digest, new, past.state(name), past.latest)


def _write_named(
    recipe: Recipe, store: Store, shards: Iterable[str], folder: Path, digest: str
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """`write_data`, with names that change with what the files hold, since `datasets` caches by folder and names."""
    shown, counts = write_data(recipe, folder, (store.read_arrow(published_ref(shard)) for shard in shards))
    for file in folder.glob("*/*"):
        file.rename(file.with_stem(f"{file.stem}-{digest[:12]}"))
    return shown, counts


def _standing(
    recipe: Recipe, store: Store, past: History, before: Version | None, folder: Path, findings: Findings
) -> dict[str, Any]:
    """How a version stands to those before it, and what it needs to be compared with those after it."""
    paid_now = paid(findings.usage)
    return {
        "made_at": versions.now(),
        "approval": recipe.publishing.approval,
        "supersedes": [past.waiting] if past.waiting else [],
        "changelog": asdict(changelog(store, before, sorted(folder.glob("data/*")), paid_now)),
        "measured": measured(findings.summary, findings.trust),
        "paid": paid_now,
        "files": {str(file.relative_to(folder)): _sha256(file) for file in sorted(folder.glob("*/*"))},
    }


def _write_pages(
    recipe: Recipe,
    store: Store,
    folder: Path,
    about: dict[str, Any],
    counts: dict[str, int],
    shown: list[dict[str, Any]],
    findings: Findings,
    changed: str,
) -> None:
    """Card, report, recipe and version.json."""
    hub, written = recipe.publishing.hub, recipe_yaml(recipe)
    where = hub.repo_id if hub else store.url(LATEST if store.is_local else f"versions/{about['version']}")
    summary, usage = findings.summary, findings.usage
    card = render_card(recipe, summary, where, counts, about["digest"], findings.models, usage, changed)
    tables = findings.trust.titled()
    page = render_report(recipe, summary, shown, refused_rows(store), tables, usage, recipe_text=written)
    (folder / "README.md").write_text(card, encoding="utf-8")
    (folder / "report.html").write_text(page, encoding="utf-8")
    (folder / "recipe.yaml").write_text(written, encoding="utf-8")
    (folder / "version.json").write_text(json.dumps(about, indent=1), encoding="utf-8")


def refused_rows(store: Store) -> list[str]:
    """The first rows refused at load, each with its file's name, line and reason; no folder of this machine."""
    details = store.read(LOAD_REJECTIONS)["detail"].head(SHOWN)
    return [detail[detail.partition(": ")[0].rfind("/") + 1 :] for detail in details]


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_data(recipe: Recipe, folder: Path, tables: Iterable[pa.Table]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Write all data files from tables of pairs; returns rows to show and the number of rows per file group."""
    shown: list[dict[str, Any]] = []
    with DataWriters(folder) as writers:
        for table in tables:
            shown = first_drawn(shown, table)
            for split, part in by_split(table, recipe.publishing).items():
                writers.write(f"data/{split}", PREFERENCE, part)
                if "kto" in recipe.publishing.exports:
                    writers.write(f"kto/{split}", KTO, pa.Table.from_pylist(kto_rows(part.to_pylist()), schema=KTO))
                if "jsonl" in recipe.publishing.exports:
                    writers.write_lines(f"jsonl/{split}", part.to_pylist())
                if "csv" in recipe.publishing.exports:
                    writers.write_cells(f"csv/{split}", part.to_pylist())
    return shown, dict(writers.counts)


def first_drawn(shown: list[dict[str, Any]], table: pa.Table) -> list[dict[str, Any]]:
    """The SHOWN rows that a draw on their ids puts first, of those found before and those of one more table.

    The same whatever the tables and their order, so the rows are a fair sample of all; no more are in memory.
    """
    ids = table.select(["prompt_id", "chosen_id", "rejected_id"]).to_pylist()
    few = heapq.nsmallest(SHOWN, range(len(ids)), key=lambda number: _lot(ids[number]))
    return heapq.nsmallest(SHOWN, [*shown, *table.take(pa.array(few, pa.int64())).to_pylist()], key=_lot)


def _lot(row: dict[str, Any]) -> float:
    return draw("shown", row["prompt_id"], row["chosen_id"], row["rejected_id"])


def content_digest(found: Iterable[dict[str, Any]]) -> int:
    """A number that stands for a set of rows, whatever their order; that of two sets together is the sum of theirs.

    Addition modulo 2^256 of the rows' sha256: https://doi.org/10.1007/3-540-69053-0_13 (AdHash).
    """
    return sum(int(hashlib.sha256(canonical_json(row).encode()).hexdigest(), 16) for row in found) % 2**256


def to_table(found: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(found, schema=PREFERENCE)


def published_rows(tables: ShardTables) -> list[dict[str, Any]]:
    """The pairs of a shard in TRL's conversational preference format, with scores, ratings and provenance.

    Format: https://huggingface.co/docs/trl/dataset_formats
    """
    prompts = {row["prompt_id"]: row for row in rows(tables.prompts)}
    texts = {row["completion_id"]: row["text"] for row in rows(tables.completions)}
    ratings: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows(tables.ratings):
        ratings[row["completion_id"]].append({field.name: row[field.name] for field in RATINGS.value_type})
    published = []
    for pair in rows(tables.pairs):
        prompt = prompts[pair["prompt_id"]]
        row = {name: pair.get(name) for name in PREFERENCE.names}
        row["prompt"] = with_system(json.loads(prompt["messages"]), prompt["system_prompt"])
        row["source"] = prompt["source"]
        for side in ("chosen", "rejected"):
            row[side] = [{"role": "assistant", "content": texts[pair[f"{side}_id"]]}]
            row[f"{side}_ratings"] = ratings[pair[f"{side}_id"]]
        published.append(row)
    return published


def by_split(table: pa.Table, publishing: Publishing) -> dict[str, pa.Table]:
    """Rows by split, drawn by prompt, so that no prompt is in both and none moves when others are added."""
    names = table.column("prompt_id").to_pylist()
    test = [draw("test", publishing.seed, name) < publishing.test_fraction for name in names]
    parts = {"train": table.filter(pa.array([not drawn for drawn in test], pa.bool_())) if any(test) else table}
    parts["test"] = table.filter(pa.array(test, pa.bool_()))
    return {split: part for split, part in parts.items() if len(part)}
