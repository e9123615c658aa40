"""A user's own prompt for a judge: the messages to send, and the parser for the replies.

What the parser returns is checked against the sheet: a rating counts only under a mark of the sheet and on its scale.
Everything else is null with an error that says why. The table keeps the reply unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pairsmith.config.plugins import failed, load_plugin, said
from pairsmith.errors import ConfigError, PairsmithError
from pairsmith.judging.readouts import NOT_APPLICABLE, Read, Sheet
from pairsmith.protocol import Message, Reply

ROLES = {"system", "user", "assistant"}


@dataclass(frozen=True)
class JudgeSheet(Sheet):
    """A sheet with all that a user's own prompt may need.

    `prompt`: the chat that the texts answer, with the system prompt in it. `instructions`: what pairsmith's own prompt
    tells a judge about the aspect. `rationale`: whether the recipe asks for the reason of each rating.
    """

    prompt: str = ""
    reference: str | None = None
    aspect: str = ""
    instructions: str = ""
    rationale: bool = True

    @property
    def shown(self) -> tuple[str, ...]:
        return (*super().shown, self.prompt, self.reference or "")


class JudgePrompt(Protocol):
    """A prompt and its parser: the object, module or class with these two functions that a judge's `prompt` names."""

    def messages(self, sheet: JudgeSheet) -> Sequence[Message]:
        """The messages of one request; the last one must be the user's."""
        ...

    def read(self, reply: str, sheet: JudgeSheet) -> Mapping[str, Read]:
        """Mark of a text -> what the reply says about it. A text that is left out has no rating."""
        ...


def prompt_of(name: str | None) -> JudgePrompt | None:
    """Load the user's own prompt that a judge names; None where it names none."""
    found: JudgePrompt | None = load_plugin(name) if name else None
    return found


def messages_of(name: str, prompt: JudgePrompt, sheet: JudgeSheet) -> tuple[Message, ...]:
    """The messages of a request. Raises ConfigError where the prompt fails or its messages cannot be sent."""
    try:
        made: Any = [dict(message) for message in prompt.messages(sheet)]
    except PairsmithError:
        raise
    except (Exception, SystemExit) as error:
        raise failed(f"{name}.messages", error) from error
    sound = all(
        set(message) == {"role", "content"} and message["role"] in ROLES and isinstance(message["content"], str)
        for message in made
    )
    if not made or not sound or made[-1]["role"] != "user":
        raise ConfigError(f"{name}.messages: give messages with a role and a text as content, the last of the user")
    return tuple(made)


def read_own(name: str, prompt: JudgePrompt, sheet: JudgeSheet, reply: Reply) -> dict[str, Read]:
    """Exactly one `Read` for each text of the sheet, whatever the parser does.

    The last line of a reply that was cut is ignored: a 1 may have been the beginning of a 10.
    """
    body = reply.text.rpartition("\n")[0] if reply.finish_reason == "length" else reply.text
    marks = [text.mark for text in sheet.texts]
    try:
        found: object = prompt.read(body, sheet)
    except PairsmithError:
        raise
    except (Exception, SystemExit) as error:
        return dict.fromkeys(marks, Read(error=f"{name}.read: {said(error)}"))
    if not isinstance(found, Mapping):
        return dict.fromkeys(marks, Read(error=f"{name}.read gave a {type(found).__name__}, not a mapping"))
    if unknown := sorted(str(mark) for mark in found if mark not in marks):
        return dict.fromkeys(marks, Read(error=f"{name}.read named texts that are not there: {unknown}"[:300]))
    return {mark: _checked(found.get(mark), sheet) for mark in marks}


def _checked(read: object, sheet: Sheet) -> Read:
    """What a parser returned for a text, if it is a rating on the scale; otherwise null with the reason."""
    if read is None:
        return Read(error="no rating")
    if not isinstance(read, Read):
        return Read(error=f"a {type(read).__name__} where a Read should be")
    rationale = read.rationale if isinstance(read.rationale, str) else None
    if read.error is not None:
        na = read.error == NOT_APPLICABLE and not sheet.may_be_na
        return Read(rationale=rationale, error="not applicable is no answer to this aspect" if na else str(read.error))
    rating, score = read.rating, read.rating if read.score is None else read.score
    low, high = sheet.scale.low, sheet.scale.high
    if isinstance(score, bool) or not isinstance(score, int | float) or score != score:
        return Read(rationale=rationale, error="no rating")
    if not low <= score <= high:
        return Read(rationale=rationale, error=f"not on the scale {low} to {high}")
    if rating is not None and (type(rating) is not int or not low <= rating <= high):
        return Read(rationale=rationale, error=f"the rating {rating!r:.40} is no whole number from {low} to {high}")
    return Read(rating, float(score), rationale)
