"""Settings of memory on systems whose C library does not have them."""

from __future__ import annotations

import ctypes
import gc

import pytest

from pairsmith.memory import frugal_memory, give_back


@pytest.mark.parametrize("error", [TypeError, OSError, AttributeError])
def test_a_system_without_glibc_goes_without(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: object) -> None:
        raise error("no such library")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    before = gc.get_threshold()
    with frugal_memory():
        give_back()
        assert gc.get_threshold() != before
    assert gc.get_threshold() == before
