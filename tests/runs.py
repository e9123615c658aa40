"""Run a recipe without Prefect, or the reading of prompts alone, and look at what came of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pairsmith.building.runs import fenced
from pairsmith.config import Prompts, Recipe, Source
from pairsmith.progress import ask
from pairsmith.protocol import LLM, Reply, Request
from pairsmith.publishing.publish import Published
from pairsmith.reporting.summary import Summary
from pairsmith.session import Session
from pairsmith.sources.prompts import read_prompts
from pairsmith.stages.base import open_store
from pairsmith.stages.criteria import write_shard
from pairsmith.stages.evolve import evolve_shard
from pairsmith.stages.freshness import unfinished
from pairsmith.stages.generate import generate_shard
from pairsmith.stages.load import load as load_sources
from pairsmith.stages.pair import pair_shard
from pairsmith.stages.publish import publish_run
from pairsmith.stages.rate import rate_shard
from pairsmith.stages.survey import merge_surveys, survey_shard
from pairsmith.storage.fence import Fence


def run(recipe: Recipe, fence: Fence | None = None) -> tuple[Published, Summary, Counter[str]]:
    """All stages in order; returns what was published, the counts, and the model calls by stage."""
    store = open_store(recipe)
    with Session() as session, fenced(store, fence or Fence(store.root), session):
        loaded, calls = load_sources(recipe, session), Counter[str]()
        done = []
        for shard in unfinished(recipe, loaded.shards, session):
            done += [generate_shard(recipe, shard, member.name, session) for member in recipe.pool.members]
            if recipe.evolution:
                done.append(evolve_shard(recipe, shard, session))
            if recipe.criteria:
                done.append(write_shard(recipe, shard, session))
            for rater in recipe.rating.raters if recipe.rating else ():
                done.append(rate_shard(recipe, shard, rater, session))
            done.append((survey_shard if recipe.needs_survey else pair_shard)(recipe, shard, session))
        if recipe.needs_survey:
            done += [pair_shard(recipe, shard, session) for shard in merge_surveys(recipe, loaded.shards, session)]
        for item in done:
            calls[item.stage] += item.calls
        return *publish_run(recipe, loaded, session), +calls


def generate(llm: LLM, requests: Sequence[Request]) -> list[Reply]:
    """All replies, in the order of the requests."""
    return ask(llm, requests, "test", 0)


def read(
    path: Path | str, limit: int | None = None, **source: Any
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(accepted, rejected) of one source."""
    rows = list(read_prompts(Prompts(sources=(Source(path=str(path), **source),), limit=limit)))
    return [row for row in rows if "reason" not in row], [row for row in rows if "reason" in row]


def contents(prompts: list[dict[str, Any]]) -> list[str]:
    return [json.loads(prompt["messages"])[-1]["content"] for prompt in prompts]


def completion(name: str, **fields: Any) -> dict[str, Any]:
    """A row of the completions table with everything that a test does not care about filled in."""
    row = {
        "completion_id": name, "prompt_id": "p", "member": "m", "model": "x", "revision": None, "system_prompt": None,
        "text": f"the text of {name}", "finish_reason": "stop", "n_tokens": 3, "sample": 0, "seed": 0, "evolution": 0,
        "parent_id": None, "method": None, "request": "r", "error": None,
    }  # fmt: skip
    return row | fields


def rating(name: str, score: float | None, aspect: str = "overall", judge: str = "j", **fields: Any) -> dict[str, Any]:
    """A row of the ratings table."""
    row = {
        "completion_id": name, "prompt_id": "p", "judge": judge, "aspect": aspect, "protocol": "pointwise",
        "order": 0, "position": 0, "rating": None if score is None else round(score), "score": score, "rationale": None,
        "reply": "", "request": "r", "error": None if score is not None else "no rating",
    }  # fmt: skip
    return row | fields
