"""Read the probabilities of digits as a judge's first token: the likeliest is the rating, their mean the score."""

from __future__ import annotations

import math
import re

from pairsmith.judging.readouts import NOT_APPLICABLE, Read, Sheet
from pairsmith.protocol import Reply

_MOST_LOGPROB = 0.01  # certainty has log probability 0; slightly more can come from rounding


def read_logprobs(reply: Reply, sheet: Sheet) -> Read:
    """The rating with the largest probability; the score is the mean of all ratings, weighted by probability."""
    logprobs, numbers = reply.logprobs or {}, range(sheet.scale.low, sheet.scale.high + 1)
    if any(not -math.inf < logprobs.get(str(number), math.nan) <= _MOST_LOGPROB for number in numbers):
        return Read(error="the reply has no probability for some rating")
    rationale = re.sub(r"^\W*\w(?:\W+|$)", "", reply.text).strip() or None
    weights = {number: math.exp(logprobs[str(number)]) for number in numbers}
    total, best = math.fsum(weights.values()), max(numbers, key=lambda number: weights[number])
    if total == 0:
        return Read(rationale=rationale, error="the probabilities of all ratings are zero")
    if sheet.may_be_na and math.exp(logprobs.get("N", -math.inf)) > weights[best]:
        return Read(rationale=rationale, error=NOT_APPLICABLE)
    score = math.fsum(number * weight for number, weight in weights.items()) / total
    return Read(best, min(max(score, sheet.scale.low), sheet.scale.high), rationale)
