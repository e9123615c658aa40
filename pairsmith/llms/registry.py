"""Which backend a name in a recipe means. Weights and large packages are loaded with the first request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pairsmith.config import Judge, ModelSpec
from pairsmith.protocol import LLM, Finished, Identity, Request
from pairsmith.session import Session


class NoModel:
    """The placeholder where completions or ratings come with the rows: it has a name and answers nothing."""

    def __init__(self, spec: ModelSpec) -> None:
        self.identity = Identity(spec.backend, "given")

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        raise AssertionError("given completions and ratings are asked of no model")


def open_llm(spec: ModelSpec, session: Session) -> LLM:
    """The backend that a recipe names. What it loads with its first request is kept by `session`."""
    if spec.is_given:
        return NoModel(spec)
    if spec.backend == "echo":
        from pairsmith.llms.echo import Echo

        return Echo(spec)
    if spec.backend == "openai":
        from pairsmith.llms.endpoint.openai import OpenAI

        return OpenAI(spec, session)
    if isinstance(spec, Judge) and spec.is_reward:
        from pairsmith.llms.local.reward import Reward

        return Reward(spec, session)
    if spec.backend == "vllm":
        from pairsmith.llms.local.vllm import VLLM

        return VLLM(spec, session)
    from pairsmith.llms.local.transformers import Transformers

    return Transformers(spec, session)


def identity_of(spec: ModelSpec) -> Identity:
    """Which model a recipe names: part of the keys of its replies. Loads nothing."""
    return open_llm(spec, Session()).identity
