"""A model's thought and its answer, taken apart, in whichever marks the model puts them.

Pure functions of a text. What merely talks about such marks, in code, in quotes or within a sentence, is left whole.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from itertools import islice

# How thoughts begin and end: Qwen, DeepSeek, GLM, EXAONE, Reka, Seed and most others; Mistral; Kimi; Cohere;
# OpenThoughts; Apertus; Gemma.
_TAGS = ("think", "thinking", "thought", "thoughts", "reasoning", "seed:think", "antml:thinking", "reflection")
PAIRS = (
    *((f"<{tag}>", f"</{tag}>") for tag in _TAGS),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|channel>thought", "<channel|>"),
)
# What some put around the answer after a thought.
_FRAMES = (
    ("<answer>", "</answer>"),
    ("<response>", "</response>"),
    ("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ("<|begin_of_solution|>", "<|end_of_solution|>"),
    ("<seed:answer>", "</seed:answer>"),
)
# Those that are tokens of their own, and so no words of an answer, go where there is no thought too.
_BOX = ("<|begin_of_box|>", "<|end_of_box|>")
_TOKENS = (*(frame for frame in _FRAMES if "|" in frame[0]), _BOX)
_ALL_FRAMES = (*_FRAMES, _BOX)
# Harmony, of gpt-oss: messages in channels, the last one final; and what is left of them where a tokenizer drops marks.
_CHANNEL = "<|channel|>"
_MESSAGE = re.compile(
    r"(?:<\|start\|>assistant)?<\|channel\|>\s*(?P<channel>\w+)[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>"
    r"(?P<text>.*?)(?=<\|(?:end|return|call|start)\|>|<\|channel\|>|\Z)(?:<\|(?:end|return|call)\|>)*",
    re.DOTALL,
)
_BARE_CHANNELS = re.compile(r"\Aanalysis(?P<thought>\S.*?)assistantfinal(?P<text>.*)\Z", re.DOTALL)
_HARMONY = (_CHANNEL, "<|start|>", "<|message|>", "<|constrain|>", "<|end|>", "<|return|>", "<|call|>")
MARKS = frozenset((*(mark for pair in (*PAIRS, *_FRAMES) for mark in pair), *_HARMONY))

_OPENINGS = {opening.lower(): closing for opening, closing in PAIRS}
_OPENING = re.compile("|".join(re.escape(opening) for opening, _ in PAIRS), re.IGNORECASE)
_CLOSINGS = tuple(closing.lower() for _, closing in PAIRS)
_CLOSING = re.compile("|".join(re.escape(closing) for _, closing in PAIRS), re.IGNORECASE)
_GOES_ON = re.compile(r"[ \t]+[a-zß-öø-ÿа-яё]|[`'\"’”),;:.]")  # what follows a mark within a sentence or in quotes
_ENDS_A_SENTENCE = re.compile(r"(?:\A|\n|[.!?…。！？)\]}*])[ \t]*\Z")
_INDENTED = re.compile(r"(?:\A|\n)(?: {4,}|\t)\Z")  # as code is
_UNENDED = re.compile(r"[^\s.!?…。！？]\n\Z")  # a line in the middle of a sentence, and the next that goes on with it
_OWN_LINES = re.compile(rf"(?m)^[ \t]*(?:(?P<opening>{_OPENING.pattern})|{_CLOSING.pattern})[ \t]*$", re.IGNORECASE)
_MOST_QUOTED = 50  # closing marks that a thought is read for; after more of them, the last one ends it
_LOWER_LINE = re.compile(r"[ \t]*\n[a-zß-öø-ÿа-яё]")


def ends_a_thought(text: str) -> bool:
    """Whether a text has something that would look like the end of a thought in an answer that quotes it."""
    return any(map(text.lower().__contains__, _CLOSINGS))


def apart(text: str, cut: bool = False, quotable: bool = False) -> tuple[str | None, str]:
    """The thought with which a text begins, and the answer; None and the whole text where there is no thought.

    `cut`: the text ended at a limit. `quotable`: the question has the end of a thought in it, so that one in the answer
    may be a quote: a thought counts then only where its beginning is marked too, or its end at the very beginning.

    >>> apart("<think>\\nEasy.\\n</think>\\n\\nOak.")
    ('Easy.', 'Oak.')
    >>> apart("Qwen3 writes `<think>` and `</think>` first.")
    (None, 'Qwen3 writes `<think>` and `</think>` first.')
    """
    begun = text.lstrip()
    if begun.startswith((_CHANNEL, f"<|start|>assistant{_CHANNEL}")):
        return _channels(begun)
    if bare := _BARE_CHANNELS.match(begun):
        return bare["thought"].strip(), bare["text"].strip()
    found = _begun(text, cut) or (None if quotable else _unopened(text))
    if found is None:
        return None, _unframed(text, _TOKENS)
    thoughts = list[str]()
    while found:
        thoughts.append(found[0].strip())
        rest, found = found[1], _begun(found[1], cut)
    return "\n\n".join(filter(None, thoughts)), _unframed(rest, _ALL_FRAMES).lstrip()


def _channels(text: str) -> tuple[str | None, str]:
    found = [(one["channel"], one["text"].strip()) for one in _MESSAGE.finditer(text)]
    if not found:
        return None, text
    thought = "\n\n".join(part for channel, part in found if channel != "final" and part)
    return thought or None, "\n\n".join(part for channel, part in found if channel == "final")


def _begun(text: str, cut: bool) -> tuple[str, str] | None:
    """The thought that a mark at the very beginning opens or ends, and the rest; None without one."""
    begun = text.lstrip()
    if opening := _OPENING.match(begun):
        return _opened(begun, opening, cut)
    closing = _CLOSING.match(begun)
    if closing is None or _GOES_ON.match(begun, closing.end()) or _INDENTED.search(text[: -len(begun)]):
        return None
    return "", begun[closing.end() :]


def _opened(begun: str, opening: re.Match[str], cut: bool) -> tuple[str, str] | None:
    """A text that begins with the opening mark."""
    start = opening.end()
    own = re.compile(re.escape(_OPENINGS[opening[0].lower()]), re.IGNORECASE)
    first = own.search(begun, start)
    closings = (own if first else _CLOSING).finditer(begun, start)
    ending = (one for one in islice(closings, _MOST_QUOTED) if not _is_quoted(begun, start, one))
    end = next(ending, None) or next(iter(deque(closings, maxlen=1)), first)
    is_open = cut or begun[start : start + 1] in ("", "\n") or not _GOES_ON.match(begun, start)
    if not first and not is_open:
        return None
    if end is None:
        return begun[start:], ""
    thought, rest = begun[start : end.start()], begun[end.end() :]
    speaks = "\n" not in thought and _GOES_ON.match(thought) and _GOES_ON.match(rest)
    return None if speaks else (thought, rest)


def _is_quoted(text: str, start: int, end: re.Match[str]) -> bool:
    """Whether a thought that begins at `start` speaks of the closing mark `end`, or shows one, rather than ends there.

    Within a sentence, a mark counts as spoken of where the thought has its marks on lines of their own.
    """
    thought, goes_on = text[start : end.start()], _GOES_ON.match(text, end.end()) is not None
    if text[end.start() - 1] in "`'\"" or (goes_on and _OPENING.search(thought)):
        return True
    if not thought.startswith("\n"):
        return False
    line = thought.rpartition("\n")[2]
    shown = [1 if one["opening"] else -1 for one in _OWN_LINES.finditer(thought)]
    return bool(
        thought.count("```") % 2
        or (line.strip() and (_OPENING.search(line) or (goes_on and not _ENDS_A_SENTENCE.search(thought))))
        or sum(shown) > 0
    )


def _unopened(text: str) -> tuple[str, str] | None:
    """A text whose opening mark the chat template wrote, so that it has the closing one alone."""
    closing = _CLOSING.search(text) if ends_a_thought(text) else None
    if closing is None or _is_spoken_of(text, closing):
        return None
    return text[: closing.start()], text[closing.end() :]


def _is_spoken_of(text: str, closing: re.Match[str]) -> bool:
    """Whether a text talks about the end of a thought, or shows one, rather than ends its own."""
    before, after = text[: closing.start()], text[closing.end() :]
    return bool(
        _OPENING.search(before)
        or before.count("```") % 2
        or before.count("~~~") % 2
        or _INDENTED.search(before)
        or _GOES_ON.match(after)
        or not _ENDS_A_SENTENCE.search(before)
        or (_UNENDED.search(before) and _LOWER_LINE.match(after))
        or (before.rstrip().endswith(":") and not after.strip())
    )


def _unframed(answer: str, frames: Sequence[tuple[str, str]]) -> str:
    """An answer without the marks that some put around the whole of it."""
    found = answer.strip()
    for opening, closing in frames:
        if found.startswith(opening):
            return found.removeprefix(opening).removesuffix(closing).strip()
    return answer
