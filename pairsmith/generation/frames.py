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
from functools import lru_cache

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
    """`openings`: what stands before an answer; `notes`: how a remark on a rewrite begins; `ruled`: how one begins that
    counts only below a rule; `changes`: a heading; `improvements`: one with its list; `edits`: asks for a changed text.
    """

    openings: tuple[re.Pattern[str], ...]
    notes: tuple[re.Pattern[str], ...]
    ruled: re.Pattern[str]
    changes: re.Pattern[str]
    improvements: re.Pattern[str]
    edits: re.Pattern[str]


def _patterns(tongue: Tongue) -> _Patterns:
    answer, changed = rf"(?:{tongue.answer})", rf"(?:{tongue.changed})"
    other = rf"(?!\s+(?:of|für|von|des|der|de|du|del|della|do|da)\b(?! (?:[a-zà-ÿ]+ )?{answer}))"
    named = rf"(?:{answer}|(?:{tongue.version}) {tongue.of}{answer}|(?:{tongue.version})\b{other})"
    words = rf"(?:,? (?!(?:{_JOINING})\b)[\w'’-]+){{0,4}}?"  # other adjectives
    rewrite = rf"\b(?:{changed}{words} {named}|{named},? (?:{_NOW} )?{changed}|(?:{tongue.rewrite})\b{other})\b"
    done = rf"(?:{tongue.done})(?:e[nrs]?|s)?"
    done_answer = rf"(?:{done} {answer}|{answer} {done})\b"
    other_one = r"\b(?! (?:of|de|der|des)\b)"
    done_one = rf"(?:{done} (?:{answer}|{tongue.version})|(?:{answer}|{tongue.version}) {done}){other_one}"
    between = r"(?: (?!(?:to|and)\b)[^\W\d][\w'’-]*){0,4}?(?: to)?"
    object_ = rf"{between} (?:{tongue.whose}) (?:[^\W\d]+ )?{answer}\b{tongue.onward}"
    did_it = rf"(?:(?:{tongue.did}){object_}|(?:ich habe|habe ich){object_}[^\n:]{{0,160}})"
    gains = rf"[^\n]{{0,80}}?\b(?:{tongue.gained}|{tongue.original}|more|clearer|mehr|plus|más|più|mais)\b"
    self_ = rf"(?:{tongue.this}) (?:{done_one}|(?:{done} )?(?:{tongue.rewrite}){other_one})"
    agreed = rf"\W{{0,8}}(?:(?:{tongue.yes})\b[^\w\n]{{0,4}}\s*)*"
    yes = rf"\W{{0,8}}(?:(?:{tongue.yes})\b[^\w\n]{{0,4}}\s*)+"
    shown = rf"{agreed}(?:[^\n:]{{0,120}}?[.!,;]\s+)?(?:{tongue.here})\b[^\n:]{{0,80}}?{rewrite}[^\n:.]{{0,160}}"
    label = rf"{agreed}(?:[a-zà-ÿ]{{2,4}} )?{rewrite}(?:\s?\([^\n)]{{0,60}}\))?"
    made = rf"(?:{answer}|{tongue.version}){other_one},? (?:{_MADE})"
    end, dressed, blank = r"\s?[:：][*_ \t\r]*", r"[*_#\s]{0,8}?", r"\n[ \t\r]*\n\s*"
    bare = r"[\W_]{0,8}"
    note = rf"{bare}(?:(?:{tongue.note})\b\W{{1,6}})"
    return _Patterns(
        _compiled(
            rf"{shown}{end}\s*",
            rf"{shown}[.!…]{dressed}{blank}",
            rf"{agreed}{did_it}[^\n:]{{0,160}}?(?:{end}\n\s*|[.!…]{dressed}{blank})",
            rf"(?!\W{{0,8}}(?:the )?longer\b){label}(?:[^\n:.]{{0,40}}{end}|{dressed})\n\s*",
            rf"{yes}(?:[a-zà-ÿ]{{2,4}} )?{rewrite}{end}",
            rf"{agreed}(?:{done_one}|{done})[*_]{{0,3}}{end}(?:\n\s*|(?![^\n]{{0,30}}\d)(?-i:(?=[^a-zß-ÿ\s*_])))",
            rf"{agreed}(?:{tongue.given})(?:\s?[.!:：…]{dressed}\n\s*|{end}\n\s*)",
            rf"{agreed}(?:{tongue.here})\b[^\n:.]{{0,40}}?\b(?:{made}|{_IMPROVING} (?:{tongue.whose}) {answer})\b"
            rf"[^\n:.]{{0,60}}{end}\n\s*",
            rf"\W{{0,4}}[\[(](?:{tongue.done}) (?:{_IN_ORDER})\b[^\])\n]{{0,80}}[\])][*_\r]*{blank}",
        ),
        _compiled(
            rf"{note}?{bare}{did_it}",
            rf"{note}?{bare}(?=[^\n]{{0,300}}?\b(?:{tongue.original}|{tongue.more})\b)(?:{tongue.did})\b",
            rf"{note}?[^\n]{{0,20}}?\b{tongue.more}\b",
            rf"{note}(?=[^\n]{{0,200}}?\b(?:{tongue.gained})\b)(?:{tongue.did})\b",
            rf"{note}?(?:[a-zà-ÿ]{{2,5}} )?{answer} {tongue.became} [^\n]{{0,30}}?{changed}\b{_BY_NOBODY}",
            rf"{bare}(?:{tongue.hope})\b[^\n]{{0,40}}?{rewrite}",
            rf"{note}?{bare}(?:{tongue.this}) {done_answer}",
            rf"(?:{note}|{bare}(?:{_EXPLAINED})\W{{1,6}})?{bare}{self_}{gains}",
            rf"{bare}(?:{_EXPLAINED})\W{{1,6}}(?:{tongue.this}) {done_answer}",
            rf"{note}?{bare}(?:in|dans|en|nella|na) (?:{tongue.this}|dieser|der) "
            rf"(?:{done_one}|{answer}|{tongue.rewrite}),? (?:{tongue.did})\b",
            rf"\W{{0,4}}[\[(](?:{tongue.done}) (?:{_IN_ORDER})\b[^\])\n]{{0,80}}[\])]\W*\Z",
            rf"{bare}(?:[^\n]{{0,20}} )?(?:{tongue.offer})\b",
        ),
        *_compiled(
            rf"{note}?{bare}(?:{tongue.this}) (?:{tongue.version}) (?!(?:of|de|der|des)\b){gains}",
            rf"{bare}(?:{tongue.changes})[*_]*\s?(?:[:：]|[*_]*\n)",
            rf"{bare}(?:{tongue.improvements})[*_]*\s?[:：]?[*_]*\s*\n\s*(?:[-*•+]|\d{{1,2}}[.)])\s",
            rf"\b(?:{tongue.edits})",
        ),
    )


