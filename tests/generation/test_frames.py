"""What models say around a rewrite is taken off it, and nothing else is."""

from __future__ import annotations

import time

import pytest

from pairsmith.generation.frames import framed, unframed
from tests.conftest import shared
from tests.judging.test_guard import completions_of

PARENT = "Bread rises."
ANSWER = "Bread rises because yeast makes gas.\n\nIt needs warmth for that."
OPENINGS = {
    "English": [
        "Sure! Here is the improved answer:",
        "Certainly, here's a more detailed version of the response:",
        "Of course! I'd be happy to help. Below is the rewritten answer.",
        "Okay.\n\nHere’s an enhanced version:",
        "**Revised response:**",
        "### Improved Answer",
        "Rewritten answer (more creative):",
        "I've rewritten the answer so that it goes deeper:",
        "The updated response is as follows:",
        "Got it! Here is the response, revised for clarity:",
        "To make the answer more helpful, here's a revised version:",
        "Sure! Here's a rewrite of the answer:",
        "Rewritten:",
        "Here you go:",
        "Sure, here you go!",
        "Here is the answer, made more helpful:",
        "Here's a version that's clearer:",
        "Here's how I would improve the answer:",
        "[Rewritten to be more useful]",
    ],
    "German": [
        "Hier ist die verbesserte Antwort:",
        "Natürlich! Hier ist eine ausführlichere Fassung der Antwort:",
        "Gerne, nachfolgend die überarbeitete Antwort:",
        "**Verbesserte Antwort:**",
        "Selbstverständlich. Im Folgenden finden Sie eine hilfreichere Version Ihrer Antwort:",
        "Ich habe die Antwort wie gewünscht überarbeitet:",
    ],
    "French": [
        "Voici la réponse améliorée :",
        "Bien sûr ! Voici une version plus détaillée de la réponse :",
        "D'accord, ci-dessous la réponse réécrite :",
        "**Réponse améliorée :**",
        "Avec plaisir. Voici une réponse plus complète :",
        "Réponse révisée",
    ],
    "Spanish": [
        "Aquí está la respuesta mejorada:",
        "¡Claro! Aquí tienes una versión más detallada de la respuesta:",
        "Por supuesto. A continuación, la respuesta reescrita:",
        "**Respuesta mejorada:**",
        "Esta es una versión ampliada de tu respuesta:",
        "Respuesta revisada:",
    ],
    "Italian": ["Certo! Ecco la risposta migliorata:", "Risposta riscritta:"],
    "Portuguese": ["Claro! Aqui está a resposta melhorada:", "Versão revisada:"],
}
NOTES = {
    "English": [
        "I hope this improved version is more useful!",
        "(Note: I added examples to the answer.)",
        "Note: The answer has been expanded with more detail.",
        "---\n\nI made it clearer by giving the cause.",
        "***\n*I expanded the response with the role of warmth.*",
        "**Changes made:**\n- gave the cause\n- added warmth",
        "Explanation of changes:\n\n1. I gave the cause.\n2. I added warmth.",
        "Let me know if you would like any further changes!",
        "This revised answer goes deeper and is easier to follow.",
        "This version is more detailed than the original.",
        "I expanded on the original by giving the cause.",
        "---\n\n**Key improvements made:**\n- the cause",
        "This rewritten version gives more depth and clarity.",
        "---\n\nThis version adds more detail on warmth.",
        "Note: This rewrite keeps the original meaning and adds the cause.",
        "In this rewrite, I added the cause.",
        "***\nExplanation: The rewritten answer is more specific.",
        "[Rewritten to be more useful]",
        "Key improvements:\n- the cause\n- warmth",
        "## Improvements:\n1. the cause",
        "Main changes:\n\n- the cause",
    ],
    "German": [
        "Ich habe die Antwort um den Grund ergänzt.",
        "(Hinweis: Ich habe mehr Einzelheiten eingefügt.)",
        "---\nVorgenommene Änderungen:\n- der Grund",
        "Ich hoffe, diese verbesserte Fassung hilft weiter!",
        "Anmerkung: Die Antwort wurde deutlich erweitert.",
        "**Änderungen:**\n- der Grund",
    ],
    "French": [
        "J'ai ajouté la cause pour rendre la réponse plus utile.",
        "(Remarque : j'ai ajouté des exemples.)",
        "J'espère que cette version améliorée vous aidera !",
        "---\n\nModifications apportées :\n- la cause",
    ],
    "Spanish": [
        "He ampliado la respuesta con la causa.",
        "(Nota: he añadido más detalles.)",
        "Espero que esta versión mejorada sea más útil.",
        "Cambios realizados:\n- la causa",
    ],
    "Italian": ["Ho ampliato la risposta con la causa."],
    "Portuguese": ["Ampliei a resposta com a causa."],
}
WRAPPINGS = [
    ('"', '"'), ("'", "'"), ("“", "”"), ("„", "“"), ("« ", " »"), ("```\n", "\n```"), ("```markdown\n", "\n```"),
    ("<improved_answer>\n", "\n</improved_answer>"), ("[ANSWER 1a2b3c]\n", "\n[END 1a2b3c]"),
]  # fmt: skip
HONEST = [
    "Sure! Here is a recipe:\n\n1. Mix.\n2. Bake.",
    "Here's a detailed answer to your question:\n\nYeast makes gas.",
    "Here is an updated version of the code:\n\nx = 1",
    "Here's a revised version of sentence 2 that fits:\n\nThe man is tall.",
    "Here is the answer to your new question:\n\nYeast makes gas.",
    "Here is a new way to find the answer:\n\nYeast makes gas.",
    "Voici la réponse à votre nouvelle question :\n\nLa levure.",
    "Aquí está la respuesta a tu nueva pregunta:\n\nLa levadura.",
    "Hier ist die Antwort auf deine neue Frage:\n\nDie Hefe.",
    "A better version of bread is brioche.",
    "Rye rises slowly.\n\nThis version of bread is darker than the original.",
    "I made bread.\n\nIt rose.\n\n---\n\n**Key improvements in the oven:**\n- warmth",
    "Changes:\n- warmth\n\nSo bread changed.",
    "I added 2 and 3 to get the answer: 5.",
    "I expanded (a-1)^2 to find the answer.\n\na^2-2a+1",
    "I changed the answer to C: it fits.",
    "I changed the answer to C.\n\nIt fits.",
    "I removed the reply-to line: it was false.",
    "Hi Ann,\n\nhere is the plan.\n\nI have added the completion date to the plan.",
    "Hi Ann,\n\nhere is the plan.\n\nI have updated the answer key.",
    "Bonjour,\n\nJ'ai modifié la réponse du questionnaire.",
    "Bonjour,\n\nJ'ai ajouté la réponse au fichier.",
    "Guten Tag,\n\nich habe die Antwort des Kunden ergänzt.",
    "Hola:\n\nHe modificado la respuesta del cuestionario.",
    "The longer answer: it depends on the flour.",
    "The short answer: yes.\n\nThe longer answer: it depends.",
    "The short answer: yes.\n\nThe longer answer:\n\nit depends.",
    "Die neue Antwort: 7.",
    "La mejor respuesta: C.",
    "La meilleure réponse : C.",
    "Bread it is.\n\nThe better answer is C.",
    "Step 2\n\nThe response was updated by the host.",
    "I included the response of the baker.\n\nShe agreed.",
    "Revised: 3 May 2021",
    "Improved: the oven and the yeast.",
    "[Revised in 2020]\n\nBread is law.",
    "Bread is law.\n\n(Revised edition)",
    "Bread.\n\nIn this version, I added salt.",
    "Here is a version that's safe for small ovens:\n\nBread.",
    "Here's a version of the code that's better:\n\nx=1",
    "> Bread rises.\n\nSo it is said.",
    "New version: 3.2 came out in May.",
    "Yeast makes gas.\n\nI hope this answer helps! Let me know if you have more questions.",
    "Yeast makes gas.\n\nNote: in the mountains it rises faster.",
    "Yeast makes gas.\n\nThe new version of the oven has a fan, and the updated version a timer.",
    "I replaced one word.\n\nI added salt and made the dough softer.",
    "Yeast makes gas.\n\n---\n\nWarmth helps.",
    '"Bread and Butter: a Love Story"',
    '"To be" is the beginning, and so is "or not".',
    '```python\nprint("bread")\n```',
    "```\nint x = 1;\n```",
    "Ich habe keine Antwort darauf.",
    "He added the answer to the list.",
]


