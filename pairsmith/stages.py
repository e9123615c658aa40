"""One function per stage: read tables, call the stage's pure function, write a table.

Each table's fingerprint covers its inputs, the part of the recipe that can change it, and the code and templates
that make it; a stage whose table is fresh does nothing. A table with rows that failed for a passing reason is stored
but never fresh, so the next run asks for just those again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from pairsmith import (
    agreement,
    charts,
    evolution,
    gates,
    generation,
    pairing,
    prompts,
    publishing,
    rating,
    readouts,
    report,
    schemas,
    scoring,
    templating,
    wrapping,
)
from pairsmith.agreement import Trust
from pairsmith.budget import Budgeted, purse_of
from pairsmith.checks import check_hash
from pairsmith.config import CHECKS, Budget, Config, Evolver, Judge, Member, ModelSpec, Rating, Recipe, Sampling
from pairsmith.errors import TableError
from pairsmith.evolution import evolve
from pairsmith.generation import generate
from pairsmith.ids import fingerprint, source_hash
from pairsmith.ledger import Recorded, open_ledger
from pairsmith.llms import encoder
from pairsmith.llms.base import LLM, Identity, Request, open_llm
from pairsmith.llms.batch import Batched
from pairsmith.llms.encoder import Encoder, cosine
from pairsmith.pairing import Similarity, by_characters, pair
from pairsmith.progress import Progress, ask, emit
from pairsmith.publishing import Published, publish
from pairsmith.rating import rate
from pairsmith.report import Summary
from pairsmith.schemas import Reason
from pairsmith.sharding import Loaded, shard_prompts
from pairsmith.store import Store, TableRef
from pairsmith.tables import (
    LOAD_REJECTIONS,
    ShardTables,
    all_refs,
    completion_refs,
    evolution_ref,
    judge_ref,
    pairs_ref,
    pool_ref,
    pool_refs,
    prompts_ref,
    published_ref,
    rating_refs,
    record_name,
    rejections_ref,
)

STAGES = (generation.STAGE, evolution.STAGE, rating.STAGE, pairing.STAGE)
# Of a model's fields, those that change no answer of its own, or are told by its identity.
_ELSEWHERE = {"local", "endpoint", "price", "weight", "family", "backend", "model", "revision"}
INCOMPLETE = "incomplete"  # the fingerprint of a table that is to be tried again


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
    """Read all sources and lay the prompts out in shards."""
    return shard_prompts(prompts.read_prompts(recipe.prompts), open_store(recipe), recipe.shard_size)


def generate_shard(recipe: Recipe, shard: str, member_name: str) -> Done:
    """Let one member answer the prompts of a shard."""
    store, pool = open_store(recipe), recipe.pool
    member = pool.member(member_name)
    llm, source = _recorded(recipe, member), store.load(prompts_ref(shard))
    drawn_from = [pool.draw, pool.seed, [other.name for other in pool.members]] if pool.draw else None
    code = [source_hash(generation), templating.template_hash("principles") if member.principles else None]
    mark = fingerprint(code, source.digest, _dump(member, llm.identity), drawn_from)
    return _build(
        store,
        pool_ref(shard, member.name),
        mark,
        member.name,
        llm,
        Progress(generation.STAGE, len(source.data) / len(pool.members)),
        lambda: generate(source.data, pool, member, llm),
    )


def evolve_shard(recipe: Recipe, shard: str) -> Done:
    """Evolve the completions of a shard, all rounds."""
    settings = recipe.evolution
    assert settings is not None
    store, llm = open_store(recipe), _recorded(recipe, settings.evolver)
    source = store.load(prompts_ref(shard))
    parents = store.load_all(pool_refs(recipe, shard))
    code = [source_hash(evolution), templating.template_hash("evolve")]
    plan = settings.model_dump(mode="json", exclude={"evolver"})
    mark = fingerprint(code, source.digest, parents.digest, plan, _dump(settings.evolver, llm.identity))
    return _build(
        store,
        evolution_ref(shard),
        mark,
        settings.evolver.name,
        llm,
        Progress(evolution.STAGE, len(source.data)),
        lambda: evolve(source.data, parents.data, settings, llm),
    )


def rate_shard(recipe: Recipe, shard: str, judge_name: str) -> Done:
    """Let one judge rate the completions of a shard, or the checks, under their name."""
    settings = recipe.rating
    assert settings is not None
    if judge_name == CHECKS:
        return _check_shard(recipe, settings, shard)
    judge = settings.judge(judge_name)
    store, llm = open_store(recipe), _recorded(recipe, judge)
    source = store.load(prompts_ref(shard))
    completions = store.load_all(completion_refs(recipe, shard))
    code = [source_hash(rating, readouts, wrapping), templating.template_hash("judge")]
    plan = settings.model_dump(mode="json", include={"aspects", "rubrics", "own_family"})
    families = families_of(recipe)
    others = [judge.family_name for judge in settings.judges]
    mark = fingerprint(code, source.digest, completions.digest, plan, families, others, _dump(judge, llm.identity))
    return _build(
        store,
        judge_ref(shard, judge.name),
        mark,
        judge.name,
        llm,
        Progress(rating.STAGE, len(source.data) / len(settings.raters)),
        lambda: rate(source.data, completions.data, settings, judge, llm, families),
    )


def _check_shard(recipe: Recipe, settings: Rating, shard: str) -> Done:
    store = open_store(recipe)
    source, completions = store.load(prompts_ref(shard)), store.load_all(completion_refs(recipe, shard))
    hashes = [check_hash(one) for one in settings.checks]
    mark = fingerprint(source_hash(rating), source.digest, completions.digest, hashes)
    ref, share = judge_ref(shard, CHECKS), len(source.data) / len(settings.raters)
    stored = store.fresh(ref, mark) or store.write(ref, rating.check(source.data, completions.data, settings), mark)
    emit(Progress(rating.STAGE, share))
    return Done(rating.STAGE, shard, CHECKS, len(stored.data))


def pair_shard(recipe: Recipe, shard: str) -> Done:
    """Select the pairs of a shard, and record what came of it. No model is asked but that of `pairing.similarity`."""
    store = open_store(recipe)
    source = store.load(prompts_ref(shard))
    parts = [store.load(ref) for ref in (*completion_refs(recipe, shard), *rating_refs(recipe, shard))]
    completions = store.load_all(completion_refs(recipe, shard)).data
    ratings = store.load_all(rating_refs(recipe, shard)).data if recipe.rating else schemas.frame("ratings", [])
    alike = _similarity(recipe, completions)
    pairs, rejections = pair(
        source.data, completions, ratings, recipe.pairing, recipe.needs_scores, recipe.rating, alike
    )
    store.write(rejections_ref(shard), rejections, "")
    store.write(pairs_ref(shard), pairs, "")
    tables = ShardTables(source.data, completions, ratings, pairs, rejections)
    published = publishing.published_rows(tables)
    store.write_arrow(published_ref(shard), publishing.to_table(published))
    summary = Summary()
    summary.add(tables)
    complete = all(part.fingerprint != INCOMPLETE for part in parts)
    trust = Trust()
    trust.add(tables, families_of(recipe, judges=True))
    record = {
        "mark": shard_mark(shard, plan_mark(recipe)) if complete else INCOMPLETE,
        "files": {ref.path: store.file_digest(ref.path) for ref in all_refs(recipe, shard)},
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


def shard_mark(shard: str, plan: str) -> str:
    """Fingerprint of all that decides what comes of a shard: its prompts, which its name tells, and `plan_mark`."""
    return fingerprint(shard, plan)


def plan_mark(recipe: Recipe) -> str:
    """Fingerprint of what decides the outcome for all shards alike: the recipe, code and templates."""
    judged = (rating, readouts, wrapping, scoring)
    code = source_hash(generation, evolution, *judged, pairing, publishing, report, charts, agreement)
    templates = [templating.template_hash(prefix) for prefix in ("principles", "evolve", "judge")]
    models = [[_dump(spec, open_llm(spec).identity), getattr(spec, "samples", None)] for spec in recipe.specs]
    plan = recipe.model_dump(mode="json", include={"pool": {"draw", "seed"}, "pairing": True})
    sentences = recipe.pairing.similarity and [
        asdict(Encoder(recipe.pairing.similarity).identity),
        source_hash(encoder),
    ]
    evolution_plan = recipe.evolution and recipe.evolution.model_dump(mode="json", exclude={"evolver"})
    rated = recipe.rating and [
        recipe.rating.model_dump(mode="json", exclude={"judges"}),
        [check_hash(one) for one in recipe.rating.checks],
        [judge.weight for judge in recipe.rating.judges],
        families_of(recipe, judges=True),
    ]
    return fingerprint(code, templates, models, plan, sentences, evolution_plan, rated)


def families_of(recipe: Recipe, judges: bool = False) -> dict[str, str]:
    """Member or evolver, and on request judge -> the family of its model."""
    specs = [spec for spec in recipe.specs if judges or not isinstance(spec, Judge)]
    return {spec.name: spec.family_name for spec in specs}


def unfinished(recipe: Recipe, shards: Mapping[str, int]) -> list[str]:
    """Those shards whose tables are not all there, whole, and made by this recipe; the others count as done."""
    store, plan, left = open_store(recipe), plan_mark(recipe), []
    for shard, size in shards.items():
        record = _record(store, shard)
        if record and record["mark"] == shard_mark(shard, plan) and _is_untouched(store, record):
            for stage in stages_of(recipe):
                emit(Progress(stage, size))
        else:
            left.append(shard)
    return left


def _record(store: Store, shard: str) -> dict[str, Any] | None:
    try:
        record = store.read_json(record_name(shard))
        return record if set(record) == {"mark", "files", "content", "summary", "trust"} else None
    except (OSError, ValueError, TypeError):
        return None


def _is_untouched(store: Store, record: dict[str, Any]) -> bool:
    return all(store.file_digest(name) == digest for name, digest in record["files"].items())


def publish_run(recipe: Recipe, loaded: Loaded) -> tuple[Published, Summary]:
    """Add up what came of the shards, check that no prompt was lost, and publish the next version."""
    store, summary, trust, content = open_store(recipe), Summary(), Trust(), 0
    at_load = store.read(LOAD_REJECTIONS)
    for shard in loaded.shards:
        record = _record(store, shard)
        if record is None:
            raise TableError(f"{store.path(record_name(shard))}: damaged; run again")
        summary.merge(Summary.from_json(record["summary"]))
        trust.merge(Trust.from_json(record["trust"]))
        content = (content + int(record["content"], 16)) % 2**256
    summary.load_reasons.update(at_load["reason"])
    summary.rows_read = loaded.accepted + len(at_load)
    rejected = sum(summary.prompt_reasons.values())
    if summary.loaded != loaded.accepted or summary.loaded != summary.paired + rejected:
        raise AssertionError(f"{loaded.accepted} prompts in, {summary.paired} paired + {rejected} rejected")
    gates.check(recipe.gates, summary, trust)
    models = models_of(recipe)
    usage = report.usage_table(open_ledger(recipe.ledger_url).paid(recipe.name), models)
    return publish(recipe, store, loaded.shards, content, summary, trust, models, usage), summary


def push(recipe: Recipe, published: Published) -> str | None:
    """Upload a version to the Hub; None where it is there already."""
    return publishing.push_to_hub(recipe, open_store(recipe), published)


def models_of(recipe: Recipe) -> publishing.Models:
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


def _dump(config: Config, identity: Identity) -> Any:
    """A member, evolver or judge as far as it can change an answer."""
    return [
        asdict(identity),
        config.model_dump(mode="json", exclude=_ELSEWHERE),
    ]


def _build(
    store: Store, ref: TableRef, mark: str, who: str, llm: Recorded, whole: Progress, make: Callable[[], pd.DataFrame]
) -> Done:
    stored = store.fresh(ref, mark)
    if stored:
        emit(whole)
        return Done(whole.stage, ref.shard, who, len(stored.data))
    data = make()
    failed = int(data["error"].str.startswith(str(Reason.FAILED)).fillna(False).sum())
    store.write(ref, data, INCOMPLETE if failed else mark)
    used = (llm.calls, llm.prompt_tokens, llm.tokens, llm.cost)
    return Done(whole.stage, ref.shard, who, len(data), *used, failed)
