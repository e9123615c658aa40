"""The filters and tests of templates from recipes, each bounded before it works.

Jinja has more; those left out format with widths (`format`, `center`, `indent`, `wordwrap`), fill up to a number
(`batch`, `slice`), or are of no use here. What takes a number takes a small one, and what could work longer than its
input is long is written anew.
"""

from __future__ import annotations

import datetime
import json
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from functools import wraps
from itertools import islice
from numbers import Number
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS as DEFAULT_FILTERS
from jinja2.runtime import Undefined
from jinja2.tests import TESTS as DEFAULT_TESTS
from markupsafe import Markup

from pairsmith.errors import NoText
from pairsmith.text.bounds import MAX_RENDERED, check_bounds, deep_size, spend

Filter = Callable[..., Any]
_MAX_DIGITS = 400  # of `round`: more than a float has
_MAX_INDENT = 16
_MAX_ITEMS = 1_000_000  # that a filter of lists goes through
_MAX_BITS = 20_000  # of a whole number read from a text; Python takes quadratic time to divide long ones
_MAX_STRIPPED = 2 * 10**9  # characters that `striptags` copies, once for each tag
_WORD = re.compile(r"\w+")
_ESCAPED = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "'": "\\u0027"})
# Filters whose first argument Jinja would turn to text, whatever it is.
_OF_TEXT = "capitalize e escape lower replace string striptags title trim truncate upper wordcount".split()
_OTHERS = (
    "abs count d default dictsort first float int items join last length list map max min reject rejectattr reverse "
    "round select selectattr sort tojson unique"
).split()
_PLAIN_TEXT = (datetime.date, datetime.time, datetime.timedelta, uuid.UUID)


def shown(value: Any, name: str = "a value") -> Any:
    """A value as a template may show it: text, numbers and booleans as they are, null as nothing.

    Raises NoText with what to write instead for anything else, whose text would be Python's own way to print it.
    """
    if value is None:
        return ""
    if isinstance(value, str | Number | Decimal | Undefined):  # an undefined one raises its own error
        return value
    kind = type(value).__name__
    fix = "|string" if isinstance(value, _PLAIN_TEXT) else "|tojson"
    more = " or |join(', ')" if isinstance(value, list | tuple) else ""
    raise NoText(f"{name} is a {kind}, which does not become text by itself: write {fix}{more} after it")


def counted(values: Iterable[Any]) -> Iterator[Any]:
    """The values of a loop; each step checks the time."""
    for value in values:
        check_bounds()
        yield value


def _text(value: Any) -> str:
    return str(shown(value))


def _string(value: Any) -> str:
    return str(value if isinstance(value, _PLAIN_TEXT) else shown(value))


def _join(values: Iterable[Any], by: str = "", attribute: str | int | None = None) -> str:
    parts, size = [], 0
    for value in counted(values):
        parts.append(_text(value if attribute is None else value[attribute]))
        size += len(parts[-1]) + len(by)
        check_bounds(size)
    return by.join(parts)


def _replace(text: str, old: str, new: str) -> str:
    check_bounds(len(text) + text.count(old) * len(new))
    return text.replace(old, new)


def _round(value: float, precision: int = 0, method: str = "common") -> Any:
    if abs(precision) > _MAX_DIGITS:
        raise SecurityError(f"round: a precision of {precision}; the most is {_MAX_DIGITS}")
    return DEFAULT_FILTERS["round"](value, precision, method)


def _int(value: Any, default: int = 0, base: int = 10) -> Any:
    found = DEFAULT_FILTERS["int"](value, default, base)
    if isinstance(found, int) and found.bit_length() > _MAX_BITS:
        raise SecurityError(f"int: a number of more than {_MAX_BITS} bits")
    return found


def _tojson(value: Any, indent: int | None = None) -> Markup:
    """As Jinja's, but in pieces that are counted: text that is shared by many items is written for each."""
    if indent is not None and not 0 <= indent <= _MAX_INDENT:
        raise SecurityError(f"tojson: indent is {indent}; the most is {_MAX_INDENT}")
    size, parts = 0, []
    for part in json.JSONEncoder(sort_keys=True, indent=indent).iterencode(value):
        size += len(part)
        check_bounds(size)
        parts.append(part)
    return Markup("".join(parts).translate(_ESCAPED))  # noqa: S704  (escaped for HTML, as Jinja's)


def _striptags(text: str) -> str:
    if text.count("<") * len(text) > _MAX_STRIPPED:
        raise SecurityError("striptags: a text with so many tags takes too long")
    return str(DEFAULT_FILTERS["striptags"](text))


def _wordcount(text: str) -> int:
    return sum(1 for _ in _WORD.finditer(text))


def _list(values: Iterable[Any]) -> list[Any]:
    """At most one item more than is allowed is made."""
    return list(islice(counted(values), MAX_RENDERED + 1))


def _bounded(apply: Filter, of_text: bool = False) -> Filter:
    """A filter that is asked only while there is time, and whose result counts to what the rendering makes."""
    at = 1 if hasattr(apply, "jinja_pass_arg") else 0

    @wraps(apply)
    def bounded(*args: Any, **words: Any) -> Any:
        check_bounds()
        if of_text:
            args = (*args[:at], _text(args[at]), *args[at + 1 :])
        elif len(args) > at and hasattr(args[at], "__len__") and len(args[at]) > _MAX_ITEMS:
            raise SecurityError(f"a filter over more than {_MAX_ITEMS} items")
        result = apply(*args, **words)
        if isinstance(result, str | list | tuple | Mapping):
            check_bounds(len(result))
            spend(deep_size(result))
        return result

    return bounded


_OWN: dict[str, Filter] = {
    "int": _int,
    "join": _join,
    "list": _list,
    "replace": _replace,
    "round": _round,
    "striptags": _striptags,
    "tojson": _tojson,
    "wordcount": _wordcount,
}
FILTERS: dict[str, Filter] = {
    **{name: _bounded(_OWN.get(name, DEFAULT_FILTERS[name])) for name in _OTHERS},
    **{name: _bounded(_OWN.get(name, DEFAULT_FILTERS[name]), of_text=True) for name in _OF_TEXT},
    "string": _bounded(_string),
}
TESTS: dict[str, Any] = {
    **DEFAULT_TESTS,
    "lower": lambda value: _text(value).islower(),
    "upper": lambda value: _text(value).isupper(),
}
