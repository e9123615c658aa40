"""EvolQuality: completions -> completions, each rewritten in every round to be better in one respect.

What the evolver says around its rewrite is taken off (`frames`). A rewrite that is blank, unchanged or a refusal, that
leaks words of the request, or speaks of itself as a rewrite, is kept with an error and is never a candidate. The next
round then starts from the last good text. Source of the method: Liu et al. 2023 (Deita),
https://arxiv.org/abs/2312.15685, section 3.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import pandas as pd

from pairsmith.config import Evolution
from pairsmith.generation.frames import framed, unframed
from pairsmith.generation.pool import trouble
from pairsmith.ids import completion_id, seed_of
from pairsmith.progress import Tell, ask, nobody
from pairsmith.protocol import LLM, Identity, Reply, Request
from pairsmith.storage.row_types import CompletionRow, PromptRow, rows_as
from pairsmith.storage.schemas import Reason, frame
from pairsmith.text.templating import nonces, render, render_text, transcript

STAGE = "evolve"
WING = "pairsmith.generation"
RUN_OF_WORDS = 6  # so many words in a row that also stand in the request are no coincidence
_NEW_ANSWER = r"(?:(?:the|an?|my) )?(?:new|improved|rewritten|revised|better|updated) (?:answer|version|response)\b"
_LEAKS = re.compile(
    r"\[(?:PROMPT|ANSWER|END)\b|\bprompt and (?:(?:the|an?|its) )?answer\b|\bmarker lines?\b"
    rf"|^\W*(?:here(?: is|['’]s)|below is) {_NEW_ANSWER}|^\W*{_NEW_ANSWER}\W*[:\n]",
    re.IGNORECASE,
)
_REFUSALS = re.compile(
    r"^\W*+(?:i['’]?m |i am |we are )?(?:sorry|unable to)\b"
    r"|^\W*+(?:sorry\W++)?(?:but )?i (?:cannot|can['’]?t|won['’]?t)\b"
    r"|^\W*+as an? (?:ai|artificial intelligence|language model)\b",
    re.IGNORECASE,
)


def evolve(
    prompts: pd.DataFrame, completions: pd.DataFrame, evolution: Evolution, llm: LLM, tell: Tell = nobody
) -> pd.DataFrame:
    """Evolve the completions of the members that the recipe names; returns the rows of all rounds.

    With `keep: last`, the rows of earlier rounds stay in the table with the error `superseded`.
    """
    by_id = {prompt["prompt_id"]: prompt for prompt in rows_as(PromptRow, prompts)}
    parents = [row for row in rows_as(CompletionRow, completions) if _evolvable(row, evolution)]
    made: list[CompletionRow] = []
    for number in range(1, evolution.rounds + 1):
        requests, methods = [], []
        for parent in parents:
            method = method_for(evolution, parent["completion_id"], number)
            methods.append(method)
            requests.append(request_for(by_id[parent["prompt_id"]], parent, method, number, evolution))
        replies = ask(llm, requests, STAGE, len(prompts) / evolution.rounds, tell)
        children = [
            rewrite_row(
                parent, reply, method, number, request, question_of(by_id[parent["prompt_id"]]), evolution, llm.identity
            )
            for parent, reply, method, request in zip(parents, replies, methods, requests, strict=True)
        ]
        made += children
        parents = [parent if child["error"] else child for parent, child in zip(parents, children, strict=True)]
    if evolution.keep == "last":
        last = {row["completion_id"] for row in parents}
        for row in made:
            if row["error"] is None and row["completion_id"] not in last:
                row["error"] = str(Reason.SUPERSEDED)
    return frame("completions", made)


def method_for(evolution: Evolution, completion_id: str, number: int) -> str:
    """The method of round `number`, drawn for each completion."""
    return evolution.methods[seed_of("method", evolution.seed, completion_id, number) % len(evolution.methods)]


def question_of(prompt: PromptRow) -> str:
    """A prompt's chat and system prompt as one text."""
    return transcript(json.loads(prompt["messages"]), prompt["system_prompt"])


