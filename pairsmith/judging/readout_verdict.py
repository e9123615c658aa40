"""Read which of two texts a judge calls the better one: from a line, a JSON object, or the probabilities of letters.

A verdict names the better text by its mark, so that it cannot be about another one, or says that there is none. What
names both, or differs from line to line, is null, as is a tie without a mark where a text that the judge was shown
could have been quoted.
"""

from __future__ import annotations

import math
import re
from typing import Any

from pairsmith.judging.readout_logprobs import weights_of
from pairsmith.judging.readouts import MARK, Read, Sheet
from pairsmith.judging.wrapping import only_object, without_thoughts
from pairsmith.protocol import Reply

LETTERS = ("A", "B", "C")  # the first is better, the second is, neither is
TIE = "tie"
_DRESS = r"[\s*_`\"'“”\[\]()#<>]{0,12}"
_NOUN = r"(?:text|answer|response|one|verdict|choice)"
_WORD = r"(?:better|best|winner|verdict|preferred|preference)"
_LABEL = rf"(?:(?:the|my|final|overall)\s+){{0,3}}(?:{_WORD}|correction)(?:\s+{_NOUN})?"
_TIES = r"(?:an?\s+)?(?:tie|draw|neither|equal(?:ly\s+good)?|none|both(?:\s+equally)?)"
_LINE = re.compile(rf"^{_DRESS}{_LABEL}{_DRESS}(?::|：|=|\bis\b){_DRESS}(?P<value>.*)$", re.IGNORECASE)
_NAMED = re.compile(rf"{_DRESS}(?:the\s+)?(?:{_NOUN}\s+)?{_DRESS}(?P<mark>{MARK})\b(?P<rest>.*)", re.IGNORECASE)
_TIED = re.compile(rf"{_DRESS}{_TIES}\b(?P<rest>.*)", re.IGNORECASE)
_REMARK = re.compile(rf"{_DRESS}(?:$|[.,;:(–—-]|\bbecause\b|\bsince\b)", re.IGNORECASE)
_TAKEN_BACK = re.compile(rf"\b(?:not|neither|nor|no|tie|draw|actually|wait)\b|n['’]t\b|\b{MARK}\b", re.IGNORECASE)
_COULD_BE_A_TIE = re.compile(
    rf"{_WORD}[\s\w]{{0,20}}{_DRESS}(?::|：|=|\bis\b){_DRESS}{_TIES}\b",
    re.IGNORECASE,
)


def read_verdict(readout: str, sheet: Sheet, reply: Reply) -> dict[str, Read]:
    """Mark -> the verdict on that text: its score is the probability that it is the better of both.

    Its rating is 1 if the verdict is for it, else 0; what both scores lack to 1 is the probability of a tie. Both texts
    have one rationale, or one error.
    """
    first, second = (text.mark for text in sheet.texts)
    if readout == "logprobs":
        better, scores, rationale, error = _from_letters(reply)
    else:
        read = _from_json if readout == "json" else _from_text
        named, rationale, error = read(reply, sheet)
        better = None if named in (None, TIE) else int(named == second)
        scores = (float(named == first), float(named == second))
    if error is not None:
        return dict.fromkeys((first, second), Read(rationale=rationale, error=error))
    return {mark: Read(int(better == place), scores[place], rationale) for place, mark in enumerate((first, second))}


def could_be_a_tie(text: str) -> bool:
    """Whether a text contains something that would look like a judge's own tie if the judge quoted it."""
    return bool(_COULD_BE_A_TIE.search(text))


def verdict_schema(sheet: Sheet, rationale: bool) -> dict[str, Any]:
    """JSON schema of a verdict. The rationale comes first, so that the verdict follows from it."""
    properties: dict[str, Any] = {"rationale": {"type": "string"}} if rationale else {}
    properties["better"] = {"enum": [*(text.mark for text in sheet.texts), TIE]}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


Named = tuple[str | None, str | None, str | None]  # the better text's mark or TIE, the rationale, the error


def _from_text(reply: Reply, sheet: Sheet) -> Named:
    """All lines that give a verdict must give the same; without one, a mark or a tie may be all that the reply says.

    The last line of a reply that was cut is ignored: it may have gone on to the other text.
    """
    body = without_thoughts(reply.text) if sheet.thoughts else reply.text
    if reply.finish_reason == "length":
        body = body.rpartition("\n")[0]
    lines = [line.strip() for line in body.splitlines() if line.strip()]
    verdicts = [found["value"] for line in lines if (found := _LINE.match(line))]
    if not verdicts and len(lines) == 1:
        verdicts = lines
    said = {_named(value, sheet) for value in verdicts}
    why = [line for line in lines if not _LINE.match(line)]
    rationale = re.sub(r"^\W*rationale\W*", "", "\n".join(why), flags=re.IGNORECASE).strip() or None
    if not said:
        return None, rationale, "no verdict"
    if len(said) > 1:
        return None, rationale, "more than one verdict"
    named, error = said.pop()
    return named, rationale if lines != verdicts else None, error


def _named(value: str, sheet: Sheet) -> tuple[str | None, str | None]:
    """The mark, or TIE, that a verdict names; else the error."""
    marks = [text.mark for text in sheet.texts]
    tied, named = _TIED.fullmatch(value), _NAMED.fullmatch(value)
    found = named or tied
    if found is None:
        return None, "the verdict is neither a mark nor a tie"
    if not _REMARK.match(found["rest"]) or _TAKEN_BACK.search(found["rest"]):
        return None, "more than a verdict where the verdict should be"
    if named:
        mark = named["mark"].lower()
        return (mark, None) if mark in marks else (None, "the verdict is for a text that is not there")
    return (TIE, None) if sheet.unbound else (None, "a tie that may be quoted from a text")


def _from_json(reply: Reply, sheet: Sheet) -> Named:
    text = reply.text.lstrip("\ufeff")
    body = text if text.lstrip().startswith("{") or not sheet.thoughts else without_thoughts(text)
    try:
        value, _ = only_object(body)
    except (ValueError, RecursionError) as wrong:
        return None, None, f"not JSON: {wrong}"
    rationale = value.get("rationale")
    rationale = rationale.strip() or None if isinstance(rationale, str) else None
    better = value.get("better")
    if not isinstance(better, str):
        return None, rationale, "no verdict"
    named, error = _named(better, sheet)
    return named, rationale, error


def _from_letters(reply: Reply) -> tuple[int | None, tuple[float, float], str | None, str | None]:
    """The place of the likeliest verdict's text (None for a tie), both probabilities, the rationale, the error."""
    weights, rationale, error = weights_of(reply, LETTERS, "verdict")
    if error is not None:
        return None, (0.0, 0.0), rationale, error
    (first, second, tie), total = weights, math.fsum(weights)
    better = None if max(first, second) <= tie or first == second else int(second > first)
    return better, (first / total, second / total), rationale, None
