"""Fixtures of the tests of the library."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest

from pairsmith.llms.echo import Echo


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each model of the echo backend was asked."""
    found, lock, answer = Counter[str](), threading.Lock(), Echo.answer

    def counted(self: Echo, request: Any) -> Any:
        with lock:
            found[self.identity.model] += 1
        return answer(self, request)

    monkeypatch.setattr(Echo, "answer", counted)
    return found
