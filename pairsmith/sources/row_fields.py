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


class Cell(str):
    """A cell of a CSV file in a condition: its text, which is also the number or the truth that it says."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __bool__(self) -> bool:
        return self.strip().lower() not in ("", "false", "0")

    def __eq__(self, other: object) -> bool:
        if isinstance(other, bool):
            return self.strip().lower() == str(other).lower()
        if not isinstance(other, int | float):
            return str.__eq__(self, other) is True
        try:
            return float(self) == other
        except ValueError:
            return False

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __lt__(self, other: Any) -> bool:
        return bool(self._as(other) < other)

    def __le__(self, other: Any) -> bool:
        return bool(self._as(other) <= other)

    def __gt__(self, other: Any) -> bool:
        return bool(self._as(other) > other)

    def __ge__(self, other: Any) -> bool:
        return bool(self._as(other) >= other)

    def _as(self, other: Any) -> Any:
        """This cell as what it is compared with: a number beside a number, else text."""
        return float(self) if isinstance(other, int | float) else str(self)


def meets(row: Mapping[str, Any], where: str, is_csv: bool = False) -> bool:
    """Whether a row meets a source's condition. Raises Refused where that cannot be told, as of a column it lacks."""
    if is_csv:
        row = {name: Cell(value) for name, value in row.items()}
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
