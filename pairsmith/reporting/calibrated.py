"""What a report says of a recipe's calibration: how right its judges are, on what gold, and how old that is."""

from __future__ import annotations

from datetime import datetime

from pairsmith.config import Calibration
from pairsmith.reporting.markdown import Table
from pairsmith.reporting.ratios import COIN


def accuracy_text(calibration: Calibration) -> str:
    """How right the judges are on gold that they were not fitted to, with the 95% interval."""
    right = calibration.right
    return f"{share_text(right.share, (right.low, right.high))} of {right.of:,} pairs"


def share_text(share: float, interval: tuple[float, float]) -> str:
    """A share with its interval.

    >>> share_text(0.725, (0.651, 0.789))
    '72.5% (65% to 79%)'
    """
    low, high = interval
    return f"{share:.1%} ({low:.0%} to {high:.0%})"


def is_chance(calibration: Calibration) -> bool:
    """Whether nothing shows that the judges are better than a coin."""
    return calibration.right.low <= COIN


def age_text(calibration: Calibration, now: datetime) -> str:
    """When it was made, and how long before `now` that is."""
    days = calibration.age(now)
    return f"{calibration.made_at:%Y-%m-%d}, {days:,} {'day' if days == 1 else 'days'} before this version"


def calibration_tables(calibration: Calibration | None, now: datetime) -> dict[str, Table]:
    """The calibration as tables, each with its title; none without a calibration."""
    if calibration is None:
        return {}
    gold = calibration.gold
    facts = {
        "right": accuracy_text(calibration),
        "gold": gold.name,
        "pairs": gold.pairs,
        "hash": gold.digest[:12],
        "made": age_text(calibration, now),
    }
    judges = [
        {
            "judge": name,
            "asked": judge.form,
            "model": judge.model,
            "revision": (judge.revision or "")[:12],
            "weight": round(judge.weight, 4),
            "offset": round(judge.offset, 4),
        }
        for name, judge in sorted(calibration.judges.items())
    ]
    return {"Calibration on gold": [facts], "What each judge counts": judges}
