"""The lock of a data set among machines that share a ledger."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from pairsmith.errors import RunError
from pairsmith.ledger.ledger import Ledger


@pytest.mark.postgres
@pytest.mark.parametrize("new_ledger", ["postgres"], indirect=True)
def test_a_lock_among_machines_is_waited_for_as_long_as_is_said(ledger_url: str) -> None:
    one, other = Ledger(ledger_url), Ledger(ledger_url)
    with one.lock("data"):
        for wait in (0, 0.2):
            began = time.monotonic()
            with pytest.raises(RunError, match="perhaps on another machine"), other.lock("data", wait):
                pass
            assert time.monotonic() - began >= wait
    taken, given_back = threading.Event(), threading.Event()

    def hold() -> None:
        with one.lock("data"):
            taken.set()
            time.sleep(0.2)
            given_back.set()

    holder = threading.Thread(target=hold)
    holder.start()
    assert taken.wait(10)
    with other.lock("data", 10):
        assert given_back.is_set()
    holder.join()


def test_sqlite_leaves_the_lock_to_the_store(tmp_path: Path) -> None:
    one, other = (Ledger(f"sqlite:///{tmp_path}/ledger.sqlite") for _ in range(2))
    with one.lock("data"), other.lock("data", 0):
        pass
