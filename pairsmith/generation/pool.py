"""Pooled generation: prompts x pool -> completions.

Completions differ because the members of the pool do: in model, sampling, system prompt, and in UltraFeedback's
principles, which are drawn for each completion. Every draw depends only on the prompt's id and the recipe's seeds, so
order, batches and restarts change nothing. Source of the method: Cui et al. 2023 (UltraFeedback),
https://arxiv.org/abs/2310.01377.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pairsmith.config import Member, Pairing, Pool, Principles
from pairsmith.config.generating import principle_texts
from pairsmith.ids import completion_id, draw, seed_of
from pairsmith.progress import Tell, ask, nobody
from pairsmith.protocol import LLM, Identity, Message, Reply, Request
from pairsmith.storage.row_types import CompletionRow, PromptRow, rows_as
from pairsmith.storage.schemas import Reason, frame

STAGE = "generate"


@dataclass(frozen=True)
class Planned:
    """A request, with what the row of its completion needs beside the reply."""

    prompt: PromptRow
    system_prompt: str | None
    request: Request


def generate(
    prompts: pd.DataFrame, pool: Pool, member: Member, llm: LLM, tell: Tell = nobody, pairing: Pairing | None = None
) -> pd.DataFrame:
    """Let one member answer the prompts that are its to answer; returns its rows of the completions table.

    `pairing`: where it has signals, a prompt's signal can say who answers it.
    """
    planned = completion_requests(rows_as(PromptRow, prompts), pool, member, pairing)
    replies = ask(llm, [item.request for item in planned], STAGE, len(prompts) / len(pool.members), tell)
    return frame("completions", completion_rows(planned, replies, member, llm.identity))


def completion_requests(
    prompts: Sequence[PromptRow], pool: Pool, member: Member, pairing: Pairing | None = None
) -> list[Planned]:
    """The requests of one member: as many as its `samples` for each prompt that is its to answer."""
    planned = []
    for prompt in prompts:
        if member.name not in answering(pool, pairing, prompt):
            continue
        chat = json.loads(prompt["messages"])
        for sample in range(member.samples):
            extra = _extra_system_prompt(member, prompt, sample)
            system = "\n\n".join(part for part in (prompt["system_prompt"], extra) if part) or None
            request = Request(
                messages=tuple(with_system(chat, system)),
                sampling=member.sampling,
                seed=seed_of("completion", member.sampling.seed, prompt["prompt_id"], sample),
                sample=sample,
            )
            planned.append(Planned(prompt, system, request))
    return planned


def answering(pool: Pool, pairing: Pairing | None, prompt: PromptRow) -> set[str]:
    """Names of the members that answer a prompt: those that its signal can pair or, without one, those drawn."""
    signal = pairing.signal_of(prompt["prompt_id"], prompt["source"]) if pairing else None
    if signal and signal.answered_by is not None:
        return {member.name for member in pool.asked} & {*signal.answered_by}
    return drawn(pool, prompt["prompt_id"])


def drawn(pool: Pool, prompt_id: str) -> set[str]:
    """Names of the members that answer a prompt: all, or `pool.draw` of them and those of `pool.always`."""
    names = [member.name for member in pool.drawable]
    if pool.draw is None:
        return set(names)
    return set(pool.always) | set(
        sorted(names, key=lambda name: draw("member", pool.seed, prompt_id, name))[: pool.draw]
    )


def with_system(chat: Sequence[Message], system_prompt: str | None) -> list[Message]:
    """A chat with the system prompt, if there is one, as its first message."""
    return ([{"role": "system", "content": system_prompt}] if system_prompt else []) + list(chat)


def completion_rows(
    planned: Sequence[Planned], replies: Sequence[Reply], member: Member, identity: Identity
) -> list[CompletionRow]:
    """Rows of the completions table. If a reply failed or is blank, `error` says so."""
    return [
        {
            "completion_id": completion_id(
                item.prompt["prompt_id"], member.name, item.request.sample, 0, None, reply.text
            ),
            "prompt_id": item.prompt["prompt_id"],
            "member": member.name,
            "model": identity.model,
            "revision": identity.revision,
            "system_prompt": item.system_prompt,
            "text": reply.text,
            "finish_reason": reply.finish_reason,
            "n_tokens": reply.n_tokens,
            "sample": item.request.sample,
            "seed": item.request.seed,
            "evolution": 0,
            "request": item.request.key(identity),
            "error": trouble(reply),
        }
        for item, reply in zip(planned, replies, strict=True)
    ]


def trouble(reply: Reply) -> str | None:
    """Why a reply cannot be used at all, as the value of `error`: it failed or is blank. None where it can."""
    if reply.error:
        return f"{Reason.REFUSED if reply.final else Reason.FAILED}: {reply.error}"
    if reply.text.strip():
        return None
    if reply.finish_reason == "length":
        return f"{Reason.EMPTY}: max_tokens went to the thought: raise sampling.max_tokens, or let it think less"
    return f"{Reason.EMPTY}: a thought without an answer" if reply.reasoning else str(Reason.EMPTY)


def _extra_system_prompt(member: Member, prompt: PromptRow, sample: int) -> str | None:
    if member.principles is None:
        return member.system_prompt
    return principle_text(member.principles, prompt["source"], prompt["prompt_id"], member.name, sample)


def principle_text(principles: Principles, source: str, *who: Any) -> str:
    """Draw a principle by the source's weights, then one of its texts."""
    weights, texts = principles.weights.get(source, principles.weights["default"]), principle_texts()
    remaining = draw("principle", principles.seed, *who) * sum(weights.values())
    for name in sorted(weights):
        remaining -= weights[name]
        if remaining < 0:
            break
    return texts[name][seed_of("text", principles.seed, *who) % len(texts[name])]
