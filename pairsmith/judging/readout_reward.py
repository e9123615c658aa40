"""Read the output of a reward model: a number, or one of several, as a score without a scale and without a rating."""

from __future__ import annotations

import json
import math

from pairsmith.judging.readouts import Read


def read_reward(reply: str, label: int | None) -> Read:
    """The score that a reward model gave: a number, or item `label` of a list. It has no scale; the rating is null."""
    try:
        output = json.loads(reply)
    except (ValueError, RecursionError) as error:
        return Read(error=f"not a score: {error}")
    scores = output if isinstance(output, list) else [output]
    if label is None and len(scores) > 1:
        return Read(error=f"the model has {len(scores)} labels, and the judge names none")
    if (label or 0) >= len(scores):
        return Read(error=f"the model has {len(scores)} labels, and none is number {label}")
    score = scores[label or 0]
    if not isinstance(score, float) or not math.isfinite(score):
        return Read(error="not a finite number")
    return Read(score=score)
