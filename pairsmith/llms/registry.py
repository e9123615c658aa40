"""Which backend a name in a recipe means. Nothing heavy is loaded before its first request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from typing import cast

from pairsmith.config import ModelSpec
from pairsmith.config.plugins import code_hash, failed, load
from pairsmith.errors import ConfigError, PairsmithError
from pairsmith.protocol import LLM, Finished, Identity, Request

# Each a class below `pairsmith.llms` that is made of a ModelSpec, imported when a recipe names it.
BACKENDS = {
    "transformers": "local.transformers:Transformers",
    "vllm": "local.vllm:VLLM",
    "openai": "endpoint.openai:OpenAI",
    "echo": "echo:Echo",
    "reward": "local.reward:Reward",
    "given": "registry:NoModel",
}


class NoModel:
    """What stands where completions or ratings were given: it has a name, and nothing can be asked of it."""

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
        return self._llm.stream(requests)


def _made(spec: ModelSpec) -> LLM:
    try:
        return cast("LLM", load(spec.backend)(spec))
    except PairsmithError:
        raise
    except (Exception, SystemExit) as error:
        raise failed(spec.backend, error) from error


def open_llm(spec: ModelSpec) -> LLM:
    """The backend that a recipe names; nothing heavy is loaded before its first request."""
    if spec.backend not in BACKENDS:
        return OwnModel(spec)
    module, _, name = BACKENDS[spec.backend].partition(":")
    return cast("LLM", getattr(import_module(f"pairsmith.llms.{module}"), name)(spec))
