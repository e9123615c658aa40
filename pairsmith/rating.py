"""UltraFeedback rating: completions -> ratings by judges, with rationales, and critiques.

Each text stands in the request between lines that carry a mark of its own, which no text can know; a rating binds
to a text by that mark alone. Source of the method: Cui et al. 2023, https://arxiv.org/abs/2310.01377; of the
probability-weighted readout: Liu et al. 2023 (G-Eval), https://arxiv.org/abs/2303.16634.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pairsmith.config import Judge, Rating
from pairsmith.generation import trouble
from pairsmith.ids import draw, fingerprint, seed_of
from pairsmith.llms.base import LLM, Identity, Reply, Request
from pairsmith.progress import ask
from pairsmith.readouts import (
    Read,
    Scale,
    Sheet,
    Text,
    could_be_quoted,
    ends_a_thought,
    read_json,
    read_logprobs,
    read_text,
    schema_for,
)
from pairsmith.schemas import frame, rows
from pairsmith.templating import nonces, render, transcript

STAGE = "rate"
CRITIQUE = "critique"
SCALES = {CRITIQUE: Scale(1, 10)}
MAY_BE_NA = {"honesty", "truthfulness"}


@dataclass(frozen=True)
class Asked:
    """One request to a judge: the sheet it fills in, with the texts in their order, and how it is read."""

    prompt_id: str
    aspect: str
    sheet: Sheet
    request: Request
    readout: str
    protocol: str


def rate(prompts: pd.DataFrame, completions: pd.DataFrame, rating: Rating, judge: Judge, llm: LLM) -> pd.DataFrame:
    """Let one judge rate all sound completions of `prompts` in every aspect; returns its rows of ratings."""
    asked = list(plan(rows(prompts), rows(completions), rating, judge))
    replies = ask(llm, [item.request for item in asked], STAGE, len(prompts) / len(rating.judges))
    return frame(
        "ratings",
        [row for item, reply in zip(asked, replies, strict=True) for row in to_rows(item, reply, judge, llm.identity)],
    )


def plan(
    prompts: Sequence[dict[str, Any]], completions: Sequence[dict[str, Any]], rating: Rating, judge: Judge
) -> Iterator[Asked]:
    """The requests of one judge: per prompt and aspect one for all completions, or one each."""
    by_prompt: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in sorted(completions, key=lambda row: row["completion_id"]):
        if row["error"] is None:
            by_prompt[row["prompt_id"]].append(row)
    for prompt in prompts:
        group = by_prompt[prompt["prompt_id"]]
        if not group:
            continue
        for aspect in rating.aspects:
            batches = [shuffled(group, judge, aspect)] if judge.protocol == "listwise" else [[row] for row in group]
            yield from (_asked(prompt, batch, aspect, judge) for batch in batches)
        if judge.critique:
            yield from (_asked(prompt, [row], CRITIQUE, judge) for row in group)


def shuffled(group: Sequence[dict[str, Any]], judge: Judge, aspect: str) -> list[dict[str, Any]]:
    """The order in which a listwise judge sees the texts: drawn per prompt, aspect and judge."""
    return sorted(group, key=lambda row: draw("order", judge.seed, judge.name, aspect, row["completion_id"]))


def _asked(prompt: dict[str, Any], group: Sequence[dict[str, Any]], aspect: str, judge: Judge) -> Asked:
    question = transcript(json.loads(prompt["messages"]), prompt["system_prompt"])
    reference, ids = prompt["reference"], [row["completion_id"] for row in group]
    everything = [question, reference or "", *(row["text"] for row in group)]
    prompt_mark, *marks = nonces(len(group) + 1, everything, "judge", aspect, prompt["prompt_id"], ids)
    sheet = Sheet(
        texts=tuple(Text(row["completion_id"], mark, row["text"]) for row, mark in zip(group, marks, strict=True)),
        scale=SCALES.get(aspect, Scale(1, 5)),
        may_be_na=aspect in MAY_BE_NA,
        unbound=not any(could_be_quoted(text) for text in everything),
        thoughts=not any(ends_a_thought(text) for text in everything),
    )
    critique = aspect == CRITIQUE
    readout = "text" if critique and judge.readout == "logprobs" else judge.readout
    rationale = judge.rationale or critique
    user = render(
        "judge/_texts.jinja",
        prompt=question,
        prompt_mark=prompt_mark,
        reference=reference,
        sheet=sheet,
        readout=readout,
        rationale=rationale,
        label="Feedback" if critique else "Rationale",
    )
    sampling = judge.sampling
    if readout == "logprobs" and not rationale:
        sampling = sampling.model_copy(update={"max_tokens": 1})
    request = Request(
        messages=(
            {"role": "system", "content": render(f"judge/{aspect}.jinja")},
            {"role": "user", "content": user},
        ),
        sampling=sampling,
        seed=seed_of("rating", sampling.seed, prompt["prompt_id"], aspect, fingerprint(ids)),
        schema=schema_for(sheet, rationale) if readout == "json" else None,
        choices=sheet.scale.digits(sheet.may_be_na) if readout == "logprobs" else None,
    )
    protocol = "pointwise" if critique else judge.protocol
    return Asked(prompt["prompt_id"], aspect, sheet, request, readout, protocol)


def to_rows(item: Asked, reply: Reply, judge: Judge, identity: Identity) -> list[dict[str, Any]]:
    """Exactly one row of the ratings table for each text of a request, whatever the reply says."""
    failure = {text.mark: Read(error=trouble(reply)) for text in item.sheet.texts}
    found = failure if reply.error else read(item, reply)
    return [
        {
            "completion_id": text.completion_id,
            "prompt_id": item.prompt_id,
            "judge": judge.name,
            "aspect": item.aspect,
            "protocol": item.protocol,
            "position": position,
            "rating": found[text.mark].rating,
            "score": found[text.mark].score,
            "rationale": found[text.mark].rationale,
            "reply": reply.text,
            "request": item.request.key(identity),
            "error": found[text.mark].error,
        }
        for position, text in enumerate(item.sheet.texts)
    ]


def read(item: Asked, reply: Reply) -> dict[str, Read]:
    """Mark -> what the reply says of that text."""
    if item.readout == "logprobs":
        return {item.sheet.texts[0].mark: read_logprobs(reply, item.sheet)}
    if item.readout == "json":
        return read_json(reply.text, item.sheet)
    return read_text(reply.text, item.sheet, cut=reply.finish_reason == "length")
