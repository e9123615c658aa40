"""Read what a reward model gives: a number, or one of several -> a score on no scale, without a whole rating."""

from __future__ import annotations

import json
import math

from pairsmith.judging.readouts import Read


def read_reward(reply: str, label: int | None) -> Read:
    """The score that a reward model gave: a number, or one of a list of them, on no scale; there is no whole rating."""
    try:
        told = json.loads(reply)
    except (ValueError, RecursionError) as error:
        return Read(error=f"not a score: {error}")
    scores = told if isinstance(told, list) else [told]
    if label is None and len(scores) > 1:
        return Read(error=f"the model has {len(scores)} labels, and the judge names none")
    if (label or 0) >= len(scores):
        return Read(error=f"the model has {len(scores)} labels, and none is number {label}")
    score = scores[label or 0]
    if not isinstance(score, float) or not math.isfinite(score):
        return Read(error="not a finite number")
    return Read(score=score)
