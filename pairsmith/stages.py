"""One function per stage: read tables, call the stage's pure function, write a table.

A stage whose table is fresh does nothing: `fingerprints` tell that. A table with rows that failed for a passing reason
is stored but never fresh, so the next run asks for just those again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pairsmith import (
    card,
    evolution,
    facts,
    fields,
    fingerprints,
    gates,
    generation,
    given,
    guard,
    hub,
    ids,
    pairing,
    prompts,
    publishing,
    rating,
    reading,
    report,
    sandbox,
    schemas,
    survey,
    templating,
)
from pairsmith.agreement import Trust
from pairsmith.budget import Budgeted, purse_of
from pairsmith.config import (
    CHECKS,
    Budget,
    Evolver,
    Judge,
    Member,
    ModelSpec,
    Rating,
    Recipe,
    Sampling,
)
from pairsmith.errors import TableError
from pairsmith.evolution import evolve
from pairsmith.fetching import fetched
from pairsmith.generation import generate
from pairsmith.ids import source_hash
from pairsmith.ledger import Recorded, open_ledger
from pairsmith.llms.base import LLM, Request, open_llm
from pairsmith.llms.batch import Batched
from pairsmith.llms.encoder import Encoder, cosine
from pairsmith.pairing import Similarity, by_characters, pair
from pairsmith.progress import Progress, ask, emit
from pairsmith.publishing import Findings, Published, publish
from pairsmith.rating import rate
from pairsmith.recalling import Notes
from pairsmith.report import Summary
from pairsmith.schemas import Reason
from pairsmith.sharding import Loaded, known_prompts, shard_prompts
from pairsmith.store import Store, TableRef
from pairsmith.survey import Facts
from pairsmith.tables import (
    LOAD_REJECTIONS,
    ShardTables,
    completion_refs,
    evolution_ref,
    judge_ref,
    made_refs,
    pairs_ref,
    pool_ref,
    pool_refs,
    prompts_ref,
    published_ref,
    rated_refs,
    rating_refs,
    record_name,
    rejections_ref,
    survey_name,
)

STAGES = (generation.STAGE, evolution.STAGE, rating.STAGE, pairing.STAGE)
ASKS_NOTHING = (survey.STAGE, pairing.STAGE)


@dataclass(frozen=True)
class Done:
    """What a stage did to a shard, `who` being the member, evolver or judge.

    `calls`, tokens and `cost` count what models were asked, not what the ledger knew.
    """

    stage: str
    shard: str
    who: str
    rows: int
    calls: int = 0
    prompt_tokens: int = 0
    tokens: int = 0
    cost: float = 0.0
    failed: int = 0


def open_store(recipe: Recipe) -> Store:
    return Store(f"{recipe.workspace.rstrip('/')}/{recipe.name}")


def stages_of(recipe: Recipe) -> list[str]:
    """The stages that a recipe has, in their order."""
    absent = {evolution.STAGE: recipe.evolution is None, rating.STAGE: recipe.rating is None}
    return [stage for stage in STAGES if not absent.get(stage)]


def load(recipe: Recipe) -> Loaded:
    """Read all sources, as far as they are not as they were, and lay the prompts out in shards."""
    store = open_store(recipe)
    known = known_prompts(store)
    notes = Notes(store, known.homes, source_hash(prompts, reading, fields, schemas, ids, templating, sandbox))
    with fetched(recipe.prompts, Path(store.path("sources")) if store.is_local else None) as bodies:
        read = prompts.read_prompts(recipe.prompts, bodies, notes)
        loaded = shard_prompts(read, store, recipe.shard_size, known)
    notes.tidy()
    return loaded


def forget_sources(recipe: Recipe) -> None:
    """Forget what earlier loads fetched and read, so that the next one fetches and parses all sources."""
    store = open_store(recipe)
    Notes(store, (), "").tidy()
    if store.is_local:
        shutil.rmtree(store.path("sources"), ignore_errors=True)


def generate_shard(recipe: Recipe, shard: str, member_name: str) -> Done:
    """Let one member answer the prompts of a shard, or take the completions that came with them."""
    store, pool = open_store(recipe), recipe.pool
    member, source = pool.member(member_name), store.load(prompts_ref(shard))
    ref, mark = pool_ref(shard, member.name), fingerprints.of_generation(recipe, member, source)
    share = Progress(generation.STAGE, len(source.data) / len(pool.members))
    if member.is_given:
        return _take(store, ref, mark, member.name, share, lambda: given.completions_of(source.data, member))
    llm = _recorded(recipe, member)
    return _build(
        store,
        ref,
        mark,
        member.name,
        llm,
        share,
        lambda: generate(source.data, pool, member, llm),
    )


def evolve_shard(recipe: Recipe, shard: str) -> Done:
    """Evolve the completions of a shard, all rounds."""
    settings = recipe.evolution
    assert settings is not None
    store, llm = open_store(recipe), _recorded(recipe, settings.evolver)
    source = store.load(prompts_ref(shard))
    parents = store.load_all(pool_refs(recipe, shard))
    return _build(
        store,
        evolution_ref(shard),
        fingerprints.of_evolution(settings, source, parents),
        settings.evolver.name,
        llm,
        Progress(evolution.STAGE, len(source.data)),
        lambda: evolve(source.data, parents.data, settings, llm),
    )


def rate_shard(recipe: Recipe, shard: str, judge_name: str) -> Done:
    """Let one judge rate the completions of a shard, take the ratings that came with them, or let the checks judge."""
    settings = recipe.rating
    assert settings is not None
    if judge_name == CHECKS:
        return _check_shard(recipe, settings, shard)
    judge, store = settings.judge(judge_name), open_store(recipe)
    source = store.load(prompts_ref(shard))
    completions = store.load_all(completion_refs(recipe, shard))
    ref, mark = judge_ref(shard, judge.name), fingerprints.of_rating(recipe, settings, judge, source, completions)
    share = Progress(rating.STAGE, len(source.data) / len(settings.raters))
    if judge.is_given:
        member, data = recipe.pool.given, (source.data, completions.data)
        assert member is not None
        return _take(store, ref, mark, judge.name, share, lambda: given.ratings_of(*data, settings, judge, member))
    llm, families = _recorded(recipe, judge), recipe.families
    return _build(
        store,
        ref,
        mark,
        judge.name,
        llm,
        share,
        lambda: rate(source.data, completions.data, settings, judge, llm, families),
    )


def _check_shard(recipe: Recipe, settings: Rating, shard: str) -> Done:
    store = open_store(recipe)
    source, completions = store.load(prompts_ref(shard)), store.load_all(completion_refs(recipe, shard))
    mark = fingerprints.of_checks(settings, source, completions)
    share = Progress(rating.STAGE, len(source.data) / len(settings.raters))
    data = source.data, completions.data
    return _take(store, judge_ref(shard, CHECKS), mark, CHECKS, share, lambda: rating.check(*data, settings))


def lacking(recipe: Recipe, shard: str, stage: str) -> list[str]:
    """What models have yet to make before `stage` (rate or pair) can be done for a shard; asks none.

    The given completions, which no model makes, are put in their place on the way.
    """
    store, settings = open_store(recipe), recipe.rating
    source = store.load(prompts_ref(shard))
    found, share = [], len(source.data) / len(recipe.pool.members)
    for member in recipe.pool.members:
        if member.is_given:
            generate_shard(recipe, shard, member.name)
        else:
            mark = fingerprints.of_generation(recipe, member, source)
            found += _absent(store, pool_ref(shard, member.name), mark, member.name)
            emit(Progress(generation.STAGE, share))
    if recipe.evolution and not found:
        mark = fingerprints.of_evolution(recipe.evolution, source, store.load_all(pool_refs(recipe, shard)))
        found += _absent(store, evolution_ref(shard), mark, recipe.evolution.evolver.name)
        emit(Progress(evolution.STAGE, len(source.data)))
    if stage == pairing.STAGE and settings and not found:
        completions = store.load_all(completion_refs(recipe, shard))
        for judge in settings.judges:
            if not judge.is_given:
                mark = fingerprints.of_rating(recipe, settings, judge, source, completions)
                found += _absent(store, judge_ref(shard, judge.name), mark, judge.name)
                emit(Progress(rating.STAGE, len(source.data) / len(settings.raters)))
    return found


def _absent(store: Store, ref: TableRef, mark: str, who: str) -> list[str]:
    """What to call a table that is not there, or not as this recipe makes it. One to be tried again counts as there."""
    if store.fresh(ref, mark) or store.fresh(ref, f"{fingerprints.INCOMPLETE} {mark}"):
        return []
    why = " as this recipe makes them" if store.exists(ref.path) else ""
    return [f"{ref.table} by {who}{why}"]


def survey_shard(recipe: Recipe, shard: str) -> Done:
    """Note what a rated shard tells of the whole data set. Never calls a model."""
    store = open_store(recipe)
    completions, ratings = _judged(recipe, store, shard)
    record = {
        "mark": _mark(recipe, store, shard),
        "files": _digests(store, (ref.path for ref in rated_refs(recipe, shard))),
        **survey.survey(completions, ratings, recipe.pairing, recipe.rating).to_json(),
    }
    store.write_json(survey_name(shard), record)
    return Done(survey.STAGE, shard, "all", len(completions))


def merge_surveys(recipe: Recipe, shards: Mapping[str, int]) -> list[str]:
    """Tell every shard what all surveys together say; returns those whose pairs are not made by that yet."""
    store, plan, left = open_store(recipe), fingerprints.of_plan(recipe), []
    facts.merge(store, shards, recipe.pairing.guard.repeated)
    for shard, size in shards.items():
        record, told = _record(store, shard), facts.read_facts(store, shard) or Facts()
        if record and record["facts"] == told.digest and _is_sound(store, record, fingerprints.of_shard(shard, plan)):
            emit(Progress(pairing.STAGE, size))
        else:
            left.append(shard)
    return left


def pair_shard(recipe: Recipe, shard: str) -> Done:
    """Select the pairs of a shard, and record what came of it. No model is asked but that of `pairing.similarity`."""
    store = open_store(recipe)
    source = store.load(prompts_ref(shard))
    completions, ratings = _judged(recipe, store, shard)
    told = (facts.read_facts(store, shard) if recipe.needs_survey else None) or Facts()
    flags = guard.flagged(schemas.rows(completions), told.repeated)
    pairs, rejections = pair(
        source.data, completions, ratings, recipe.pairing, recipe.needs_scores, recipe.rating, told.slopes,
        {name: guard.told(found) for name, found in flags.items()}, _similarity(recipe, completions),
    )  # fmt: skip
    store.write(rejections_ref(shard), rejections, "")
    store.write(pairs_ref(shard), pairs, "")
    tables = ShardTables(source.data, completions, ratings, pairs, rejections)
    published = publishing.published_rows(tables)
    store.write_arrow(published_ref(shard), publishing.to_table(published))
    summary = Summary()
    summary.add(tables, flags)
    trust = Trust()
    trust.add(tables, recipe.families_with_judges, recipe.rating)
    before = [survey_name(shard)] if recipe.needs_survey else [ref.path for ref in rated_refs(recipe, shard)]
    record = {
        "mark": _mark(recipe, store, shard),
        "files": _digests(store, [*before, *(ref.path for ref in made_refs(shard))]),
        "facts": told.digest,
        "content": f"{publishing.content_digest(published):064x}",
        "summary": summary.to_json(),
        "trust": trust.to_json(),
    }
    store.write_json(record_name(shard), record)
    emit(Progress(pairing.STAGE, len(source.data)))
    return Done(pairing.STAGE, shard, "all", len(pairs))


def _similarity(recipe: Recipe, completions: pd.DataFrame) -> Similarity:
    """What tells how alike two texts of a shard are. Vectors stand in the ledger: pairing again reckons none anew."""
    spec = recipe.pairing.similarity
    if spec is None:
        return by_characters
    sound = completions[completions["error"].isna()]["text"]
    texts = sorted({text for text in sound if text.strip()})
    llm = Recorded(Encoder(spec), open_ledger(recipe.ledger_url), recipe.name, asker="encoder similarity")
    requests = [Request(({"role": "user", "content": text},), Sampling(), seed=0) for text in texts]
    vectors = {text: reply.text for text, reply in zip(texts, ask(llm, requests, pairing.STAGE, 0), strict=True)}
    return lambda one, other: cosine(vectors[one], vectors[other])


def _judged(recipe: Recipe, store: Store, shard: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The completions and ratings of a shard."""
    ratings = store.load_all(rating_refs(recipe, shard)).data if recipe.rating else schemas.frame("ratings", [])
    return store.load_all(completion_refs(recipe, shard)).data, ratings


