"""Progress of long work, from the steps that do it to whoever listens to the session (the terminal, a test).

Every stage counts in prompts, so all stages have the same total and a rate means the same everywhere: a reply is
worth the share of a prompt that it completes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pairsmith.protocol import LLM, Reply, Request

Tell = Callable[["Progress"], None]


@dataclass(frozen=True)
class Progress:
    """`prompts` more prompts of `stage` are done; `total` more are expected.

    `replies` more came, of a model or the ledger, with `tokens` generated.
    """

    stage: str
    prompts: float = 0.0
    total: int = 0
    tokens: int = 0
    replies: int = 0


def nobody(_: Progress) -> None:
    """The listener where nobody listens."""


def ask(llm: LLM, requests: Sequence[Request], stage: str, prompts: float, tell: Tell = nobody) -> list[Reply]:
    """All replies, in the order of `requests`, with progress to `tell`; together they complete `prompts` prompts."""
    replies: list[Reply | None] = [None] * len(requests)
    tell(Progress(stage))
    for finished in llm.stream(requests):
        for index, reply in finished:
            replies[index] = reply
        tokens = sum(reply.n_tokens for _, reply in finished)
        tell(Progress(stage, prompts * len(finished) / len(requests), tokens=tokens, replies=len(finished)))
    if not requests:
        tell(Progress(stage, prompts))
    missing = replies.count(None)
    if missing:
        raise AssertionError(f"{llm.identity} left {missing} of {len(requests)} requests without a reply")
    return replies  # type: ignore[return-value]
