"""Ends everything that a service started once the service itself has ended, by Ctrl-C, SIGTERM or kill -9.

    python -P -m pairsmith_flows.service.watchdog MARK

prints that it watches, and waits until its input ends, as it does when the process at the other end is gone.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
from contextlib import suppress

from pairsmith.errors import RunError
from pairsmith_flows.service.processes import VARIABLE, detached, end_all

READY = b"watching\n"
START_SECONDS = 60.0
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]


class Watchdog:
    """A process that ends all processes with `mark` when this process closes it or is gone.

    It is started before all others, so that none can be left behind; `confirm` waits until it watches.
    """

    def __init__(self) -> None:
        self.mark = secrets.token_hex(8)
        environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pairsmith_flows.service.watchdog", self.mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # not this process's stderr, since other programs may wait for that to close
            env=environment,
            **detached(),
        )

    def environment(self, part: str) -> dict[str, str]:
        """The environment by which a process is found and ended with the others; `part` decides the order."""
        return {VARIABLE: f"{self.mark} {part}"}

    def confirm(self) -> None:
        """Wait until the watchdog watches. Raises RunError where it does not start."""
        assert self._process.stdout is not None
        timer = threading.Timer(START_SECONDS, self._process.kill)
        timer.start()
        try:
            output: list[bytes] = []
            for line in self._process.stdout:
                if line == READY:
                    return
                output.append(line)
        finally:
            timer.cancel()
        reason = b"".join(output[-1:]).decode(errors="replace").strip() or "it says nothing"
        raise RunError(f"the watchdog, which ends what would be left behind, does not start: {reason}")

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def release(self) -> None:
        """Make the watchdog end all processes with the mark, without waiting for that."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def close(self) -> None:
        """End all processes with the mark; this process does so itself if the watchdog has failed."""
        self.release()
        if self._process.wait():
            end_all(self.mark)

    def __enter__(self) -> Watchdog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _main() -> None:
    (mark,) = sys.argv[1:]
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):  # the process that started it is gone already
        os.write(1, READY)
    sys.stdin.buffer.read()
    end_all(mark)


if __name__ == "__main__":
    _main()
