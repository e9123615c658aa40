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
UNREACHED = "not reached"  # begins the error of a reply where an endpoint has never answered anyone
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
        return fingerprint(
            identity.keyed, self.messages, self.sampling.keyed, self.seed, self.sample, self.schema, self.choices
        )


@dataclass(frozen=True)
class Bill:
    """What one answered call cost, whatever became of the answer.

    `is_reckoned`: the endpoint did not say, so this is an estimate. `problem`: why the answer could not be used. `id`:
    a name of the answer where it may be read more than once, as from the file of a batch; it is paid for once.
    """

    n_prompt_tokens: int = 0
    n_tokens: int = 0
    is_reckoned: bool = False
    problem: str | None = None
    id: str | None = None


@dataclass(frozen=True)
class Reply:
    """A model's answer.

    `finish_reason`: stop or length; None where `error` is set and there is no text. `reasoning`: the model's thinking,
    which is no part of its answer. `final`: the same request would fail in the same way again, so it is not repeated.
    `n_prompt_tokens`, `n_tokens`: as the model counts them; 0 where it does not. `bill`: what the call cost, where
    those two do not say it; see `charged`. `wasted`: prompt tokens and tokens of earlier answers without a reply.
    `retries`: how often the request was sent again.
    """

    text: str
    finish_reason: str | None = None
    n_prompt_tokens: int = 0
    n_tokens: int = 0
    logprobs: dict[str, float] | None = field(default=None)
    error: str | None = None
    final: bool = False
    reasoning: str | None = None
    bill: Bill | None = field(default=None, compare=False, repr=False)
    wasted: tuple[int, int] = field(default=(0, 0), compare=False, repr=False)
    retries: int = field(default=0, compare=False, repr=False)

    @property
    def charged(self) -> Bill | None:
        """What the answer that this reply was read from cost; None where no model answered."""
        if self.bill or not (self.error is None or self.n_prompt_tokens or self.n_tokens):
            return self.bill
        return Bill(self.n_prompt_tokens, self.n_tokens, problem=self.error)

    @property
    def cost(self) -> tuple[int, int]:
        """Prompt tokens and tokens of all answers to the request."""
        bill = self.charged or Bill()
        return bill.n_prompt_tokens + self.wasted[0], bill.n_tokens + self.wasted[1]


class Awaited(Exception):
    """Raised by a stream of a model whose replies come later: the step that asked is to be done again then."""


Finished = list[tuple[int, Reply]]


class LLM(Protocol):
    identity: Identity

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        """Yield lists of `(index, reply)` as replies finish: every index exactly once, in any order."""
        ...
