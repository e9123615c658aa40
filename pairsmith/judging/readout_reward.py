"""Read the output of a reward model: a score without a scale and without a rating or, of a model that compares two
texts, how likely each is the better one."""

from __future__ import annotations

import json
import math

from pairsmith.judging.readouts import Read, Sheet
from pairsmith.protocol import Reply


def read_reward(reply: str, label: int | None) -> Read:
    """The score that a reward model gave: a number, or item `label` of a list. It has no scale; the rating is null."""
    try:
        scores = _outputs(reply)
    except (ValueError, RecursionError) as error:
        return Read(error=f"not a score: {error}")
    if label is None and len(scores) > 1:
        return Read(error=f"the model has {len(scores)} labels, and the judge names none")
    if (label or 0) >= len(scores):
        return Read(error=f"the model has {len(scores)} labels, and none is number {label}")
    score = scores[label or 0]
    if not isinstance(score, float) or not math.isfinite(score):
        return Read(error="not a finite number")
    return Read(score=score)


def read_preference(label: int | None, sheet: Sheet, reply: Reply) -> dict[str, Read]:
    """Mark -> what a model that read two texts at once says of that text: the score is the probability that it is the
    better one, the rating 1 if that is more than a half, else 0.

    One output is the log odds that the first is better; of two, number `label` (0 when None) speaks for the first text
    and the other for the second, and their difference is the log odds.
    """
    first, second = (text.mark for text in sheet.texts)
    try:
        outputs = _outputs(reply.text)
    except (ValueError, RecursionError) as error:
        return dict.fromkeys((first, second), Read(error=f"not a preference: {error}"))
    number = label or 0
    if len(outputs) not in (1, 2) or number >= len(outputs):
        return dict.fromkeys((first, second), Read(error=f"no preference in {len(outputs)} outputs, label {number}"))
    if not all(isinstance(value, float) and math.isfinite(value) for value in outputs):
        return dict.fromkeys((first, second), Read(error="not a finite number"))
    odds = outputs[number] - (outputs[1 - number] if len(outputs) == 2 else 0.0)
    return {first: _better(odds), second: _better(-odds)}


def _better(odds: float) -> Read:
    """The side of a comparison with these log odds."""
    return Read(int(odds > 0), (1 + math.tanh(odds / 2)) / 2)


def _outputs(reply: str) -> list[float]:
    output = json.loads(reply)
    return output if isinstance(output, list) else [output]