@pytest.mark.parametrize("opening", [one for found in OPENINGS.values() for one in found])
def test_an_opening_is_taken_off(opening: str) -> None:
    assert unframed(f"{opening}\n\n{ANSWER}", PARENT) == ANSWER
    assert unframed(f"{opening}\n\n---\n\n{ANSWER}", PARENT) == ANSWER
    assert unframed(f"{opening}\r\n\r\n{ANSWER}", PARENT) == ANSWER


@pytest.mark.parametrize("note", [one for found in NOTES.values() for one in found])
def test_a_remark_at_the_end_is_taken_off(note: str) -> None:
    assert unframed(f"{ANSWER}\n\n{note}", PARENT) == ANSWER
    assert unframed(f"{ANSWER}\r\n\r\n{note}\r\n", PARENT) == ANSWER


@pytest.mark.parametrize(("before", "after"), WRAPPINGS)
def test_what_stands_around_the_whole_is_taken_off(before: str, after: str) -> None:
    assert unframed(f"{before}{ANSWER}{after}", PARENT) == ANSWER
    opening, note = OPENINGS["English"][0], NOTES["English"][0]
    assert unframed(f"{opening}\n\n{before}{ANSWER}{after}\n\n---\n\n{note}\n", PARENT) == ANSWER


@pytest.mark.parametrize("text", [ANSWER, *HONEST])
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert unframed(text, PARENT) == text
    assert not framed(text, PARENT)


