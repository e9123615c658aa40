"""Read the probabilities of a judge's first token. Of digits, the likeliest is the rating and their mean the score."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from pairsmith.judging.readouts import NOT_APPLICABLE, Read, Sheet
from pairsmith.protocol import Reply

_MOST_LOGPROB = 0.01  # certainty has log probability 0; slightly more can come from rounding


def read_logprobs(reply: Reply, sheet: Sheet) -> Read:
    """The rating with the largest probability; the score is the mean of all ratings, weighted by probability."""
    numbers = range(sheet.scale.low, sheet.scale.high + 1)
    found, rationale, error = weights_of(reply, [str(number) for number in numbers], "rating")
    if error is not None:
        return Read(rationale=rationale, error=error)
    weights = dict(zip(numbers, found, strict=True))
    best = max(numbers, key=lambda number: weights[number])
    if sheet.may_be_na and math.exp((reply.logprobs or {}).get("N", -math.inf)) > weights[best]:
        return Read(rationale=rationale, error=NOT_APPLICABLE)
    score = math.fsum(number * weight for number, weight in weights.items()) / math.fsum(found)
    return Read(best, min(max(score, sheet.scale.low), sheet.scale.high), rationale)


def weights_of(reply: Reply, tokens: Sequence[str], what: str) -> tuple[list[float], str | None, str | None]:
    """The probability of each of `tokens` as the first one, the rationale that follows it, and the error.

    `what`: the word for that which the tokens stand for.
    """
    logprobs = reply.logprobs or {}
    if any(not -math.inf < logprobs.get(token, math.nan) <= _MOST_LOGPROB for token in tokens):
        return [], None, f"the reply has no probability for some {what}"
    rationale = re.sub(r"^\W*\w(?:\W+|$)", "", reply.text).strip() or None
    weights = [math.exp(logprobs[token]) for token in tokens]
    return weights, rationale, None if math.fsum(weights) else f"the probabilities of all {what}s are zero"
