"""Content hashes: the identity of prompts, completions, requests and tables.

Whatever must survive a restart is named by a hash of its content, never by a counter or a position, so the same content
has the same name in every process and on every machine.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

ID_LENGTH = 24  # hex digits, 96 bits: a collision among 10^9 ids has a chance of about 10^-11
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> str:
    """Serialise `value` in the form that is hashed: sorted keys, no spaces, no NaN, characters not escaped.

    Raises ValueError for NaN or infinity and TypeError for anything that JSON cannot hold.
    """
    return _CANONICAL.encode(value)


def no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """`object_pairs_hook` for json.loads that raises ValueError where an object has the same key twice.

    Without it, json.loads silently takes the last value.
    """
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return value


def strict_json(text: str) -> Any:
    """Parse JSON. Raises ValueError where the text breaks the standard (NaN does) or an object has a key twice."""
    return json.loads(text, object_pairs_hook=no_doubles, parse_constant=_no_constant)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def fingerprint(*parts: Any) -> str:
    """The full sha256 (64 hex digits) of the canonical JSON of `parts`."""
    return hashlib.sha256(canonical_json(parts).encode("utf-8", "surrogatepass")).hexdigest()


def short_id(*parts: Any) -> str:
    return fingerprint(*parts)[:ID_LENGTH]


def draw(*parts: Any) -> float:
    """A pseudo-random number in [0, 1) that depends on `parts` alone. Outside the models, all randomness comes from it.

    >>> draw("seed", "a") == draw("seed", "a")
    True
    """
    return int(fingerprint(*parts)[:13], 16) / 16**13


def seed_of(*parts: Any) -> int:
    """A seed that depends on `parts` alone. It has 31 bits, the most that every backend accepts."""
    return int(fingerprint(*parts)[:8], 16) & 0x7FFFFFFF


def normalised(text: str) -> str:
    """A text in the form in which two texts are compared: NFC, `\\n` line ends, no white space at either end."""
    return unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n").strip()


def text_id(text: str) -> str:
    """Identity of a text, independent of its author and prompt: a 128-bit hash of its normalised form."""
    form = normalised(text).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(form, digest_size=16, person=b"text").hexdigest()


def prompt_id(messages: Sequence[Mapping[str, str]], system_prompt: str | None) -> str:
    """Identity of a prompt: a hash of its chat and system prompt after normalisation, whatever source it came from."""
    chat = [[message["role"], normalised(message["content"])] for message in messages]
    return short_id("prompt", chat, normalised(system_prompt or ""))


def completion_id(prompt_id: str, member: str, sample: int, evolution: int, parent_id: str | None, text: str) -> str:
    """Identity of a completion: a hash of its prompt, its author, the completion it was evolved from, and its text."""
    return short_id("completion", prompt_id, member, sample, evolution, parent_id or "", text)
