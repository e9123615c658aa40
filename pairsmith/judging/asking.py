"""What a judge is asked: a request with the sheet that it fills in, for texts of one prompt in one aspect.

In the request, each text stands between lines with a mark of its own, which the text's author cannot know. Only this
mark ties a rating or a verdict to a text.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial

from pairsmith.config import CRITERIA, Judge, Rating, Rubric, Sampling, family_of
from pairsmith.config.judges import SLOTS, input_parts
from pairsmith.generation.pool import with_system
from pairsmith.ids import draw, fingerprint, seed_of
from pairsmith.judging.own_format import messages_in, read_in
from pairsmith.judging.own_prompt import JudgePrompt, JudgeSheet, messages_of, prompt_of, read_own
from pairsmith.judging.pairwise import PAIRWISE, compared
from pairsmith.judging.readout_json import schema_for
from pairsmith.judging.readout_reward import read_preference
from pairsmith.judging.readout_text import could_be_quoted
from pairsmith.judging.readout_verdict import LETTERS, could_be_a_tie, read_verdict, verdict_schema
from pairsmith.judging.readouts import Read, Scale, Sheet, Text
from pairsmith.judging.wrapping import ends_a_thought
from pairsmith.protocol import Message, Reply, Request
from pairsmith.storage.row_types import CompletionRow, PromptRow, RatingRow
from pairsmith.text.templating import nonces, render, transcript

WING = "pairsmith.judging"
CRITIQUE = "critique"
SCALES = {CRITIQUE: Scale(1, 10)}
MAY_BE_NA = {"honesty", "truthfulness"}
REWARD = "reward"  # name of a reward model's readout, and of its protocol where it reads one text at a time
NOTHING = Sampling(temperature=0.0, max_tokens=1)  # a reward model does not sample


@dataclass(frozen=True)
class JudgeRequest:
    """One request to a judge: the sheet that it fills in, with the texts in their order, and how the reply is read.

    `reader`: reads the reply in place of `readout`: where the recipe gives the judge a prompt or a format of its own,
    and of a comparison, whose two texts share one verdict. `marked`: whether the judge was shown the texts' marks.
    """

    prompt_id: str
    aspect: str
    sheet: Sheet
    request: Request
    readout: str
    protocol: str
    order: int = 0
    reader: Callable[[Reply], dict[str, Read]] | None = None
    marked: bool = True


def judge_requests(
    prompts: Sequence[PromptRow],
    completions: Sequence[CompletionRow],
    rating: Rating,
    judge: Judge,
    families: Mapping[str, str] | None = None,
    earlier: Sequence[RatingRow] | None = None,
) -> Iterator[JudgeRequest]:
    """The requests of one judge.

    A listwise judge gets one for each prompt, aspect and order, with all completions; a pointwise judge one for each
    completion and aspect; a pairwise judge two for each comparison and aspect; a reward model one for each completion
    or, if it is pairwise, two for each comparison.
    `earlier`: what a pairwise judge said in the rounds before this one; None in the first.
    """
    by_prompt = rated_by(completions, rating, judge, families)
    own = prompt_of(judge.prompt)
    said: dict[tuple[str, str], list[RatingRow]] = defaultdict(list)
    for row in earlier or ():
        said[row["prompt_id"], row["aspect"]].append(row)
    for prompt in prompts:
        group = by_prompt[prompt["prompt_id"]]
        if not group:
            continue
        if judge.has_own_units:
            yield from (_to_score(prompt, row, rating, judge) for row in group)
            continue
        for aspect in rating.aspects_of(judge):
            if aspect == CRITERIA and rating.criteria:  # `criteria_reading` asks about these
                continue
            rubric = rating.rubrics.get(aspect)
            if judge.protocol == "listwise":
                for order in range(judge.orders):
                    yield _asked(prompt, shuffled(group, judge, aspect, order), aspect, judge, rubric, order, own)
            elif judge.is_pairwise:
                for two in compared(group, judge, aspect, said[prompt["prompt_id"], aspect]):
                    for order, shown in enumerate((two, two[::-1])):
                        asked = _to_compare if judge.is_reward else _asked
                        yield asked(prompt, shown, aspect, judge, rubric, order)
            else:
                yield from (_asked(prompt, [row], aspect, judge, rubric, own=own) for row in group)
        if judge.critique and earlier is None:
            yield from (_asked(prompt, [row], CRITIQUE, judge) for row in group)


def rated_by(
    completions: Sequence[CompletionRow], rating: Rating, judge: Judge, families: Mapping[str, str] | None = None
) -> dict[str, list[CompletionRow]]:
    """prompt_id -> the completions that a judge rates, by their ids: those without an error that are not of its own
    family, where it leaves that out."""
    by_prompt: dict[str, list[CompletionRow]] = defaultdict(list)
    pool = set((families or {}).values())
    may = cache(lambda family: rating.rates(judge, family, pool))
    for row in sorted(completions, key=lambda row: row["completion_id"]):
        family = families.get(row["member"], family_of(row["model"])) if families is not None else ""
        if row["error"] is None and may(family):
            by_prompt[row["prompt_id"]].append(row)
    return by_prompt


def shuffled(group: Sequence[CompletionRow], judge: Judge, aspect: str, order: int = 0) -> list[CompletionRow]:
    """The order in which a listwise judge sees the texts: drawn for each prompt, aspect and judge."""
    seed = [judge.seed, judge.name, aspect, *([order] if order else [])]
    return sorted(group, key=lambda row: draw("order", *seed, row["completion_id"]))


def instructions(aspect: str, rubric: Rubric | None, compared: bool = False) -> str:
    """The system message: what is rated, and what the numbers mean; or what is `compared`."""
    if rubric is None:
        return render(WING, f"{aspect}.jinja", compared=compared)
    low, high = rubric.scale
    return render(WING, "_own.jinja", aspect=aspect, rubric=rubric, low=low, high=high, compared=compared)


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
    critique, verdict = aspect == CRITIQUE, _is_compared(judge, aspect)
    readout = "text" if critique and judge.readout == "logprobs" else judge.readout
    sampling, ids = judge.sampling, [text.completion_id for text in sheet.texts]
    if readout == "logprobs" and not sheet.rationale:
        sampling = sampling.model_copy(update={"max_tokens": 1})
    form = None if critique else judge.format
    reader = partial(read_verdict, readout, sheet) if verdict else None
    if own:
        messages, reader = messages_of(str(judge.prompt), own, sheet), partial(read_own, str(judge.prompt), own, sheet)
    elif form:
        messages = messages_in(form, sheet, rubric.criterion if rubric else sheet.instructions, judge.name)
        reader = partial(read_in, form.answer, sheet) if form.answer else reader
    else:
        messages = _messages(sheet, prompt_mark, readout, verdict)
    request = Request(
        messages=messages,
        sampling=sampling,
        seed=seed_of("rating", sampling.seed, prompt["prompt_id"], aspect, fingerprint(ids)),
        schema=(verdict_schema if verdict else schema_for)(sheet, sheet.rationale) if readout == "json" else None,
        choices=(LETTERS if verdict else sheet.scale.digits(sheet.may_be_na)) if readout == "logprobs" else None,
    )
    protocol = "pointwise" if critique else judge.protocol
    marked = form is None
    return JudgeRequest(prompt["prompt_id"], aspect, sheet, request, readout, protocol, order, reader, marked)


def _is_compared(judge: Judge, aspect: str) -> bool:
    """Whether a judge compares two texts in an aspect; feedback is about one text alone."""
    return judge.is_pairwise and aspect != CRITIQUE


def _sheet(
    prompt: PromptRow, group: Sequence[CompletionRow], aspect: str, judge: Judge, rubric: Rubric | None
) -> tuple[JudgeSheet, str]:
    """The sheet that a judge is asked to fill in, and the prompt's mark."""
    question = transcript(json.loads(prompt["messages"]), prompt["system_prompt"])
    reference, ids = prompt["reference"], [row["completion_id"] for row in group]
    verdict = _is_compared(judge, aspect)
    everything = [question, reference or "", *(row["text"] for row in group)]
    # The same for all requests about a prompt: so they begin alike, and that part is computed once (see
    # `llms.local.prefixes`).
    (prompt_mark,) = nonces(1, everything, "judge", prompt["prompt_id"])
    marks = nonces(len(group), [*everything, prompt_mark], "judge", aspect, prompt["prompt_id"], ids)
    looks = [_looks(text, verdict) for text in everything]
    sheet = JudgeSheet(
        texts=tuple(Text(row["completion_id"], mark, row["text"]) for row, mark in zip(group, marks, strict=True)),
        scale=scale(aspect, rubric),
        may_be_na=may_be_na(aspect, rubric) and not verdict,
        unbound=not any(like_a_rating for like_a_rating, _ in looks),
        thoughts=not any(like_an_end for _, like_an_end in looks),
        prompt=question,
        reference=reference,
        aspect=aspect,
        instructions=instructions(aspect, rubric, verdict),
        rationale=judge.rationale or aspect == CRITIQUE,
    )
    return sheet, prompt_mark


