"""What the parts of a recipe have in common."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from pairsmith.errors import ConfigError
from pairsmith.text.templating import compile_text

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Reasks = Annotated[
    int, Field(ge=0, le=5, description="times to ask again, with what was wrong, for what could not be read")
]


class Config(BaseModel):
    """A part of a recipe. It is frozen, and an unknown field is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=(), hide_input_in_errors=True
    )


def close(word: object, names: Iterable[str]) -> str:
    """`; did you mean NAME?` where one of `names` is like the word."""
    near = difflib.get_close_matches(str(word).lower(), list(names), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def unique(where: str, names: Iterable[str]) -> None:
    """Raise ValueError if a name occurs more than once."""
    doubles = [name for name, count in Counter(names).items() if count > 1]
    if doubles:
        raise ValueError(f"{where}: {' and '.join(doubles)} {'are' if doubles[1:] else 'is'} named more than once")


def compiles(template: str, where: str) -> None:
    """Raise ValueError if a template cannot be compiled."""
    try:
        compile_text(template, where)
    except ConfigError as error:
        raise ValueError(str(error)) from None


def known(where: str, names: Iterable[str], there: Iterable[str]) -> None:
    """Raise ValueError if one of `names` is not among those in `there`."""
    there = sorted(there)
    unknown = [name for name in names if name not in there]
    if unknown:
        meant = close(unknown[0], there) or f"; there {'are' if there[1:] else 'is'} {', '.join(there) or 'none'}"
        raise ValueError(f"{where}: there is no {' and no '.join(unknown)}{meant}")


def without_password(where: str, url: str) -> None:
    """Raise ValueError if a database URL holds a password, since recipes are stored and shown."""
    address = urlsplit(url)
    if address.password or "password" in parse_qs(address.query):
        raise ValueError(f"{where}: a password in it would be stored and shown; use PGPASSWORD or a password file")


def names_a_file(text: str) -> bool:
    """Whether a recipe gives a template as the name of a file rather than as text."""
    return text.endswith((".jinja", ".txt")) and "\n" not in text
