"""Publish: pairs -> the next version of the data set."""

from __future__ import annotations

from typing import Any

from pairsmith.config import Recipe
from pairsmith.errors import DamagedFile
from pairsmith.ledger.ledger import open_ledger
from pairsmith.ledger.pruning import asked_for, place_of
from pairsmith.pairing import survey_merge
from pairsmith.publishing import hub
from pairsmith.publishing.kept_columns import Kinds, united
from pairsmith.publishing.publish import Findings, Published, publish, publish_preview, version_digest
from pairsmith.reporting import gates
from pairsmith.reporting.agreement import Trust
from pairsmith.reporting.summary import Summary
from pairsmith.reporting.summary_tables import usage_table
from pairsmith.session import Session
from pairsmith.sources.sharding import Loaded
from pairsmith.stages.base import open_store
from pairsmith.stages.freshness import uses_of
from pairsmith.stages.records import record_of
from pairsmith.stages.wiring import models_of
from pairsmith.storage.fence import Fence, fence_key
from pairsmith.storage.store import Store
from pairsmith.storage.tables import LOAD_REJECTIONS, record_name
from pairsmith.storage.versions import latest_version


def publish_run(
    recipe: Recipe, loaded: Loaded, session: Session, as_preview: bool = False
) -> tuple[Published, Summary]:
    """Add up the records of the shards, check that no prompt was lost, and publish the next version, or the preview.

    A preview need not pass the gates, and says nothing of which replies the rest of the data set uses.
    """
    store, ledger = open_store(recipe, session), open_ledger(recipe.ledger_url, session)
    uses = uses_of(recipe, store, loaded.shards) | (asked_for(store) if as_preview else set())
    ledger.uses.ended(place_of(store), recipe.name, uses, is_whole=not as_preview)
    summary, trust, content, kinds = _added_up(recipe, store, loaded)
    if not as_preview:
        gates.check_gates(recipe.gates, summary, trust)
    models = models_of(recipe)
    usage = usage_table(ledger.spending.paid(recipe.name), models)
    fence = session.find(fence_key(store.root)) or Fence(store.root)
    findings = Findings(summary, trust, models, usage, kinds)
    made = (publish_preview if as_preview else publish)(recipe, store, loaded.shards, content, findings, fence)
    return made, summary


def gate_table(recipe: Recipe, loaded: Loaded, session: Session) -> list[dict[str, Any]]:
    """All gates with their bounds and measured values, including gates for which the recipe sets no bound."""
    summary, trust, *_ = _added_up(recipe, open_store(recipe, session), loaded)
    calibration = recipe.rating.calibrated if recipe.rating else None
    return gates.gates_table(recipe.gates, summary, trust, calibration)


def counts_of(recipe: Recipe, loaded: Loaded, session: Session) -> Summary:
    """What became of all prompts, from the records of the shards."""
    return _added_up(recipe, open_store(recipe, session), loaded)[0]


def is_released(recipe: Recipe, loaded: Loaded, session: Session) -> bool:
    """Whether `latest` leads to a version with the pairs of these shards, in the form that the recipe asks for."""
    store = open_store(recipe, session)
    content = _added_up(recipe, store, loaded)[2]
    latest = latest_version(store)
    return latest is not None and latest.digest == version_digest(content, recipe.publishing)


def _added_up(recipe: Recipe, store: Store, loaded: Loaded) -> tuple[Summary, Trust, int, Kinds]:
    """The totals of all shards: counts, statistics of the judges, the sum of content digests, types of kept columns."""
    summary, trust, content, kinds = Summary(), Trust(), 0, dict[str, str]()
    at_load = store.read(LOAD_REJECTIONS)
    for shard in loaded.shards:
        record = record_of(store, shard)
        if record is None:
            raise DamagedFile(f"{store.url(record_name(shard))}: absent or damaged; run again")
        summary.merge(Summary.from_json(record["summary"]))
        trust.merge(Trust.from_json(record["trust"]))
        content = (content + int(record["content"], 16)) % 2**256
        kinds = united(kinds, record.get("kinds", {}))
    if recipe.needs_survey and loaded.shards:  # the slopes are the same for all shards
        summary.slopes = dict(survey_merge.read_result(store, next(iter(loaded.shards))).slopes)
    summary.load_reasons.update(at_load["reason"])
    summary.load_reasons.update({"merged": loaded.merged} if loaded.merged else {})
    summary.rows_read = loaded.accepted + len(at_load) + loaded.merged
    rejected = sum(summary.prompt_reasons.values())
    if summary.loaded != loaded.accepted or summary.loaded != summary.paired + rejected:
        raise AssertionError(f"{loaded.accepted} prompts in, {summary.paired} paired + {rejected} rejected")
    return summary, trust, content, kinds


def push(recipe: Recipe, published: Published, session: Session) -> str | None:
    """Upload a version to the Hub; returns its URL, or None where there was nothing to do."""
    return hub.push_to_hub(recipe, open_store(recipe, session), published)
