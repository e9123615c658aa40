"""Progress of long work: events that the steps send to the listener of a session, such as the terminal or a test.

Every stage counts in prompts: a reply counts as the share of a prompt that it completes. So all stages have the same
total, and prompts per second can be compared between them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pairsmith.protocol import LLM, Reply, Request
from pairsmith.text.thoughts import apart, ends_a_thought

Tell = Callable[["Progress"], None]


@dataclass(frozen=True)
class Progress:
    """What has changed since the last event of a stage.

    `prompts`: further prompts that are done. `total`: further prompts that are expected. `replies`: further replies,
    from a model or the ledger. `tokens`: tokens generated in them.
    """

    stage: str
    prompts: float = 0.0
    total: int = 0
    tokens: int = 0
    replies: int = 0


def undone(stage: str, told: Sequence[Progress]) -> Progress:
    """The progress that takes back what was told of a step that is to be done again."""
    prompts, tokens, replies = (sum(getattr(one, name) for one in told) for name in ("prompts", "tokens", "replies"))
    return Progress(stage, -prompts, tokens=-tokens, replies=-replies)


def nobody(_: Progress) -> None:
    """The default listener: it ignores every event."""


def ask(llm: LLM, requests: Sequence[Request], stage: str, prompts: float, tell: Tell = nobody) -> list[Reply]:
    """Send all requests to a model; returns the replies in the order of `requests`, each without its thought.

    `tell` is called with the progress. `prompts`: how many prompts all the requests together complete.
    """
    replies: list[Reply | None] = [None] * len(requests)
    tell(Progress(stage))
    for finished in llm.stream(requests):
        for index, reply in finished:
            replies[index] = answered(requests[index], reply)
        tokens = sum(reply.n_tokens for _, reply in finished)
        tell(Progress(stage, prompts * len(finished) / len(requests), tokens=tokens, replies=len(finished)))
    if not requests:
        tell(Progress(stage, prompts))
    missing = replies.count(None)
    if missing:
        raise AssertionError(f"{llm.identity} left {missing} of {len(requests)} requests without a reply")
    return replies  # type: ignore[return-value]


def answered(request: Request, reply: Reply) -> Reply:
    """A reply whose text is the model's answer alone, with the thought before it kept apart as its `reasoning`."""
    if reply.error is not None or not reply.text:
        return reply
    quotable = ends_a_thought(reply.text) and (
        reply.reasoning is not None
        or reply.text.lstrip().startswith("{")
        or any(ends_a_thought(turn["content"]) for turn in request.messages)
    )
    thought, text = apart(reply.text, cut=reply.finish_reason == "length", quotable=quotable)
    if text == reply.text:
        return reply
    found = "\n\n".join(part for part in (reply.reasoning, thought) if part)
    return replace(reply, text=text, reasoning=found or None)