def request_for(prompt: PromptRow, parent: CompletionRow, method: str, number: int, evolution: Evolution) -> Request:
    """The request to rewrite `parent` by `method` in round `number`."""
    question = question_of(prompt)
    prompt_mark, answer_mark = _marks(parent["completion_id"], method, question, parent["text"])
    values = {
        "prompt": question,
        "completion": parent["text"],
        "prompt_mark": prompt_mark,
        "answer_mark": answer_mark,
    }
    own = evolution.templates.get(method)
    if own and "{{" in own:
        text = render_text(own, f"evolution.templates.{method}", values)
    else:
        text = render(WING, "_request.jinja", criterion=own or render(WING, f"{method}.jinja"), **values)
    return Request(
        messages=({"role": "user", "content": text},),
        sampling=evolution.evolver.sampling,
        seed=seed_of("evolution", evolution.evolver.sampling.seed, parent["completion_id"], number),
    )


def rewrite_row(
    parent: CompletionRow,
    reply: Reply,
    method: str,
    number: int,
    request: Request,
    question: str,
    evolution: Evolution,
    identity: Identity,
) -> CompletionRow:
    """The row for a rewrite of `parent`, without its frame. If the rewrite cannot be used, `error` says why."""
    name, text = evolution.evolver.name, unframed(reply.text, parent["text"], question)
    error = trouble(reply) or flaw(parent["text"], text, request.messages[-1]["content"], question)
    return {
        "completion_id": completion_id(
            parent["prompt_id"], name, parent["sample"], number, parent["completion_id"], text
        ),
        "prompt_id": parent["prompt_id"],
        "member": name,
        "model": identity.model,
        "revision": identity.revision,
        "text": text,
        "finish_reason": reply.finish_reason,
        "n_tokens": reply.n_tokens,
        "sample": parent["sample"],
        "seed": request.seed,
        "evolution": number,
        "parent_id": parent["completion_id"],
        "method": method,
        "request": request.key(identity),
        "error": error,
    }


def flaw(parent: str, text: str, asked: str, question: str) -> str | None:
    """What is wrong with a rewrite of `parent`, as the value of `error`; None where nothing is.

    `text`: the rewrite as `frames.unframed` leaves it. `asked`: the text of the request. The rewrite leaks if it has a
    run of words in common with the request that is neither in the question nor in the parent.
    """
    problem = None
    if _squeezed(text) == _squeezed(parent):
        problem = "unchanged"
    elif _leaks(text, parent, asked, question):
        problem = "leaks the request's words"
    elif framed(text, parent, question):
        problem = "speaks of itself as a rewrite"
    elif _REFUSALS.search(text) and not _REFUSALS.search(parent):
        problem = "refusal"
    return f"{Reason.EVOLUTION_FAILED}: {problem}" if problem else None


def _evolvable(row: CompletionRow, evolution: Evolution) -> bool:
    return row["error"] is None and (not evolution.of or row["member"] in evolution.of)


def _marks(completion: str, method: str, *texts: str) -> Sequence[str]:
    return nonces(2, texts, "evolve", completion, method)


def _leaks(text: str, parent: str, asked: str, question: str) -> bool:
    if _LEAKS.search(text) and not _LEAKS.search(f"{parent}\n{question}"):
        return True
    return bool(_runs(text) & (_runs(asked) - _runs(question) - _runs(parent)))


def _runs(text: str) -> set[tuple[str, ...]]:
    """All runs of `RUN_OF_WORDS` consecutive words in a text, without case and punctuation."""
    words = re.findall(r"\w+", text.casefold())
    return set(zip(*(words[start:] for start in range(RUN_OF_WORDS)), strict=False))


def _squeezed(text: str) -> str:
    return " ".join(text.split()).casefold()
