"""Pair: completions and ratings -> pairs and rejections."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from pairsmith.config import Recipe, Sampling
from pairsmith.judging import guard
from pairsmith.llms.local.encoder import cosine
from pairsmith.pairing import select, survey_merge
from pairsmith.pairing.candidates import Similarity, by_characters, evidence_of
from pairsmith.pairing.select import pair
from pairsmith.pairing.survey import SurveyResult
from pairsmith.progress import Progress, ask, emit
from pairsmith.protocol import Request
from pairsmith.publishing import publish
from pairsmith.reporting.agreement import Trust
from pairsmith.reporting.summary import Summary
from pairsmith.stages.base import StageResult, open_store
from pairsmith.stages.records import file_digests, judged_tables, mark_of
from pairsmith.stages.wiring import recorded_encoder
from pairsmith.storage import schemas
from pairsmith.storage.tables import (
    ShardTables,
    made_refs,
    pairs_ref,
    prompts_ref,
    published_ref,
    rated_refs,
    record_name,
    rejections_ref,
    survey_name,
)


def pair_shard(recipe: Recipe, shard: str) -> StageResult:
    """Select the pairs of a shard, and record what came of it. No model is asked but that of `pairing.similarity`."""
    store = open_store(recipe)
    source = store.load(prompts_ref(shard))
    completions, ratings = judged_tables(recipe, store, shard)
    result = (survey_merge.read_result(store, shard) if recipe.needs_survey else None) or SurveyResult()
    flags = guard.flagged(schemas.rows(completions), result.repeated)
    evidence = replace(
        evidence_of(ratings, recipe.pairing, recipe.rating),
        flags={name: guard.kinds_text(found) for name, found in flags.items()},
        slopes=result.slopes,
        similarity=_similarity(recipe, completions),
        needs_scores=recipe.needs_scores,
    )
    pairs, rejections = pair(source.data, completions, recipe.pairing, evidence)
    store.write(rejections_ref(shard), rejections, "")
    store.write(pairs_ref(shard), pairs, "")
    tables = ShardTables(source.data, completions, ratings, pairs, rejections)
    published = publish.published_rows(tables)
    store.write_arrow(published_ref(shard), publish.to_table(published))
    summary = Summary()
    summary.add(tables, flags)
    trust = Trust()
    trust.add(tables, recipe.families_with_judges, recipe.rating)
    before = [survey_name(shard)] if recipe.needs_survey else [ref.path for ref in rated_refs(recipe, shard)]
    record = {
        "mark": mark_of(recipe, store, shard),
        "files": file_digests(store, [*before, *(ref.path for ref in made_refs(shard))]),
        "facts": result.digest,
        "content": f"{publish.content_digest(published):064x}",
        "summary": summary.to_json(),
        "trust": trust.to_json(),
    }
    store.write_json(record_name(shard), record)
    emit(Progress(select.STAGE, len(source.data)))
    return StageResult(select.STAGE, shard, "all", len(pairs))


def _similarity(recipe: Recipe, completions: pd.DataFrame) -> Similarity:
    """What tells how alike two texts of a shard are."""
    if recipe.pairing.similarity is None:
        return by_characters
    sound = completions[completions["error"].isna()]["text"]
    texts = sorted({text for text in sound if text.strip()})
    requests = [Request(({"role": "user", "content": text},), Sampling(), seed=0) for text in texts]
    replies = ask(recorded_encoder(recipe), requests, select.STAGE, 0)
    vectors = {text: reply.text for text, reply in zip(texts, replies, strict=True)}
    return lambda one, other: cosine(vectors[one], vectors[other])
