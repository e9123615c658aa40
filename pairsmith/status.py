"""What a workspace holds: its data sets and their progress, their versions, and the calls in its ledger."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from pairsmith.ledger.ledger import Ledger
from pairsmith.storage.formats import check_workspace
from pairsmith.storage.opening import files_at
from pairsmith.storage.previews import preview_of
from pairsmith.storage.store import Store
from pairsmith.storage.versions import State, Version, history, latest_version, version_at


def datasets_of(workspace: Path | str) -> list[dict[str, Any]]:
    """One row per data set: its shards, the shards with each kind of table, the latest version and its pairs."""
    found, files = [], files_at(str(workspace))
    for dataset in files.names_in(""):
        if not files.exists(f"{dataset}/tables"):
            continue
        store = Store(files.url(dataset))
        check_workspace(store)
        shards_with: dict[str, set[str]] = defaultdict(set)
        for name in store.files.tree("tables"):
            shard, _, table = name.partition("/")
            if table.endswith(".parquet"):
                shards_with[table.split(".")[0]].add(shard)
        latest = latest_version(store)
        kinds = ("completions", "ratings", "pairs")
        found.append(
            {
                "dataset": dataset,
                "shards": len(shards_with["prompts"]),
                **{f"with {kind}": len(shards_with[kind]) for kind in kinds},
                "latest": latest.name if latest else "none yet",
                "pairs": latest.pairs if latest else 0,
            }
        )
    return found


def versions_of(store: Store) -> list[dict[str, Any]]:
    """One row per version, the oldest first: its size and changes, its state, and who decided that and why."""
    all_versions, found = history(store), []
    for name in all_versions.names:
        version, decision = version_at(store, name), all_versions.last_decision(name)
        changed = version.about.get("changelog", {}) if version else {}
        state = str(all_versions.state(name)) if version else str(State.DAMAGED)
        found.append(
            {
                "version": name,
                "made": version.made_at if version else None,
                "pairs": version.pairs if version else None,
                **{what: changed.get(what) for what in ("added", "removed", "changed")},
                "state": f"{state}, latest" if name == all_versions.latest else state,
                "by": decision.by if decision else None,
                "reason": decision.reason if decision else "; ".join(version.reasons) or None if version else None,
            }
        )
    cut = [{"version": name, "state": "an upload that was cut short"} for name in all_versions.cut]
    return found + cut


def waiting_text(place: str) -> str | None:
    """Which version of a data set waits for a person and why, as a sentence; None where none does.

    `place`: the address of the data set, or of something in it, such as a version.
    """
    store = Store(re.sub(r"/(versions/v\d+|latest|preview)$", "", place.rstrip("/")))
    name = history(store).waiting
    version = version_at(store, name) if name else None
    return f"{name} waits for a decision: {why_it_waits(version)}" if version else None


def why_it_waits(version: Version) -> str:
    return "; ".join(version.reasons) or "its recipe asks for approval"


def preview_text(store: Store) -> str | None:
    """What the preview of a data set is, as a sentence; None where there is none."""
    found = preview_of(store)
    return f"preview: {found.pairs:,} pairs, made {found.made_at}, in {found.folder}" if found else None


def ledger_of(workspace: Path | str) -> list[dict[str, Any]]:
    """Calls and tokens by model, from the workspace's own ledger; empty where it has none, as on object storage."""
    file = Path(workspace, "ledger.sqlite")
    return Ledger(f"sqlite:///{file}").spending.totals() if file.exists() else []
