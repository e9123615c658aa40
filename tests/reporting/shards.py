"""Made-up shards of rated answers, their counts and their page, for the tests of what people look at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pairsmith.config import Pairing, Recipe
from pairsmith.ids import draw, short_id
from pairsmith.pairing.candidates import evidence_of
from pairsmith.pairing.select import pair
from pairsmith.publishing.pair_rows import published_rows
from pairsmith.reporting.page import render_report
from pairsmith.reporting.summary import Summary
from pairsmith.storage.schemas import frame
from pairsmith.storage.tables import ShardTables
from tests.runs import completion, rating

MEMBERS = ("amber", "birch", "cedar", "dune")
ASPECTS = ("helpfulness", "honesty")
RECIPE = Recipe.model_validate(
    {
        "name": "report",
        "description": "Answers of four models, rated by two judges.",
        "prompts": {"sources": [{"path": "prompts.jsonl"}]},
        "pool": {"members": [{"name": name, "backend": "echo", "model": name} for name in MEMBERS]},
        "rating": {"judges": [{"name": name, "backend": "echo", "model": name} for name in ("first", "second")]},
    }
)


def tables(cases: Sequence[tuple[str, str, str]], sources: Sequence[str] = ("chat", "code", "maths")) -> ShardTables:
    """All tables of a shard of prompts with two answers each, by two of MEMBERS, with made-up ratings."""
    prompts, completions, ratings = [], [], []
    for question, *answers in cases:
        name = short_id(question, answers)
        source = sources[int(draw("source", name) * len(sources))]
        messages = json.dumps([{"role": "user", "content": question}])
        prompts.append({"prompt_id": name, "messages": messages, "system_prompt": None, "source": source})
        authors = sorted(MEMBERS, key=lambda member, name=name: draw("member", name, member))
        for place, (author, text) in enumerate(zip(authors, answers, strict=False)):
            row = completion(f"{name}.{place}", prompt_id=name, member=author, model=f"org/{author}", text=text)
            completions.append(row | {"error": None if text.strip() else "empty"})
            ratings += [_rated(row, judge, aspect) for judge in ("first", "second") for aspect in ASPECTS]
    made = frame("prompts", prompts), frame("completions", completions), frame("ratings", ratings)
    pairing = Pairing(max_similarity=1.0)
    pairs, rejections = pair(*made[:2], pairing, evidence_of(made[2], pairing))
    return ShardTables(*made, pairs, rejections)


def _rated(row: dict[str, Any], judge: str, aspect: str) -> dict[str, Any]:
    seed = (row["completion_id"], judge, aspect)
    liking = 0.4 * MEMBERS.index(row["member"]) + len(row["text"]) / 4000
    score = max(1, min(5, round(1 + liking + 3.2 * draw("score", *seed))))
    why = f"The answer by {row['member']} is {['poor', 'weak', 'fair', 'good', 'very good'][score - 1]} in {aspect}."
    failed = draw("null", *seed) < 0.02
    given = None if failed else float(score)
    return rating(row["completion_id"], given, aspect, judge, prompt_id=row["prompt_id"], order=0, rationale=why)


def counted(*shards: ShardTables) -> Summary:
    summary = Summary()
    for shard in shards:
        part = Summary()
        part.add(shard)
        summary.merge(Summary.from_json(json.loads(json.dumps(part.to_json()))))
    summary.rows_read = summary.loaded
    return summary


def page_of(shard: ShardTables, **options: Any) -> str:
    return render_report(RECIPE, counted(shard), published_rows(shard), [], **options)


def some(count: int, start: int = 0) -> list[tuple[str, str, str]]:
    words = "one two three four five six seven eight nine ten".split()
    return [
        (f"Question {n}?", " ".join(words[: n % 10 + 1]), " ".join(words[n % 7 : n % 7 + 3]) or "none")
        for n in range(start, start + count)
    ]
