"""Which backend a name in a recipe means. Weights and large packages are loaded with the first request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

from pairsmith.config import Author, Encoder, Evolver, Judge, Member, ModelSpec, Recipe
from pairsmith.config.plugins import code_hash, failed, load_plugin
from pairsmith.errors import ConfigError, PairsmithError
from pairsmith.llms.bills import with_bill
from pairsmith.llms.local.named_weights import LOCAL, commit_of, is_from_hub
from pairsmith.llms.local.token_counts import with_commits
from pairsmith.protocol import LLM, Finished, Identity, Request
from pairsmith.session import Session

S = TypeVar("S", Member, Evolver, Author, Judge, Encoder)


class NoModel:
    """The placeholder where completions or ratings come with the rows: it has a name and answers nothing."""

    def __init__(self, spec: ModelSpec) -> None:
        self.identity = Identity(spec.backend, "given")

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        raise AssertionError("given completions and ratings are asked of no model")


class OwnModel:
    """A model of one's own backend. Its identity begins with the backend's name, so no two backends share a reply.

    Where it gives no revision, that is the hash of its source: its replies count as those of another model once the
    code has changed. A backend whose replies cost money gives one, and so decides itself when to ask again.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._llm = _made(spec)
        found: object = getattr(self._llm, "identity", None)
        if not isinstance(found, Identity) or not callable(getattr(self._llm, "stream", None)):
            raise ConfigError(f"{spec.backend}: a backend has an identity, which is an Identity, and a method stream")
        revision = found.revision or f"source-{code_hash(spec.backend)[:12]}"
        self.identity = replace(found, backend=str(spec.backend), revision=revision)

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        for finished in self._llm.stream(requests):
            yield [(index, with_bill(requests[index], reply)) for index, reply in finished]


def _made(spec: ModelSpec) -> LLM:
    try:
        return cast("LLM", load_plugin(spec.backend)(spec))
    except PairsmithError:
        raise
    except (Exception, SystemExit) as error:
        raise failed(spec.backend, error) from error


def _transformers(spec: ModelSpec, session: Session) -> LLM:
    from pairsmith.llms.local.transformers import Transformers

    return Transformers(spec, session)


def _vllm(spec: ModelSpec, session: Session) -> LLM:
    from pairsmith.llms.local.vllm import VLLM

    return VLLM(spec, session)


def _openai(spec: ModelSpec, session: Session) -> LLM:
    from pairsmith.llms.endpoint.openai import OpenAI

    return OpenAI(spec, session)


def _echo(spec: ModelSpec, _: Session) -> LLM:
    from pairsmith.llms.echo import Echo

    return Echo(spec)


def _reward(spec: ModelSpec, session: Session) -> LLM:
    from pairsmith.llms.local.pair_reward import PairReward
    from pairsmith.llms.local.reward import Reward

    assert isinstance(spec, Judge)
    return (PairReward if spec.is_pairwise else Reward)(spec, session)


BACKENDS: dict[str, Callable[[ModelSpec, Session], LLM]] = {
    "transformers": _transformers,
    "vllm": _vllm,
    "openai": _openai,
    "echo": _echo,
    "reward": _reward,
    "given": lambda spec, _: NoModel(spec),
}

_ROLES = {Member: "member", Evolver: "evolver", Author: "author", Judge: "judge"}


def role_of(spec: ModelSpec) -> str:
    """The role of a model in a recipe: member, evolver, author or judge."""
    return _ROLES[type(spec)]


def open_llm(spec: ModelSpec, session: Session) -> LLM:
    """The backend that a recipe names. What it loads with its first request is kept by `session`."""
    backend = BACKENDS.get(spec.backend)
    return backend(spec, session) if backend else OwnModel(spec)


def pinned(recipe: Recipe) -> Recipe:
    """The recipe with the commit of each hub model in place of a branch, a tag or no revision.

    A run that begins with it asks one commit of each model, in all its processes, also where a branch moves meanwhile.
    """
    pool, evolution, rating, similarity = recipe.pool, recipe.evolution, recipe.rating, recipe.pairing.similarity
    members = tuple(_pinned(member) for member in pool.members)
    found: dict[str, Any] = {"pool": pool.model_copy(update={"members": members})}
    if evolution:
        found["evolution"] = evolution.model_copy(update={"evolver": _pinned(evolution.evolver)})
    if rating:
        changed: dict[str, Any] = {"judges": tuple(_pinned(judge) for judge in rating.judges)}
        if rating.criteria and rating.criteria.author:
            changed["criteria"] = rating.criteria.model_copy(update={"author": _pinned(rating.criteria.author)})
        found["rating"] = rating.model_copy(update=changed)
    pairing = with_commits(recipe.pairing)
    found["pairing"] = pairing.model_copy(update={"similarity": _pinned(similarity)}) if similarity else pairing
    return recipe.model_copy(update=found)


def _pinned(spec: S) -> S:
    in_this_process = not isinstance(spec, ModelSpec) or spec.backend in LOCAL
    if not in_this_process or not is_from_hub(spec.model, spec.revision):
        return spec
    commit, _ = commit_of(spec.model, spec.revision, anew=True)
    return spec.model_copy(update={"revision": commit or spec.revision})


def identity_of(spec: ModelSpec) -> Identity:
    """Which model a recipe names: part of the keys of its replies. Loads nothing."""
    return open_llm(spec, Session()).identity
