"""Which backend a name in a recipe means. Weights and large packages are loaded with the first request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import cast

from pairsmith.config import Judge, ModelSpec
from pairsmith.config.plugins import code_hash, failed, load_plugin
from pairsmith.errors import ConfigError, PairsmithError
from pairsmith.llms.bills import with_bill
from pairsmith.protocol import LLM, Finished, Identity, Request
from pairsmith.session import Session


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
    from pairsmith.llms.local.reward import Reward

    assert isinstance(spec, Judge)
    return Reward(spec, session)


BACKENDS: dict[str, Callable[[ModelSpec, Session], LLM]] = {
    "transformers": _transformers,
    "vllm": _vllm,
    "openai": _openai,
    "echo": _echo,
    "reward": _reward,
    "given": lambda spec, _: NoModel(spec),
}


def open_llm(spec: ModelSpec, session: Session) -> LLM:
    """The backend that a recipe names. What it loads with its first request is kept by `session`."""
    backend = BACKENDS.get(spec.backend)
    return backend(spec, session) if backend else OwnModel(spec)


def identity_of(spec: ModelSpec) -> Identity:
    """Which model a recipe names: part of the keys of its replies. Loads nothing."""
    return open_llm(spec, Session()).identity
