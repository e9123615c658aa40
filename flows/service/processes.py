"""The processes of a service: how they are marked, found and ended, on every system.

Each has a mark in its environment, which its children inherit. So a run that a worker started is found as well, though
it belongs to a session of its own.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import psutil

VARIABLE = "PAIRSMITH_SERVICE"  # "MARK PART", of which MARK names the service
# In the order in which they end: runs can still tell the server how they ended.
GRACE_SECONDS = {"worker": 20.0, "setup": 5.0, "server": 10.0, "temporary server": 2.0}
BIRTH_SECONDS = 0.2  # a process that was being started when its parent was killed has its mark by then


def detached() -> dict[str, Any]:
    """Options of Popen for a process that Ctrl-C at the terminal does not reach."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def marked(mark: str, parts: Iterable[str] = GRACE_SECONDS) -> list[psutil.Process]:
    """The processes of some parts of a service. Those of other users, which cannot be read, are none of ours."""
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
    """Ask the processes of a part to end, also those that appear meanwhile; end by force what is left in the end."""
    asked, ends = set[psutil.Process](), time.monotonic() + seconds
    while left := marked(mark, [part]):
        late = time.monotonic() >= ends
        for process in left if late else set(left) - asked:
            with suppress(psutil.Error):  # it has ended meanwhile
                process.kill() if late else process.terminate()
        asked.update(left)
        time.sleep(0.1)