def _digests(store: Store, names: Iterable[str]) -> dict[str, str]:
    return {name: store.file_digest(name) for name in names}


def _mark(recipe: Recipe, store: Store, shard: str) -> str:
    """The mark of what is made of a shard's tables, which has to be made again where one of them is not complete."""
    refs = (*completion_refs(recipe, shard), *rating_refs(recipe, shard))
    complete = not any(store.load(ref).fingerprint.startswith(fingerprints.INCOMPLETE) for ref in refs)
    return fingerprints.of_shard(shard, fingerprints.of_plan(recipe)) if complete else fingerprints.INCOMPLETE


def unfinished(recipe: Recipe, shards: Mapping[str, int]) -> list[str]:
    """Those shards whose tables are not all there, whole, and made by this recipe; the others count as done.

    With a survey, the tables of a shard up to its ratings; of its pairs, `merge_surveys` tells.
    """
    store, plan, left = open_store(recipe), fingerprints.of_plan(recipe), []
    read = _survey if recipe.needs_survey else _record
    done = [stage for stage in stages_of(recipe) if stage != pairing.STAGE or not recipe.needs_survey]
    for shard, size in shards.items():
        record = read(store, shard)
        if record and _is_sound(store, record, fingerprints.of_shard(shard, plan)):
            for stage in done:
                emit(Progress(stage, size))
        else:
            left.append(shard)
    return left