def _compiled(*patterns: str) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(pattern, re.IGNORECASE) for pattern in patterns)


# Words that show that what follows is no adjective of a noun; and those that may stand before one.
_JOINING = (
    "the|to|of|an?|for|in|on|with|from|der|die|das|den|dem|des|zu|von|für|le|la|les|du|des|à|au|pour|el|los|las|para|il|lo|gli|"
    "per|os?|as"
)
_NOW = "(?:now|could be|can be|nun|jetzt|maintenant|ahora|ora|agora)"
# "the answer, made clearer", "a version that's more detailed"
_MADE = (
    r"(?:made|that['’]?s|that is|which is) (?:more|less|much|clearer|better|longer|richer)|rendue plus|qui est plus|"
    r"hecha más|que es más|die (?:ausführlicher|klarer|besser|genauer|hilfreicher)"
)
_IN_ORDER = "to|for|with|so|um|für|damit|mit|pour|avec|para|con|per|com"
_IMPROVING = "(?:improve|rewrite|améliorerais|mejoraría)"
_EXPLAINED = "explanation|erläuterung|erklärung|explication|explicación|spiegazione|explicação"
_BY_NOBODY = r"(?! (?:by (?!\w+ing\b)|vom|von|durch|par|por|pelo|dal|in the|im|on|at|when)\b)"  # a server updates too
_ALL = tuple(_patterns(tongue) for tongue in TONGUES.values())
_IMPROVES = re.compile(
    rf"^\W{{0,8}}(?:{'|'.join(one.improvements for one in TONGUES.values())})\b", re.MULTILINE | re.IGNORECASE
)
_LAYERS = 8  # of a frame that are taken off, such as quotes within an opening
_LONGEST = 600  # characters of a paragraph that are looked at
_NOUNS = "|".join(rf"{one.answer}|{one.version}|{one.rewrite}|{one.done}|{one.given}" for one in TONGUES.values())
_SPEAKS_OF_ONE = re.compile(rf"\b(?:{_NOUNS})\b", re.IGNORECASE)
# What those nouns begin with. To look for these first costs a tenth of the search, and most texts have none.
_BEGINNINGS = {stem for noun in _NOUNS.split("|") for stem in re.findall(r"\A[\w ]+(?![?*])", noun.casefold())}
_STEMS = tuple(stem for stem in _BEGINNINGS if not any(other in stem for other in _BEGINNINGS - {stem}))


