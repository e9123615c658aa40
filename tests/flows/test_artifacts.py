"""The line that a run says once a minute."""

from __future__ import annotations

import pytest

from pairsmith.progress import Progress
from pairsmith_flows.artifacts import StageCounts, duration


def test_a_line_says_how_far_each_stage_is_how_fast_and_how_long_the_slowest_takes() -> None:
    done = StageCounts()
    done.note(Progress("generate", 900.0, tokens=6_000, replies=1_800))
    done.note(Progress("rate", 100.0, tokens=600, replies=200))
    assert done.told(["generate", "rate", "pair"], 1_000, 60.0) == (
        "generate 900 of 1,000; rate 100 of 1,000; pair 0 of 1,000 prompts; 33.3 replies/s, 110 tokens/s; "
        "about 9 min left"
    )


def test_what_is_done_or_has_not_begun_tells_no_time() -> None:
    done = StageCounts()
    done.note(Progress("generate", 10.4, replies=1))
    assert done.told(["generate", "rate"], 10, 2.0) == (
        "generate 10 of 10; rate 0 of 10 prompts; 0.5 replies/s, 0 tokens/s"
    )


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, "0 s"), (89, "89 s"), (90, "2 min"), (3_600, "60 min"), (9_000, "2.5 h")]
)
def test_durations(seconds: float, told: str) -> None:
    assert duration(seconds) == told