def _record(store: Store, shard: str) -> dict[str, Any] | None:
    return _read(store, record_name(shard), {"mark", "files", "facts", "content", "summary", "trust"})


def _survey(store: Store, shard: str) -> dict[str, Any] | None:
    return _read(store, survey_name(shard), {"mark", "files", "sums", "texts"})


def _read(store: Store, name: str, keys: set[str]) -> dict[str, Any] | None:
    """What a file of ours says; None where it is not there or damaged."""
    try:
        record = store.read_json(name)
        return record if set(record) == keys else None
    except (OSError, ValueError, TypeError):
        return None


def _is_sound(store: Store, record: dict[str, Any], mark: str) -> bool:
    """Whether a record is of this recipe, and the files that it is about are untouched."""
    return record["mark"] == mark and all(store.file_digest(name) == is_ for name, is_ in record["files"].items())


def publish_run(recipe: Recipe, loaded: Loaded) -> tuple[Published, Summary]:
    """Add up what came of the shards, check that no prompt was lost, and publish the next version."""
    store = open_store(recipe)
    summary, trust, content = _added_up(recipe, store, loaded)
    gates.check(recipe.gates, summary, trust)
    models = models_of(recipe)
    usage = report.usage_table(open_ledger(recipe.ledger_url).paid(recipe.name), models)
    return publish(recipe, store, loaded.shards, content, Findings(summary, trust, models, usage)), summary