def unframed(text: str, parent: str, question: str = "") -> str:
    """A rewrite of `parent` without its frame; the text itself where it has none, or where nothing would be left.

    A list of changes stays where `question` asks for a changed text, such as a program to fix.

    >>> unframed("Sure! Here is the improved answer:\n\nOak is a broad tree.\n\n(Note: I added details.)", "A tree.")
    'Oak is a broad tree.'
    """
    bare = text
    for _ in range(_LAYERS):
        less = _without_wrapping(_without_notes(_without_opening(bare, parent), parent, question), parent)
        if less == bare:
            break
        if not less.strip():
            return text
        bare = less
    return bare


def framed(text: str, parent: str, question: str = "") -> bool:
    """Whether a text still speaks of itself as a rewrite: at its ends, or in a heading anywhere in it."""
    if unframed(text, parent, question) != text:
        return True
    return _announces(text) and not _announces(parent)


def _announces(text: str) -> bool:
    """Whether any paragraph of a text begins as one that announces a rewrite."""
    return any(_opening(paragraph) for paragraph in _BLANK.split(text))


@lru_cache(maxsize=256)  # a rewrite is looked at several times, its parent with each of its rewrites
def _opening(text: str) -> int:
    """How many characters at the start of a text announce a rewrite."""
    beginning = text[:_LONGEST] + "\n\n" * (len(text) <= _LONGEST)
    folded = beginning.casefold()
    if not any(map(folded.__contains__, _STEMS)) or not _SPEAKS_OF_ONE.search(beginning):
        return 0
    found = (match for tongue in _ALL for pattern in tongue.openings if (match := pattern.match(beginning)))
    return max((min(match.end(), len(text)) for match in found), default=0)


def _without_opening(text: str, parent: str) -> str:
    end = _opening(text)
    return _RULES_BEFORE.sub("", text[end:]).lstrip() if end and not _opening(parent) else text


def _is_note(paragraph: str, ruled: bool = False) -> bool:
    begun = paragraph[:_LONGEST]
    return any(note.match(begun) for tongue in _ALL for note in (*tongue.notes, *[tongue.ruled][: int(ruled)]))


def _lists_improvements(text: str) -> bool:
    """Whether a text is a heading of changes and, to its end, their list."""
    if not any(tongue.improvements.match(text) for tongue in _ALL):
        return False
    return all(_LISTED.match(part) or _is_note(part) for part in _BLANK.split(text.partition("\n")[2].strip()))


def _heads_changes(paragraph: str) -> bool:
    return any(tongue.changes.match(paragraph[:_LONGEST] + "\n") for tongue in _ALL)


def _without_notes(text: str, parent: str, question: str) -> str:
    """A text without the remarks at its end: a last paragraph, all after a rule, or a list of changes."""
    starts = [0, *(match.end() for match in _BLANK.finditer(text))]
    parts = [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]
    for place in range(len(parts) - 1, max(0, len(parts) - 4), -1):
        part = _RULED.sub("", parts[place], count=1)
        ruled = part != parts[place] or _without_rule(parts[place - 1]) != parts[place - 1].rstrip()
        after = parts[place + 1 :]
        listed = _heads_changes(part) and all(_LISTED.match(one) or _is_note(one) for one in after)
        if not listed and _lists_improvements("\n\n".join([part.rstrip(), *after])):
            listed = not _IMPROVES.search(parent)
        is_note = (not after or ruled) and _is_note(part, ruled)
        if is_note or (listed and not any(tongue.edits.search(question) for tongue in _ALL)):
            last = _BLANK.split(parent.rstrip())[-1]
            return text if _is_note(last) or _heads_changes(last) else _without_rule(text[: starts[place]])
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
