"""Ends whatever a service started once the service itself has ended, however that was: Ctrl-C, SIGTERM or kill -9.

    python -P -m pairsmith_flows.service.watchdog MARK

says that it watches, and waits until its input ends, which it does with the process that holds the other end.
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
    """A process that ends everything with `mark` when this one closes it or is gone.

    It is started first, so that nothing can be left behind; `confirm` waits until it watches.
    """

    def __init__(self) -> None:
        self.mark = secrets.token_hex(8)
        environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pairsmith_flows.service.watchdog", self.mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # not that of this process, for whose end others may wait
            env=environment,
            **detached(),
        )

    def environment(self, part: str) -> dict[str, str]:
        """What a process needs in its environment so that it is ended with the others; `part` says when."""
        return {VARIABLE: f"{self.mark} {part}"}

    def confirm(self) -> None:
        """Wait until it watches. Raises RunError where it does not start."""
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
        """Let it end everything with the mark, and do not wait for that."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def close(self) -> None:
        """End everything with the mark; this process does it where the watchdog is gone."""
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
    with suppress(OSError):  # whoever started it is gone already
        os.write(1, READY)
    sys.stdin.buffer.read()
    end_all(mark)


if __name__ == "__main__":
    _main()
