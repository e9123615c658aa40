"""How far a proof is, as the terminal says it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pairsmith.worth.arms import Arm, pair_of
from pairsmith_flows.cli import proof_commands
from pairsmith_flows.cli.proof_commands import Shown, span

SIDES = {side: [{"role": "user", "content": side}] for side in ("prompt", "chosen", "rejected")}
UNTRAINED, *TRAINED = (
    Arm("", False, 0, ()),
    *(Arm("a", False, n, (pair_of({"prompt_id": "p", **SIDES}),)) for n in (0, 1)),
)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in seconds, as a list of one."""
    now = [100.0]
    monkeypatch.setattr(proof_commands.time, "monotonic", lambda: now[0])
    return now


def test_progress_has_a_rate_and_the_time_left_and_is_told_every_ten_seconds(clock: list[float]) -> None:
    out = io.StringIO()
    shown = Shown(Console(file=out, width=120), 3)
    shown.begin(UNTRAINED, False)
    clock[0] += 300
    shown.begin(TRAINED[0], False)
    for done in range(0, 41, 8):
        shown.tell("training", done, 200)
        clock[0] += 4
    clock[0] += 576
    shown.begin(TRAINED[1], False)
    assert out.getvalue().splitlines() == [
        "arm 1 of 3: untrained",
        "arm 2 of 3: a, seed 0",
        "  training: 24 of 200, 2 a second, 1 min left",
        "arm 3 of 3: a, seed 1, about 10 min left",
    ]


def test_an_arm_of_an_earlier_run_is_told_as_such_and_tells_nothing_of_the_time(clock: list[float]) -> None:
    out = io.StringIO()
    shown = Shown(Console(file=out, width=120), 3)
    for arm, is_kept in ((UNTRAINED, True), (TRAINED[0], True), (TRAINED[1], False)):
        shown.begin(arm, is_kept)
    assert out.getvalue().splitlines() == [
        "arm 1 of 3: untrained, done before",
        "arm 2 of 3: a, seed 0, done before",
        "arm 3 of 3: a, seed 1",
    ]


@pytest.mark.parametrize(("seconds", "told"), [(45, "45 s"), (125, "2 min"), (3599, "1 h 0 min"), (4000, "1 h 7 min")])
def test_a_time_as_a_person_says_it(seconds: float, told: str) -> None:
    assert span(seconds) == told
