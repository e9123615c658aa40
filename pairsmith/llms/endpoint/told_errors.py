"""Errors as endpoints tell them: what one says, and the status that it stands for. Pure functions.

Gateways (OpenRouter, LiteLLM, one-api) and some providers answer with status 200 where the model behind them failed,
and tell it in the body: as an object, a text or a list, beside no choice or within the first one, with a status, a
number of their own, a name or only words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pairsmith.llms.endpoint.message_parts import said_in

Meanings = Sequence[tuple[int, str]]

# Names of errors by the status that they stand for; the first that fits counts. Those of the second table are generic:
# what such an error says is looked at first.
_NAMES = (
    (402, r"insufficient.{0,6}(quota|credit|balance|fund)|billing|payment.?required|arrear|out.?of.?credit|no.?credit|"
          r"credit.?balance|token.?quota"),
    (401, r"(invalid|incorrect|missing|no|expired).{0,9}api.?key|invalid.{0,9}token$|authentication|unauthenticated|"
          r"unauthori[sz]ed|no.?auth"),
    (403, r"permission|forbidden|access.?denied"),
    (404, r"model.?not.?found|no.?such.?model|unknown.?model|not.?found.?error"),
    (429, r"rate.?limit|too.?many.?requests|resource.?exhausted|throttl|quota.?exceeded"),
    (503, r"overload|unavailable|capacity|busy"),
    (504, r"time.?d?.?out|deadline.?exceeded"),
)  # fmt: skip
_GENERIC = (
    (500, r"(internal|server).?error|^internal$|^api.?error$|upstream|bad.?(gateway|response)"),
    (400, r"invalid.?(request|argument|param)|bad.?request|unprocessable|context.?length|content.?(filter|policy)|"
          r"data.?inspection|not.?supported|unsupported"),
)  # fmt: skip
# Phrases by the status that they stand for. Those that end a run are narrow, and count for nothing in an error that
# speaks of the prompt.
_MONEY = (
    r"insufficient.?((user|account)[ _])?(quota|credit|balance|fund)|balance is (too low|insufficient|not enough)|"
    r"payment.?required|out of credits?\b|requires more credits|used all available credits|credit limit exceeded|"
    r"(is|are|be) in arrears|account is in good standing|billing.?(hard.?limit|is not|not.?active)|check your billing|"
    r"余额不足|余额已用|额度不足|额度已用|额度不够|欠费"
)
_PHRASES = (
    (402, rf"{_MONEY}|exceeded your current quota"),
    (401, r"\b(invalid|incorrect|missing|no|expired|wrong) (x-)?api[ _-]?key|\bapi[ _-]?key (is |has |was )?"
          r"(not valid|invalid|incorrect|missing|expired|revoked|required)|^unauthori[sz]ed\b|^invalid authentication|"
          r"^authentication (fail|error|required)|access token (is )?(invalid|expired|no longer valid)|"
          r"\binvalid (access|bearer|auth\w*|api) token|^invalid token\W*$|no auth credentials|^login fail|"
          r"无效的令牌|令牌无效|令牌已过期|未提供令牌|令牌状态不可用|身份验证失败|鉴权失败"),
    (403, r"permission.?denied|access denied|^forbidden|not have (access|permission)"),
    (404, r"^(the )?(requested )?model\b.{0,80}\b(not found|does not exist)\b(?! (in|on|at)\b)|"
          r"\b(no such|unknown) model\b|no endpoints found|模型不存在"),
    (429, r"rate.?limit|too.?many.?requests|resource.?exhausted|throttl|quota.?exceeded|request limit reached|"
          r"\b[tr]pm\b|限流|频率|速率"),
    (503, r"overload|unavailable|capacity|\bbusy\b|try again|\bretry\b"),
    (504, r"time.?d?.?out|deadline.?exceeded"),
    (500, r"(internal|server).?error|^internal$|\bapi.?error|upstream|bad.?gateway"),
    (400, r"invalid.?(request|argument|param)|bad.?request|unprocessable|context.?length|content.?(filter|policy)|"
          r"not.?supported|unsupported|extra inputs|(unsafe|sensitive|inappropriate) content|new_sensitive|"
          r"敏感|不安全"),
)  # fmt: skip
_PASSING_PHRASES = [(status, pattern) for status, pattern in _PHRASES if status not in (401, 402, 403, 404)]
_OF_A_PROMPT = re.compile(r"\bprompts?\b|\byour (input|text|message)|\bthe (input|text|story)\b|提示词", re.IGNORECASE)
_QUOTED_STATUS = re.compile(r"\b(?:error code|status(?: code)?|http)\W{1,3}([45]\d\d)\b", re.IGNORECASE)
_NO_MONEY = re.compile(_MONEY, re.IGNORECASE)
_FILTERED = re.compile(
    r"content.?(filter|policy|management)|safety.?(filter|system|policy)|moderation|"
    r"(unsafe|sensitive|inappropriate) content|new_sensitive|敏感|不安全",
    re.IGNORECASE,
)
_TOO_LARGE = re.compile(r"context.length", re.IGNORECASE)
_SUCCESS = {0, 200, "0", "200", "success", "ok"}
_WORDS = ("message", "msg", "status_msg", "detail", "error_msg", "reason", "error", "title")
_CODES = ("status_code", "http_status", "status", "code", "type", "error_code", "error_type")


@dataclass(frozen=True)
class ToldError:
    """An error: the provider's words, and the status that it stands for; None where nothing says so."""

    words: str
    status: int | None


