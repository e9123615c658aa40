"""Publish: pairs -> a versioned data set folder that `datasets.load_dataset` opens, and the Hub on request.

A version is built aside, renamed into place and never changed; `latest` then moves to it in one step, so a reader
sees a whole version whatever happens. Publishing the same content again changes nothing.
"""

from __future__ import annotations

import csv
import hashlib
import heapq
import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pairsmith import __version__, versions
from pairsmith.agreement import Trust
from pairsmith.card import Models, recipe_yaml, render_card
from pairsmith.config import Publishing, Recipe
from pairsmith.errors import ConfigError, RunError
from pairsmith.generation import with_system
from pairsmith.ids import canonical_json, draw, fingerprint
from pairsmith.report import Summary, render_report
from pairsmith.schemas import rows
from pairsmith.store import Store
from pairsmith.tables import LOAD_REJECTIONS, ShardTables, published_ref
from pairsmith.templating import transcript
from pairsmith.versions import LATEST, History, State, Version

SHOWN = 200  # pairs and refused rows in the report

_CHAT = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_RATINGS = pa.list_(
    pa.struct(
        [
            ("judge", pa.string()),
            ("aspect", pa.string()),
            ("rating", pa.int64()),
            ("score", pa.float64()),
            ("rationale", pa.string()),
        ]
    )
)
PREFERENCE = pa.schema(
    [("prompt", _CHAT), ("chosen", _CHAT), ("rejected", _CHAT)]
    + [(f"{side}_{what}", kind) for side in ("chosen", "rejected") for what, kind in (
        ("score", pa.float64()), ("member", pa.string()), ("model", pa.string()), ("id", pa.string()),
        ("ratings", _RATINGS))]
    + [("margin", pa.float64()), ("similarity", pa.float64()), ("strategy", pa.string())]
    + [("source", pa.string()), ("prompt_id", pa.string())]
)  # fmt: skip
CSV = ("prompt", "chosen", "rejected", "chosen_score", "rejected_score", "margin", "chosen_member", "rejected_member",
       "source", "prompt_id")  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the beginning of a command
KTO = pa.schema([("prompt", _CHAT), ("completion", _CHAT), ("label", pa.bool_()), ("prompt_id", pa.string())])


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
    summary: Summary,
    trust: Trust,
    models: Models,
    usage: list[dict[str, Any]],
) -> Published:
    """Build the next version of the data set from its shards, unless one that counts holds the same.

    `content`: sum of the shards' `content_digest`; `usage`: what the data set has cost so far. `latest` moves to it,
    but where the recipe wants approval: then it waits as a candidate. Raises RunError where there is no pair to
    publish.
    """
    if not summary.pairs:
        reasons = ", ".join(f"{count} {reason}" for reason, count in summary.prompt_reasons.most_common())
        raise RunError(f"no pair to publish: {summary.loaded} prompts, {reasons}")
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
        _write_version(recipe, store, past, folder, name, digest, shards, summary, trust, models, usage)
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


