"""Chats in the forms in which data sets hold them -> messages of system, user and assistant; and what a chat asks.

Forms: lists of messages under any of the names in `ROLE_KEYS` and `TEXT_KEYS`, lists of question and answer, a mapping
of columns, text of JSON (or Python's own writing, as pandas puts it into CSV), and transcripts.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from pairsmith.ids import strict_json
from pairsmith.sources.row_fields import Refused
from pairsmith.storage.schemas import Reason

Message = dict[str, str]

ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "model": "assistant", "chatbot": "assistant",
    "ai": "assistant", "chatgpt": "assistant",
}  # fmt: skip
ROLE_KEYS = ("role", "from")
TEXT_KEYS = ("content", "value", "text", "parts")
TURN_KEYS = (("human", "assistant"), ("user", "assistant"), ("instruction", "output"), ("prompt", "response"),
             ("input", "output"), ("question", "answer"))  # fmt: skip
INNER_KEYS = ("messages", "conversations", "conversation")
LONGEST_LITERAL = 2**20  # characters
_LITERAL = re.compile(r"[\[{][\s\[{]*['\"]")
_SIDE_BY_SIDE = re.compile(r"['\"}\]]\s*['\"{\[]")
_MEDIA = ("images", "image", "image_url", "videos", "video", "audios", "audio", "files", "file", "attachments")
_TEXT_PARTS = ("text", "input_text", "output_text")
# Transcripts: the mark that begins a turn, and what ends one. A text is a transcript where it begins with a mark.
_TRANSCRIPTS = (
    (re.compile(r"(?:\A|\n\n)(Human|Assistant):"), re.compile(r"(?!)")),
    (re.compile(r"### ?(Human|Assistant|System|User):"), re.compile(r"(?!)")),
    (re.compile(r"<\|im_start\|>(\w+)(?:\n|\Z)"), re.compile(r"<\|im_end\|>")),
    (re.compile(r"<\|start_header_id\|>(\w+)<\|end_header_id\|>"), re.compile(r"<\|eot_id\|>|<\|begin_of_text\|>")),
    (re.compile(r"(\[INST\] *<<SYS>>|<</SYS>>|\[INST\]|\[/INST\])"), re.compile(r"</?s>")),
)  # fmt: skip
_LLAMA_2 = {"[inst]<<sys>>": "system", "<</sys>>": "user", "[inst]": "user", "[/inst]": "assistant"}


class Turns(NamedTuple):
    """A chat taken apart: its system prompt, the messages that ask, from user to user, and the answer after them."""

    system: str | None
    messages: list[Message]
    answer: str | None = None


def is_chat(value: Any) -> bool:
    """Whether a value is certainly a chat, or the text of one: each item has a known role and a text."""
    value = as_data(value)
    if isinstance(value, Mapping):
        return any(isinstance(value.get(key), list | tuple) for key in ROLE_KEYS) and bool(_by_columns(value))
    return isinstance(value, list | tuple) and bool(value) and all(map(_is_message, value))


def is_transcript(value: Any) -> bool:
    """Whether a text begins as a transcript does, with a turn of the user or the system."""
    return isinstance(value, str) and bool(found := _transcript(value)) and found[0]["role"] != "assistant"


def as_data(value: Any) -> Any:
    """What a text holds as JSON or as Python writes it, where that is a list or mapping; any other value as it is."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    for parse in (strict_json, _as_python):
        try:
            found = parse(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError, tokenize.TokenError):
            continue
        if isinstance(found, list | dict):
            return found
    return value


def _as_python(text: str) -> Any:
    """What a text holds as Python writes lists and mappings of texts. Long ones are left: parsing takes memory."""
    if len(text) > LONGEST_LITERAL or not _LITERAL.match(text):
        return text
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes that Python does not know
        return ast.literal_eval(_with_commas(text) if _SIDE_BY_SIDE.search(text) else text)


def _with_commas(text: str) -> str:
    """A list with commas between items that stand side by side, as numpy prints it; Python would join its texts."""
    parts: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.string.strip():
            is_next = parts and parts[-1][-1] in "'\"}]" and token.string[0] in "'\"{["
            parts += [",", token.string] if is_next else [token.string]
    return " ".join(parts)


