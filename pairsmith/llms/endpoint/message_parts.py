"""A message of an endpoint's answer: its text, its thought and its refusal, in whichever fields and parts they come.

Pure functions. Endpoints give content as a text, as a list of parts or as an object; thoughts as parts of it or in a
field beside it (DeepSeek and vLLM `reasoning_content`, OpenRouter `reasoning` and `reasoning_details`, LiteLLM
`thinking_blocks`); a refusal in a field beside an empty content, or as a part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pairsmith.text.thoughts import apart

_THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking", "thought", "reasoning_details", "thinking_blocks")
_THOUGHT_PARTS = (
    "thinking",
    "reasoning",
    "thought",
    "redacted_thinking",
    "summary",
)  # begin the type of a part that is a thought
_WORDS = ("text", "thinking", "reasoning", "refusal", "content", "summary", "parts", "value")  # that a part has, one of


@dataclass(frozen=True)
class Said:
    """What a message says: its text, and None for a thought or a refusal that it has not. What is refused has no text
    unless the refusal stands in a field beside another one."""

    text: str
    thought: str | None = None
    refusal: str | None = None


def said_in(message: Mapping[str, Any]) -> Said:
    """What a message says.

    >>> said_in({"content": [{"type": "thinking", "thinking": "Easy."}, {"type": "text", "text": "Oak."}]})
    Said(text='Oak.', thought='Easy.', refusal=None)
    """
    content = message.get("content")
    inner = content.get("parts") or content.get("content") if isinstance(content, Mapping) else content
    parts = inner if isinstance(inner, list) else [content]
    kinds = [(_kind(part), _words(part)) for part in parts]
    found = {kind: [words for one, words in kinds if one == kind and words] for kind in ("text", "thought", "refusal")}
    beside = next((words for name in _THOUGHT_FIELDS if (words := _words(message.get(name)))), "")
    thoughts = found["thought"] or ([beside] if beside else [])
    text, refused = "".join(found["text"]), _words(message.get("refusal")).strip()
    if found["refusal"]:
        text, refused = "", f"{text}{''.join(found['refusal'])}".strip()
    elif refused:
        thought, answer = apart(text)
        if answer.strip() in ("", refused):
            text, thoughts = "", [*thoughts, *([thought] if thought else [])]
    return Said(text, "\n\n".join(thoughts).strip() or None, refused or None)


def _kind(part: Any) -> str:
    if not isinstance(part, Mapping):
        return "text"
    name = str(part.get("type") or "")
    if part.get("thought") is True or name.startswith(_THOUGHT_PARTS):
        return "thought"
    if name == "refusal":
        return "refusal"
    return "text" if not name or name.endswith("text") else "other"  # such as a call of a tool, or an image


def _words(value: Any) -> str:
    """The text in a value: itself, or that of its parts one after the other."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(_words, value))
    if isinstance(value, Mapping):
        return next((words for name in _WORDS if (words := _words(value.get(name)))), "")
    return ""