def gate_table(recipe: Recipe, loaded: Loaded) -> list[dict[str, Any]]:
    """The gates with their bounds and what was measured, also of those that the recipe leaves open."""
    summary, trust, _ = _added_up(recipe, open_store(recipe), loaded)
    return gates.table(recipe.gates, summary, trust)


def _added_up(recipe: Recipe, store: Store, loaded: Loaded) -> tuple[Summary, Trust, int]:
    """What came of all shards: counts, trust in the judges, and the sum of their contents."""
    summary, trust, content = Summary(), Trust(), 0
    at_load = store.read(LOAD_REJECTIONS)
    for shard in loaded.shards:
        record = _record(store, shard)
        if record is None:
            raise TableError(f"{store.path(record_name(shard))}: damaged; run again")
        summary.merge(Summary.from_json(record["summary"]))
        trust.merge(Trust.from_json(record["trust"]))
        content = (content + int(record["content"], 16)) % 2**256
    if recipe.needs_survey and loaded.shards:  # slopes are the same for all
        told = facts.read_facts(store, next(iter(loaded.shards))) or Facts()
        summary.slopes = dict(told.slopes)
    summary.load_reasons.update(at_load["reason"])
    summary.load_reasons.update({"merged": loaded.merged} if loaded.merged else {})
    summary.rows_read = loaded.accepted + len(at_load) + loaded.merged
    rejected = sum(summary.prompt_reasons.values())
    if summary.loaded != loaded.accepted or summary.loaded != summary.paired + rejected:
        raise AssertionError(f"{loaded.accepted} prompts in, {summary.paired} paired + {rejected} rejected")
    return summary, trust, content


