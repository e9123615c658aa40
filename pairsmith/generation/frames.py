"""The frame that a model puts around a rewrite: "Sure! Here is the improved answer:", notes on what it changed, quotes.

`unframed` takes it off; `framed` says whether a part of one is left, in which case nobody can tell where the answer
begins or ends. Both know six languages, by the words in `frame_words`. They take a paragraph for a frame only if it
speaks of an answer as one that was changed, so "Sure! Here is a recipe:" and "I hope this answer helps!" stay; and
whatever the text that was rewritten has too is part of the answer. Repeats within a pattern are bounded, so the time is
linear in the length of a text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pairsmith.generation.frame_words import TONGUES, Tongue

_RULE = r"(?:-{3,}|\*{3,}|_{3,}|={3,}|(?:[-*_] ){2,}[-*_])"
_RULES_BEFORE = re.compile(rf"\A(?:\s*^[ \t]*{_RULE}[ \t]*$)+\s*", re.MULTILINE)
_RULE_ALONE = re.compile(rf"\s*{_RULE}\s*")
_RULED = re.compile(rf"^[ \t]*{_RULE}[ \t]*\n", re.MULTILINE)
_BLANK = re.compile(r"\n[ \t\r]*\n\s*")
_LISTED = re.compile(r"\s*(?:[-*•+]|\d{1,2}[.)])\s")
_TEXT_FENCE = re.compile(r"(`{3,}|~{3,})(?P<info>[a-z]*)[ \t]*\n(?P<inner>.*)\n\1", re.DOTALL | re.IGNORECASE)
_TEXT_KINDS = ("text", "txt", "plaintext", "markdown", "md")
_CODE = re.compile(r"[{}=;<>]|\(\)")
_QUOTES = ('""', "''", "‘’", "“”", "„“", "„”", "«»", "»«", "「」")
_SENTENCES = re.compile(r"[.。]\s*\Z|[.!?。！？]\s+\S|\n")
_TAG = re.compile(
    r"<(?P<tag>[a-z_ -]{0,30}(?:answer|response|rewrite|rewritten|improved)[a-z_ -]{0,30})>(?P<inner>.*)</(?P=tag)>",
    re.DOTALL | re.IGNORECASE,
)
_MARKED = re.compile(r"\[(?:ANSWER|TEXT) [0-9a-f]{6}\]\n(?P<inner>.*)\n\[END [0-9a-f]{6}\]", re.DOTALL)


@dataclass(frozen=True)
class _Patterns:
    """`openings`: what stands before an answer; `notes`: how a remark on a rewrite begins; `changes`: a heading."""

    openings: tuple[re.Pattern[str], ...]
    notes: tuple[re.Pattern[str], ...]
    changes: re.Pattern[str]


def _patterns(tongue: Tongue) -> _Patterns:
    answer, changed = rf"(?:{tongue.answer})", rf"(?:{tongue.changed})"
    other = rf"(?!\s+(?:of|für|von|des|der|de|du|del|della|do|da)\b(?! (?:[a-zà-ÿ]+ )?{answer}))"
    named = rf"(?:{answer}|(?:{tongue.version}) {tongue.of}{answer}|(?:{tongue.version})\b{other})"
    words = rf"(?:,? (?!(?:{_JOINING})\b)[\w'’-]+){{0,4}}?"  # other adjectives
    rewrite = rf"\b(?:{changed}{words} {named}|{named},? (?:{_NOW} )?{changed}|(?:{tongue.rewrite})\b{other})\b"
    of_answer = rf"\b(?:{changed}{words} {answer}|{answer},? (?:{_NOW} )?{changed})\b"
    agreed = rf"\W{{0,8}}(?:(?:{tongue.yes})\b[^\w\n]{{0,4}}\s*)*"
    shown = rf"{agreed}(?:[^\n:]{{0,120}}?[.!,;]\s+)?(?:{tongue.here})\b[^\n:]{{0,80}}?{rewrite}[^\n:.]{{0,160}}"
    label = rf"{agreed}(?:[a-zà-ÿ]{{2,4}} )?{rewrite}(?:\s?\([^\n)]{{0,60}}\))?"
    end, dressed, blank = r"\s?[:：][*_ \t\r]*", r"[*_#\s]{0,8}?", r"\n[ \t\r]*\n\s*"
    bare = r"[\W_]{0,8}"
    note = rf"{bare}(?:(?:{tongue.note})\b\W{{1,6}})"
    return _Patterns(
        _compiled(
            rf"{shown}{end}\s*",
            rf"{shown}[.!…]{dressed}{blank}",
            rf"{agreed}(?=[^\n:]{{0,200}}?\b{answer}\b)(?:{tongue.did})\b[^\n:]{{0,160}}?(?:{end}\s*|[.!…]{dressed}{blank})",
            rf"{label}(?:[^\n:.]{{0,40}}{end}|{dressed})\n\s*",
            rf"{agreed}(?:[a-zà-ÿ]{{2,4}} )?{of_answer}{end}",
            rf"{agreed}(?:{tongue.done}){end}\n\s*",
        ),
        _compiled(
            rf"{note}?{bare}(?=[^\n]{{0,300}}?\b(?:{answer}|{tongue.original}|{tongue.more})\b)(?:{tongue.did})\b",
            rf"{note}?[^\n]{{0,20}}?\b{tongue.more}\b",
            rf"{note}(?=[^\n]{{0,200}}?\b(?:{tongue.gained})\b)(?:{tongue.did})\b",
            rf"{note}?(?:[a-zà-ÿ]{{2,5}} )?{answer} {tongue.became} [^\n]{{0,30}}?{changed}",
            rf"{bare}(?:{tongue.hope})\b[^\n]{{0,40}}?{rewrite}",
            rf"{bare}(?:{tongue.this}) {of_answer}",
            rf"{bare}(?:[^\n]{{0,20}} )?(?:{tongue.offer})\b",
        ),
        _compiled(rf"{bare}(?:{tongue.changes})[*_]*\s?(?:[:：]|[*_]*\n)")[0],
    )


def _compiled(*patterns: str) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(pattern, re.IGNORECASE) for pattern in patterns)


# Words that show that what follows is no adjective of a noun; and those that may stand before one.
_JOINING = (
    "the|to|of|an?|for|in|on|with|from|der|die|das|den|dem|des|zu|von|für|le|la|les|du|des|à|au|pour|el|los|las|para|il|lo|gli|"
    "per|os?|as"
)
_NOW = "(?:now|could be|can be|nun|jetzt|maintenant|ahora|ora|agora)"
_ALL = tuple(_patterns(tongue) for tongue in TONGUES.values())
_LAYERS = 8  # of a frame that are taken off, such as quotes within an opening
_LONGEST = 600  # characters of a paragraph that are looked at
_NOUNS = "|".join(rf"{one.answer}|{one.version}|{one.rewrite}|{one.done}" for one in TONGUES.values())
_SPEAKS_OF_ONE = re.compile(rf"\b(?:{_NOUNS})\b", re.IGNORECASE)


def unframed(text: str, parent: str) -> str:
    """A rewrite of `parent` without its frame; the text itself where it has none, or where nothing would be left.

    >>> unframed("Sure! Here is the improved answer:\n\nOak is a broad tree.\n\n(Note: I added details.)", "A tree.")
    'Oak is a broad tree.'
    """
    bare = text
    for _ in range(_LAYERS):
        less = _without_wrapping(_without_notes(_without_opening(bare, parent), parent), parent)
        if less == bare:
            break
        if not less.strip():
            return text
        bare = less
    return bare


def framed(text: str, parent: str) -> bool:
    """Whether a text still speaks of itself as a rewrite: at its ends, or in a heading anywhere in it."""
    if unframed(text, parent) != text:
        return True
    return _announces(text) and not _announces(parent)


def _announces(text: str) -> bool:
    """Whether any paragraph of a text begins as one that announces a rewrite."""
    return any(_opening(paragraph) for paragraph in _BLANK.split(text))


def _opening(text: str) -> int:
    """How many characters at the start of a text announce a rewrite."""
    beginning = text[:_LONGEST] + "\n\n" * (len(text) <= _LONGEST)
    if not _SPEAKS_OF_ONE.search(beginning):
        return 0
    found = (match for tongue in _ALL for pattern in tongue.openings if (match := pattern.match(beginning)))
    return max((min(match.end(), len(text)) for match in found), default=0)


def _without_opening(text: str, parent: str) -> str:
    end = 0 if _opening(parent) else _opening(text)
    return _RULES_BEFORE.sub("", text[end:]).lstrip() if end else text


def _is_note(paragraph: str) -> bool:
    return any(note.match(paragraph[:_LONGEST]) for tongue in _ALL for note in tongue.notes)


def _heads_changes(paragraph: str) -> bool:
    return any(tongue.changes.match(paragraph[:_LONGEST] + "\n") for tongue in _ALL)


def _without_notes(text: str, parent: str) -> str:
    """A text without the remarks at its end: a last paragraph, all after a rule, or a list of changes."""
    starts = [0, *(match.end() for match in _BLANK.finditer(text))]
    parts = [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]
    last = _BLANK.split(parent.rstrip())[-1]
    if len(parts) == 1 or _is_note(last) or _heads_changes(last):
        return text
    for place in range(len(parts) - 1, max(0, len(parts) - 4), -1):
        part = _RULED.sub("", parts[place], count=1)
        ruled = part != parts[place] or _without_rule(parts[place - 1]) != parts[place - 1].rstrip()
        after = parts[place + 1 :]
        listed = _heads_changes(part) and all(_LISTED.match(one) or _is_note(one) for one in after)
        if listed or (_is_note(part) and (not after or ruled)):
            return _without_rule(text[: starts[place]])
    return text


def _without_rule(text: str) -> str:
    """A text without rules and blank lines at its end."""
    text = text.rstrip()
    while _RULE_ALONE.fullmatch(text[text.rfind("\n") + 1 :]):
        text = text[: text.rfind("\n") + 1].rstrip()
    return text


def _without_wrapping(text: str, parent: str) -> str:
    """A text without quotes, a fence, a tag or our own marker lines around the whole of it."""
    whole = text.strip()
    if not whole:
        return text
    for pattern in (_TAG, _MARKED):
        if found := pattern.fullmatch(whole):
            return found["inner"].strip()
    fence = _TEXT_FENCE.fullmatch(whole)
    if fence and fence[1] not in fence["inner"] and fence[1] not in parent:
        kind = fence["info"].lower()
        if kind in _TEXT_KINDS or (not kind and not _CODE.search(fence["inner"])):
            return fence["inner"].strip()
    marks, inner = whole[0] + whole[-1], whole[1:-1]
    quoted = marks in _QUOTES and not any(mark in inner for mark in marks) and _SENTENCES.search(inner)
    return inner.strip() if quoted and parent.strip()[:1] not in {pair[0] for pair in _QUOTES} else text