def error_in(body: Any) -> ToldError | None:
    """The error that an answer with a good status tells: in its choice, or beside one that says nothing.

    >>> error_in({"error": {"code": 402, "message": "Insufficient credits"}})
    ToldError(words='Insufficient credits', status=402)
    """
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    if not isinstance(body, Mapping):
        return None
    choice = _first(body.get("choices"))
    told = choice.get("error") if isinstance(choice, Mapping) else None
    if not told:
        places = (body.get("error"), _first(body.get("errors")), body.get("base_resp"), _itself(body))
        told = next((place for place in places if place and not _is_success(place)), None)
        if not told or _says(choice):  # asked last: of an answer without an error, nothing is read twice
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


def _says(choice: Any) -> bool:
    """Whether a choice has a text, or a refusal in place of one."""
    if not isinstance(choice, Mapping):
        return False
    message = choice.get("message")
    found = said_in(message if isinstance(message, Mapping) else {"content": choice.get("text")})
    return bool(found.text.strip() or found.refusal)


def _is_success(told: Any) -> bool:
    """Whether what stands in the place of an error says that there is none, as MiniMax's `base_resp` does."""
    codes = [told[name] for name in _CODES if told.get(name) is not None] if isinstance(told, Mapping) else []
    named = [code.lower() if isinstance(code, str) else code for code in codes]
    return bool(named) and all(type(code) in (int, str) and code in _SUCCESS for code in named)


def _itself(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The body where it is itself an error, as of older vLLM, FastAPI and some gateways."""
    is_error = body.get("object") == "error" or body.get("type") == "error" or body.get("success") is False
    return body if is_error or ("choices" not in body and _words(body)) else None


def _words(told: Any) -> str:
    """What an error says: the words of whoever stands behind a gateway, where it hands them on."""
    if isinstance(told, str):
        return told.strip()
    if isinstance(told, list):
        return "; ".join(filter(None, map(_words, told)))
    if not isinstance(told, Mapping):
        return ""
    metadata = told.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, Mapping) else None
    words = next((found for name in _WORDS if (found := _words(told.get(name)))), "")
    return f"{words}: {raw}" if isinstance(raw, str) and raw else words


def _status(told: Any, body: Mapping[str, Any], words: str) -> int | None:
    """The status by a number that is one, else by names of the error, its words, and generic names."""
    codes = [one[name] for one in (told, body) if isinstance(one, Mapping) for name in _CODES if name in one]
    for code in codes:
        number = int(code) if isinstance(code, str) and re.fullmatch(r"\d{3}", code) else code
        if type(number) is int and 400 <= number < 600:
            return number
    if quoted := _QUOTED_STATUS.search(words):
        return int(quoted[1])
    names = [code for code in codes if isinstance(code, str)]
    phrases = _PASSING_PHRASES if _OF_A_PROMPT.search(words) else _PHRASES
    return _meaning(_NAMES, names) or _meaning(phrases, [words]) or _meaning(_GENERIC, names)


def _meaning(table: Meanings, texts: Sequence[str]) -> int | None:
    """The status that the first of the texts with a meaning in a table stands for."""
    found = (status for text in texts for status, pattern in table if re.search(pattern, text, re.IGNORECASE))
    return next(found, None)
