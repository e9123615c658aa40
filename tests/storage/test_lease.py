"""The lease of a data set on object storage: one holder at a time, whatever becomes of it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest

from pairsmith.errors import ConfigError, DataError, RunError
from pairsmith.storage import lease
from pairsmith.storage.files import Files
from pairsmith.storage.lease import HeldLease, hold_lease
from pairsmith.storage.object_files import ObjectFiles
from pairsmith.storage.opening import files_at

SECONDS = 0.6


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    monkeypatch.setattr(lease, "SECONDS", SECONDS)
    yield files_at(f"memory://{tmp_path.name}/data")
    fsspec.filesystem("memory").rm(f"/{tmp_path.name}", recursive=True)


def held(files: Files) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(files.read(lease.FILE))
    return found


def taken(files: Files, me: str) -> HeldLease:
    """A lease whose holder does not renew it."""
    one = HeldLease(files, me, SECONDS)
    assert one.take() is None
    return one


def test_a_lease_that_is_renewed_is_refused_with_its_holder_and_free_when_given_back(files: Files) -> None:
    with hold_lease(files, "one") as fence:
        for wait in (0, 2 * SECONDS):
            began = time.monotonic()
            with pytest.raises(RunError, match=r"another run works on this data set, perhaps .* \(one\)"):
                hold_lease(files, "other", wait).__enter__()
            assert time.monotonic() - began >= wait
        fence.check()
        assert held(files)["number"] == 1
    began = time.monotonic()
    with hold_lease(files, "other"):
        assert time.monotonic() - began < SECONDS / 2
        assert (held(files)["number"], held(files)["holder"]) == (2, "other")


def test_a_lease_that_nobody_renews_is_taken_over_when_it_has_not_changed_for_its_seconds(files: Files) -> None:
    first = taken(files, "one")
    began = time.monotonic()
    with hold_lease(files, "other"):
        assert SECONDS <= time.monotonic() - began < 4 * SECONDS
        assert held(files)["number"] == 2
        for ask in (first.check, lambda: first.guard().__enter__(), first.stop_if_lost):
            with pytest.raises(RunError, match=r"another run has taken over this data set \(other\)"):
                ask()
        assert held(files)["holder"] == "other"


def test_no_time_of_day_is_written_or_compared(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    with hold_lease(files, "one"):
        assert set(held(files)) == {"number", "holder", "seconds", "beat"}
        monkeypatch.setattr(time, "time", lambda: 9e9)
        with pytest.raises(RunError, match="another run works"):
            hold_lease(files, "other").__enter__()


def test_a_holder_that_was_followed_notices_by_itself(files: Files) -> None:
    first = HeldLease(files, "one", SECONDS)
    assert first.take() is None
    with first.renewed():
        files.write(lease.FILE, json.dumps(held(files) | {"number": 2, "holder": "other", "beat": "b"}).encode())
        ends = time.monotonic() + 10
        while not first.is_lost and time.monotonic() < ends:
            time.sleep(0.01)
        with pytest.raises(RunError, match=r"\(other\)"):
            first.stop_if_lost()
    assert held(files)["holder"] == "other"  # it gives back nothing that is another's


def test_of_those_that_find_a_lapsed_lease_one_takes_it(files: Files) -> None:
    taken(files, "dead")
    racers, start = [HeldLease(files, f"racer {number}", SECONDS) for number in range(4)], threading.Barrier(4)

    def race(one: HeldLease) -> bool:
        start.wait()
        if one.take():
            return False
        with one.renewed():
            time.sleep(2 * SECONDS)
        return True

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(race, racers)) == 1


def test_a_renewal_whose_answer_was_lost_is_no_takeover(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    first = taken(files, "one")
    real = files.compare_and_swap

    def cut(*words: Any) -> bool:
        real(*words)
        raise ConnectionError("the answer was lost")

    with monkeypatch.context() as broken:
        broken.setattr(files, "compare_and_swap", cut)
        with pytest.raises(ConnectionError):
            first.check()
    first.check()
    first.check()
    assert not first.is_lost


def test_a_holder_that_cannot_renew_stops_before_another_may_begin(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: Any) -> bool:
        raise ConnectionError("no route")

    with hold_lease(files, "one") as fence:
        monkeypatch.setattr(type(files), "compare_and_swap", unreachable)
        began = time.monotonic()
        while not fence.is_lost:
            assert time.monotonic() - began < 10
            time.sleep(0.01)
        assert time.monotonic() - began > SECONDS / 2
        with pytest.raises(RunError, match="could not be renewed for 0.6 s .no route"):
            fence.stop_if_lost()


def test_a_damaged_lease_is_named(files: Files) -> None:
    files.write(lease.FILE, b"{")
    with pytest.raises(DataError, match=r"lease\.json: damaged"):
        hold_lease(files, "one").__enter__()


@pytest.mark.s3
def test_a_storage_that_ignores_conditions_is_refused_with_a_way_out(careless_s3: str) -> None:
    with pytest.raises(ConfigError, match=r"does not keep to the condition of a write; .*`ledger: postgresql://"):
        hold_lease(files_at(f"{careless_s3}/data"), "one").__enter__()


def test_a_storage_without_conditions_is_refused_with_a_way_out(tmp_path: Path) -> None:
    other = ObjectFiles(fsspec.filesystem("file"), str(tmp_path))
    with pytest.raises(ConfigError, match=r"does not keep to the condition of a write; .*`ledger: postgresql://"):
        hold_lease(other, "one").__enter__()
