"""The protocol between pairsmith and a model: what a request, a reply and a model are.

A model answers a list of requests and hands over replies as they finish, so that each can be made durable at once. One
bad item is a `Reply` with an `error`; only a wrong configuration raises. Behaviour that is not the model's own (the
ledger, limits, budgets) is added by wrapping a model, never by a flag in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from pairsmith.config import Sampling
from pairsmith.ids import fingerprint

Message = dict[str, str]


@dataclass(frozen=True)
class Identity:
    """Which model answers: part of every request's key."""

    backend: str
    model: str
    revision: str | None = None


@dataclass(frozen=True)
class Request:
    """One question to a model.

    `schema`: JSON schema that the answer must fit. `choices`: strings of which the answer must begin with one; the
    reply then carries their log probabilities. `sample` tells apart several answers to the same question.
    """

    messages: tuple[Message, ...]
    sampling: Sampling
    seed: int
    sample: int = 0
    schema: dict[str, Any] | None = None
    choices: tuple[str, ...] | None = None
    _keys: dict[Identity, str] = field(default_factory=dict, init=False, compare=False, repr=False)

    def key(self, identity: Identity) -> str:
        """The ledger's key: sha256 over the model and every field that can change the answer."""
        if identity not in self._keys:
            self._keys[identity] = self._key(identity)
        return self._keys[identity]

    def _key(self, identity: Identity) -> str:
        sampling = self.sampling.model_dump(mode="json", exclude={"seed"})
        return fingerprint(asdict(identity), self.messages, sampling, self.seed, self.sample, self.schema, self.choices)


@dataclass(frozen=True)
class Reply:
    """A model's answer. `finish_reason`: stop, length, or None with `error` set and no text.

    `reasoning`: what the model thought aloud, no part of its answer. `final`: the same request would fail in the same
    way again, so it is not asked again.
    """

    text: str
    finish_reason: str | None = None
    n_prompt_tokens: int = 0
    n_tokens: int = 0
    logprobs: dict[str, float] | None = field(default=None)
    error: str | None = None
    final: bool = False
    reasoning: str | None = None


Finished = list[tuple[int, Reply]]


class LLM(Protocol):
    identity: Identity

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        """Yield `(index, reply)` groups as they finish: each index once, in any order, none left out."""
        ...