def read_chat(value: Any, where: str) -> list[Message]:
    """The messages of a chat in any of the forms; blank system prompts are left out. Raises Refused for anything else.

    >>> read_chat([{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}], "conversations")
    [{'role': 'user', 'content': 'Hi'}, {'role': 'assistant', 'content': 'Hello'}]
    """
    found = as_data(value)
    if isinstance(found, str):
        if is_transcript(found):
            return _transcript(found)
        raise Refused(Reason.BAD_CHAT, f"{where}: a text that is neither a chat in JSON nor a transcript")
    if isinstance(found, Mapping):
        inner = _first_list(found, INNER_KEYS)
        found = inner if inner is not None else _by_columns(found)
    if not isinstance(found, list | tuple):
        raise Refused(Reason.WRONG_TYPE, f"{where} holds {type(value).__name__}, not a list of messages")
    messages: list[Message] = []
    for number, item in enumerate(found, start=1):
        messages += _messages(item, f"{where}, message {number}", number == len(found))
    return messages


def turns_of(chat: Sequence[Message], where: str) -> Turns:
    """What a chat asks. The assistant's last message is no part of that: it is the answer.

    Raises Refused unless user and assistant take turns, beginning with the user, after all of the system.
    """
    systems = [message["content"] for message in takewhile(lambda message: message["role"] == "system", chat)]
    asked = list(chat[len(systems) :])
    roles = [message["role"] for message in asked]
    if not roles:
        raise Refused(Reason.BAD_CHAT, f"{where}: no messages" + (" but those of the system" if systems else ""))
    answer = asked.pop()["content"] if roles[-1] == "assistant" else None
    if [m["role"] for m in asked] != ["user", "assistant"] * (len(asked) // 2) + ["user"]:
        problem = "must be user, assistant, ..., user, and may end with the assistant's answer"
        raise Refused(Reason.BAD_CHAT, f"{where}: {problem}; is {', '.join(roles)}")
    return Turns("\n\n".join(systems) or None, asked, answer)


def last_answer(value: Any) -> tuple[list[Any], Any] | None:
    """The items before the assistant's last message in a chat, a transcript or a single message, and what it holds.

    None where there is no such message. Raises Refused where it is a list with other parts than texts.
    """
    found = _transcript(value) if is_transcript(value) else as_data(value)
    if isinstance(found, Mapping):
        found = _first_list(found, INNER_KEYS) or _by_columns(found) or [dict(found)]
    for place, item in reversed(list(enumerate(found))) if isinstance(found, list | tuple) else ():
        if _is_message(item) and ROLES[_named(item).strip().lower()] == "assistant":
            content = _first_of(item, TEXT_KEYS)
            text = text_of(content, "its last message") if isinstance(content, list | tuple) else content
            return list(found[:place]), text
    return None


def open_transcript(value: Any) -> list[Message]:
    """The messages of a transcript that waits for the assistant, whose turns it marks; empty for anything else."""
    found = _transcript(value) if is_transcript(value) else []
    if not any(message["role"] == "assistant" for message in found):
        return []
    asked = found if found[-1]["content"] else found[:-1]
    return asked if asked[-1]["role"] == "user" else []


def common_turns(chosen: Any, rejected: Any) -> tuple[Turns, str, str]:
    """The common beginning of two chats, and the answer of each after it. Raises Refused where it is no such pair."""
    both = [read_chat(value, where) for value, where in ((chosen, "chosen"), (rejected, "rejected"))]
    one, other = both
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one[:-1], other[:-1], strict=False)))
    if not shared:
        raise Refused(Reason.BAD_CHAT, "chosen and rejected have no common beginning, so there is no prompt in them")
    for name, chat in zip(("chosen", "rejected"), both, strict=True):
        rest = [message["role"] for message in chat[shared:]]
        if rest != ["assistant"]:
            problem = f"one answer must follow the common beginning of {shared} messages; is {', '.join(rest)}"
            raise Refused(Reason.BAD_CHAT, f"{name}: {problem}")
    if one[shared - 1]["role"] == "assistant":
        raise Refused(Reason.BAD_CHAT, "the common beginning of chosen and rejected ends with the assistant")
    return turns_of(one[:shared], "the common beginning"), one[-1]["content"], other[-1]["content"]


def text_of(content: Any, where: str) -> str:
    """The text of a message: as it is, or its text parts one below the other. Raises Refused for images and the like.

    >>> text_of([{"type": "text", "text": "Name"}, {"type": "text", "text": "a tree"}], "message 1")
    'Name\\na tree'
    """
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple) or not content:
        raise Refused(Reason.BAD_CHAT, f"{where}: content must be text and not blank")
    texts = []
    for part in content:
        if isinstance(part, Mapping) and isinstance(part.get("text"), str) and part.get("type", "text") in _TEXT_PARTS:
            part = part["text"]
        if not isinstance(part, str):
            kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
            raise Refused(Reason.BAD_CHAT, f"{where}: a part of kind {kind}; content must be text")
        texts.append(part)
    return "\n".join(texts)


