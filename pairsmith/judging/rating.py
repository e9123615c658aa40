"""UltraFeedback rating: completions -> ratings by judges, with rationales, and critiques.

In the request, each text stands between lines with a mark of its own, which the text's author cannot know. Only this
mark ties a rating to a text. Source of the method: Cui et al. 2023, https://arxiv.org/abs/2310.01377; of the
probability-weighted readout: Liu et al. 2023 (G-Eval), https://arxiv.org/abs/2303.16634.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from pairsmith.config import CHECKS, Check, Judge, Rating
from pairsmith.generation.pool import trouble
from pairsmith.judging.asking import CRITIQUE, REWARD, WING, JudgeRequest, judge_requests, rated_by
from pairsmith.judging.checks import judge_text, require
from pairsmith.judging.criteria_reading import item_requests, reads_criteria, rows_without_a_judge
from pairsmith.judging.own_prompt import JudgeSheet
from pairsmith.judging.pairwise import PAIRWISE, uncompared
from pairsmith.judging.readout_json import read_json
from pairsmith.judging.readout_logprobs import read_logprobs
from pairsmith.judging.readout_reward import read_reward
from pairsmith.judging.readout_text import read_text
from pairsmith.judging.readouts import NOT_APPLICABLE, Read
from pairsmith.judging.reasking import Reading, replied, with_complaint
from pairsmith.progress import Tell, nobody
from pairsmith.protocol import LLM, Identity, Reply
from pairsmith.storage.row_types import CompletionRow, CriterionRow, PromptRow, RatingRow, rows_as
from pairsmith.storage.schemas import Reason, frame
from pairsmith.text.templating import nonces, render

STAGE = "rate"


def rate(
    prompts: pd.DataFrame,
    completions: pd.DataFrame,
    rating: Rating,
    judge: Judge,
    llm: LLM,
    families: Mapping[str, str] | None = None,
    tell: Tell = nobody,
    criteria: Sequence[CriterionRow] = (),
) -> pd.DataFrame:
    """Let one judge rate in every aspect all completions without an error; returns its rows of the ratings table.

    A pairwise judge with rounds is asked once for each, since what it compares depends on what it said before.

    `families`: member -> its family, for judges that do not rate their own family. The family of a given completion is
    derived from its model's name. `criteria`: what a judge reads of each text where the recipe has criteria.
    """
    settings = rows_as(PromptRow, prompts), rows_as(CompletionRow, completions), rating, judge, families
    reads = reads_criteria(rating, judge)
    groups = rated_by(*settings[1:]) if reads or judge.is_pairwise else {}
    share, made = len(prompts) / len(rating.raters) / judge.rounds, list[RatingRow]()
    for number in range(judge.rounds):
        asked = list(judge_requests(*settings, earlier=made if number else None))
        if reads and not number:
            asked += item_requests(settings[0], groups, criteria, judge)
        made += [row for group in _replied(asked, judge, llm, share, tell) for row in group]
    if reads:
        made += rows_without_a_judge(settings[0], groups, criteria, judge)
    if judge.is_pairwise:
        alone = uncompared([row for one in settings[0] for row in groups[one["prompt_id"]]], judge, rating, made)
        place = {prompt["prompt_id"]: number for number, prompt in enumerate(settings[0])}
        made = sorted([*made, *alone], key=lambda row: place[row["prompt_id"]])
    return frame("ratings", made)


def _replied(asked: Sequence[JudgeRequest], judge: Judge, llm: LLM, share: float, tell: Tell) -> list[list[RatingRow]]:
    """The rows of each request, asked again where nothing could be read; `share`: how many prompts' worth it is."""

    def read(item: JudgeRequest, reply: Reply) -> list[RatingRow]:
        return to_rows(item, reply, judge, llm.identity)

    return replied(asked, Reading(read, unread, asked_again, _better), judge.reasks, llm, STAGE, share, tell)


def _better(kept: Sequence[RatingRow], latest: Sequence[RatingRow]) -> list[RatingRow]:
    """Each text's row of the latest reply where only that could be read."""
    return [new if is_open(old) and not is_open(new) else old for old, new in zip(kept, latest, strict=True)]


def check(prompts: pd.DataFrame, completions: pd.DataFrame, rating: Rating) -> pd.DataFrame:
    """Run all checks on all completions without an error; returns their rows of the ratings table. Asks no model.

    Raises ConfigError where a check lacks something that it needs, so that no rating is null for that.
    """
    require(rating.checks)
    by_id = {prompt["prompt_id"]: prompt for prompt in rows_as(PromptRow, prompts)}
    extras = {name: json.loads(prompt["extras"] or "{}") for name, prompt in by_id.items()}
    sound = [row for row in rows_as(CompletionRow, completions) if row["error"] is None]
    made = [
        _checked(one, row, by_id[row["prompt_id"]], extras[row["prompt_id"]]) for row in sound for one in rating.checks
    ]
    return frame("ratings", made)


