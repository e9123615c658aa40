"""Settings of memory on systems whose C library does not have them."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator

import pytest

from pairsmith.memory import frugal_memory, give_back

PYTHONS = (700, 10, 10)


@pytest.fixture(autouse=True)
def nothing_frozen() -> Iterator[None]:
    """As in a process that has just started; the tests' own is within such a block."""
    before = gc.get_threshold()
    gc.unfreeze()
    gc.set_threshold(*PYTHONS)
    yield
    gc.set_threshold(*before)
    gc.freeze()


@pytest.mark.parametrize("error", [TypeError, OSError, AttributeError])
def test_a_system_without_glibc_goes_without(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: object) -> None:
        raise error("no such library")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with frugal_memory():
        give_back()
        assert gc.get_threshold() != PYTHONS
    assert gc.get_threshold() == PYTHONS


def test_a_block_within_another_looks_through_nothing_and_leaves_the_outer_one_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with frugal_memory():
        within = gc.get_threshold()
        monkeypatch.setattr(gc, "collect", lambda: pytest.fail("looked through all objects again"))
        with frugal_memory():
            pass
        assert gc.get_threshold() == within
        assert gc.get_freeze_count()
