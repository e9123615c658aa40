"""Arms of a proof: which pairs each training sees, which are held out, and a fingerprint of what decides its result.

All choices are drawn by ids alone: a prompt that two data sets share is held out of both or of none, a set's first
pairs are the same whatever else is in it, and more seeds leave the arms of earlier ones as they are. The control is an
arm on the same pairs of which half, drawn by the seed, have their sides changed: what it learns is not what the set
prefers.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pairsmith.ids import draw, fingerprint, short_id, text_id
from pairsmith.protocol import Message

HELD_OUT = 0.3  # of the prompts
REVISION = 1  # to be raised where the code makes another result of the same inputs
Chat = tuple[Message, ...]


@dataclass(frozen=True)
class Settings:
    """How a model is trained. `pairs`: for each set, at most. `tokens`: of prompt and answer together, on each side;
    of a check's answer too. `batch`: pairs a step. `beta`: of DPO, https://arxiv.org/abs/2305.18290."""

    pairs: int = 200
    tokens: int = 256
    epochs: int = 1
    learning_rate: float = 2e-5
    batch: int = 8
    beta: float = 0.1


@dataclass(frozen=True)
class Pair:
    """A prompt with its chosen and its rejected answer, each as chats."""

    prompt_id: str
    prompt: Chat
    chosen: Chat
    rejected: Chat

    @property
    def name(self) -> str:
        """The same for the same texts, whichever set they are in; another for the sides changed."""
        return short_id(
            "pair", self.prompt_id, *(text_id(chat[-1]["content"]) for chat in (self.chosen, self.rejected))
        )

    @property
    def changed(self) -> Pair:
        """The pair with its sides changed."""
        return Pair(self.prompt_id, self.prompt, self.rejected, self.chosen)


@dataclass(frozen=True)
class Arm:
    """A training on some pairs, in an order and with sides that the seed decides; without pairs the untrained model.

    `data`: the name of the set.
    """

    data: str
    shuffled: bool
    seed: int
    pairs: tuple[Pair, ...]

    @property
    def name(self) -> str:
        if not self.pairs:
            return "untrained"
        return f"{self.data}{', sides shuffled' if self.shuffled else ''}, seed {self.seed}"


def pair_of(row: Mapping[str, Any]) -> Pair:
    """A pair from a row of a published version."""
    chats = (tuple(_message(one) for one in row[side]) for side in ("prompt", "chosen", "rejected"))
    return Pair(row["prompt_id"], *chats)


def _message(message: Mapping[str, Any]) -> Message:
    return {"role": message["role"], "content": message["content"] or ""}


def divided(pairs: Iterable[Pair], many: int, asked: Collection[str] = ()) -> tuple[list[Pair], list[Pair]]:
    """The first pairs to train on and to hold out, in the order in which they are taken: drawn by prompt.

    `many`: of both together, so that a large set is never in memory whole. `asked`: prompt ids of the checks, on none
    of which is trained. Pairs that stand twice count once.
    """
    usable = (pair for pair in pairs if is_held_out(pair.prompt_id) or pair.prompt_id not in asked)
    first = heapq.nsmallest(many, usable, key=lambda pair: (draw("proof", pair.prompt_id), pair.name))
    once = list({pair.name: pair for pair in first}.values())
    held = [pair for pair in once if is_held_out(pair.prompt_id)]
    return [pair for pair in once if not is_held_out(pair.prompt_id)], held


def is_held_out(prompt_id: str) -> bool:
    return draw("held out", prompt_id) < HELD_OUT


def shuffled(pairs: Sequence[Pair], seed: int) -> tuple[Pair, ...]:
    """The same pairs, the sides of half of them changed, at places that the seed draws."""
    drawn = sorted(pairs, key=lambda pair: draw("sides", seed, pair.name))
    changed = {pair.name for pair in drawn[: len(drawn) // 2]}
    return tuple(pair.changed if pair.name in changed else pair for pair in pairs)


def arms_of(sets: Mapping[str, Sequence[Pair]], seeds: int) -> list[Arm]:
    """The untrained model, then seed by seed each set as it is and with its sides shuffled."""
    arms = [Arm("", False, 0, ())]
    for seed in range(seeds):
        for name, pairs in sets.items():
            arms += [Arm(name, False, seed, tuple(pairs)), Arm(name, True, seed, shuffled(pairs, seed))]
    return arms


def arm_fingerprint(arm: Arm, settings: Settings, made_by: Mapping[str, Any], exam: str) -> str:
    """A hash of all that decides an arm's result: what it is trained on and how, by which model, libraries and device
    (`made_by`), and what it is asked (`exam`, a hash). The set's name is not in it, nor how many other arms there are.
    """
    trained = [arm.seed, [[pair.name, pair.prompt, pair.chosen, pair.rejected] for pair in arm.pairs]]
    how = asdict(settings) if arm.pairs else {"tokens": settings.tokens}
    how.pop("pairs", None)  # the pairs themselves are in it
    return fingerprint("arm", REVISION, trained if arm.pairs else None, how, dict(made_by), exam)
