"""The lock of a data set among machines that share a ledger."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from pairsmith.errors import RunError
from pairsmith.ledger.ledger import Ledger
from pairsmith.storage.opening import files_at


@pytest.mark.postgres
@pytest.mark.parametrize("new_ledger", ["postgres"], indirect=True)
def test_a_lock_among_machines_is_waited_for_as_long_as_is_said(ledger_url: str, tmp_path: Path) -> None:
    files = files_at(str(tmp_path / "data"))
    one, other = Ledger(ledger_url), Ledger(ledger_url)
    with one.lock(files):
        for wait in (0, 0.2):
            began = time.monotonic()
            with pytest.raises(RunError, match="perhaps on another machine"), other.lock(files, wait):
                pass
            assert time.monotonic() - began >= wait
    taken, given_back = threading.Event(), threading.Event()

    def hold() -> None:
        with one.lock(files):
            taken.set()
            time.sleep(0.2)
            given_back.set()

    holder = threading.Thread(target=hold)
    holder.start()
    assert taken.wait(10)
    with other.lock(files, 10):
        assert given_back.is_set()
    holder.join()


def test_sqlite_leaves_the_lock_of_a_folder_to_the_store(tmp_path: Path) -> None:
    files = files_at(str(tmp_path / "data"))
    one, other = (Ledger(f"sqlite:///{tmp_path}/ledger.sqlite") for _ in range(2))
    with one.lock(files), other.lock(files, 0):
        pass
