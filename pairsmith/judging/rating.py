"""UltraFeedback rating: completions -> ratings by judges, with rationales, and critiques.

In the request, each text stands between lines with a mark of its own, which the text's author cannot know. Only this
mark ties a rating to a text. Source of the method: Cui et al. 2023, https://arxiv.org/abs/2310.01377; of the
probability-weighted readout: Liu et al. 2023 (G-Eval), https://arxiv.org/abs/2303.16634.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import pandas as pd

from pairsmith.config import CHECKS, Check, Judge, Rating, Rubric, Sampling, family_of
from pairsmith.generation.pool import trouble, with_system
from pairsmith.ids import draw, fingerprint, seed_of
from pairsmith.judging.checks import judge_text, require
from pairsmith.judging.own_prompt import JudgePrompt, JudgeSheet, messages_of, prompt_of, read_own
from pairsmith.judging.readout_json import read_json, schema_for
from pairsmith.judging.readout_logprobs import read_logprobs
from pairsmith.judging.readout_reward import read_reward
from pairsmith.judging.readout_text import could_be_quoted, read_text
from pairsmith.judging.readouts import NOT_APPLICABLE, Read, Scale, Sheet, Text
from pairsmith.judging.wrapping import ends_a_thought
from pairsmith.progress import Tell, ask, nobody
from pairsmith.protocol import LLM, Identity, Message, Reply, Request
from pairsmith.storage.row_types import CompletionRow, PromptRow, RatingRow, rows_as
from pairsmith.storage.schemas import Reason, frame
from pairsmith.text.templating import nonces, render, transcript

STAGE = "rate"
WING = "pairsmith.judging"
CRITIQUE = "critique"
SCALES = {CRITIQUE: Scale(1, 10)}
MAY_BE_NA = {"honesty", "truthfulness"}
REWARD = "reward"  # name of a reward model's protocol and readout
NOTHING = Sampling(temperature=0.0, max_tokens=1)  # a reward model does not sample


@dataclass(frozen=True)
class JudgeRequest:
    """One request to a judge: the sheet that it fills in, with the texts in their order, and how the reply is read.

    `reader`: reads the reply in place of `readout`, where the recipe gives the judge a prompt of its own.
    """

    prompt_id: str
    aspect: str
    sheet: Sheet
    request: Request
    readout: str
    protocol: str
    order: int = 0
    reader: Callable[[Reply], dict[str, Read]] | None = None


def rate(
    prompts: pd.DataFrame,
    completions: pd.DataFrame,
    rating: Rating,
    judge: Judge,
    llm: LLM,
    families: Mapping[str, str] | None = None,
    tell: Tell = nobody,
) -> pd.DataFrame:
    """Let one judge rate in every aspect all completions without an error; returns its rows of the ratings table.

    `families`: member -> its family, for judges that do not rate their own family. The family of a given completion is
    derived from its model's name.
    """
    asked = list(
        judge_requests(rows_as(PromptRow, prompts), rows_as(CompletionRow, completions), rating, judge, families)
    )
    replies = ask(llm, [item.request for item in asked], STAGE, len(prompts) / len(rating.raters), tell)
    made = [to_rows(item, reply, judge, llm.identity) for item, reply in zip(asked, replies, strict=True)]
    latest = list(made)
    for number in range(judge.reasks):
        again = {
            place: asked_again(item, made[place], latest[place], number)
            for place, item in enumerate(asked)
            if unread(item, made[place])
        }
        if not again:
            break
        replies = ask(llm, [item.request for item in again.values()], STAGE, 0, tell)
        for (place, item), reply in zip(again.items(), replies, strict=True):
            latest[place] = to_rows(item, reply, judge, llm.identity)
            made[place] = [
                new if is_open(old) and not is_open(new) else old
                for old, new in zip(made[place], latest[place], strict=True)
            ]
    return frame("ratings", [row for group in made for row in group])


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
    replied = latest[0]["reply"] or made[0]["reply"]
    complaint = render(WING, "_again.jinja", wrong=wrong, example=_example(item, replied))
    more = ({"role": "assistant", "content": replied}, {"role": "user", "content": complaint})
    request = replace(item.request, messages=(*item.request.messages, *more), sample=number)
    return replace(item, request=request)


def _example(item: JudgeRequest, replied: str) -> str | None:
    """A filled form for a judge that gave back the blanks of the one that it was to fill in; None for any other.

    It is about no text of the sheet, so a judge that copies it rates nothing.
    """
    sheet = item.sheet
    if item.readout != "text" or item.reader or f"<{sheet.scale.low} to {sheet.scale.high}" not in replied:
        return None
    (mark,) = nonces(1, [message["content"] for message in item.request.messages], "example", item.prompt_id)
    reason = isinstance(sheet, JudgeSheet) and sheet.rationale
    return render(WING, "_example.jinja", mark=mark, scale=sheet.scale, reason=reason, critique=item.aspect == CRITIQUE)


def judge_requests(
    prompts: Sequence[PromptRow],
    completions: Sequence[CompletionRow],
    rating: Rating,
    judge: Judge,
    families: Mapping[str, str] | None = None,
) -> Iterator[JudgeRequest]:
    """The requests of one judge.

    A listwise judge gets one for each prompt, aspect and order, with all completions; a pointwise judge one for each
    completion and aspect; a reward model one for each completion.
    """
    by_prompt: dict[str, list[CompletionRow]] = defaultdict(list)
    pool = set((families or {}).values())
    own = prompt_of(judge.prompt)
    may = cache(lambda family: rating.rates(judge, family, pool))
    for row in sorted(completions, key=lambda row: row["completion_id"]):
        family = families.get(row["member"], family_of(row["model"])) if families is not None else ""
        if row["error"] is None and may(family):
            by_prompt[row["prompt_id"]].append(row)
    for prompt in prompts:
        group = by_prompt[prompt["prompt_id"]]
        if not group:
            continue
        if judge.is_reward:
            yield from (_to_score(prompt, row, rating, judge) for row in group)
            continue
        for aspect in rating.aspects_of(judge):
            rubric = rating.rubrics.get(aspect)
            if judge.protocol == "listwise":
                for order in range(judge.orders):
                    yield _asked(prompt, shuffled(group, judge, aspect, order), aspect, judge, rubric, order, own)
            else:
                yield from (_asked(prompt, [row], aspect, judge, rubric, own=own) for row in group)
        if judge.critique:
            yield from (_asked(prompt, [row], CRITIQUE, judge) for row in group)


def shuffled(group: Sequence[CompletionRow], judge: Judge, aspect: str, order: int = 0) -> list[CompletionRow]:
    """The order in which a listwise judge sees the texts: drawn for each prompt, aspect and judge."""
    seed = [judge.seed, judge.name, aspect, *([order] if order else [])]
    return sorted(group, key=lambda row: draw("order", *seed, row["completion_id"]))


def instructions(aspect: str, rubric: Rubric | None) -> str:
    """The system message: what is rated, and what the numbers mean."""
    if rubric is None:
        return render(WING, f"{aspect}.jinja")
    return render(WING, "_own.jinja", aspect=aspect, rubric=rubric, low=rubric.scale[0], high=rubric.scale[1])


def may_be_na(aspect: str, rubric: Rubric | None) -> bool:
    """Whether a judge may say that an aspect does not apply."""
    return rubric.may_be_na if rubric else aspect in MAY_BE_NA


def scale(aspect: str, rubric: Rubric | None) -> Scale:
    return Scale(*rubric.scale) if rubric else SCALES.get(aspect, Scale(1, 5))


def _asked(
    prompt: PromptRow,
    group: Sequence[CompletionRow],
    aspect: str,
    judge: Judge,
    rubric: Rubric | None = None,
    order: int = 0,
    own: JudgePrompt | None = None,
) -> JudgeRequest:
    sheet, prompt_mark = _sheet(prompt, group, aspect, judge, rubric)
    critique = aspect == CRITIQUE
    readout = "text" if critique and judge.readout == "logprobs" else judge.readout
    sampling, ids = judge.sampling, [text.completion_id for text in sheet.texts]
    if readout == "logprobs" and not sheet.rationale:
        sampling = sampling.model_copy(update={"max_tokens": 1})
    request = Request(
        messages=messages_of(str(judge.prompt), own, sheet) if own else _messages(sheet, prompt_mark, readout),
        sampling=sampling,
        seed=seed_of("rating", sampling.seed, prompt["prompt_id"], aspect, fingerprint(ids)),
        schema=schema_for(sheet, sheet.rationale) if readout == "json" else None,
        choices=sheet.scale.digits(sheet.may_be_na) if readout == "logprobs" else None,
    )
    protocol = "pointwise" if critique else judge.protocol
    reader = partial(read_own, str(judge.prompt), own, sheet) if own else None
    return JudgeRequest(prompt["prompt_id"], aspect, sheet, request, readout, protocol, order, reader)


def _sheet(
    prompt: PromptRow, group: Sequence[CompletionRow], aspect: str, judge: Judge, rubric: Rubric | None
) -> tuple[JudgeSheet, str]:
    """The sheet that a judge is asked to fill in, and the prompt's mark."""
    question = transcript(json.loads(prompt["messages"]), prompt["system_prompt"])
    reference, ids = prompt["reference"], [row["completion_id"] for row in group]
    everything = [question, reference or "", *(row["text"] for row in group)]
    # The same for all requests about a prompt: so they begin alike, and that part is computed once (see
    # `llms.local.prefixes`).
    (prompt_mark,) = nonces(1, everything, "judge", prompt["prompt_id"])
    marks = nonces(len(group), [*everything, prompt_mark], "judge", aspect, prompt["prompt_id"], ids)
    sheet = JudgeSheet(
        texts=tuple(Text(row["completion_id"], mark, row["text"]) for row, mark in zip(group, marks, strict=True)),
        scale=scale(aspect, rubric),
        may_be_na=may_be_na(aspect, rubric),
        unbound=not any(could_be_quoted(text) for text in everything),
        thoughts=not any(ends_a_thought(text) for text in everything),
        prompt=question,
        reference=reference,
        aspect=aspect,
        instructions=instructions(aspect, rubric),
        rationale=judge.rationale or aspect == CRITIQUE,
    )
    return sheet, prompt_mark


