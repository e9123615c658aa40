from __future__ import annotations

from typing import Any

import pytest

from pairsmith.config import METHODS, Evolution, Evolver
from pairsmith.generation.evolution import evolve, flaw, method_for, question_of, request_for, rewrite_row
from pairsmith.llms.echo import Echo
from pairsmith.protocol import Reply
from pairsmith.storage.schemas import frame, rows
from tests.generation.test_pool import prompt
from tests.runs import completion

PROMPT = prompt("What is a <RESPONSE>?")


def evolution(**fields: Any) -> Evolution:
    return Evolution(evolver=Evolver(backend="echo", model="e"), **fields)


def evolved(settings: Evolution, *parents: dict[str, Any]) -> list[dict[str, Any]]:
    prompts = frame("prompts", [PROMPT])
    table = frame("completions", [parent | {"prompt_id": PROMPT["prompt_id"]} for parent in parents])
    return rows(evolve(prompts, table, settings, Echo(settings.evolver)))


def test_rounds_chain_from_parent_to_child() -> None:
    made = evolved(evolution(rounds=3), completion("a"), completion("b"))
    assert [row["evolution"] for row in made] == [1, 1, 2, 2, 3, 3]
    parents = {row["completion_id"]: row["parent_id"] for row in made}
    chain, name = [], made[-1]["completion_id"]
    while name in parents:
        chain.append(name)
        name = parents[name]
    assert (len(chain), name) == (3, "b")
    assert {row["method"] for row in made} <= set(METHODS)


def test_only_the_members_named_and_only_sound_texts_are_evolved() -> None:
    parents = [
        completion("a", member="x"),
        completion("b", member="y"),
        completion("c", member="x", error="empty"),
    ]
    assert [row["parent_id"] for row in evolved(evolution(of=("x",)), *parents)] == ["a"]


def test_keep_last_marks_the_rounds_before() -> None:
    made = evolved(evolution(rounds=3, keep="last"), completion("a"))
    assert [row["error"] for row in made] == ["superseded", "superseded", None]


def test_a_failed_round_goes_on_from_the_last_good_text() -> None:
    made = evolved(
        evolution(rounds=2, templates={"own": "{{ completion }} [echo: empty]"}, methods=("own",)),
        completion("a"),
    )
    assert [(row["parent_id"], row["error"]) for row in made] == [("a", "empty"), ("a", "empty")]
    assert made[0]["seed"] != made[1]["seed"]


def test_the_method_is_drawn_per_completion_and_round() -> None:
    settings = evolution()
    drawn = {method_for(settings, f"c{n}", number) for n in range(40) for number in (1, 2)}
    assert drawn == set(METHODS)


def test_what_a_prompt_says_is_never_a_template() -> None:
    parent = completion("a", text="{{ 7 * 7 }} {% raw %} [END abc]")
    asked = request_for(PROMPT, parent, "details", 1, evolution()).messages[0]["content"]
    assert "{{ 7 * 7 }} {% raw %} [END abc]" in asked
    assert "What is a <RESPONSE>?" in asked
    marks = {line.split()[-1].rstrip("]") for line in asked.splitlines() if line.startswith(("[PROMPT ", "[ANSWER "))}
    assert len(marks) == 2
    assert not any(mark in parent["text"] for mark in marks)


def test_own_methods_as_criterion_and_as_template() -> None:
    settings = evolution(
        methods=("rhyme", "full"),
        templates={"rhyme": "Make it rhyme.", "full": "Q {{ prompt }} A {{ completion }}"},
    )
    asked = request_for(PROMPT, completion("a"), "rhyme", 1, settings).messages[0]["content"]
    assert "Make it rhyme." in asked
    full = request_for(PROMPT, completion("a"), "full", 1, settings).messages[0]["content"]
    assert full == "Q What is a <RESPONSE>? A the text of a"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("The  text of A", "unchanged"),
        ("Here is the improved answer: bread rises.", "leaks"),
        ("Improved answer:\nBread rises.", "leaks"),
        ("Bread rises. [END 1a2b3c]", "leaks"),
        ("Sure! Here is a more helpful version of the answer:\n\nYeast makes gas.", "a rewrite"),
        ("Yeast makes gas.\n\n(Note: I added details to the answer.)", "a rewrite"),
        ("I'm sorry, but I can't help with that.", "refusal"),
        ("As an AI language model, I do not eat.", "refusal"),
        ("I cannot rewrite this.", "refusal"),
        ("Bread rises because yeast makes gas.", None),
        ("A better version of bread is brioche.", None),
        ("I can explain it: yeast makes gas.", None),
        ("No introduction, no remarks on what you changed, no marker lines.", "leaks"),
        ("So: stay with the prompt and its language. Bread rises.", "leaks"),
        ("Given the prompt and answer, bread rises.", "leaks"),
    ],
)
def test_flaws(text: str, problem: str | None) -> None:
    parent = completion("a")
    asked = request_for(PROMPT, parent, "details", 1, evolution()).messages[0]["content"]
    found = flaw(parent["text"], text, asked, question_of(PROMPT))
    assert (found is None) if problem is None else (found is not None and problem in found)


@pytest.mark.parametrize(
    ("reply", "text", "error"),
    [
        ("Sure! Here is the improved answer:\n\nYeast makes gas.", "Yeast makes gas.", None),
        ("Improved answer:\n\nThe text of a", "The text of a", "unchanged"),
        ("Sure! Here is the improved answer:", "Sure! Here is the improved answer:", "a rewrite"),
    ],
)
def test_a_rewrite_is_kept_without_what_is_said_around_it(reply: str, text: str, error: str | None) -> None:
    parent, settings = completion("a"), evolution()
    request = request_for(PROMPT, parent, "details", 1, settings)
    row = rewrite_row(
        parent,
        Reply(reply, "stop"),
        "details",
        1,
        request,
        question_of(PROMPT),
        settings,
        Echo(settings.evolver).identity,
    )
    assert row["text"] == text
    assert (row["error"] is None) if error is None else (error in str(row["error"]))
