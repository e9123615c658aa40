"""Marks, finds and ends the processes of a service, on every operating system.

Each process has a mark in its environment, which its children inherit. So a run that a worker started is found too,
though it belongs to a session of its own.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import psutil

VARIABLE = "PAIRSMITH_SERVICE"  # its value: "MARK PART", where MARK identifies the service
# In the order in which they are ended: the server last, so that runs can still report their end to it.
GRACE_SECONDS = {"worker": 20.0, "setup": 5.0, "server": 10.0, "temporary server": 2.0}
BIRTH_SECONDS = 0.2  # after which a process that was just being started when its parent was killed has its mark


def detached() -> dict[str, Any]:
    """Popen options for a process that Ctrl-C at the terminal does not reach."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def marked(mark: str, parts: Iterable[str] = GRACE_SECONDS) -> list[psutil.Process]:
    """The processes of some parts of a service. Unreadable ones belong to other users, so they are not ours."""
    wanted, found = {f"{mark} {part}" for part in parts}, []
    for process in psutil.process_iter():
        try:
            if process.environ().get(VARIABLE) in wanted:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def end_all(mark: str) -> None:
    """End all processes of a service, part by part."""
    for part, seconds in GRACE_SECONDS.items():
        _end(mark, part, seconds)
    time.sleep(BIRTH_SECONDS)
    for part in GRACE_SECONDS:
        _end(mark, part, 0)


def _end(mark: str, part: str, seconds: float) -> None:
    """Ask the processes of a part to end, including new ones; after `seconds`, kill those that are left."""
    asked, ends = set[psutil.Process](), time.monotonic() + seconds
    while left := marked(mark, [part]):
        late = time.monotonic() >= ends
        for process in left if late else set(left) - asked:
            with suppress(psutil.Error):  # it has ended meanwhile
                process.kill() if late else process.terminate()
        asked.update(left)
        time.sleep(0.1)
