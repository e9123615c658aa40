"""Renamed fields of recipes: the old name still works for a while.

The rule: the old name of a field works for one minor version, with a warning. If a field is renamed in version 0.3, its
old name works in every 0.3.x, and no longer in 0.4. To rename a field, change it in its model and add a line to
RENAMED. Remove the line in the version in which the old name stops working.

`Recipe` replaces old names before it is validated. So the rule holds for a recipe's file, for `--set`, for recipes made
in Python and for those that a Prefect server keeps with a deployment. Two places know only the new names:

- the schema: editors, and the form of a deployment that was made after the change, mark an old name as wrong;
- the reading of template files, which happens before: to rename `evolution.templates`, `rating.rubrics` or
  `rating.rubrics.*.criterion`, let `parse_recipe` look for both names.

The warning is a FutureWarning, because Python shows those to the users of a program, and a DeprecationWarning only to
its developers. It is given once for a field, however many judges or members have the field.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Renamed:
    """A field that is called `new` since version `since`.

    `old` is its dotted path with the old name last. `*` stands for every item of a list and every entry of a mapping.
    The names before the last are the current ones, or those that an earlier line of the table has put in place.
    """

    old: str  # such as rating.judges.*.old_name
    new: str  # such as new_name
    since: str  # such as 0.3

    @property
    def until(self) -> str:
        """The version in which the old name stops working: the next minor one.

        >>> Renamed("pairing.margin", "min_margin", since="0.3").until
        '0.4'
        """
        major, minor, *_ = self.since.split(".")
        return f"{major}.{int(minor) + 1}"


RENAMED: tuple[Renamed, ...] = ()


class RenamedFieldWarning(FutureWarning):
    """A recipe calls a field by its old name."""


def with_new_names(recipe: Any, table: Sequence[Renamed] = RENAMED) -> Any:
    """Replace old names of fields by the new ones in a recipe's data, as read and not yet validated.

    Raises ValueError where a field is given under both names.
    """
    for field in table:
        parents, _, old = field.old.rpartition(".")
        found = _renamed(recipe, parents.split(".") if parents else [], old, field.new, "")
        if found is not recipe:
            warnings.warn(
                f"{field.old} is called {field.new} since pairsmith {field.since}; "
                f"the old name goes in pairsmith {field.until}",
                RenamedFieldWarning,
                stacklevel=2,
            )
        recipe = found
    return recipe


def _renamed(data: Any, parents: Sequence[str], old: str, new: str, place: str) -> Any:
    """A copy of `data` with the field renamed at every place that `parents` match; `data` itself if it has none."""
    if not parents:
        if not isinstance(data, Mapping) or old not in data:
            return data
        if new in data:
            raise ValueError(
                f"{place}{old} and {place}{new} are one field under its old and its new name: give {new} alone"
            )
        return {new if name == old else name: value for name, value in data.items()}
    head, *rest = parents
    if isinstance(data, Mapping):
        names = [name for name in data if head in ("*", name)]
        changed = {name: _renamed(data[name], rest, old, new, f"{place}{name}.") for name in names}
        return {**data, **changed} if any(changed[name] is not data[name] for name in names) else data
    if isinstance(data, list | tuple) and head == "*":
        items = [_renamed(item, rest, old, new, f"{place}{number}.") for number, item in enumerate(data)]
        return items if any(one is not other for one, other in zip(items, data, strict=True)) else data
    return data