def _write_version(
    recipe: Recipe,
    store: Store,
    past: History,
    folder: Path,
    name: str,
    digest: str,
    shards: Iterable[str],
    summary: Summary,
    trust: Trust,
    models: Models,
    usage: list[dict[str, Any]],
) -> None:
    """All files of a version, in a folder that is not in its place yet."""
    shown, counts = write_data(recipe, folder, (store.read_arrow(published_ref(shard)) for shard in shards))
    # `datasets` caches by folder and file names: those under `latest` must change with what they hold
    for file in folder.glob("*/*"):
        file.rename(file.with_stem(f"{file.stem}-{digest[:12]}"))
    record = {"version": name, "pairs": summary.pairs, "digest": digest, "pairsmith": __version__}
    record |= {"made_at": versions.now(), "approval": recipe.publishing.approval}
    record["supersedes"] = [past.waiting] if past.waiting else []
    record["files"] = {str(f.relative_to(folder)): _sha256(f) for f in sorted(folder.glob("*/*"))}
    hub = recipe.publishing.hub
    where = hub.repo_id if hub else store.url(LATEST if store.is_local else f"versions/{name}")
    card = render_card(recipe, summary, where, counts, digest, models, usage)
    page = render_report(
        recipe, summary, shown, refused_rows(store), trust.titled(), usage, recipe_text=recipe_yaml(recipe)
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    (folder / "report.html").write_text(page, encoding="utf-8")
    (folder / "recipe.yaml").write_text(recipe_yaml(recipe), encoding="utf-8")
    (folder / "version.json").write_text(json.dumps(record, indent=1), encoding="utf-8")


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
    with _Writers(folder) as writers:
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
        ratings[row["completion_id"]].append({field.name: row[field.name] for field in _RATINGS.value_type})
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


def kto_rows(found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Prompt, completion, label: each completion once; one that is chosen here and rejected there is left out."""
    labels: dict[str, set[bool]] = defaultdict(set)
    made: dict[str, dict[str, Any]] = {}
    for row in found:
        for side, label in (("chosen", True), ("rejected", False)):
            name = row[f"{side}_id"]
            labels[name].add(label)
            made[name] = {
                "prompt": row["prompt"], "completion": row[side], "label": label, "prompt_id": row["prompt_id"]
            }  # fmt: skip
    return [row for name, row in made.items() if len(labels[name]) == 1]


def push_to_hub(recipe: Recipe, store: Store, published: Published) -> str | None:
    """Upload a version to the Hub (private unless the recipe says otherwise) unless it is there; returns its URL.

    That is the version that `latest` leads to, whatever else was published. What was pushed is noted in the store, so
    a push that failed, or a release by a person, is made up for by the next run.
    """
    version = versions.version_at(store, published.latest) if published.latest else None
    if version is None:
        return None
    import huggingface_hub

    hub = recipe.publishing.hub
    assert hub is not None
    mark = {"repo_id": hub.repo_id, "digest": version.digest}
    if store.exists("pushed.json") and store.read_json("pushed.json") == mark:
        return None
    token = os.environ.get(hub.token_env)
    if not token:
        raise ConfigError(f"publishing.hub: the environment variable {hub.token_env} holds no token")
    api = huggingface_hub.HfApi(token=token)
    api.create_repo(hub.repo_id, repo_type="dataset", private=hub.private, exist_ok=True)
    if hub.private and not api.dataset_info(hub.repo_id).private:
        raise ConfigError(f"publishing.hub: {hub.repo_id} is public; say private: false, or choose another repo_id")
    with tempfile.TemporaryDirectory() as scratch:
        folder = version.folder
        if not store.is_local:
            store.fs.get(f"{store.path(f'versions/{version.name}')}/", scratch, recursive=True)
            folder = scratch
        api.upload_folder(
            repo_id=hub.repo_id,
            repo_type="dataset",
            folder_path=folder,
            commit_message=f"{recipe.name} {version.name}",
            delete_patterns=["data/*", "kto/*", "jsonl/*", "csv/*"],
        )
    store.write_json("pushed.json", mark)
    return f"{api.endpoint}/datasets/{hub.repo_id}"


class _Writers:
    """Open files of one version, by file group (`data/train`), written in one pass."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parquet: dict[str, pq.ParquetWriter] = {}
        self._lines: dict[str, Any] = {}
        self.counts: dict[str, int] = defaultdict(int)

    def __enter__(self) -> _Writers:
        return self

    def __exit__(self, *_: object) -> None:
        for file in [*self._parquet.values(), *self._lines.values()]:
            file.close()

    def write(self, group: str, schema: pa.Schema, part: pa.Table) -> None:
        if group not in self._parquet:
            self._parquet[group] = pq.ParquetWriter(self._path(group, ".parquet"), schema)
        self._parquet[group].write_table(part)
        self.counts[group] += len(part)

    def write_lines(self, group: str, part: list[dict[str, Any]]) -> None:
        if group not in self._lines:
            self._lines[group] = open(self._path(group, ".jsonl"), "w", encoding="utf-8")  # noqa: SIM115
        self._lines[group].writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in part)
        self.counts[group] += len(part)

    def write_cells(self, group: str, part: list[dict[str, Any]]) -> None:
        first = group not in self._lines
        if first:
            file = open(self._path(group, ".csv"), "w", encoding="utf-8-sig", newline="")  # noqa: SIM115
            self._lines[group] = file
        writer = csv.writer(self._lines[group])
        writer.writerows([CSV] if first else [])
        writer.writerows([_cell(row[name]) for name in CSV] for row in part)
        self.counts[group] += len(part)

    def _path(self, group: str, suffix: str) -> Path:
        path = self._folder / f"{group}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def _cell(value: Any) -> Any:
    """A cell of the CSV export: a chat as text, and no text that a spreadsheet would run."""
    text = transcript(value) if isinstance(value, list) else value
    return f"'{text}" if isinstance(text, str) and text.startswith(_FORMULA) else text
