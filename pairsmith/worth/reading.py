"""How likely both answers of a pair are to a model, from one pass: with gradients in training, without in asking.

Together: prompt, chosen and rejected stand in one row. Each answer's places go on from the prompt's, and a mask hides
the chosen one from the rejected, so that the prompt is read once and nothing is padded. Apart: a row each, for models
whose layers take no such mask. Scores of words are made only where an answer's tokens are told.

torch is imported inside functions alone.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

CLOSE = 1e-2  # nats between both ways: what rounding does to an answer, and far below what a wrong mask does
IGNORED = -100  # a target that is none


@dataclass(frozen=True)
class Tokens:
    """A pair as tokens: what both sides begin with, and each side's rest."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    @property
    def longest(self) -> int:
        """Of the longer side, with its prompt."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


@dataclass(frozen=True)
class _Pass:
    """What a model reads, and of what it gives: at which `places`, which tokens. `first`: how many of those are of the
    chosen answer."""

    inputs: dict[str, Any]
    places: list[int]
    targets: list[int]
    first: int


def log_probs(model: Any, tokens: Tokens, together: bool) -> Any:
    """The log-probabilities of the chosen and of the rejected answer after the prompt, in nats: a tensor of two.

    A first token that nothing stands before has none.
    """
    import torch

    asked = (_together if together else _apart)(tokens, model.device)
    places = torch.tensor(asked.places, device=model.device)
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        scores = model(**asked.inputs, use_cache=False, logits_to_keep=places).logits
    else:
        scores = model(**asked.inputs, use_cache=False).logits[:, places]
    targets = torch.tensor(asked.targets, device=model.device)
    words = torch.nn.functional.cross_entropy(
        scores.flatten(0, 1).float(), targets, ignore_index=IGNORED, reduction="none"
    )
    return -torch.stack([words[: asked.first].sum(), words[asked.first :].sum()])


def reads_together(model: Any, tokens: Tokens) -> bool:
    """Whether a model gives the same log-probabilities for both answers in a row as for each in a row of its own."""
    import torch

    with torch.inference_mode():
        apart = log_probs(model, tokens, together=False)
        try:
            both = log_probs(model, tokens, together=True)
        except (IndexError, RuntimeError, TypeError, ValueError):  # a model that takes no such mask says so variously
            return False
    return bool((both - apart).abs().max() <= CLOSE)


def _together(tokens: Tokens, device: Any) -> _Pass:
    import torch

    before, chosen, rejected = len(tokens.prompt), len(tokens.chosen), len(tokens.rejected)
    many, second = before + chosen + rejected, before + chosen
    hidden = torch.ones(many, many, dtype=torch.bool, device=device).triu(1)
    hidden[second:, before:second] = True
    mask = torch.zeros(many, many, device=device).masked_fill(hidden, torch.finfo(torch.float32).min)
    positions = [*range(second), *range(before, before + rejected)]
    inputs = {
        "input_ids": torch.tensor([tokens.prompt + tokens.chosen + tokens.rejected], device=device),
        "position_ids": torch.tensor([positions], device=device),
        "attention_mask": mask[None, None],
    }
    told = tokens.chosen if before else tokens.chosen[1:], tokens.rejected if before else tokens.rejected[1:]
    starts = [before - 1] if before else []
    places = [*(starts if chosen else []), *range(before, second - 1)]
    places += [*(starts if rejected else []), *range(second, many - 1)]
    return _Pass(inputs, places, [*told[0], *told[1]], len(told[0]))


def _apart(tokens: Tokens, device: Any) -> _Pass:
    import torch

    before, sides = len(tokens.prompt), (tokens.chosen, tokens.rejected)
    start, rest = max(before, 1), max(map(len, sides))
    rows = [tokens.prompt + side + [0] * (rest - len(side)) for side in sides]
    read = [[1] * (before + len(side)) + [0] * (rest - len(side)) for side in sides]
    told = [[*side, *[IGNORED] * (rest - len(side))][start - before :] for side in sides]
    inputs = {
        "input_ids": torch.tensor(rows, device=device),
        "attention_mask": torch.tensor(read, device=device),
    }
    return _Pass(inputs, list(range(start - 1, before + rest - 1)), told[0] + told[1], len(told[0]))
