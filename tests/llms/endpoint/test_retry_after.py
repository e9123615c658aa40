"""How long an endpoint asks to wait."""

from __future__ import annotations

import pytest

from pairsmith.llms.endpoint.wire import retry_after


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "20"}, 0.02),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),  # the finer of the two
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2.0),
        ({"retry-after": "1.5"}, 1.5),
        ({}, 0.0),
    ],
)
def test_milliseconds_and_seconds_are_told_apart(headers: dict[str, str], seconds: float) -> None:
    assert retry_after(headers) == pytest.approx(seconds)
