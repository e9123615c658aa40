"""A calibration: what judges are worth by gold, as `pairsmith calibrate --write` makes it and `rating` uses it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, Field

from pairsmith.config.base import Config, Name


class GoldFacts(Config):
    """The gold that judges were held to."""

    name: str = Field(description="the gold file's name")
    pairs: int = Field(ge=1, description="how many of its pairs were used, each with one answer that is better")
    digest: str = Field(description="hash of those pairs and of which answer is better")


class Right(Config):
    """How often something was right about gold that it was not fitted to."""

    count: float = Field(ge=0, description="pairs about which it was right, a tie as half")
    of: int = Field(ge=0, description="pairs of which it scored both answers")
    low: float = Field(ge=0, le=1, description="lower end of the 95% interval of the share")
    high: float = Field(ge=0, le=1, description="upper end of it")

    @property
    def share(self) -> float:
        return self.count / self.of if self.of else 0.0


class CalibratedJudge(Config):
    """What a judge's scores count: weight x (score - offset), added up over the judges."""

    weight: float = Field(ge=0, description="log odds for each point of its score; 0 leaves it out")
    offset: float = Field(description="its mean score of the gold's answers")
    model: str = Field(description="the model that it asked")
    revision: str | None = Field(None, description="the revision of that model")
    form: str = Field(description="how it was asked: protocol and readout")
    mark: str = Field(description="hash of all that decides its scores")


class Calibration(Config):
    """Weights and offsets of the judges, fitted to gold by `pairsmith calibrate`; not to be written by hand."""

    format: Literal[1] = Field(1, description="format of the calibration")
    made_at: AwareDatetime = Field(description="when it was made")
    gold: GoldFacts = Field(description="on what")
    judges: dict[Name, CalibratedJudge] = Field(min_length=1, description="judge -> what its scores count")
    right: Right = Field(description="the judges together, fitted on one half of the gold and scored on the other")

    def age(self, now: datetime) -> int:
        """Whole days between its making and `now`; 0 where it was made later."""
        return max(0, (now - self.made_at).days)

    @property
    def decides(self) -> dict[str, tuple[float, float]]:
        """All of it that decides scores: the weight and offset of each judge."""
        return {name: (judge.weight, judge.offset) for name, judge in sorted(self.judges.items())}
