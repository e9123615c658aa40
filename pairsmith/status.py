"""What a workspace holds: its datasets, how far each is, and the calls in its ledger."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from pairsmith.ledger import open_ledger
from pairsmith.store import Store
from pairsmith.versions import latest_version


def datasets_of(workspace: Path) -> list[dict[str, Any]]:
    """One row per dataset: shards, shards that have each kind of table, latest version and its pairs."""
    found = []
    for folder in sorted(path.parent for path in workspace.glob("*/tables")):
        store = Store(str(folder))
        shards_with: dict[str, set[str]] = defaultdict(set)
        for path in folder.glob("tables/*/*.parquet"):
            shards_with[path.name.split(".")[0]].add(path.parent.name)
        latest = latest_version(store)
        kinds = ("completions", "ratings", "pairs")
        found.append(
            {
                "dataset": folder.name,
                "shards": len(shards_with["prompts"]),
                **{f"with {kind}": len(shards_with[kind]) for kind in kinds},
                "latest": latest.name if latest else "none yet",
                "pairs": latest.pairs if latest else 0,
            }
        )
    return found


def ledger_of(workspace: Path) -> list[dict[str, Any]]:
    """Calls and tokens by model, from the workspace's own ledger; nothing where it has none."""
    file = workspace / "ledger.sqlite"
    return open_ledger(f"sqlite:///{file}").totals() if file.exists() else []