@lru_cache(maxsize=256)  # the texts of a prompt come again with each aspect
def _looks(text: str, verdict: bool) -> tuple[bool, bool]:
    """Whether a text, quoted by a judge, could look like the judge's own rating, and like the end of its thoughts."""
    return (could_be_a_tie if verdict else could_be_quoted)(text), ends_a_thought(text)


def _messages(sheet: JudgeSheet, prompt_mark: str, readout: str, verdict: bool) -> tuple[Message, ...]:
    """pairsmith's own prompt for a sheet."""
    user = render(
        WING,
        "_pair.jinja" if verdict else "_texts.jinja",
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


def _to_compare(
    prompt: PromptRow, two: Sequence[CompletionRow], aspect: str, judge: Judge, rubric: Rubric | None, order: int
) -> JudgeRequest:
    """A request to a reward model that reads two texts at once: a message for each part of its input, in their order.

    The role of a message says which text it is: the prompt, the first or the second. `input` is what the recipe writes
    around them; without any, the model's own input is meant.
    """
    texts = tuple(Text(row["completion_id"], row["completion_id"], row["text"]) for row in two)
    sheet = Sheet(texts, scale(aspect, rubric), may_be_na=False)
    question = transcript(json.loads(prompt["messages"]), prompt["system_prompt"])
    data = dict(zip(SLOTS, (question, *sheet.shown), strict=True))
    literals, slots = input_parts(judge.input) if judge.input else ([""] * (len(SLOTS) + 1), list(SLOTS))
    parts = [("input", literals[0])]
    for slot, literal in zip(slots, literals[1:], strict=True):
        parts += [(slot, data[slot]), ("input", literal)]
    messages = tuple({"role": role, "content": text} for role, text in parts if text or role != "input")
    reader = partial(read_preference, judge.label, sheet)
    request = Request(messages, NOTHING, seed=0)
    return JudgeRequest(prompt["prompt_id"], aspect, sheet, request, REWARD, PAIRWISE, order, reader)
