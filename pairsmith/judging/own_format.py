"""The own format of a model that was trained as a judge: what it is asked, by the recipe's templates, and how its
answer is read, by the recipe's pattern.

Such a model is shown no marks, so nothing in its answer ties a verdict to a text but the format itself. Where what it
was shown has something in it that the pattern would read, the answer may be a quotation and counts as unreadable.
"""

from __future__ import annotations

from collections.abc import Sequence

import regex  # type: ignore[import-untyped]

from pairsmith.config import OwnFormat
from pairsmith.judging.checks import SECONDS
from pairsmith.judging.own_prompt import JudgeSheet
from pairsmith.judging.readout_values import as_read, written_rating
from pairsmith.judging.readouts import Read
from pairsmith.judging.wrapping import without_thoughts
from pairsmith.protocol import Message, Reply
from pairsmith.text.templating import render_text

SIDES = ("first", "second", "tie")  # groups of a pattern that reads a comparison


def messages_in(form: OwnFormat, sheet: JudgeSheet, criterion: str, judge: str) -> tuple[Message, ...]:
    """The messages of a request about one text, or about two. Raises ConfigError where a template cannot be rendered.

    `criterion`: what is rated, in words; `judge`: its name, for the error.
    """
    names = ("text",) if len(sheet.texts) == 1 else SIDES[:2]
    texts = {name: text.text for name, text in zip(names, sheet.texts, strict=True)}
    about = {"prompt": sheet.prompt, "reference": sheet.reference, "criterion": criterion}
    values = {**about, "low": sheet.scale.low, "high": sheet.scale.high, **texts}
    made = (
        {"role": role, "content": render_text(template, f"judge {judge}: format.{role}", values)}
        for role, template in (("system", form.system), ("user", form.user))
        if template
    )
    return tuple(made)


def read_in(answer: str, sheet: JudgeSheet, reply: Reply) -> dict[str, Read]:
    """Mark -> what an answer says of that text: a rating on the scale or, of two texts, the verdict, whose score is 1
    for the better and 0 for both of a tie.

    All places that the pattern `answer` finds must say the same. The rationale is what stands before the last of them.
    The last line of a reply that was cut is ignored. A pattern that takes longer than `SECONDS` reads nothing.
    """
    marks = [text.mark for text in sheet.texts]
    body = without_thoughts(reply.text) if sheet.thoughts else reply.text
    if reply.finish_reason == "length":
        body = body.rpartition("\n")[0]
    pattern = regex.compile(answer)
    try:
        found = list(pattern.finditer(body, timeout=SECONDS))
        quotable = any(pattern.search(text, timeout=SECONDS) for text in sheet.shown)
    except TimeoutError:
        return dict.fromkeys(marks, Read(error=f"the pattern takes more than {SECONDS:g} s on this reply"))
    rationale = body[: found[-1].start()].strip() or None if found else body.strip() or None
    if quotable and found:
        return dict.fromkeys(marks, Read(rationale=rationale, error="an answer that may be quoted from a text"))
    if len(marks) > 1:
        return _verdict(found, marks, rationale)
    values = {written_rating((one["rating"] or "").strip(), sheet, fractions=True) for one in found}
    error = "no rating" if not values else "ratings that contradict each other" if len(values) > 1 else None
    return {marks[0]: Read(rationale=rationale, error=error) if error else as_read(values.pop(), rationale)}


def _verdict(found: Sequence[regex.Match[str]], marks: Sequence[str], rationale: str | None) -> dict[str, Read]:
    groups = [one.groupdict() for one in found]
    named = {side for group in groups for side in SIDES if group.get(side) is not None}
    if len(named) != 1:
        error = "more than one verdict" if named else "no verdict"
        return dict.fromkeys(marks, Read(rationale=rationale, error=error))
    better = [int(side in named) for side in SIDES[:2]]
    return {mark: Read(won, float(won), rationale) for mark, won in zip(marks, better, strict=True)}
