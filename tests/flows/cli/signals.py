"""Commands that are typed within this process leave its signals as they were."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from pairsmith_flows.cli.exits import ENDING


@contextmanager
def signals_kept() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
