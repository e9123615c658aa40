"""Look up the fields of a row by a column's name, a dotted path or a template; and the exception for refused rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pairsmith.config import condition
from pairsmith.errors import ConfigError, NoText
from pairsmith.storage.schemas import Reason
from pairsmith.text.templating import render_text

# Without a mapping, columns of these names are tried in this order.
PROMPT_NAMES = ("prompt", "instruction", "question", "query", "turns")
CHAT_NAMES = ("messages", "conversation")


class Refused(Exception):
    """A row that cannot be a prompt."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def meets(row: Mapping[str, Any], where: str) -> bool:
    """Whether a row meets a source's condition. Raises Refused where that cannot be told, as of a column it lacks."""
    try:
        return render_text(condition(where), "where", {str(key): value for key, value in row.items()}) != ""
    except (ConfigError, NoText) as error:
        reason = Reason.MISSING if "UndefinedError" in str(error) else Reason.WRONG_TYPE
        raise Refused(reason, str(error)) from None


def lookup(row: Mapping[str, Any], mapped: str) -> Any:
    """The value at a column's name, a dotted path or a Jinja template over the row; None if there is none."""
    if "{{" in mapped or "{%" in mapped:
        try:
            return render_text(mapped, "prompts.columns", {str(key): value for key, value in row.items()})
        except NoText as error:
            raise Refused(Reason.WRONG_TYPE, str(error)) from None
        except ConfigError as error:
            raise Refused(Reason.MISSING, str(error)) from None
    if mapped in row:
        return row[mapped]
    value: Any = row
    for part in mapped.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list | tuple) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value
