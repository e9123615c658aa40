"""Publish: pairs -> a versioned data set folder that `datasets.load_dataset` opens.

A version is built in a scratch folder, put into place by `commits` and never changed; `latest` then moves to it in one
step, so a reader sees a whole version whatever happens. Publishing the same content again changes nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from pairsmith.about import __version__
from pairsmith.config import Publishing, Recipe
from pairsmith.errors import RunError
from pairsmith.ids import draw, fingerprint
from pairsmith.publishing.exports import KTO, REWARD, DataWriters, kto_rows, reward_rows
from pairsmith.publishing.kept_columns import Kinds, with_kept
from pairsmith.publishing.parts import LEAST_ROWS_A_PART, ends_part, rows_a_part
from pairsmith.reporting.agreement import Trust
from pairsmith.reporting.card import Models, recipe_yaml, render_card
from pairsmith.reporting.changelog import changelog, measured, paid, render_changelog
from pairsmith.reporting.failures import causes_of
from pairsmith.reporting.page import render_report
from pairsmith.reporting.repeats import Repeats
from pairsmith.reporting.summary import Summary
from pairsmith.reporting.summary_tables import reasons_text
from pairsmith.storage import versions
from pairsmith.storage.commits import Draft, commit
from pairsmith.storage.datafiles import PREFERENCE, table_as_published
from pairsmith.storage.decisions import deciding, now
from pairsmith.storage.disk import file_digest
from pairsmith.storage.fence import Fence
from pairsmith.storage.formats import VERSION_FORMAT
from pairsmith.storage.pruning import prune_held
from pairsmith.storage.revisions import REVISIONS
from pairsmith.storage.store import Store
from pairsmith.storage.tables import LOAD_REJECTIONS, published_ref
from pairsmith.storage.versions import LATEST, History, State, Version

SHOWN = 200  # pairs in the report, and refused rows


@dataclass(frozen=True)
class Findings:
    """What publishing needs to know about a run beside its pairs. `usage`: costs so far, from `usage_table`.

    `kinds`: the types of the columns that sources keep.
    """

    summary: Summary
    trust: Trust
    models: Models
    usage: list[dict[str, Any]]
    kinds: Kinds = field(default_factory=dict)


@dataclass(frozen=True)
class Published:
    """A published version: its address, content and state; `latest`: the version that `latest` leads to.

    `card`, `report`: the addresses of these pages. `new` is false where a version with this content was there before:
    released, waiting, rejected or withdrawn.
    """

    folder: str
    version: str
    pairs: int
    digest: str
    new: bool
    state: State
    latest: str | None
    card: str
    report: str


@dataclass(frozen=True)
class Written:
    """What is to be told of the data files that were written.

    `shown`: rows to show; `files`: the number of files by group, such as `data/train`; `repeats`: texts that answer
    many prompts.
    """

    shown: list[dict[str, Any]]
    files: dict[str, int]
    repeats: Repeats


def publish(
    recipe: Recipe,
    store: Store,
    shards: Iterable[str],
    content: int,
    findings: Findings,
    fence: Fence,
) -> Published:
    """Build the next version of the data set from its shards, unless `versions.same_content` finds one that will do.

    `content`: sum of the shards' `content_digest`. `latest` moves to the new version, unless the recipe asks for
    approval: then the version waits as a candidate. Raises RunError where there is no pair to publish, and where the
    data set's `fence` says that another run has taken over.
    """
    summary = findings.summary
    if not summary.pairs:
        over = reasons_text(summary.completion_reasons)
        passed = f"; completions and pairs passed over: {over}" if over else ""
        reasons, causes = reasons_text(summary.prompt_reasons), "".join(map("; {}".format, causes_of(summary.failures)))
        raise RunError(f"no pair to publish: {summary.loaded} prompts, {reasons}{passed}{causes}")
    digest = version_digest(content, recipe.publishing)
    with deciding(store), store.files.scratch_folder() as scratch:
        published = _new_version(recipe, store, shards, digest, findings, fence, Draft(scratch / "version"))
        if recipe.publishing.keep:
            prune_held(store, recipe.publishing.keep)
        return published


def _new_version(
    recipe: Recipe, store: Store, shards: Iterable[str], digest: str, findings: Findings, fence: Fence, draft: Draft
) -> Published:
    """The version of this digest that is there, or else a new one. Where another took its number, it gets the next."""
    written: Written | None = None
    summary = findings.summary
    while True:
        all_versions = versions.settled(store)
        if found := versions.same_content(store, all_versions, digest):
            with fence.guard():
                return _found_again(recipe, store, all_versions, found)
        written = written or _write_named(recipe, store, shards, draft.folder, digest, findings)
        name, newest = all_versions.next_name, all_versions.newest
        about = {
            "version": name,
            "pairs": summary.pairs,
            "digest": digest,
            "pairsmith": __version__,
            "format": VERSION_FORMAT,
        }
        before = versions.version_at(store, all_versions.latest) if all_versions.latest else None
        about |= _standing(recipe, store, all_versions, before, draft.folder, findings)
        changed = render_changelog(about, before.about if before else None)
        _write_pages(recipe, store, draft.folder, about, written, findings, changed)
        with fence.guard():
            if commit(store, draft, about, versions.version_at(store, newest) if newest else None):
                if recipe.publishing.approval == "none":
                    versions.move_latest(store)
                made = versions.version_at(store, name)
                assert made is not None
                return _published(store, made, new=True)


def version_digest(content: int, publishing: Publishing) -> str:
    """The digest of a version: of its pairs, the settings that form its files and, above 2, the revision of publish.

    Revision 2 gave a column another name: pairs that revision 1 published are the same content.
    """
    plan, revision = publishing.model_dump(mode="json", exclude={"hub", "approval", "keep"}), REVISIONS["publish"]
    return fingerprint(f"{content:064x}", plan, *([revision] if revision > 2 else []))


def _found_again(recipe: Recipe, store: Store, all_versions: History, found: Version) -> Published:
    """The version that is there already, released now if a crash prevented that or the recipe drops its approval."""
    state, new = all_versions.state(found.name), False
    if state is State.CANDIDATE and recipe.publishing.approval == "none":
        versions.released(store, all_versions, found.name, "pairsmith", "the recipe asks for no approval")
        new = True
    elif state is State.RELEASED and found.name != all_versions.latest:  # after a crash between install and point
        versions.move_latest(store)
        new = True
    return _published(store, found, new)


def _published(store: Store, version: Version, new: bool) -> Published:
    all_versions = versions.history(store)
    card, report = (store.url(version.place(page)) for page in ("README.md", "report.html"))
    state = all_versions.state(version.name)
    return Published(
        version.folder, version.name, version.pairs, version.digest, new, state, all_versions.latest, card, report
    )


def _write_named(
    recipe: Recipe, store: Store, shards: Iterable[str], folder: Path, digest: str, findings: Findings
) -> Written:
    """`write_data`, with the digest in the file names, since `datasets` caches by folder and file names."""
    names = recipe.prompts.kept
    tables = (store.read_arrow(published_ref(shard)) for shard in shards)
    tables = (with_kept(table, names, findings.kinds) for table in tables) if names else tables
    written = write_data(recipe, folder, tables, rows_a_part(findings.summary.pairs))
    for file in folder.glob("*/*"):
        file.rename(file.with_stem(f"{file.stem}-{digest[:12]}"))
    return written


def _standing(
    recipe: Recipe, store: Store, all_versions: History, before: Version | None, folder: Path, findings: Findings
) -> dict[str, Any]:
    """How a version differs from those before it, and what later versions need to be compared with it."""
    paid_now = paid(findings.usage)
    return {
        "made_at": now(),
        "approval": recipe.publishing.approval,
        "supersedes": [all_versions.waiting] if all_versions.waiting else [],
        "changelog": asdict(changelog(store, before, sorted(folder.glob("data/*")), paid_now)),
        "measured": measured(findings.summary, findings.trust),
        "paid": paid_now,
        "files": {str(file.relative_to(folder)): file_digest(file) for file in sorted(folder.glob("*/*"))},
    }


def _write_pages(
    recipe: Recipe,
    store: Store,
    folder: Path,
    about: dict[str, Any],
    written: Written,
    findings: Findings,
    changed: str,
) -> None:
    """Write card, report and recipe."""
    hub, text = recipe.publishing.hub, recipe_yaml(recipe)
    url = store.files.url_through(LATEST, f"versions/{about['version']}")
    where = hub.repo_id if hub else "" if store.files.local_path("") or url.startswith("file:") else url
    usage, summary = findings.usage, findings.summary
    if recipe.pairing.guard.repeated is None:  # otherwise they are flags, and counted among them
        summary = written.repeats.counted_in(summary)
    card = render_card(recipe, summary, where, written.files, about["digest"], findings.models, usage, changed)
    tables = findings.trust.titled()
    page = render_report(recipe, summary, written.shown, refused_rows(store), tables, usage, recipe_text=text)
    (folder / "README.md").write_text(card, encoding="utf-8")
    (folder / "report.html").write_text(page, encoding="utf-8")
    (folder / "recipe.yaml").write_text(text, encoding="utf-8")


def refused_rows(store: Store) -> list[str]:
    """The first rows refused at load: file name, line and reason, without the path on this machine."""
    details = store.read(LOAD_REJECTIONS)["detail"].head(SHOWN)
    return [detail[detail.partition(": ")[0].rfind("/") + 1 :] for detail in details]


def write_data(
    recipe: Recipe, folder: Path, tables: Iterable[pa.Table], rows_a_part: int = LEAST_ROWS_A_PART
) -> Written:
    """Write all data files from tables of pairs, in parts of about so many rows. All tables have the same columns."""
    shown, kept = list[dict[str, Any]](), recipe.prompts.kept
    repeats = Repeats()
    with DataWriters(folder) as writers:
        for table in map(table_as_published, tables):
            shown = first_drawn(shown, table)
            repeats.add(table)
            for split, part in by_split(table, recipe.publishing).items():
                own = [part.schema.field(name) for name in kept]
                writers.write(f"data/{split}", pa.schema([*PREFERENCE, *own]), part)
                if "kto" in recipe.publishing.exports:
                    rows = kto_rows(part.to_pylist(), kept)
                    writers.write_rows(f"kto/{split}", pa.schema([*KTO, *own]), rows)
                if "reward" in recipe.publishing.exports:
                    rows = reward_rows(part.to_pylist(), kept)
                    writers.write_rows(f"reward/{split}", pa.schema([*REWARD, *own]), rows)
                if "jsonl" in recipe.publishing.exports:
                    writers.write_lines(f"jsonl/{split}", part.to_pylist())
                if "csv" in recipe.publishing.exports:
                    writers.write_cells(f"csv/{split}", part.to_pylist(), kept)
            if ends_part(table, rows_a_part):
                writers.end_part()
    return Written(shown, dict(writers.parts), repeats)


def first_drawn(shown: list[dict[str, Any]], table: pa.Table) -> list[dict[str, Any]]:
    """The SHOWN rows that a draw by their ids puts first, among those of `shown` and those of one more table.

    The result does not depend on the tables or their order, so it is a fair sample of all rows, and only these rows are
    in memory.
    """
    ids = table.select(["prompt_id", "chosen_id", "rejected_id"]).to_pylist()
    few = heapq.nsmallest(SHOWN, range(len(ids)), key=lambda number: _lot(ids[number]))
    return heapq.nsmallest(SHOWN, [*shown, *table.take(pa.array(few, pa.int64())).to_pylist()], key=_lot)


def _lot(row: dict[str, Any]) -> float:
    return draw("shown", row["prompt_id"], row["chosen_id"], row["rejected_id"])


def by_split(table: pa.Table, publishing: Publishing) -> dict[str, pa.Table]:
    """Rows by split, drawn by prompt: no prompt is in both splits, and none moves when others are added."""
    names = table.column("prompt_id").to_pylist()
    test = [draw("test", publishing.seed, name) < publishing.test_fraction for name in names]
    parts = {"train": table.filter(pa.array([not drawn for drawn in test], pa.bool_())) if any(test) else table}
    parts["test"] = table.filter(pa.array(test, pa.bool_()))
    return {split: part for split, part in parts.items() if len(part)}
