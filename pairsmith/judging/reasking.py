"""Asking a model again, with its reply and what was wrong with it, where nothing could be read: judges and authors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from pairsmith.judging.asking import WING
from pairsmith.progress import Tell, ask
from pairsmith.protocol import LLM, Reply, Request
from pairsmith.text.templating import render


class Question(Protocol):
    """What a request is about."""

    @property
    def request(self) -> Request: ...


Q = TypeVar("Q", bound=Question)
R = TypeVar("R")


@dataclass(frozen=True)
class Reading(Generic[Q, R]):
    """How replies become rows.

    `read`: the rows of a reply; `is_unread`: whether to ask again; `again`: the question with a complaint, of the rows
    that are kept, those of the latest reply, and how many times it was asked again before; `better`: the rows to keep,
    of those kept so far and those of a newer reply.
    """

    read: Callable[[Q, Reply], R]
    is_unread: Callable[[Q, R], bool]
    again: Callable[[Q, R, R, int], Q]
    better: Callable[[R, R], R]


def replied(
    asked: Sequence[Q], reading: Reading[Q, R], reasks: int, llm: LLM, stage: str, share: float, tell: Tell
) -> list[R]:
    """The rows of each question, asked again at most `reasks` times; `share`: how many prompts' worth they are."""
    replies = ask(llm, [one.request for one in asked], stage, share, tell)
    made = [reading.read(one, reply) for one, reply in zip(asked, replies, strict=True)]
    latest = list(made)
    for number in range(reasks):
        again = {
            place: reading.again(one, made[place], latest[place], number)
            for place, one in enumerate(asked)
            if reading.is_unread(one, made[place])
        }
        if not again:
            break
        replies = ask(llm, [one.request for one in again.values()], stage, 0, tell)
        for (place, one), reply in zip(again.items(), replies, strict=True):
            latest[place] = reading.read(one, reply)
            made[place] = reading.better(made[place], latest[place])
    return made


def with_complaint(
    request: Request, replied: str, wrong: Sequence[tuple[str, str | None]], number: int, example: str | None = None
) -> Request:
    """A request, followed by the reply and what is wrong with it: a mark, where there are several texts, and the
    problem. `example`: a filled form to show; `number`: how many times it was asked again before."""
    complaint = render(WING, "_again.jinja", wrong=wrong, example=example)
    more = ({"role": "assistant", "content": replied}, {"role": "user", "content": complaint})
    return replace(request, messages=(*request.messages, *more), sample=number)
