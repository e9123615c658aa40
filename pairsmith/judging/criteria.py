"""Criteria written for the prompt: an author sees a prompt with two answers and writes yes/no questions about answers.

Sources of the method: Cook et al. 2024 (TICK), https://arxiv.org/abs/2410.03608: a checklist for each instruction;
Viswanathan et al. 2025 (Checklists Are Better Than Reward Models), https://arxiv.org/abs/2507.18624: written from
answers of differing quality, with weights, and with programs where they can decide; Gunjal et al. 2025 (Rubrics as
Rewards), https://arxiv.org/abs/2507.17746: the weighted share of items that are met as the score.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from pairsmith.config import Author, Criteria
from pairsmith.generation.pool import trouble
from pairsmith.ids import draw, fingerprint, normalised, seed_of
from pairsmith.judging.asking import WING
from pairsmith.judging.criteria_reply import SCHEMA, Item, read_items
from pairsmith.judging.criteria_sifting import told_apart
from pairsmith.judging.reasking import Reading, replied, with_complaint
from pairsmith.progress import Tell, nobody
from pairsmith.protocol import LLM, Identity, Reply, Request
from pairsmith.storage.row_types import CompletionRow, CriterionRow, PromptRow, rows_as
from pairsmith.storage.schemas import Reason, frame
from pairsmith.text.templating import nonces, render, transcript

STAGE = "criteria"
ALIKE = "no two answers that differ"


@dataclass(frozen=True)
class Shown:
    """The two answers that an author sees; `ranked`: the first is of the one expected to be the stronger."""

    strong: CompletionRow
    weak: CompletionRow
    ranked: bool


@dataclass(frozen=True)
class AuthorRequest:
    prompt_id: str
    shown: Shown
    request: Request


def write(
    prompts: pd.DataFrame,
    completions: pd.DataFrame,
    criteria: Criteria,
    author: Author,
    llm: LLM,
    order: Sequence[str] = (),
    tell: Tell = nobody,
) -> pd.DataFrame:
    """Let the author write criteria for all prompts with two different answers; returns rows of the criteria table.

    `order`: members or labels from the strongest to the weakest, where the criteria name none. A prompt with answers
    whose reply cannot be used, or for which none was asked, has one row, item 0, with the reason.
    """
    answers = rows_as(CompletionRow, completions)
    asked = author_requests(rows_as(PromptRow, prompts), answers, criteria, author, order)
    made = [row for found in _replied(asked, criteria, author, llm, len(prompts), tell) for row in found]
    answered = {row["prompt_id"] for row in answers if row["error"] is None} - {one.prompt_id for one in asked}
    whole = {"author": author.name, "strong_id": None, "weak_id": None, "reply": "", "request": ""}
    left = [criterion_row(0, Item(error=ALIKE), {**whole, "prompt_id": name}) for name in sorted(answered)]
    return frame("criteria", [*made, *left])


def _replied(
    asked: Sequence[AuthorRequest], criteria: Criteria, author: Author, llm: LLM, share: float, tell: Tell
) -> list[list[CriterionRow]]:
    """The rows of each request, asked again where nothing could be read; `share`: how many prompts' worth it is."""

    def read(one: AuthorRequest, reply: Reply) -> list[CriterionRow]:
        return rows_of(one, reply, criteria, author, llm.identity)

    reading = Reading(
        read=read,
        is_unread=lambda _, rows: _is_unread_whole(rows),
        again=lambda one, _, latest, number: asked_again(one, latest[0], number),
        better=lambda kept, latest: kept if _is_unread_whole(latest) else latest,
    )
    return replied(asked, reading, author.reasks, llm, STAGE, share, tell)


def asked_again(one: AuthorRequest, latest: CriterionRow, number: int) -> AuthorRequest:
    """The same request, followed by the author's latest reply and what is wrong with it."""
    return replace(one, request=with_complaint(one.request, latest["reply"], [("", latest["error"])], number))


def author_requests(
    prompts: Sequence[PromptRow],
    completions: Sequence[CompletionRow],
    criteria: Criteria,
    author: Author,
    order: Sequence[str] = (),
) -> list[AuthorRequest]:
    """One request for each prompt that has two different answers."""
    by_prompt: dict[str, list[CompletionRow]] = defaultdict(list)
    for row in completions:
        if row["error"] is None:
            by_prompt[row["prompt_id"]].append(row)
    ranking = criteria.strongest_first or tuple(order)
    found = ((prompt, two_shown(by_prompt[prompt["prompt_id"]], ranking)) for prompt in prompts)
    return [_request(prompt, shown, criteria, author) for prompt, shown in found if shown]


