"""One run per data set, among all machines that share it.

With a ledger on PostgreSQL the lock is the database's: see `database_lock`. With one on SQLite, a data set on object
storage is locked there (`storage.lease`), and one in a folder has the store's own lock, enough for one machine.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from pairsmith.ledger.database import Database
from pairsmith.ledger.database_lock import hold_in_database
from pairsmith.storage.fence import Fence
from pairsmith.storage.files import Files
from pairsmith.storage.lease import hold_lease
from pairsmith.storage.workspace_id import workspace_id


@contextmanager
def lock(database: Database, files: Files, wait: float | None = None) -> Iterator[Fence]:
    """Hold the data set in `files` for one run, waiting up to `wait` seconds for it; yields the run's fence.

    Raises RunError where another run holds it. Without `wait`, `lock_wait.patient` says how long to wait. Raises
    ConfigError where the ledger is on SQLite and the storage does not keep to conditional writes.
    """
    me = f"pairsmith process {os.getpid()} on {socket.gethostname()}"
    if not database.is_sqlite:
        with hold_in_database(database, workspace_id(files), files.root, me, wait) as fence:
            yield fence
    elif files.local_path("") is not None:
        yield Fence(files.root)
    else:
        with hold_lease(files, me, wait) as fence:
            yield fence