def _messages(item: Any, where: str, last: bool) -> Iterable[Message]:
    """The message in an item of a chat, or its question and answer; none for a blank system prompt."""
    if isinstance(item, list | tuple) and len(item) == 2 and all(isinstance(text, str) for text in item):
        item = {"user": item[0], "assistant": item[1]}
    fields = item if isinstance(item, Mapping) else {}
    if not any(key in fields for key in ROLE_KEYS):
        for keys in TURN_KEYS:
            if all(isinstance(fields.get(key), str) for key in keys):
                texts = [_with_input(fields, keys[0]), fields[keys[1]]]
                system = fields.get("system")
                systems = [{"role": "system", "content": system}] if isinstance(system, str) and system.strip() else []
                if not texts[0].strip() or not (texts[1].strip() or last):
                    raise Refused(Reason.BAD_CHAT, f"{where}: content must be text and not blank")
                _no_media(fields, where)
                return [*systems, *({"role": role, "content": text}
                                    for role, text in zip(("user", "assistant"), texts, strict=True))]  # fmt: skip
    named = _named(fields)
    role = ROLES.get(named.strip().lower()) if isinstance(named, str) else None
    if role is None:
        raise Refused(Reason.BAD_CHAT, f"{where}: needs a role of {sorted({*ROLES.values()})}; has {str(named)[:40]!r}")
    if fields.get("tool_calls") or fields.get("function_call"):
        raise Refused(Reason.BAD_CHAT, f"{where}: calls a tool, which a prompt cannot hold")
    _no_media(fields, where)
    content = _first_of(fields, TEXT_KEYS)
    if role == "system" and not content:
        return []
    text = text_of(content if content is not None else "", where)
    if text.strip() or (last and role == "assistant"):
        return [{"role": role, "content": text}]
    if role == "system":
        return []
    raise Refused(Reason.BAD_CHAT, f"{where}: content must be text and not blank")


def _with_input(fields: Mapping[str, Any], key: str) -> str:
    """A question, with the input below its instruction."""
    below = fields.get("input") if key == "instruction" else None
    parts = [fields[key], below if isinstance(below, str) else ""]
    return "\n\n".join(part for part in parts if part.strip()) if parts[1].strip() else parts[0]


def _no_media(fields: Mapping[str, Any], where: str) -> None:
    for name in _MEDIA:
        if fields.get(name):
            raise Refused(Reason.BAD_CHAT, f"{where}: has {name}; content must be text")


def _is_message(item: Any) -> bool:
    if not isinstance(item, Mapping):
        return False
    named = _named(item)
    return isinstance(named, str) and named.strip().lower() in ROLES and any(key in item for key in TEXT_KEYS)


def _named(message: Mapping[str, Any]) -> Any:
    """The role of a message, as it names it."""
    return _first_of(message, ROLE_KEYS)


def _first_of(fields: Mapping[str, Any], keys: Iterable[str]) -> Any:
    """The value of the first of some keys that is not null."""
    return next((fields[key] for key in keys if fields.get(key) is not None), None)


def _first_list(fields: Mapping[str, Any], keys: Iterable[str]) -> Sequence[Any] | None:
    """The value of the first of some keys that has a list."""
    return next((fields[key] for key in keys if isinstance(fields.get(key), list | tuple)), None)


def _by_columns(chat: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The messages of a chat that is kept as lists of roles and of texts; None if it is not."""
    roles, texts = _first_list(chat, ROLE_KEYS), _first_list(chat, TEXT_KEYS)
    if roles is None or texts is None or len(roles) != len(texts):
        return None
    return [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]


def _transcript(text: str) -> list[Message]:
    """The messages of a transcript, of which the assistant's last may be blank; none if the text begins otherwise."""
    begun = text.strip()
    for mark, end in _TRANSCRIPTS:
        before = end.match(begun)
        if not mark.match(begun[before.end() :].lstrip() if before else begun):
            continue
        cleaned = end.sub("", begun).strip()
        found = list(mark.finditer(cleaned))
        ends = [match.start() for match in found[1:]] + [len(cleaned)]
        messages: list[Message] = []
        for match, stop in zip(found, ends, strict=True):
            name = match[1].lower().replace(" ", "")
            role = _LLAMA_2.get(name) or ROLES.get(name)
            content = cleaned[match.end() : stop].strip()
            if role is None:
                return []
            if content or (role == "assistant" and stop == len(cleaned)):
                messages.append({"role": role, "content": content})
        return messages
    return []