def _messages(sheet: JudgeSheet, prompt_mark: str, readout: str) -> tuple[Message, ...]:
    """pairsmith's own prompt for a sheet."""
    user = render(
        WING,
        "_texts.jinja",
        prompt=sheet.prompt,
        prompt_mark=prompt_mark,
        reference=sheet.reference,
        sheet=sheet,
        readout=readout,
        rationale=sheet.rationale,
        label="Feedback" if sheet.aspect == CRITIQUE else "Rationale",
    )
    return {"role": "system", "content": sheet.instructions}, {"role": "user", "content": user}


def _to_score(prompt: PromptRow, row: CompletionRow, rating: Rating, judge: Judge) -> JudgeRequest:
    """A request to a reward model: the chat with this completion as its last message, without instructions and without
    the reference."""
    chat = with_system(json.loads(prompt["messages"]), prompt["system_prompt"])
    request = Request((*chat, {"role": "assistant", "content": row["text"]}), NOTHING, seed=0)
    (aspect,) = rating.aspects_of(judge)
    sheet = Sheet((Text(row["completion_id"], "", row["text"]),), scale(aspect, None), may_be_na=False)
    return JudgeRequest(prompt["prompt_id"], aspect, sheet, request, REWARD, REWARD)


def to_rows(item: JudgeRequest, reply: Reply, judge: Judge, identity: Identity) -> list[RatingRow]:
    """Rows of the ratings table: exactly one for each text of a request, whatever the reply says."""
    failure = {text.mark: Read(error=trouble(reply)) for text in item.sheet.texts}
    is_lost = reply.error or (reply.reasoning and not reply.text.strip() and not reply.logprobs)
    found = failure if is_lost else read(item, reply, judge.label)
    return [
        {
            "completion_id": text.completion_id,
            "prompt_id": item.prompt_id,
            "judge": judge.name,
            "aspect": item.aspect,
            "protocol": item.protocol,
            "order": item.order,
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
