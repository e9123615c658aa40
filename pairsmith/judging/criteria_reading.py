"""A judge reads criteria: for each answer and item, the probability of yes. Programs decide the items with a check.

All requests about an answer begin alike, with the prompt and the answer, and end in the question: an engine that keeps
prefixes reads each answer once.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial

from pairsmith.config import CRITERIA, Judge, Rating
from pairsmith.ids import fingerprint, seed_of
from pairsmith.judging.asking import WING, JudgeRequest
from pairsmith.judging.criteria_checks import decided
from pairsmith.judging.criteria_sifting import NO_CRITERIA, PROTOCOL
from pairsmith.judging.own_prompt import JudgeSheet
from pairsmith.judging.readout_json import schema_for
from pairsmith.judging.readout_logprobs import weights_of
from pairsmith.judging.readout_text import could_be_quoted
from pairsmith.judging.readouts import Read, Scale, Sheet, Text
from pairsmith.judging.wrapping import ends_a_thought
from pairsmith.protocol import Reply, Request
from pairsmith.storage.row_types import CompletionRow, CriterionRow, PromptRow, RatingRow, unrated
from pairsmith.text.templating import nonces, render, transcript

YES_NO = ("Yes", "No")
NONE_WRITTEN = f"{NO_CRITERIA}none of the prompt counts, or none was written"

Groups = dict[str, list[CompletionRow]]  # prompt_id -> the answers that a judge reads


def reads_criteria(rating: Rating, judge: Judge) -> bool:
    return rating.criteria is not None and CRITERIA in rating.aspects_of(judge)


def item_requests(
    prompts: Iterable[PromptRow], groups: Groups, criteria: Iterable[CriterionRow], judge: Judge
) -> list[JudgeRequest]:
    """A request for each answer and each item that counts and has no check."""
    items = _by_prompt(criteria)
    return [
        one
        for prompt in prompts
        for row in groups.get(prompt["prompt_id"], ())
        for one in _of_text(prompt, row, items[prompt["prompt_id"]], judge)
    ]


def rows_without_a_judge(
    prompts: Iterable[PromptRow], groups: Groups, criteria: Iterable[CriterionRow], judge: Judge
) -> list[RatingRow]:
    """The readings by checks, and for each answer to a prompt without an item that counts a row that says so."""
    criteria = list(criteria)
    made, items = list[RatingRow](), _by_prompt(criteria)
    why = {item["prompt_id"]: f"{NO_CRITERIA}{item['error']}" for item in criteria if item["item"] == 0}
    for prompt in prompts:
        name = prompt["prompt_id"]
        for row in groups.get(name, ()):
            made += [_by_check(row, item, judge) for item in items[name] if item["check"]]
            if not items[name]:
                made.append(unrated(row, judge.name, CRITERIA, PROTOCOL, why.get(name, NONE_WRITTEN)))
    return made


def read_yes(sheet: Sheet, reply: Reply) -> dict[str, Read]:
    """Mark -> the probability of yes beside that of no, as the score; the rating is 1 for the likelier yes."""
    (text,) = sheet.texts
    weights, _, error = weights_of(reply, YES_NO, "answer")
    if error is not None:
        return {text.mark: Read(error=error)}
    yes, no = weights
    return {text.mark: Read(int(yes >= no), yes / (yes + no))}


def _by_prompt(criteria: Iterable[CriterionRow]) -> dict[str, list[CriterionRow]]:
    items: dict[str, list[CriterionRow]] = defaultdict(list)
    for item in criteria:
        if item["error"] is None:
            items[item["prompt_id"]].append(item)
    return items


def _of_text(
    prompt: PromptRow, row: CompletionRow, items: Sequence[CriterionRow], judge: Judge
) -> Iterable[JudgeRequest]:
    question = transcript(json.loads(prompt["messages"]), prompt["system_prompt"])
    reference, name = prompt["reference"], row["completion_id"]
    asked = [(item["item"], item["question"] or "") for item in items if not item["check"]]
    everything = [question, reference or "", row["text"], *(text for _, text in asked)]
    prompt_mark, mark = nonces(2, everything, "judge", CRITERIA, prompt["prompt_id"], name)
    sheet = JudgeSheet(
        texts=(Text(name, mark, row["text"]),),
        scale=Scale(0, 1),
        may_be_na=False,
        unbound=not any(map(could_be_quoted, everything)),
        thoughts=not any(map(ends_a_thought, everything)),
        prompt=question,
        reference=reference,
        aspect=CRITERIA,
        instructions=render(WING, "_criteria.jinja"),
        rationale=False,
    )
    shown = {"prompt": question, "prompt_mark": prompt_mark, "reference": reference, "sheet": sheet}
    by_probability = judge.readout == "logprobs"
    sampling = judge.sampling.model_copy(update={"max_tokens": 1}) if by_probability else judge.sampling
    for number, text in asked:
        content = render(WING, "_item.jinja", question=text, readout=judge.readout, **shown)
        request = Request(
            messages=({"role": "system", "content": sheet.instructions}, {"role": "user", "content": content}),
            sampling=sampling,
            seed=seed_of("rating", sampling.seed, prompt["prompt_id"], CRITERIA, fingerprint([name, text])),
            schema=schema_for(sheet, False) if judge.readout == "json" else None,
            choices=YES_NO if by_probability else None,
        )
        reader = partial(read_yes, sheet) if by_probability else None
        yield JudgeRequest(prompt["prompt_id"], CRITERIA, sheet, request, judge.readout, PROTOCOL, number, reader)


def _by_check(row: CompletionRow, item: CriterionRow, judge: Judge) -> RatingRow:
    found = decided(str(item["check"]), row["text"])
    read = {"rating": found.rating, "score": found.score, "rationale": found.rationale, "error": found.error}
    return {**unrated(row, judge.name, CRITERIA, PROTOCOL), "order": item["item"], **read}  # type: ignore[typeddict-item]
