"""Questions whose answers a program can check: rows of a file with prompts and what a check needs.

A row is read as a recipe's source reads it, so all layouts of docs/layouts.md have prompts. It is checked by its own
`check` (fields as in a recipe), else by its verifiable instructions as IFEval has them, else by its `reference`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field, ValidationError

from pairsmith.config import ExactMatch, IfEval, JsonSchema, Regex, Source
from pairsmith.config.base import Config
from pairsmith.config.complaints import mistakes
from pairsmith.errors import DataError
from pairsmith.generation.pool import with_system
from pairsmith.ids import draw, fingerprint
from pairsmith.judging.checks import check_hash, judge_text, require
from pairsmith.protocol import Message
from pairsmith.sources.prompts import to_prompt
from pairsmith.sources.readers import Located, read_source
from pairsmith.sources.row_fields import Refused
from pairsmith.storage.schemas import Reason

LONGEST = 100_000  # characters of a prompt
RowCheck = ExactMatch | Regex | JsonSchema | IfEval  # not `python`: a row of data names no code


class _Checked(Config):
    """What a row says of how its answers are checked."""

    check: RowCheck = Field(discriminator="kind")


@dataclass(frozen=True)
class Question:
    """A prompt, and the check that its answers are held to."""

    prompt_id: str
    messages: tuple[Message, ...]
    system_prompt: str | None
    check: RowCheck
    reference: str | None
    extras: Mapping[str, Any]

    @property
    def chat(self) -> list[Message]:
        """What a model is asked: the system prompt first, where there is one."""
        return with_system(self.messages, self.system_prompt)

    def score(self, answer: str) -> float | None:
        """From 0 to 1, the share of what was asked for; None where there is no verdict."""
        return judge_text(self.check, answer, self.messages, self.reference, self.extras).score


def read_questions(path: str, many: int) -> tuple[list[Question], list[str]]:
    """The questions of a file, at most `many`, in an order drawn by their ids; and why other rows are none.

    Raises DataError where no row is a question, ConfigError where something is absent that a check needs.
    """
    found: dict[str, Question] = {}
    refused = []
    source = Source(path=path)
    for located in read_source(source, {}):
        try:
            question = _question(located, source)
            if question.prompt_id in found:
                raise Refused(Reason.DUPLICATE, "its prompt stands in an earlier row")
            found[question.prompt_id] = question
        except Refused as why:
            refused.append(f"{located.place}: {why.detail}")
    if not found:
        raise DataError(f"--eval {path}: no row can be checked{f'; {refused[0]}' if refused else ''}")
    chosen = sorted(found.values(), key=lambda question: draw("question", question.prompt_id))[:many]
    require(question.check for question in chosen)
    return chosen, refused


def _question(located: Located, source: Source) -> Question:
    if located.row is None:
        raise located.refused or Refused(Reason.UNREADABLE, "cannot be read")
    row = dict(located.row)
    given = row.pop("check", None)
    prompt = to_prompt(row, source, LONGEST)
    extras = json.loads(prompt["extras"] or "{}")
    return Question(
        prompt["prompt_id"],
        tuple(json.loads(prompt["messages"])),
        prompt["system_prompt"],
        _check(given, extras, prompt["reference"]),
        prompt["reference"],
        {"instructions": extras["instructions"]} if "instructions" in extras else {},
    )


def _check(given: Any, extras: Mapping[str, Any], reference: str | None) -> RowCheck:
    if given is not None:
        asked = {"check": {"name": "check", **given} if isinstance(given, Mapping) else given}
        try:
            return _Checked.model_validate(asked).check
        except ValidationError as error:
            told = "; ".join(f"{'.'.join(map(str, place))}: {why}" for place, why in mistakes(error, asked, _Checked))
            raise Refused(Reason.WRONG_TYPE, told) from None
    if extras.get("instructions"):
        return IfEval(kind="ifeval", name="instructions")
    if reference:
        return ExactMatch(kind="exact-match", name="reference")
    raise Refused(Reason.MISSING, "nothing to check by: give it a check, instruction_id_list or a reference")


def exam_digest(questions: Sequence[Question], held: Sequence[str]) -> str:
    """A hash of what every arm is asked: the questions with their checks, and the names of the held-out pairs."""
    checks = {fingerprint(question.check.model_dump(mode="json")): question.check for question in questions}
    hashes = {name: check_hash(check) for name, check in checks.items()}
    asked = [
        [question.chat, question.reference, question.extras, fingerprint(question.check.model_dump(mode="json"))]
        for question in sorted(questions, key=lambda question: question.prompt_id)
    ]
    return fingerprint("exam", asked, hashes, sorted(held))
