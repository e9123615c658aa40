"""Rows that a ledger could not take, kept in a file of this machine until it takes them.

A database is full, or gone for longer than it is waited for, and answers that were paid for have just arrived. They go
to a folder of this user's (`$XDG_STATE_HOME/pairsmith/unrecorded`, by default in `~/.local/state`). The next run on
this machine that opens the ledger writes them into it before it asks anything, and ends if there still is no room.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from pairsmith.errors import DataError
from pairsmith.ledger.database import Database
from pairsmith.ledger.inserting import insert
from pairsmith.ledger.retries import reason_of
from pairsmith.ledger.schema import tables
from pairsmith.storage.disk import sync_folder, write_synced

log = logging.getLogger(__name__)


def keep(database: Database, rows: Mapping[str, Sequence[dict[str, Any]]]) -> str:
    """Write rows, by the name of their table, to a new file.

    Returns the end of a sentence that says where they are, or why they are nowhere.
    """
    folder, count = _folder(database), max(map(len, rows.values()))
    file, unfinished = folder / f"{uuid.uuid4().hex}.json", folder / f".{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_synced(unfinished, json.dumps(rows).encode())
        os.replace(unfinished, file)
        sync_folder(folder)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink()
        return f"; nor can {count} of them be kept in {folder} ({error}): they will be asked for again"
    return f"; {count} of them are kept in {file}, and the next run here records them first"


def record(database: Database) -> None:
    """Write what is kept for a database into it. Raises DataError, with the file's name, where that still fails."""
    for file in sorted(_folder(database).glob("*.json")):
        try:
            kept = json.loads(file.read_bytes())
            database.write(partial(_insert, kept))
        except FileNotFoundError:
            continue  # another process was faster
        except (sa.exc.DBAPIError, OSError, ValueError, KeyError) as error:
            reason = f"the replies kept in {file} still cannot be recorded: {reason_of(error)}"
            raise DataError(f"ledger: {reason}") from error
        file.unlink(missing_ok=True)
        log.warning("ledger: %d replies that it could not take before are recorded", max(map(len, kept.values())))


def _insert(kept: Mapping[str, Sequence[dict[str, Any]]], connection: sa.Connection) -> None:
    for name, rows in kept.items():
        insert(connection, tables[name], rows)


def _folder(database: Database) -> Path:
    """The folder of a database's rows, named by a hash of its address."""
    address = database.engine.url.render_as_string(hide_password=True)
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return home / "pairsmith" / "unrecorded" / hashlib.sha256(address.encode()).hexdigest()[:16]
