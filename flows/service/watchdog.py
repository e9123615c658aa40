"""Ends whatever a service started once the service itself has ended, however that was: Ctrl-C, SIGTERM or kill -9.

    python -m flows.guard MARK

waits until its input ends, which it does with the process that holds the other end. Processes are known by a mark in
their environment, which their children inherit, so a run that a worker started in a session of its own is found too:
first those marked `MARK worker`, so that runs can tell the server how they ended, then `MARK server`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

VARIABLE = "PAIRSMITH_SERVICE"
GRACE_SECONDS = {"worker": 20.0, "setup": 5.0, "server": 10.0}  # in the order in which they end


def start(mark: str) -> subprocess.Popen[bytes]:
    """Start a guard that ends all of `mark` when its input is closed; it outlives whoever started it."""
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    command = [sys.executable, "-m", "pairsmith_flows.service.watchdog", mark]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, env=environment)


def marked(mark: str) -> list[int]:
    """The processes whose environment has the mark."""
    wanted, found = f"{VARIABLE}={mark}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def end(mark: str, seconds: float) -> None:
    """Ask all of a mark to end, and end by force those that have not in so many seconds."""
    _tell(marked(mark), signal.SIGTERM)
    ends = time.monotonic() + seconds
    while marked(mark) and time.monotonic() < ends:
        time.sleep(0.1)
    while left := marked(mark):
        _tell(left, signal.SIGKILL)
        time.sleep(0.1)


def _tell(processes: Iterable[int], number: int) -> None:
    for process in processes:
        try:
            os.kill(process, number)
        except ProcessLookupError:
            continue


def main() -> None:
    (mark,) = sys.argv[1:]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    for part, seconds in GRACE_SECONDS.items():
        end(f"{mark} {part}", seconds)


if __name__ == "__main__":
    main()
