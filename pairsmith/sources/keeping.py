"""Columns of a source that go along with a prompt to the published rows: `keep` of a source."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from pairsmith.sources.row_fields import lookup


def kept(row: Mapping[str, Any], names: Iterable[str], reference: str | None) -> dict[str, Any]:
    """The values of the columns to keep, as JSON can hold them; those that are null or absent are left out.

    `reference`: the prompt's own, which the name `reference` means.
    """
    found = {name: reference if name == "reference" else _plain(lookup(row, name)) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def _plain(value: Any) -> Any:
    """A value as JSON holds it: dates, decimals and the like as text, numbers that are not finite as null."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float) else str(value)