@pytest.mark.parametrize("label", ["Revised", "Improved version", "**Verbesserte Antwort**", "Réponse améliorée"])
def test_a_label_on_the_line_of_the_answer_is_taken_off(label: str) -> None:
    assert unframed(f"{label}: {ANSWER}", PARENT) == ANSWER


@pytest.mark.parametrize("question", ["Fix my code.", "Korrigiere den Satz.", "Corrige ce texte.", "Reescribe esto."])
def test_a_list_of_changes_stays_where_one_was_asked_for(question: str) -> None:
    text = "x = 1\n\n**Changes made:**\n1. gave x its name"
    assert unframed(text, PARENT, question) == text
    assert not framed(text, PARENT, question)
    assert unframed(text, PARENT, "Which value of x is correct?") == "x = 1"


@pytest.mark.parametrize(
    "frame", [OPENINGS["English"][0] + "\n\n{}", "{}\n\n" + NOTES["English"][0], '"{}"', "```\n{}\n```"]
)
def test_what_the_parent_has_too_is_part_of_the_answer(frame: str) -> None:
    text = frame.format(ANSWER)
    assert unframed(text, frame.format(PARENT)) == text
    assert unframed(text, PARENT) == ANSWER


@pytest.mark.parametrize(
    "text",
    [
        "Original answer:\n\nBread rises.\n\nImproved answer:\n\nYeast makes gas.",
        "Sure! Here is the improved answer:",
        "Improved answer:\n" * 20 + ANSWER,
    ],
)
def test_a_frame_that_cannot_be_taken_off_is_known(text: str) -> None:
    assert framed(unframed(text, PARENT), PARENT)


def test_real_answers_stay_as_they_are() -> None:
    texts = {text for path in sorted(shared("pairs").iterdir()) for text in completions_of(path)}
    assert len(texts) > 3000
    assert [text for text in texts if framed(text, PARENT)] == []  # nor does `unframed` change one


@pytest.mark.parametrize(
    "part", ["\n", "\n---\n", "here is ", "improved answer:\n", '"', "<answer>", "```\n", "\n\n\t"]
)
def test_time_grows_with_the_length_and_no_faster(part: str) -> None:
    text = part * (300_000 // len(part))
    started = time.process_time()
    framed(unframed(text, PARENT), PARENT)
    assert time.process_time() - started < 3