def two_shown(group: Sequence[CompletionRow], order: Sequence[str] = ()) -> Shown | None:
    """A strong and a weak answer of a prompt, by what is known before any is rated; None where none differ.

    The ends of `order`, where answers of two in it differ; else the rewrite of the last round and the answer that it
    comes from; else two that are drawn by their ids, of which none is called the stronger. Nothing depends on the
    order of `group`.
    """
    rows = sorted(group, key=lambda row: row["completion_id"])
    rank = {name: place for place, name in enumerate(order)}
    ranked = sorted((row for row in rows if row["member"] in rank), key=lambda row: rank[row["member"]])
    if ranked and (
        weak := [r for r in ranked if rank[r["member"]] > rank[ranked[0]["member"]] and _differ(ranked[0], r)]
    ):
        last = rank[weak[-1]["member"]]
        return Shown(ranked[0], next(row for row in weak if rank[row["member"]] == last), True)
    by_id = {row["completion_id"]: row for row in rows}
    for row in sorted(rows, key=lambda row: -row["evolution"]):
        if (origin := _origin(row, by_id)) and _differ(row, origin):
            return Shown(row, origin, True)
    drawn = sorted(rows, key=lambda row: draw(STAGE, row["prompt_id"], row["completion_id"]))
    other = next((row for row in drawn[1:] if _differ(drawn[0], row)), None)
    return Shown(drawn[0], other, False) if other else None


def _origin(row: CompletionRow, by_id: dict[str, CompletionRow]) -> CompletionRow | None:
    """The answer that a rewrite began from, as far as the rows in between are there."""
    at = row
    while (parent := at.get("parent_id")) and parent in by_id:
        at = by_id[parent]
    return at if at is not row else None


def _differ(one: CompletionRow, other: CompletionRow) -> bool:
    return normalised(one["text"]) != normalised(other["text"])


def _request(prompt: PromptRow, shown: Shown, criteria: Criteria, author: Author) -> AuthorRequest:
    question = transcript(json.loads(prompt["messages"]), prompt["system_prompt"])
    texts, ids = (
        (shown.strong["text"], shown.weak["text"]),
        (shown.strong["completion_id"], shown.weak["completion_id"]),
    )
    everything = [question, prompt["reference"] or "", *texts]
    prompt_mark, *marks = nonces(3, everything, "author", prompt["prompt_id"], ids)
    content = render(
        WING,
        "_author.jinja",
        prompt=question,
        prompt_mark=prompt_mark,
        reference=prompt["reference"],
        answers=list(zip(marks, texts, strict=True)),
        ranked=shown.ranked,
        most=criteria.per_prompt,
    )
    request = Request(
        messages=({"role": "user", "content": content},),
        sampling=author.sampling,
        seed=seed_of(STAGE, author.sampling.seed, prompt["prompt_id"], fingerprint(ids)),
        schema=SCHEMA,
    )
    return AuthorRequest(prompt["prompt_id"], shown, request)


def rows_of(
    one: AuthorRequest, reply: Reply, criteria: Criteria, author: Author, identity: Identity
) -> list[CriterionRow]:
    """The rows of one reply: one for each item, those that do not count with the reason; at least one in all."""
    items, error = ([], trouble(reply)) if trouble(reply) else read_items(reply.text, reply.finish_reason == "length")
    found = told_apart(items, criteria.per_prompt)
    whole = {
        "prompt_id": one.prompt_id,
        "author": author.name,
        "strong_id": one.shown.strong["completion_id"],
        "weak_id": one.shown.weak["completion_id"],
        "reply": reply.text if error or any(_is_unread(item) for item in found) else "",
        "request": one.request.key(identity),
    }
    if error:
        return [criterion_row(0, Item(error=error), whole)]
    return [criterion_row(number, item, whole) for number, item in enumerate(found, 1)]


def _is_unread(item: Item) -> bool:
    return item.note is not None or (item.error or "").startswith(Reason.UNREADABLE)


def _is_unread_whole(found: Sequence[CriterionRow]) -> bool:
    """Whether a reply is there of which nothing could be read. One that failed or was refused is asked for no more."""
    return found[0]["item"] == 0 and (found[0]["error"] or "").startswith(Reason.UNREADABLE)


def criterion_row(number: int, item: Item, whole: Mapping[str, str | None]) -> CriterionRow:
    """A row of the criteria table; `whole`: what the rows of a prompt have in common."""
    own = {"item": number, "question": item.question, "weight": item.weight, "check": item.check}
    return {**whole, **own, "note": item.note, "error": item.error}  # type: ignore[typeddict-item]


def stand_ins(prompts: Sequence[PromptRow], criteria: Criteria | None) -> list[CriterionRow]:
    """As many criteria as a prompt can have, of a usual length, where requests are counted before any are written."""
    whole: dict[str, str | None] = {"author": "", "strong_id": None, "weak_id": None, "reply": "", "request": ""}
    usual = "Does it name the step in which what the prompt asks about is done, and say what comes of it?"
    return [
        criterion_row(number, Item(f"{number}. {usual}", 1.0), {**whole, "prompt_id": prompt["prompt_id"]})
        for prompt in prompts
        for number in range(1, (criteria.per_prompt if criteria else 0) + 1)
    ]
