"""What people decided about the versions of a data set.

A version's folder never changes, so decisions stand beside it: a file each in `decisions/`, numbered, never rewritten.
"""

from __future__ import annotations

import getpass
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum

from pairsmith.errors import DataError
from pairsmith.storage.store import Store

FOLDER = "decisions"
WAIT_SECONDS = 600.0  # for a version that is being published, before one is decided about


class Verdict(StrEnum):
    """What was decided."""

    RELEASED = "released"
    REJECTED = "rejected"
    ROLLED_BACK = "rolled back"


@dataclass(frozen=True)
class Decision:
    """What was decided about `version`, by whom and why; for a rollback it is the one that `latest` went back to.

    `before`: where `latest` led; `newest`: the newest version there was, whichever `latest` led to.
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
        """The versions that it makes what they are."""
        return {self.version, self.before} if self.verdict is Verdict.ROLLED_BACK else {self.version}


def decisions_of(store: Store) -> tuple[Decision, ...]:
    """All decisions, the oldest first. Raises DataError where one cannot be read."""
    kept = _beside(store)
    return tuple(_decision(kept, name) for name in _recorded(kept))


def record(store: Store, decision: Decision) -> None:
    """Write a decision down, after all others. To be called while `deciding`."""
    kept = _beside(store)
    number = max((int(file.partition("-")[0]) for file in _recorded(kept)), default=0) + 1
    kept.write_json(f"{number:05}-{decision.version}-{decision.verdict.replace(' ', '-')}.json", asdict(decision))


@contextmanager
def deciding(store: Store, wait: float | None = WAIT_SECONDS) -> Iterator[None]:
    """Hold the versions of a data set and its `latest` on this machine, apart from the lock of a run."""
    with _beside(store).lock(wait, busy="its versions are being published or decided about"):
        yield


def this_user() -> str:
    """Who decides, where a person does at this machine."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user id without a name, as in containers; Windows has no list of them
        return "unknown"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _beside(store: Store) -> Store:
    """Where decisions stand, with a lock and a scratch folder of its own, since runs clear theirs."""
    return Store(store.url(FOLDER))


def _recorded(kept: Store) -> list[str]:
    """The files of all decisions, in their order."""
    return [name for name in kept.names_in("") if re.fullmatch(r"\d+-.*\.json", name)]


def _decision(kept: Store, file: str) -> Decision:
    try:
        told = kept.read_json(file)
        return Decision(**told | {"verdict": Verdict(told["verdict"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{kept.url(file)}: not a decision that can be read: {type(error).__name__}: {error}") from None
