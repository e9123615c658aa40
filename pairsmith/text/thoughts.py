"""A model's thought and its answer, taken apart, in whichever marks the model puts them.

Pure functions of a text. What merely talks about such marks, in code, in quotes or within a sentence, is left whole.
"""

from __future__ import annotations

import re

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
_LOWER_LINE = re.compile(r"[ \t]*\n[a-zß-öø-ÿа-яё]")


def ends_a_thought(text: str) -> bool:
    """Whether a text has something that would look like the end of a thought in an answer that quotes it."""
    lowered = text.lower()
    return any(closing in lowered for closing in _CLOSINGS)


def apart(text: str, cut: bool = False, quotable: bool = False) -> tuple[str | None, str]:
    """The thought with which a text begins, and the answer; None and the whole text where there is no thought.

    `cut`: the text ended at a limit. `quotable`: the question has the end of a thought in it, so that one in the answer
    may be a quote: a thought counts then only where its beginning is marked too.

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
    if opening := _OPENING.match(begun):
        return _opened(text, begun, opening, cut)
    return (None, text) if quotable else _unopened(text)


def _channels(text: str) -> tuple[str | None, str]:
    found = [(one["channel"], one["text"].strip()) for one in _MESSAGE.finditer(text)]
    if not found:
        return None, text
    thought = "\n\n".join(part for channel, part in found if channel != "final" and part)
    return thought or None, "\n\n".join(part for channel, part in found if channel == "final")


def _opened(text: str, begun: str, opening: re.Match[str], cut: bool) -> tuple[str | None, str]:
    """A text that begins with the opening mark."""
    closing, start = _OPENINGS[opening[0].lower()], opening.end()
    ends = [one.start() + start for one in re.finditer(re.escape(closing), begun[start:], re.IGNORECASE)]
    end = next((one for one in ends if not _is_quoted(begun, start, one, len(closing))), ends[0] if ends else -1)
    if not ends:
        unfinished = cut or begun[start : start + 1] in ("", "\n") or not _GOES_ON.match(begun, start)
        return (begun[start:].strip(), "") if unfinished else (None, text)
    thought, rest = begun[start:end], begun[end + len(closing) :]
    if "\n" not in thought and _GOES_ON.match(thought) and _GOES_ON.match(rest):
        return None, text
    further, answer = apart(rest, cut) if _OPENING.match(rest.lstrip()) else (None, rest)
    return "\n\n".join(part for part in (thought.strip(), further) if part), _unframed(answer)


def _is_quoted(text: str, start: int, end: int, size: int) -> bool:
    """Whether a thought that begins at `start` speaks of the closing mark at `end` rather than ends there."""
    nested = _OPENING.search(text, start, end) is not None and _GOES_ON.match(text, end + size) is not None
    return text[end - 1] in "`'\"" or nested


def _unopened(text: str) -> tuple[str | None, str]:
    """A text whose opening mark the chat template wrote, so that it has the closing one alone."""
    closing = _CLOSING.search(text) if ends_a_thought(text) else None
    if closing is None or _is_spoken_of(text, closing):
        return None, text
    return text[: closing.start()].strip(), _unframed(text[closing.end() :])


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


def _unframed(answer: str) -> str:
    """An answer after its thought, without the marks that some put around the whole of it."""
    found = answer.strip()
    for opening, closing in _FRAMES:
        if found.startswith(opening):
            return found.removeprefix(opening).removesuffix(closing).strip()
    return answer.lstrip()
