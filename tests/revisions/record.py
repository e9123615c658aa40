"""What is recorded of the steps' code, how it differs from the code of today, and when it may be recorded anew.

Either the code of a step may change or its golden tables may (where rows were added to them), but never both without a
raised number.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pairsmith.storage.revisions import REVISIONS
from tests.revisions.golden import TABLES, digest_of
from tests.revisions.sources import sources_of

FILE = Path(__file__).parent / "recorded.json"
RENEW = "python -m tests.revisions"
NUMBERS = "pairsmith/storage/revisions.py"


@dataclass(frozen=True)
class Step:
    """The state of a step's code: its number, and the digest of its golden tables."""

    revision: int
    golden: str


@dataclass(frozen=True)
class Record:
    """The states of all steps, and the hashes of all their sources."""

    steps: Mapping[str, Step]
    sources: Mapping[str, str]

    def changed(self, sources: Mapping[str, str]) -> list[str]:
        """The sources that are not those of the record."""
        return [name for name, found in sources.items() if self.sources.get(name) != found]


def recorded() -> Record:
    found = json.loads(FILE.read_text(encoding="utf-8"))
    return Record({name: Step(**step) for name, step in found["steps"].items()}, found["sources"])


def current() -> Record:
    """The state of the code as it is. It makes all golden tables."""
    sources = {name: found for step in REVISIONS for name, found in sources_of(step).items()}
    return Record({step: Step(number, digest_of(TABLES[step]())) for step, number in REVISIONS.items()}, sources)


def refusals(old: Record, new: Record) -> list[str]:
    """Why a new record may not take the place of the old one; empty where it may."""
    return [
        f"{step}: its code has changed and so have its golden tables: raise {step} in {NUMBERS}"
        for step, state in new.steps.items()
        if step in old.steps
        and state.revision <= old.steps[step].revision
        and state.golden != old.steps[step].golden
        and old.changed(sources_of(step))
    ]


def outdated(step: str, changed: Iterable[str]) -> str:
    """What to do about a step whose code has changed while its number has not."""
    return (
        f"The code of {step} has changed: {', '.join(changed)}.\n"
        f"If it makes other tables of the same input now, raise {step} in {NUMBERS}, then run {RENEW}.\n"
        f"If it makes the same, run {RENEW} alone: it refuses where the golden tables of {step} differ."
    )


def write(record: Record) -> None:
    steps = {name: asdict(step) for name, step in record.steps.items()}
    text = json.dumps({"steps": steps, "sources": dict(sorted(record.sources.items()))}, indent=1)
    FILE.write_text(text + "\n", encoding="utf-8")