def push(recipe: Recipe, published: Published) -> str | None:
    """Upload a version to the Hub; None where it is there already."""
    return hub.push_to_hub(recipe, open_store(recipe), published)


def models_of(recipe: Recipe) -> card.Models:
    """Every model of a recipe with the revision that its ids and ledger keys name."""
    models = [
        {"role": role_of(spec), "name": spec.name, "model": spec.model, "revision": open_llm(spec).identity.revision}
        for spec in recipe.specs
    ]
    if recipe.pairing.similarity:
        found = Encoder(recipe.pairing.similarity).identity
        models.append({"role": "encoder", "name": "similarity", "model": found.model, "revision": found.revision})
    return models


def role_of(spec: ModelSpec) -> str:
    """What a model is in a recipe: member, evolver or judge."""
    return {Member: "member", Evolver: "evolver", Judge: "judge"}[type(spec)]


def _recorded(recipe: Recipe, spec: Member | Evolver | Judge) -> Recorded:
    """A model of a recipe, held to its budget, its replies kept in the ledger."""
    ledger, budget = open_ledger(recipe.ledger_url), recipe.budget
    llm: LLM = Batched(spec, ledger) if spec.endpoint and spec.endpoint.mode == "batch" else open_llm(spec)
    if budget != Budget():
        llm = Budgeted(llm, purse_of(recipe.ledger_url, recipe.name, budget), spec.price)
    return Recorded(llm, ledger, recipe.name, spec.price, f"{role_of(spec)} {spec.name}")


def _build(
    store: Store, ref: TableRef, mark: str, who: str, llm: Recorded, whole: Progress, make: Callable[[], pd.DataFrame]
) -> Done:
    stored = store.fresh(ref, mark)
    if stored:
        emit(whole)
        return Done(whole.stage, ref.shard, who, len(stored.data))
    data = make()
    failed = int(data["error"].str.startswith(str(Reason.FAILED)).fillna(False).sum())
    store.write(ref, data, f"{fingerprints.INCOMPLETE} {mark}" if failed else mark)
    used = (llm.calls, llm.prompt_tokens, llm.tokens, llm.cost)
    return Done(whole.stage, ref.shard, who, len(data), *used, failed)


def _take(store: Store, ref: TableRef, mark: str, who: str, whole: Progress, make: Callable[[], pd.DataFrame]) -> Done:
    """A table that no model is asked for."""
    stored = store.fresh(ref, mark) or store.write(ref, make(), mark)
    emit(whole)
    return Done(whole.stage, ref.shard, who, len(stored.data))
