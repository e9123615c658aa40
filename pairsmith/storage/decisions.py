"""What people decided about the versions of a data set.

A version's folder never changes, so decisions are kept beside it: one numbered file each in `decisions/`, never
rewritten.
"""

from __future__ import annotations

import getpass
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum

from pairsmith.errors import DamagedFile
from pairsmith.storage.store import Store

FOLDER = "decisions"
WAIT_SECONDS = 600.0  # that a decision waits while a version is being published


class Verdict(StrEnum):
    """What was decided."""

    RELEASED = "released"
    REJECTED = "rejected"
    ROLLED_BACK = "rolled back"


@dataclass(frozen=True)
class Decision:
    """What was decided about `version`, by whom and why; for a rollback, `version` is where `latest` went back to.

    `before`: the version that `latest` led to; `newest`: the newest version then, which may be another.
    """

    verdict: Verdict
    version: str
    by: str
    reason: str
    at: str
    before: str | None
    newest: str

    @property
    def touched(self) -> set[str | None]:
        """The versions whose state the decision sets."""
        return {self.version, self.before} if self.verdict is Verdict.ROLLED_BACK else {self.version}


def decisions_of(store: Store) -> tuple[Decision, ...]:
    """All decisions, the oldest first. Raises DamagedFile where one is damaged."""
    kept = _beside(store)
    return tuple(_decision(kept, name) for name in _recorded(kept))


def record(store: Store, decision: Decision) -> None:
    """Write a decision to a new file, numbered after all others. To be called within `deciding`."""
    kept = _beside(store)
    number = max((int(file.partition("-")[0]) for file in _recorded(kept)), default=0) + 1
    kept.write_json(f"{number:05}-{decision.version}-{decision.verdict.replace(' ', '-')}.json", asdict(decision))


@contextmanager
def deciding(store: Store, wait: float | None = WAIT_SECONDS) -> Iterator[None]:
    """Lock the versions of a data set and its `latest` on this machine. It is not the lock of a run."""
    with _beside(store).lock(wait, busy="its versions are being published or decided about"):
        yield


def this_user() -> str:
    """The name of this machine's user, for decisions made here."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user id without a name, as in containers; Windows has no list of them
        return "unknown"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _beside(store: Store) -> Store:
    """The folder of decisions as a store, with its own lock and scratch folder, since runs clear theirs."""
    return Store(store.url(FOLDER))


def _recorded(kept: Store) -> list[str]:
    """The files of all decisions, the oldest first."""
    return [name for name in kept.names_in("") if re.fullmatch(r"\d+-.*\.json", name)]


def _decision(kept: Store, file: str) -> Decision:
    try:
        fields = kept.read_json(file)
        return Decision(**fields | {"verdict": Verdict(fields["verdict"])})
    except (FileNotFoundError, DamagedFile, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DamagedFile(f"{kept.url(file)}: not a decision that can be read: {reason}") from None
