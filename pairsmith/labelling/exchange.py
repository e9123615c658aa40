"""Pairs and labels to and from other tools, and labels from there into the journals.

Each tool has a module with two functions: `exported` gives the content of a file from pairs with votes, `imported` the
labels in one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pairsmith.errors import DataError
from pairsmith.ids import strict_json
from pairsmith.labelling import argilla, label_studio
from pairsmith.labelling.foreign import ForeignLabel
from pairsmith.labelling.journal import Label, check_name, open_journal
from pairsmith.labelling.pairs import LabelPair, VersionPairs
from pairsmith.storage.decisions import now


class _Tool(Protocol):
    def exported(self, pairs: Iterable[LabelPair]) -> str: ...
    def imported(self, value: Any) -> Iterable[ForeignLabel]: ...


TOOLS: Mapping[str, _Tool] = {"argilla": argilla, "label-studio": label_studio}


@dataclass(frozen=True)
class Imported:
    """What came of an import. `known`: labels that were there already; `absent`: those of pairs that the version has
    not."""

    taken: int
    known: int
    absent: int


def read_foreign(tool: str, path: Path) -> list[ForeignLabel]:
    """The labels in a tool's file. Raises DataError, with the place in it, where it cannot be read."""
    try:
        value = strict_json(path.read_text(encoding="utf-8-sig"))
        return list(TOOLS[tool].imported(value))
    except (ValueError, DataError) as error:
        raise DataError(f"{path}: {error}") from None


def take_in(folder: Path, found: Sequence[ForeignLabel], pairs: VersionPairs) -> Imported:
    """Write labels from elsewhere into the journals of those who gave them; done twice, it adds nothing."""
    there = {one.key for one in pairs.candidates}
    of_person: dict[str, list[ForeignLabel]] = defaultdict(list)
    for one in found:
        if one.key in there:
            of_person[check_name(one.who)].append(one)
    taken = known = 0
    for who, labels in sorted(of_person.items()):
        with open_journal(folder, who) as journal:
            for one in labels:
                before = journal.now.get(one.key)
                if before and (before.better, before.note) == (one.better, one.note):
                    known += 1
                    continue
                at = one.at or now()
                journal.add(Label(one.key, one.better, who, "a", one.drawn, pairs.version, 0, 0, at, one.note))
                taken += 1
    return Imported(taken, known, len(found) - taken - known)
