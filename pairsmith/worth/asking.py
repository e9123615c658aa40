"""What a model says, trained or not: the log-probabilities of pairs' answers, and its own answers to questions.

torch is imported inside functions alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

from pairsmith.config import ModelSpec, Sampling
from pairsmith.llms.local.transformers import Transformers
from pairsmith.protocol import Request
from pairsmith.session import Session
from pairsmith.worth.arms import Pair
from pairsmith.worth.questions import Question
from pairsmith.worth.reading import log_probs
from pairsmith.worth.training import Lab, Tell


def log_probs_of(lab: Lab, model: Any, pairs: Sequence[Pair], tell: Tell, what: str) -> dict[str, list[float]]:
    """For each pair by its name, the log-probabilities of its chosen and its rejected answer, in nats.

    `what`: the pairs, as progress calls them.
    """
    import torch

    tokens = {pair.name: lab.tokens_of(pair) for pair in pairs}
    together = lab.together(model, list(tokens.values()))
    found: dict[str, list[float]] = {}
    tell(what, 0, len(tokens))
    with torch.inference_mode(), lab.low_precision():
        for name, both in tokens.items():
            found[name] = log_probs(model, both, together).double().tolist()
            tell(what, len(found), len(tokens))
    return found


def answers_of(lab: Lab, model: Any, questions: Sequence[Question], longest: int, tell: Tell) -> dict[str, str]:
    """The model's answer to each question by its prompt id: its likeliest words, at most `longest` tokens."""
    import torch

    found: dict[str, str] = {}
    tell("answers", 0, len(questions))
    if not questions:
        return found
    sampling = Sampling(temperature=0.0, max_tokens=longest)
    requests = [Request(tuple(question.chat), sampling, seed=0) for question in questions]
    threads = torch.get_num_threads()  # the local backend may run passes side by side, with fewer threads each
    try:
        with tempfile.TemporaryDirectory() as folder, Session() as session:
            model.save_pretrained(folder)
            lab.tokenizer.save_pretrained(folder)
            for group in Transformers(ModelSpec(model=folder), session).stream(requests):
                found |= {questions[place].prompt_id: reply.text for place, reply in group}
                tell("answers", len(found), len(questions))
    finally:
        torch.set_num_threads(threads)
    return found
