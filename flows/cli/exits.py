"""How the command line ends: an error becomes a line and an exit code, an interruption ends it after a few seconds.

Exit codes: 0 done; 1 the run failed (what it finished is kept); 2 the recipe or the command is wrong; 3 the input
data cannot be used; 130 interrupted.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import click

INTERRUPTED = 130
GRACE_SECONDS = 5.0  # between Ctrl-C or SIGTERM and the end, for threads in the middle of a batch
ENDING = (signal.SIGINT, signal.SIGTERM)


class exit_codes:
    """Turns errors into a line on stderr and an exit code; unexpected errors keep their traceback.

    It notices Ctrl-C and SIGTERM even while another handler is installed: during a flow, Prefect's own handler waits
    for everything that is under way.
    """

    def __init__(self) -> None:
        self._interrupted = threading.Event()

    def __enter__(self) -> None:
        reader, self._writer = socket.socketpair()  # Windows accepts only a socket here
        self._writer.setblocking(False)
        self._before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(reader,), daemon=True).start()
        for number in ENDING:
            signal.signal(number, self._interrupt)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        from pairsmith.errors import ConfigError, DataError, PairsmithError

        signal.set_wakeup_fd(self._before)
        self._writer.close()
        if isinstance(error, KeyboardInterrupt) or (error and self._interrupted.is_set()):  # some libraries wrap it
            _leave()
        if isinstance(error, PairsmithError | OSError):  # OSError: a full disk, a file that may not be written
            from pairsmith_flows.cli.running import open_console
            from pairsmith_flows.cli.tables import say

            say(open_console(stderr=True), f"error: {error}")
            sys.exit(2 if isinstance(error, ConfigError) else 3 if isinstance(error, DataError) else 1)

    def _interrupt(self, *_: object) -> NoReturn:
        self._interrupted.set()
        raise KeyboardInterrupt

    def _watch(self, signals: socket.socket) -> None:
        """After a signal, give Prefect GRACE_SECONDS to note the interruption, then end."""
        with signals:
            while number := signals.recv(1):
                if number[0] in ENDING:
                    self._interrupted.set()
                    time.sleep(GRACE_SECONDS)
                    _leave()


@contextmanager
def leaving_by_interrupt() -> Iterator[None]:
    """Within `exit_codes`: Ctrl-C and SIGTERM end the block, and what comes after it goes on. For a command that only
    a person ends."""
    wakeup = signal.set_wakeup_fd(-1)
    before = {number: signal.signal(number, signal.default_int_handler) for number in ENDING}
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)


def _leave() -> NoReturn:
    """End at once, even with threads in the middle of a batch: every reply received is in the ledger already.

    Prefect's temporary server ends by itself when this process is gone.
    """
    click.echo("interrupted; what was finished is kept, run again to go on", err=True)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(INTERRUPTED)
