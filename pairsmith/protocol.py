"""The protocol between pairsmith and a model: what a request, a reply and a model are.

A model takes a list of requests and yields each reply as soon as it is finished, so that it can be made durable at
once. A request that fails gives a `Reply` with an `error`; only a wrong configuration raises. Whatever is not the
model's own behaviour (the ledger, limits, budgets) is added by wrapping a model, never by a flag in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pairsmith.config import Sampling
from pairsmith.ids import fingerprint

Message = dict[str, str]
BY_CONTENT = "files-"  # begins the revision of a folder that is named by what its files hold


@dataclass(frozen=True)
class Identity:
    """Which model answers. It is part of every request's key.

    `alias`: what the recipe's `identity` calls a model of an endpoint, to tell it from others of the same name.
    """

    backend: str
    model: str
    revision: str | None = None
    alias: str | None = None

    @property
    def keyed(self) -> dict[str, str | None]:
        """What of it is in a key. Weights named by their content are the same wherever their folder is."""
        by_content = self.revision is not None and self.revision.startswith(BY_CONTENT)
        found = {"backend": self.backend, "model": "" if by_content else self.model, "revision": self.revision}
        return found | ({"alias": self.alias} if self.alias else {})


@dataclass(frozen=True)
class Request:
    """One question to a model.

    `schema`: JSON schema that the answer must fit. `choices`: the answer must begin with one of these strings, and the
    reply carries their log probabilities. `sample`: number of the answer, where the same question is asked several
    times.
    """

    messages: tuple[Message, ...]
    sampling: Sampling
    seed: int
    sample: int = 0
    schema: dict[str, Any] | None = None
    choices: tuple[str, ...] | None = None
    _keys: dict[Identity, str] = field(default_factory=dict, init=False, compare=False, repr=False)

    def key(self, identity: Identity) -> str:
        """The key in the ledger: sha256 of the model and of every field that can change the answer."""
        if identity not in self._keys:
            self._keys[identity] = self._key(identity)
        return self._keys[identity]

    def _key(self, identity: Identity) -> str:
        sampling = self.sampling.model_dump(mode="json", exclude={"seed"})
        return fingerprint(identity.keyed, self.messages, sampling, self.seed, self.sample, self.schema, self.choices)


@dataclass(frozen=True)
class Reply:
    """A model's answer.

    `finish_reason`: stop or length; None where `error` is set and there is no text. `reasoning`: the model's thinking,
    which is no part of its answer. `final`: the same request would fail in the same way again, so it is not repeated.
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
        """Yield lists of `(index, reply)` as replies finish: every index exactly once, in any order."""
        ...
