"""Generate: prompts x one member -> completions."""

from __future__ import annotations

from pairsmith.config import Member, Recipe
from pairsmith.generation import pool
from pairsmith.generation.pool import generate
from pairsmith.ids import fingerprint
from pairsmith.llms.registry import identity_of
from pairsmith.progress import Progress
from pairsmith.session import Session
from pairsmith.sources import given_completions
from pairsmith.stages.base import StageResult, asked_table, model_fields, open_store, unasked_table
from pairsmith.stages.reached import stop_if_nobody_is_there
from pairsmith.stages.wiring import recorded_model
from pairsmith.storage.revisions import revisions_to
from pairsmith.storage.store import Stored
from pairsmith.storage.tables import pool_ref, prompts_ref


def generate_shard(recipe: Recipe, shard: str, member_name: str, session: Session) -> StageResult:
    """Let one member answer the prompts of a shard, or take the completions that came with them."""
    store, member = open_store(recipe, session), recipe.pool.member(member_name)
    source = store.load(prompts_ref(shard))
    ref, expected = pool_ref(shard, member.name), generation_fingerprint(recipe, member, source)
    share = Progress(pool.STAGE, len(source.data) / len(recipe.pool.members))
    if member.is_given:
        return unasked_table(
            store,
            ref,
            expected,
            member.name,
            share,
            session.tell,
            lambda: given_completions.completions_of(source.data, member),
        )
    llm = recorded_model(recipe, member, session)
    result = asked_table(
        store,
        ref,
        expected,
        member.name,
        llm,
        share,
        session.tell,
        lambda tell: generate(source.data, recipe.pool, member, llm, tell, recipe.pairing),
    )
    stop_if_nobody_is_there(recipe, store, pool.STAGE, member.name, result.unreached, session)
    return result


def generation_fingerprint(recipe: Recipe, member: Member, source: Stored) -> str:
    """The fingerprint of a member's completions for the prompts of a shard."""
    members, steps = recipe.pool, revisions_to(recipe, pool.STAGE)
    is_drawn = members.draw and member.name not in members.always
    drawn_from = [members.draw, members.seed, [other.name for other in members.drawable]] if is_drawn else None
    fields = model_fields(member, identity_of(member))
    return fingerprint(steps, source.digest, fields, drawn_from, *recipe.pairing.draws)
