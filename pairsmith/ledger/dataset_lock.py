"""One run per data set, among all machines that share a ledger on PostgreSQL."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from pairsmith.errors import RunError
from pairsmith.ledger.database import Database
from pairsmith.storage.lock_wait import holder_after

_HOLDER = """
    SELECT activity.application_name FROM pg_locks AS held JOIN pg_stat_activity AS activity ON activity.pid = held.pid
    WHERE held.locktype = 'advisory' AND held.granted AND (held.classid::bigint << 32) | held.objid::bigint = :number
"""


@contextmanager
def lock(database: Database, dataset: str, wait: float | None = None) -> Iterator[None]:
    """Hold a data set for one run among all machines that share this database, waiting up to `wait` seconds for it.

    Raises RunError where another run holds it. Without `wait`, `lock_wait.patient` says how long to wait. PostgreSQL
    releases the lock when the connection ends, however the run ended. SQLite serves only one machine, where the store's
    own lock is enough, so nothing is done there.
    """
    if database.is_sqlite:
        yield
        return
    number = int.from_bytes(hashlib.sha256(dataset.encode()).digest()[:8], "big", signed=True)
    me = f"pairsmith process {os.getpid()} on {socket.gethostname()}"[:63]  # PostgreSQL cuts longer names
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("SELECT set_config('application_name', :me, false)"), {"me": me})

        def taken_by() -> str | None:
            if connection.execute(sa.select(sa.func.pg_try_advisory_lock(number))).scalar_one():
                return None
            return connection.execute(sa.text(_HOLDER), {"number": number}).scalar() or "it has just ended"

        if holder := holder_after(taken_by, dataset, wait):
            raise RunError(f"{dataset}: another run works on this data set, perhaps on another machine ({holder})")
        try:
            yield
        finally:
            connection.execute(sa.select(sa.func.pg_advisory_unlock(number)))
