"""Publish: pairs -> a versioned data set folder that `datasets.load_dataset` opens.

A version is built in a scratch folder, put into place by `commits` and never changed; `latest` then moves to it in one
step, so a reader sees a whole version whatever happens. Publishing the same content again changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pairsmith.about import __version__
from pairsmith.config import Publishing, Recipe
from pairsmith.errors import RunError
from pairsmith.ids import fingerprint
from pairsmith.publishing.data_files import SHOWN, Written, write_data
from pairsmith.publishing.kept_columns import Kinds, with_kept
from pairsmith.publishing.parts import rows_a_part
from pairsmith.publishing.screen import as_shown
from pairsmith.publishing.standing import failing, same_content, shrunk, unproven
from pairsmith.reporting.agreement import Trust
from pairsmith.reporting.calibrated import calibration_tables
from pairsmith.reporting.card import recipe_yaml, render_card
from pairsmith.reporting.changelog import changelog, measured, paid, render_changelog
from pairsmith.reporting.failures import causes_of
from pairsmith.reporting.page import Models, models_table, render_report
from pairsmith.reporting.reason_words import reasons_text
from pairsmith.reporting.summary import Summary
from pairsmith.reporting.verdict import Finding, in_short, verdict
from pairsmith.storage import versions
from pairsmith.storage.commits import Draft, commit
from pairsmith.storage.decisions import deciding, now
from pairsmith.storage.disk import file_digest
from pairsmith.storage.fence import Fence
from pairsmith.storage.formats import VERSION_FORMAT
from pairsmith.storage.previews import PREVIEW, replace_preview
from pairsmith.storage.pruning import prune_held
from pairsmith.storage.revisions import REVISIONS
from pairsmith.storage.store import Store
from pairsmith.storage.tables import LOAD_REJECTIONS, published_ref
from pairsmith.storage.versions import LATEST, History, State, Version

_NO_CONTENT = {"hub", "approval", "keep", "screen", "max_shrink", "max_failed_rate"}  # settings that form no file


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
    released, waiting, rejected or withdrawn. `reasons`: why one that waits does so, beside that its recipe asks for
    approval; `failing`: those of them that say who failed too often in this run.
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
    reasons: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()

    @property
    def failure(self) -> str | None:
        """Why the run ends as failed all the same; None where nobody failed too often, or this content is released."""
        if not self.failing or self.state is State.RELEASED:
            return None
        what = "the preview is of little use" if self.state is State.PREVIEW else f"{self.version} is not released"
        return f"{what}: {'; '.join(self.failing)}"


def publish(
    recipe: Recipe,
    store: Store,
    shards: Iterable[str],
    content: int,
    findings: Findings,
    fence: Fence,
) -> Published:
    """Build the next version of the data set from its shards, unless `standing.same_content` finds one that will do.

    `content`: sum of the shards' `content_digest`. `latest` moves to the new version, unless the recipe asks for
    approval or `standing` has a reason: then the version waits as a candidate. Raises RunError where there is no pair
    to publish, and where the data set's `fence` says that another run has taken over.
    """
    check_pairs(findings.summary, recipe)
    digest = version_digest(content, recipe.publishing)
    with deciding(store), store.files.scratch_folder() as scratch:
        published = _new_version(recipe, store, shards, digest, findings, fence, Draft(scratch / "version"))
        if recipe.publishing.keep:
            prune_held(store, recipe.publishing.keep)
        return published


def publish_preview(
    recipe: Recipe, store: Store, shards: Iterable[str], content: int, findings: Findings, fence: Fence
) -> Published:
    """Build the preview of the data set from its shards, in place of the one before. Raises RunError as `publish`."""
    check_pairs(findings.summary, recipe)
    digest = version_digest(content, recipe.publishing)
    with store.files.scratch_folder() as scratch:
        folder = scratch / PREVIEW
        written = _write_named(recipe, store, shards, folder, digest, findings)
        about = _about(PREVIEW, digest, findings) | {"made_at": now(), "files": _digests(folder)}
        judged = _judged(recipe, written, findings)
        _write_pages(recipe, store, folder, about | {"verdict": in_short(judged)}, written, findings, "", judged)
        with fence.guard():
            made = replace_preview(store, folder, about)
    return _published(store, made, True, State.PREVIEW, failing(recipe, findings.summary.failures))


def check_pairs(summary: Summary, recipe: Recipe) -> None:
    """Raise RunError where there is no pair to publish, with the reasons."""
    if not summary.pairs:
        over = reasons_text(summary.completion_reasons)
        passed = f"; answers and pairs passed over: {over}" if over else ""
        reasons = reasons_text(summary.prompt_reasons)
        causes = "".join(map("; {}".format, causes_of(summary.failures, recipe)))
        raise RunError(f"no pair to publish: {summary.loaded} prompts, {reasons}{passed}{causes}")


def _about(name: str, digest: str, findings: Findings) -> dict[str, Any]:
    """What a version.json says first."""
    return {
        "version": name,
        "pairs": findings.summary.pairs,
        "digest": digest,
        "pairsmith": __version__,
        "format": VERSION_FORMAT,
    }


def _digests(folder: Path) -> dict[str, str]:
    return {file.relative_to(folder).as_posix(): file_digest(file) for file in sorted(folder.glob("*/*"))}


def _new_version(
    recipe: Recipe, store: Store, shards: Iterable[str], digest: str, findings: Findings, fence: Fence, draft: Draft
) -> Published:
    """The version of this digest that is there, or else a new one. Where another took its number, it gets the next."""
    written: Written | None = None
    failed = failing(recipe, findings.summary.failures)
    while True:
        all_versions = versions.settled(store)
        before = versions.version_at(store, all_versions.latest) if all_versions.latest else None
        reasons = (*failed, *unproven(recipe), *shrunk(recipe.publishing, findings.summary.pairs, before))
        if found := same_content(store, all_versions, digest):
            with fence.guard():
                return _found_again(recipe, store, all_versions, found, reasons, failed)
        written = written or _write_named(recipe, store, shards, draft.folder, digest, findings)
        name, newest = all_versions.next_name, all_versions.newest
        about = _about(name, digest, findings)
        about |= _standing(recipe, store, all_versions, before, draft.folder, findings)
        judged = _judged(recipe, written, findings)
        about["verdict"] = in_short(judged)
        if reasons:
            about |= {"approval": "required", "reasons": list(reasons)}
        changed = render_changelog(about, before.about if before else None)
        _write_pages(recipe, store, draft.folder, about, written, findings, changed, judged)
        with fence.guard():
            if commit(store, draft, about, versions.version_at(store, newest) if newest else None):
                if about["approval"] == "none":
                    versions.move_latest(store)
                made = versions.version_at(store, name)
                assert made is not None
                return _published(store, made, True, versions.history(store).state(name), failed, reasons)


def version_digest(content: int, publishing: Publishing) -> str:
    """The digest of a version: of its pairs, the settings that form its files and, above 2, the revision of publish.

    What the screen changes in pairs is in their digest.

    Revision 2 gave a column another name: pairs that revision 1 published are the same content.
    """
    plan, revision = publishing.model_dump(mode="json", exclude=_NO_CONTENT), REVISIONS["publish"]
    return fingerprint(f"{content:064x}", plan, *([revision] if revision > 2 else []))


def _found_again(
    recipe: Recipe,
    store: Store,
    all_versions: History,
    found: Version,
    reasons: tuple[str, ...],
    failed: tuple[str, ...],
) -> Published:
    """The version that is there already, released now if a crash prevented that or nothing asks for approval now."""
    state, new = all_versions.state(found.name), False
    if state is State.CANDIDATE and recipe.publishing.approval == "none" and not reasons:
        no_more = "what it waited for is no more" if found.reasons else "the recipe asks for no approval"
        versions.released(store, all_versions, found.name, "pairsmith", no_more)
        new = True
    elif state is State.RELEASED and found.name != all_versions.latest:  # after a crash between install and point
        versions.move_latest(store)
        new = True
    return _published(store, found, new, versions.history(store).state(found.name), failed, reasons)


def _published(
    store: Store,
    version: Version,
    new: bool,
    state: State,
    failed: tuple[str, ...],
    reasons: tuple[str, ...] = (),
) -> Published:
    """A version or preview as it is told of; `failed`, `reasons`: what this run found against releasing it."""
    card, report = (store.url(version.place(page)) for page in ("README.md", "report.html"))
    return Published(
        folder=version.folder,
        version=version.name,
        pairs=version.pairs,
        digest=version.digest,
        new=new,
        state=state,
        latest=versions.latest_name(store),
        card=card,
        report=report,
        reasons=reasons if state is State.CANDIDATE else (),
        failing=failed,
    )


def _write_named(
    recipe: Recipe, store: Store, shards: Iterable[str], folder: Path, digest: str, findings: Findings
) -> Written:
    """`write_data`, with the digest in the file names, since `datasets` caches by folder and file names."""
    names = recipe.kept
    tables = (store.read_arrow(published_ref(shard)) for shard in shards)
    tables = (with_kept(table, names, findings.kinds) for table in tables) if names else tables
    written = write_data(recipe, folder, tables, rows_a_part(findings.summary.pairs))
    for file in folder.glob("*/*"):
        file.rename(file.with_stem(f"{file.stem}-{digest[:12]}"))
    return replace(written, shown=as_shown(recipe.publishing.screen, written.shown))


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
        "files": _digests(folder),
    }


def _write_pages(
    recipe: Recipe,
    store: Store,
    folder: Path,
    about: dict[str, Any],
    written: Written,
    findings: Findings,
    changed: str,
    found: list[Finding],
) -> None:
    """Write card, report and recipe."""
    hub, text = recipe.publishing.hub, recipe_yaml(recipe)
    name = about["version"]
    url = store.url(PREVIEW) if name == PREVIEW else store.files.url_through(LATEST, f"versions/{name}")
    where = hub.repo_id if hub else "" if store.files.local_path("") or url.startswith("file:") else url
    usage, summary = findings.usage, shown_summary(recipe, written, findings.summary)
    card = render_card(recipe, summary, where, written.files, about["digest"], findings.models, usage, changed, found)
    calibration = recipe.rating.calibrated if recipe.rating else None
    tables = calibration_tables(calibration, datetime.now(UTC)) | findings.trust.titled()
    models = models_table(recipe, findings.models)
    page = render_report(
        recipe, summary, written.shown, refused_rows(store), tables, usage, text, about, models, found
    )  # fmt: skip
    (folder / "README.md").write_text(card, encoding="utf-8")
    (folder / "report.html").write_text(page, encoding="utf-8")
    (folder / "recipe.yaml").write_text(text, encoding="utf-8")


def _judged(recipe: Recipe, written: Written, findings: Findings) -> list[Finding]:
    return verdict(recipe, shown_summary(recipe, written, findings.summary), findings.trust)


def shown_summary(recipe: Recipe, written: Written, summary: Summary) -> Summary:
    """The summary with texts that answer many prompts, which are flags already where the recipe asks for that."""
    return written.repeats.counted_in(summary) if recipe.pairing.guard.repeated is None else summary


def refused_rows(store: Store) -> list[str]:
    """The first rows refused at load: file name, line and reason, without the path on this machine."""
    details = store.read(LOAD_REJECTIONS)["detail"].head(SHOWN)
    return [detail[detail.partition(": ")[0].rfind("/") + 1 :] for detail in details]
