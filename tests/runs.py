"""Run a recipe without Prefect, or the reading of prompts alone, and look at what came of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pairsmith import stages
from pairsmith.config import Prompts, Recipe, Source
from pairsmith.llms.base import LLM, Reply, Request
from pairsmith.progress import ask
from pairsmith.prompts import read_prompts
from pairsmith.publishing import Published
from pairsmith.report import Summary


def run(recipe: Recipe) -> tuple[Published, Summary, Counter[str]]:
    """All stages in order; returns what was published, the counts, and the model calls by stage."""
    loaded, calls = stages.load(recipe), Counter[str]()
    done = []
    for shard in stages.unfinished(recipe, loaded.shards):
        done += [stages.generate_shard(recipe, shard, member.name) for member in recipe.pool.members]
        if recipe.evolution:
            done.append(stages.evolve_shard(recipe, shard))
        for rater in recipe.rating.raters if recipe.rating else ():
            done.append(stages.rate_shard(recipe, shard, rater))
        done.append((stages.survey_shard if recipe.needs_survey else stages.pair_shard)(recipe, shard))
    if recipe.needs_survey:
        done += [stages.pair_shard(recipe, shard) for shard in stages.merge_surveys(recipe, loaded.shards)]
    for item in done:
        calls[item.stage] += item.calls
    return *stages.publish_run(recipe, loaded), +calls


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
