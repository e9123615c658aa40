"""The table at the end of a session: how often each fault was tried, what was lost and repeated, how its tests ended.

It is made of the tests' reports, so tests may run in several processes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import pytest

TALLY = "tally"  # the property of a report: trials, lost, repeated
_NAME = re.compile(r"test_([fsh])0?(\d+)_")


@dataclass
class Row:
    """What the tests of one fault noted, and how they ended."""

    trials: int | None = None
    lost: int = 0
    repeated: int = 0
    ended: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        return next((end for end in ("FAILED", "passed") if end in self.ended), "skipped")

    def add(self, trials: int, lost: int, repeated: int) -> None:
        self.trials = (self.trials or 0) + trials
        self.lost += lost
        self.repeated += repeated


_rows: dict[tuple[str, int], Row] = {}  # by kind and number of the fault


def fault_of(name: str) -> tuple[str, int] | None:
    """Kind and number of the fault that a test's name tells.

    >>> fault_of("test_f01_a_kill"), fault_of("test_other")
    (('F', 1), None)
    """
    found = _NAME.match(name)
    return (found[1].upper(), int(found[2])) if found else None


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    fault = fault_of(report.nodeid.rpartition("::")[2])
    if not fault:
        return
    row = _rows.setdefault(fault, Row())
    if report.when == "call" or report.outcome != "passed":
        row.ended.append("FAILED" if report.failed else str(report.outcome))
    if report.when == "teardown":  # the last report has all that a test noted
        for name, noted in report.user_properties:
            if name == TALLY:
                row.add(*noted)  # type: ignore[misc]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not _rows:
        return
    terminalreporter.section("faults")
    terminalreporter.line(f"{'fault':<6}{'trials':>8}{'lost':>8}{'repeated':>10}  verdict")
    for (kind, number), row in sorted(_rows.items()):
        numbers = ("", "", "") if row.trials is None else (row.trials, row.lost, row.repeated)
        terminalreporter.line("{:<6}{:>8}{:>8}{:>10}  {}".format(f"{kind}{number}", *numbers, row.verdict))
