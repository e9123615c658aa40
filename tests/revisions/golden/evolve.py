"""Golden tables of evolve: our methods and a recipe's own, one round and two, and rewrites with every flaw."""

from __future__ import annotations

from pairsmith.config import Evolution
from pairsmith.config.generating import METHODS
from pairsmith.generation.evolution import evolve
from pairsmith.protocol import Reply, Request
from pairsmith.storage.schemas import frame, rows
from tests.revisions.golden.rows import COUNT, Row, Scripted, completion, prompt, words

EVOLVER = {"backend": "echo", "model": "e", "sampling": {"seed": 2}}
OWN = {"short": "Make it shorter.", "whole": "Q: {{ prompt }} {{ prompt_mark }}\nA: {{ completion }} {{ answer_mark }}"}
SETTINGS = (
    Evolution(evolver=EVOLVER, methods=METHODS),
    Evolution(evolver=EVOLVER, methods=("details", *OWN), templates=OWN, rounds=2, keep="all", seed=9),
    Evolution(evolver=EVOLVER, rounds=3, keep="last", of=("alpha",)),
)


def tables() -> dict[str, list[Row]]:
    prompts = frame("prompts", [prompt(place) for place in range(COUNT)])
    written = [
        completion(n, m, _written(n, m), error="empty" if n % 9 == m else None) for n in range(COUNT) for m in (0, 1)
    ]
    parents = frame("completions", written)
    return {str(n): rows(evolve(prompts, parents, one, Scripted(answer))) for n, one in enumerate(SETTINGS)}


def _written(place: int, member: int) -> str:
    """A text; some begin as a refusal, quote a marker, or go on for long."""
    start = {5: "I'm sorry, but ", 7: "[PROMPT is how it begins: "}.get(place % 11, "")
    return start + words(4 + (place + member) % 9, place, member)


def answer(request: Request, drawn: int) -> Reply:
    asked = request.messages[-1]["content"]
    texts = {
        0: " ",
        1: "I'm sorry, but I cannot do that.",
        2: "Here is the new answer:\n" + words(5, drawn),
        3: f"{words(5, drawn)} {' '.join(asked.split()[:12])}",
        4: words(5, drawn) + "\n[END]",
        5: asked.rpartition("]\n")[0].rpartition("\n[END")[0].rpartition("]\n")[2].upper() or asked.splitlines()[-1],
        6: "As an AI language model, I will not.",
        9: f"Voici la réponse améliorée :\n\n{words(6, drawn)}\n\n---\n\nI made it more detailed by adding words.",
    }
    if drawn % 10 in (7, 8):
        return Reply("", error="no", final=drawn % 10 == 7)
    return Reply(texts.get(drawn % 10, words(12, drawn)), "stop", 3, 12)
