"""A ledger opened by URL: one database, and the parts that store something in it."""

from __future__ import annotations

from contextlib import AbstractContextManager

from pairsmith.ledger import unrecorded
from pairsmith.ledger.adoptions import Adoptions
from pairsmith.ledger.batches import Batches
from pairsmith.ledger.database import Database
from pairsmith.ledger.dataset_lock import lock
from pairsmith.ledger.replies import Replies
from pairsmith.ledger.reservations import Reservations
from pairsmith.ledger.spending import Spending
from pairsmith.ledger.uses import Uses
from pairsmith.session import Session
from pairsmith.storage.fence import Fence
from pairsmith.storage.files import Files


class Ledger:
    """The parts of one ledger. Safe to use from several threads and processes."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self.url, self.is_shared = self._database.url, self._database.is_shared
        self.replies = Replies(self._database)
        self.spending = Spending(self._database)
        self.batches = Batches(self._database)
        self.adoptions = Adoptions(self._database)
        self.uses = Uses(self._database)
        self.reservations = Reservations(self._database)

    def lock(self, files: Files, wait: float | None = None) -> AbstractContextManager[Fence]:
        """Hold the data set in `files` for one run; see `dataset_lock.lock`."""
        return lock(self._database, files, wait)

    def record_kept(self) -> None:
        """Write the replies into it that it could not take before; see `unrecorded`."""
        unrecorded.record(self._database)

    def size(self) -> int:
        """Bytes on disk."""
        return self._database.size()

    def compact(self) -> None:
        """Give the space of dropped replies back to the disk."""
        self._database.compact()

    def erase(self) -> None:
        """Overwrite on the disk what was deleted; see `Database.erase`."""
        self._database.erase()

    def close(self) -> None:
        """Close the connections; one in use by another thread is closed when that thread is done with it."""
        self._database.close()


def open_ledger(url: str, session: Session) -> Ledger:
    """The ledger at `url` for work on it, opened once in a session: replies that it lacks are recorded first."""
    return session.keep(("ledger", url), lambda: _ready(url), Ledger.close)


def _ready(url: str) -> Ledger:
    ledger = Ledger(url)
    ledger.record_kept()
    return ledger
