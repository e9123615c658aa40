"""Errors as endpoints tell them: what one says, and the status that it stands for. Pure functions.

Gateways (OpenRouter, LiteLLM, one-api) and some providers answer with status 200 where the model behind them failed,
and tell it in the body: as an object, a text or a list, beside no choice or within the first one, with a status, a
number of their own, a name or only words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Names and words by the status that they stand for; the first that fits counts.
_MEANINGS = (
    (402, r"insufficient.?(quota|credit|balance|fund)|billing|payment.?required|out of credit|no credit|arrears|"
          r"exceeded your current quota|credit balance|余额不足|欠费"),
    (401, r"invalid.{0,9}api.?key|incorrect api.?key|authentication|unauthenticated|unauthori[sz]ed|invalid.{0,9}token|"
          r"login fail|no auth|(missing|no) api.?key"),
    (403, r"permission|forbidden|access.?denied"),
    (404, r"model.?not.?found|no such model|unknown model|model .{0,80}does not exist|not.?found.?error|"
          r"no endpoints found"),
    (429, r"rate.?limit|too.?many.?requests|resource.?exhausted|throttl|quota.?exceeded|\b[tr]pm\b|限流|频率|速率"),
    (503, r"overload|unavailable|capacity|busy|try again"),
    (504, r"time.?d?.?out|deadline.?exceeded"),
    (500, r"(internal|server).?error|^internal$|api.?error|upstream|bad.?gateway"),
    (400, r"invalid.?(request|argument|param)|bad.?request|unprocessable|context.?length|content.?(filter|policy)|"
          r"not.?supported|unsupported|extra inputs"),
)  # fmt: skip
_NAMED = [(status, re.compile(pattern, re.IGNORECASE)) for status, pattern in _MEANINGS]
_QUOTED_STATUS = re.compile(r"\b(?:error code|status(?: code)?|http)\W{1,3}([45]\d\d)\b", re.IGNORECASE)
_NO_MONEY = re.compile(
    r"insufficient.?(quota|credit|balance|fund)|billing.?(hard|not)|payment.?required", re.IGNORECASE
)
_FILTERED = re.compile(r"content.?(filter|policy|management)|safety.?(filter|system|policy)|moderation", re.IGNORECASE)
_TOO_LARGE = re.compile(r"context.length", re.IGNORECASE)
_WORDS = ("message", "msg", "status_msg", "detail", "error_msg", "reason", "error", "title")
_CODES = ("status_code", "http_status", "status", "code", "type", "error_code", "error_type")


@dataclass(frozen=True)
class ToldError:
    """An error: the provider's words, and the status that it stands for; None where nothing says so."""

    words: str
    status: int | None


def error_in(body: Any) -> ToldError | None:
    """The error that an answer with a good status tells, if it has no text for an answer.

    >>> error_in({"error": {"code": 402, "message": "Insufficient credits"}})
    ToldError(words='Insufficient credits', status=402)
    """
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    if not isinstance(body, Mapping):
        return None
    choice = _first(body.get("choices"))
    told = choice.get("error") if isinstance(choice, Mapping) else None
    if not told and not choice:
        told = body.get("error") or _first(body.get("errors")) or body.get("base_resp") or _itself(body)
    if not told:
        return None
    words = _words(told) or _words(body) or json.dumps(told)[:300]
    return ToldError(words, _status(told, body, words))


def is_without_money(content: str) -> bool:
    """Whether a refusal says that the account has no money left, which waiting does not mend, as OpenAI's 429 may."""
    return bool(_NO_MONEY.search(content))


def is_final(status: Any, content: str) -> bool:
    """Whether a request would be refused in every run: it is too large, or a filter does not let it pass."""
    return status == 413 or bool(_TOO_LARGE.search(content) or _FILTERED.search(content))


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else None


def _itself(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The body where it is itself an error, as of older vLLM, FastAPI and some gateways."""
    is_error = body.get("object") == "error" or body.get("type") == "error" or body.get("success") is False
    return body if is_error or ("choices" not in body and _words(body)) else None


def _words(told: Any) -> str:
    """What an error says: the words of whoever stands behind a gateway, where it hands them on."""
    if isinstance(told, str):
        return told.strip()
    if not isinstance(told, Mapping):
        return ""
    metadata = told.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, Mapping) else None
    words = next((found for name in _WORDS if (found := _words(told.get(name)))), "")
    return f"{words}: {raw}" if isinstance(raw, str) and raw else words


def _status(told: Any, body: Mapping[str, Any], words: str) -> int | None:
    """The status by a number that is one, else by the names of the error, else by its words."""
    codes = [one[name] for one in (told, body) if isinstance(one, Mapping) for name in _CODES if name in one]
    for code in codes:
        number = int(code) if isinstance(code, str) and re.fullmatch(r"\d{3}", code) else code
        if type(number) is int and 400 <= number < 600:
            return number
    if quoted := _QUOTED_STATUS.search(words):
        return int(quoted[1])
    for text in (*(code for code in codes if isinstance(code, str)), words):
        for status, pattern in _NAMED:
            if pattern.search(text):
                return status
    return None
