"""Pair: completions and ratings -> pairs and rejections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from pairsmith.config import Recipe, Sampling
from pairsmith.judging import guard
from pairsmith.judging.criteria_sifting import sifted
from pairsmith.judging.pairwise import divided
from pairsmith.ledger.pruning import table_of
from pairsmith.llms.local.token_counts import token_counter
from pairsmith.llms.recorded import Recorded
from pairsmith.pairing import select, survey_merge
from pairsmith.pairing.candidates import Similarity, by_characters, cosine, evidence_of, in_characters
from pairsmith.pairing.select import pair
from pairsmith.pairing.survey import SurveyResult
from pairsmith.planning.calibrated import require_calibration
from pairsmith.progress import Progress, ask
from pairsmith.protocol import Request
from pairsmith.publishing import pair_rows
from pairsmith.publishing.kept_columns import kinds_of
from pairsmith.publishing.screen import screened
from pairsmith.reporting import against_checks
from pairsmith.reporting.agreement import Trust
from pairsmith.reporting.summary import Summary
from pairsmith.session import Session
from pairsmith.stages.base import StageResult, open_store
from pairsmith.stages.records import file_digests, judged_tables, mark_of
from pairsmith.stages.wiring import recorded_encoder
from pairsmith.storage import schemas
from pairsmith.storage.tables import (
    ShardTables,
    criteria_ref,
    made_refs,
    pairs_ref,
    prompts_ref,
    published_ref,
    rated_refs,
    record_name,
    rejections_ref,
    survey_name,
)


def pair_shard(recipe: Recipe, shard: str, session: Session) -> StageResult:
    """Select the pairs of a shard, and record the outcome. Asks no model but the encoder of `pairing.similarity`."""
    require_calibration(recipe)
    store = open_store(recipe, session)
    source = store.load(prompts_ref(shard))
    completions, readings, written = judged_tables(recipe, store, shard)
    ratings, criteria = sifted(readings, written, recipe.criteria)
    result = survey_merge.read_result(store, shard) if recipe.needs_survey else SurveyResult()
    mark = mark_of(recipe, store, shard, select.STAGE)
    encoder = recorded_encoder(recipe, session) if recipe.pairing.similarity else None
    table = table_of(store, recipe.name, pairs_ref(shard))
    if encoder:
        encoder.uses.begin(table)
    tables, flags, found = paired(recipe, source.data, completions, ratings, result, session, encoder)
    if encoder:
        encoder.uses.note(table, mark, encoder.used)
    store.write(rejections_ref(shard), tables.rejections, "")
    store.write(pairs_ref(shard), tables.pairs, "")
    published = pair_rows.published_rows(tables)
    store.write_arrow(published_ref(shard), pair_rows.to_table(published))
    if recipe.criteria:
        store.write(criteria_ref(shard), criteria, "")
        tables = replace(tables, criteria=criteria)
    summary = Summary()
    summary.add(tables, flags, recipe.pairing)
    summary.found = found
    trust = Trust()
    trust.add(tables, recipe.families_with_judges, recipe.rating)
    trust.merge(Trust(against_checks.counted(tables, recipe.rating, recipe.pairing)))
    before = [survey_name(shard)] if recipe.needs_survey else [ref.path for ref in rated_refs(recipe, shard)]
    record = {
        "mark": mark,
        "files": file_digests(store, [*before, *(ref.path for ref in made_refs(recipe, shard))]),
        "facts": result.digest,
        "content": f"{pair_rows.content_digest(published):064x}",
        "summary": summary.to_json(),
        "trust": trust.to_json(),
    }
    if kinds := kinds_of(published):
        record["kinds"] = kinds
    store.write_json(record_name(shard), record)
    session.tell(Progress(select.STAGE, len(source.data)))
    return StageResult(select.STAGE, shard, "all", len(tables.pairs))


def paired(
    recipe: Recipe,
    prompts: pd.DataFrame,
    completions: pd.DataFrame,
    ratings: pd.DataFrame,
    result: SurveyResult,
    session: Session,
    encoder: Recorded | None = None,
) -> tuple[ShardTables, Mapping[str, Sequence[guard.Flag]], Counter[tuple[str, str]]]:
    """All tables of some prompts as published, with pairs and rejections; what guard and screen found in them.

    Pairs are selected by the texts as they are published, but their similarity is that of the texts as they were.
    """
    screen = screened(recipe.publishing.screen, prompts, completions, ratings)
    in_tokens = token_counter(session)
    flags = guard.flagged(schemas.rows(screen.masked), screen.repeats(result.repeated))
    evidence = replace(
        evidence_of(ratings, recipe.pairing, recipe.rating),
        flags={name: guard.kinds_text(found) for name, found in flags.items()},
        slopes=result.slopes,
        similarity=_similarity(recipe, completions, screen.texts, session, encoder),
        length=lambda gap, text: in_tokens(gap, text) if gap.tokenizer else in_characters(gap, text),
        needs_scores=recipe.needs_scores,
        screened=screen.barred,
    )
    pairs, rejections = pair(screen.prompts, screen.completions, recipe.pairing, evidence)
    scored, verdicts = divided(screen.ratings, recipe.rating)
    tables = ShardTables(screen.prompts, screen.completions, scored, pairs, rejections, verdicts)
    return tables, flags, screen.counts(pairs)


def _similarity(
    recipe: Recipe,
    completions: pd.DataFrame,
    published: Mapping[str, str],
    session: Session,
    encoder: Recorded | None,
) -> Similarity:
    """The function that measures the similarity of two texts of a shard.

    `published`: text -> the same as it is published, for those that the screen changed. An encoder is asked for texts
    as they were, so that it is asked nothing anew.
    """
    if recipe.pairing.similarity is None:
        return by_characters
    sound = completions[completions["error"].isna()]["text"]
    texts = sorted({text for text in sound if text.strip()})
    requests = [Request(({"role": "user", "content": text},), Sampling(), seed=0) for text in texts]
    replies = ask(encoder or recorded_encoder(recipe, session), requests, select.STAGE, 0, session.tell)
    vectors = {text: reply.text for text, reply in zip(texts, replies, strict=True)}
    vectors |= {masked: vectors[text] for text, masked in published.items() if text in vectors}
    return lambda one, other: cosine(vectors[one], vectors[other])
