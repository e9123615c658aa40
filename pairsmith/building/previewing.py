"""The first pairs of a recipe, at once: without a version, without tables that stay, and without Prefect."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pairsmith.building.runs import Row, Threads, fenced, opened, stop_at, worked
from pairsmith.config import Recipe
from pairsmith.config.loading import as_recipe
from pairsmith.errors import ConfigError
from pairsmith.ledger.ledger import open_ledger
from pairsmith.ledger.pruning import place_of
from pairsmith.llms.registry import pinned
from pairsmith.planning.preflight import require_all
from pairsmith.progress import Progress
from pairsmith.publishing.kept_columns import with_values
from pairsmith.reporting.summary import Summary
from pairsmith.session import Session
from pairsmith.stages.base import open_store, stages_of
from pairsmith.stages.publish import counts_of
from pairsmith.storage.fence import Fence
from pairsmith.storage.tables import published_ref


def preview(
    recipe: Recipe | str | Path | Mapping[str, Any], count: int = 5, session: Session | None = None
) -> list[Row]:
    """The pairs of the first `count` rows of a recipe's sources, without a version; its replies serve later runs.

    Pairs are rows as they are published: prompt, chosen, rejected, scores, ratings. A recipe's own `prompts.limit`
    holds where it is less. Raises ConfigError, DataError and RunError as `build` does.
    """
    return previewed(recipe, count, session)[0]


def previewed(
    recipe: Recipe | str | Path | Mapping[str, Any], count: int = 5, session: Session | None = None
) -> tuple[list[Row], Summary]:
    """The same, and the counts: what became of the prompts, and who failed and why."""
    if count < 1:
        raise ConfigError(f"preview: count is {count}; it must be 1 or more")
    whole = pinned(as_recipe(recipe))
    require_all(whole)
    limit = min(count, whole.prompts.limit or count)
    few = {"prompts": whole.prompts.model_copy(update={"limit": limit}), "ledger": whole.ledger_url}
    with opened(session) as one, tempfile.TemporaryDirectory() as folder:
        small = whole.model_copy(update={**few, "workspace": folder})
        workers, store = Threads(small, one), open_store(small, one)
        loaded = workers.load(full=False)
        for stage in stages_of(small):
            one.tell(Progress(stage, total=loaded.accepted))
        try:
            with fenced(store, Fence(store.root), one):
                _, failures = worked(small, workers, loaded.shards, None, loaded, one)
        finally:
            open_ledger(small.ledger_url, one).uses.forget(place_of(store))
        stop_at(failures)
        tables = (store.read_arrow(published_ref(shard)) for shard in loaded.shards)
        pairs = [with_values(row) for table in tables for row in table.to_pylist()]
        return pairs, counts_of(small, loaded, one)
