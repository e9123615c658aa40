"""Publish: pairs -> the next version of the data set."""

from __future__ import annotations

from typing import Any

from pairsmith.config import Recipe
from pairsmith.errors import DamagedFile
from pairsmith.ledger.ledger import open_ledger
from pairsmith.ledger.pruning import place_of
from pairsmith.pairing import survey_merge
from pairsmith.publishing import hub
from pairsmith.publishing.kept_columns import Kinds, united
from pairsmith.publishing.publish import Findings, Published, publish
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


def publish_run(recipe: Recipe, loaded: Loaded, session: Session) -> tuple[Published, Summary]:
    """Add up the records of the shards, check that no prompt was lost, and publish the next version."""
    store, ledger = open_store(recipe, session), open_ledger(recipe.ledger_url, session)
    ledger.uses.ended(place_of(store), recipe.name, uses_of(recipe, store, loaded.shards))
    summary, trust, content, kinds = _added_up(recipe, store, loaded)
    gates.check_gates(recipe.gates, summary, trust)
    models = models_of(recipe)
    usage = usage_table(ledger.spending.paid(recipe.name), models)
    fence = session.find(fence_key(store.root)) or Fence(store.root)
    findings = Findings(summary, trust, models, usage, kinds)
    return publish(recipe, store, loaded.shards, content, findings, fence), summary


def gate_table(recipe: Recipe, loaded: Loaded, session: Session) -> list[dict[str, Any]]:
    """All gates with their bounds and measured values, including gates for which the recipe sets no bound."""
    summary, trust, *_ = _added_up(recipe, open_store(recipe, session), loaded)
    return gates.gates_table(recipe.gates, summary, trust)


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
