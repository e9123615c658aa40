"""A data set held by one run among all machines that share a ledger on PostgreSQL.

The lock is an advisory lock of one connection, so the database releases it when the run ends, however it ended. But the
database also releases it when it ends the connection of a run that works on. So each holder takes the next number in
the table `fences`. A run whose connection was cut takes the lock again if its number is still the last one, and stops
if not; a run that follows one which did not give the lock back begins only when that one had the time to notice.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from pairsmith.ledger.database import Database
from pairsmith.ledger.retries import until_passed
from pairsmith.ledger.schema import fences
from pairsmith.storage.fence import Fence, beside, take_among_machines, taken_over_by

log = logging.getLogger(__name__)
POLL = 0.5  # seconds between two looks at one's own lock
GRACE = 2.0  # seconds that a run which may still work has to notice that it was followed
_NAME_BYTES = 63  # PostgreSQL cuts longer names
_HOLDER = """
    SELECT activity.application_name FROM pg_locks AS held JOIN pg_stat_activity AS activity ON activity.pid = held.pid
    WHERE held.locktype = 'advisory' AND held.granted AND (held.classid::bigint << 32) | held.objid::bigint = :number
"""


@contextmanager
def hold_in_database(database: Database, name: str, what: str, me: str, wait: float | None) -> Iterator[Fence]:
    """Hold the data set of this name; see `dataset_lock.lock`. `what`: its name for people; `me`: this run's."""
    lock = _Lock(database, name, what, me)
    try:
        take_among_machines(lock.take, what, wait)
        lock.claim()
        with beside(lock.watch, "pairsmith lock"):
            yield lock
    finally:
        lock.release()


class _Lock(Fence):
    """The advisory lock of a data set, and this holder's number."""

    def __init__(self, database: Database, name: str, what: str, me: str) -> None:
        super().__init__(what)
        digest = hashlib.sha256(name.encode())
        self._database, self._me, self._number = database, me, 0
        self._dataset, self._advisory = digest.hexdigest(), int.from_bytes(digest.digest()[:8], "big", signed=True)
        self._connection: sa.Connection | None = None

    def take(self) -> str | None:
        """Try to take the lock: None on success, else its holder."""
        return until_passed(self._take)

    def _take(self) -> str | None:
        connection = self._database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            connection.execute(sa.select(sa.func.set_config("application_name", self._me[:_NAME_BYTES], False)))
            if connection.execute(sa.select(sa.func.pg_try_advisory_lock(self._advisory))).scalar_one():
                self._connection = connection
                return None
            return connection.execute(sa.text(_HOLDER), {"number": self._advisory}).scalar() or "it has just ended"
        finally:
            if self._connection is not connection:
                connection.close()

    def claim(self) -> None:
        """Take the next number, and wait where the holder before may not know yet that it was followed."""
        before = sa.select(fences.c.released).where(fences.c.dataset == self._dataset)
        was_released = all(row.released for row in self._database.fetch(before))
        values = {"holder": self._me, "released": False}
        first = insert(fences).values(dataset=self._dataset, number=1, **values)
        following = first.on_conflict_do_update(
            index_elements=[fences.c.dataset], set_={"number": fences.c.number + 1, **values}
        ).returning(fences.c.number)
        self._number = self._database.write(lambda connection: connection.execute(following).scalar_one())
        if not was_released:
            time.sleep(GRACE)

    def check(self) -> None:
        self._compare(self._database.fetch(self._row))
        self.stop_if_lost()

    @contextmanager
    def guard(self) -> Iterator[None]:
        connection = until_passed(self._with_row_locked)
        try:
            self.stop_if_lost()
            yield
        finally:
            with suppress(sa.exc.DBAPIError):  # nothing was written, so there is nothing to lose
                connection.close()

    def release(self) -> None:
        """Say that this holder has ended, and give the lock back."""
        if self._connection is None:
            return
        mine = (fences.c.dataset == self._dataset) & (fences.c.number == self._number)
        try:
            self._connection.execute(sa.update(fences).where(mine).values(released=True))
            self._connection.execute(sa.select(sa.func.pg_advisory_unlock(self._advisory)))
            self._connection.close()
        except sa.exc.DBAPIError:
            self._drop()

    @property
    def _row(self) -> sa.Select[tuple[int, str]]:
        return sa.select(fences.c.number, fences.c.holder).where(fences.c.dataset == self._dataset)

    def _compare(self, rows: Sequence[sa.Row[tuple[int, str]]]) -> None:
        """Note who has a higher number, if anybody has; without the row, nobody can know."""
        if not rows:
            self.lose("its number was removed from the ledger")
        elif rows[0].number != self._number:
            self.lose(taken_over_by(rows[0].holder))

    def _with_row_locked(self) -> sa.Connection:
        """A connection in whose transaction nobody else can take the next number."""
        connection = self._database.engine.connect()
        try:
            self._compare(connection.execute(self._row.with_for_update(read=True)).all())
        except BaseException:
            connection.close()
            raise
        return connection

    def watch(self, ended: threading.Event) -> None:
        """Look after the lock until it has ended or is lost."""
        while not ended.wait(POLL) and not self.is_lost:
            try:
                self._look()
            except sa.exc.DBAPIError as error:
                log.debug("%s: its lock cannot be looked at: %s", self._what, error)
                self._drop()

    def _look(self) -> None:
        """Look at the number by the connection that holds the lock, and take the lock again where that was cut."""
        if self._connection is None and self._take() is None:
            log.warning("%s: the connection with its lock was cut; the lock is taken again", self._what)
        if self._connection:
            self._compare(self._connection.execute(self._row).all())
            return
        with self._database.engine.connect() as connection:  # another run has the lock, and takes a number next
            self._compare(connection.execute(self._row).all())

    def _drop(self) -> None:
        """Close the connection, and with it give back the lock: it must not stay in the pool with a lock."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sa.exc.DBAPIError):
                connection.invalidate()
                connection.close()
