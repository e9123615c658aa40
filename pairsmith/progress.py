"""Progress of long work, from the steps that do it to whoever listens (the terminal, a test).

Every stage counts in prompts, so all stages have the same total and a rate means the same everywhere: a reply is
worth the share of a prompt that it completes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pairsmith.protocol import LLM, Reply, Request


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


Listener = Callable[[Progress], None]
_listeners: list[Listener] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call `listener` with every Progress of this process, from any thread."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def emit(progress: Progress) -> None:
    for listener in list(_listeners):
        listener(progress)


def ask(llm: LLM, requests: Sequence[Request], stage: str, prompts: float) -> list[Reply]:
    """All replies, in the order of `requests`, with progress; together they complete `prompts` prompts."""
    replies: list[Reply | None] = [None] * len(requests)
    emit(Progress(stage))
    for finished in llm.stream(requests):
        for index, reply in finished:
            replies[index] = reply
        tokens = sum(reply.n_tokens for _, reply in finished)
        emit(Progress(stage, prompts * len(finished) / len(requests), tokens=tokens, replies=len(finished)))
    if not requests:
        emit(Progress(stage, prompts))
    missing = replies.count(None)
    if missing:
        raise AssertionError(f"{llm.identity} left {missing} of {len(requests)} requests without a reply")
    return replies  # type: ignore[return-value]