def _checked(one: Check, row: CompletionRow, prompt: PromptRow, extras: Mapping[str, Any]) -> RatingRow:
    found = judge_text(one, row["text"], json.loads(prompt["messages"]), prompt["reference"], extras)
    return {
        "completion_id": row["completion_id"],
        "prompt_id": row["prompt_id"],
        "judge": CHECKS,
        "aspect": one.name,
        "protocol": "check",
        "order": 0,
        "rating": found.rating,
        "score": found.score,
        "rationale": found.rationale,
        "reply": "",
        "request": "",
        "error": found.error,
    }


def is_open(row: RatingRow) -> bool:
    """Whether a judge replied, but no rating could be read from its reply."""
    error = row["error"]
    return error is not None and error != NOT_APPLICABLE and not error.startswith((Reason.FAILED, Reason.REFUSED))


def unread(item: JudgeRequest, made: Sequence[RatingRow]) -> bool:
    """Whether to ask again. That makes no sense for digit probabilities and rewards, which would be the same."""
    return item.readout not in ("logprobs", REWARD) and any(is_open(row) for row in made)


def asked_again(
    item: JudgeRequest, made: Sequence[RatingRow], latest: Sequence[RatingRow], number: int = 0
) -> JudgeRequest:
    """The same request, followed by the judge's latest reply and what is wrong with it. `number`: how many times before
    the judge was asked again."""
    rows_of = zip(item.sheet.texts, made, latest, strict=True)
    wrong = [(text.mark, new["error"] or old["error"]) for text, old, new in rows_of if is_open(old)]
    if not item.marked:
        wrong = [("", error) for error in dict.fromkeys(error for _, error in wrong)]
    said = latest[0]["reply"] or made[0]["reply"]
    return replace(item, request=with_complaint(item.request, said, wrong, number, _example(item, said)))


def _example(item: JudgeRequest, said: str) -> str | None:
    """A filled form for a judge that gave back the blanks of the one that it was to fill in; None for any other.

    It is about no text of the sheet, so a judge that copies it rates nothing.
    """
    sheet = item.sheet
    if item.readout != "text" or item.reader or f"<{sheet.scale.low} to {sheet.scale.high}" not in said:
        return None
    (mark,) = nonces(1, [message["content"] for message in item.request.messages], "example", item.prompt_id)
    reason = isinstance(sheet, JudgeSheet) and sheet.rationale
    return render(WING, "_example.jinja", mark=mark, scale=sheet.scale, reason=reason, critique=item.aspect == CRITIQUE)


def to_rows(item: JudgeRequest, reply: Reply, judge: Judge, identity: Identity) -> list[RatingRow]:
    """Rows of the ratings table: exactly one for each text of a request, whatever the reply says."""
    failure = {text.mark: Read(error=trouble(reply)) for text in item.sheet.texts}
    is_lost = reply.error or (reply.reasoning and not reply.text.strip() and not reply.logprobs)
    found = failure if is_lost else read(item, reply, judge.label)
    shown = [text.completion_id for text in item.sheet.texts]
    return [
        {
            "completion_id": text.completion_id,
            "prompt_id": item.prompt_id,
            "judge": judge.name,
            "aspect": item.aspect,
            "protocol": item.protocol,
            "order": item.order,
            "position": position,
            "against": shown[1 - position] if item.protocol == PAIRWISE else None,
            "rating": found[text.mark].rating,
            "score": found[text.mark].score,
            "rationale": found[text.mark].rationale,
            "reply": reply.text,
            "request": item.request.key(identity),
            "error": found[text.mark].error,
        }
        for position, text in enumerate(item.sheet.texts)
    ]


def read(item: JudgeRequest, reply: Reply, label: int | None = None) -> dict[str, Read]:
    """Mark -> what the reply says about that text. `label`: which of a reward model's outputs is the score."""
    if item.reader:
        return item.reader(reply)
    if item.readout == REWARD:
        return {item.sheet.texts[0].mark: read_reward(reply.text, label)}
    if item.readout == "logprobs":
        return {item.sheet.texts[0].mark: read_logprobs(reply, item.sheet)}
    reader = read_json if item.readout == "json" else read_text
    return reader(reply.text, item.sheet, cut=reply.finish_reason == "length")
