"""What is rated, by which judges, and how the ratings of several judges are aggregated."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from pairsmith.config.base import Config, Name, known, names_a_file, unique
from pairsmith.config.calibration import Calibration
from pairsmith.config.check_kinds import Check
from pairsmith.config.judges import Judge
from pairsmith.config.models import differ
from pairsmith.config.plugins import Kind
from pairsmith.config.rubrics import CRITERIA, Criteria, Rubric

Aggregation = Literal["mean", "median", "trimmed", "z-scored"]
AGGREGATION = Kind("aggregation", "pairsmith.aggregations", (("", ("scores", "weights")),), get_args(Aggregation))
ASPECTS = ("helpfulness", "honesty", "instruction-following", "truthfulness", "overall")


CHECKS = "checks"  # the name under which the results of all checks appear as those of one judge


class Rating(Config):
    """Who rates completions, in which aspects, and how several ratings become one score."""

    judges: tuple[Judge, ...] = Field(
        (), description="the models that rate, and what the sources bring; may be empty where there are checks"
    )
    checks: tuple[Check, ...] = Field((), description="judges that are programs, each an aspect of its own or a gate")
    aspects: tuple[Name, ...] = Field(
        ("overall",), min_length=1, description=f"what is rated: of {', '.join(ASPECTS)}, and those in rubrics"
    )
    rubrics: dict[Name, Rubric] = Field({}, description="own aspects: name -> what is rated, on which scale")
    criteria: Criteria | None = Field(
        None,
        exclude_if=lambda criteria: criteria is None,  # so that it is in no digest of a recipe without them
        description="yes/no questions written for each prompt, which judges answer under the aspect criteria; "
        "see docs/criteria.md",
    )
    aggregation: Annotated[str, AGGREGATION] = Field(
        "mean",
        description="how the ratings that several judges give a text in an aspect become one: median (weights do not "
        "count), trimmed (the mean without the lowest and the highest), z-scored (the mean of z-scores, of which each "
        "judge's are taken among the texts of a prompt)",
    )
    calibration: Calibration | str | None = Field(
        None,
        exclude_if=lambda calibration: calibration is None,  # so that it is in no digest of a recipe without one
        description="file that `pairsmith calibrate --write` made: the judges' scores count by its weights, and are "
        "log odds that people would call a text the better one",
    )
    own_family: Literal["auto", "rate", "skip"] = Field(
        "auto",
        description="may a judge rate texts of its own family? "
        "auto: a judge of a member's family rates nothing where judges of other families rate all that it would",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Rating:
        if not self.judges and not self.checks:
            raise ValueError("rating needs judges or checks")
        unique("rating.judges", [CHECKS, *(judge.name for judge in self.judges)])
        _check_given_judges(self)
        unique("rating.checks", [check.name for check in self.checks])
        for check in self.checks:
            if check.name in {*self.aspects, *self.judged_aspects}:
                raise ValueError(
                    f"rating.checks.{check.name}.name: the judges rate an aspect {check.name} too; rename "
                    "the check, or leave the aspect out of rating.aspects"
                )
        differ("rating.judges", {judge.name: judge for judge in self.judges if not judge.is_given})
        for judge in self.judges:
            if not judge.is_reward:
                known(f"rating.judges.{judge.name}.aspects", judge.aspects, self.aspects)
        unique("rating.aspects", self.aspects)
        written = [CRITERIA] if self.criteria else []
        known("rating.aspects", self.aspects, (*ASPECTS, *self.rubrics, *written))
        clash = sorted({*ASPECTS, "critique", *written} & set(self.rubrics))
        if clash:
            raise ValueError(f"rating.rubrics: {clash} are aspects of pairsmith's own; choose other names")
        for name, rubric in self.rubrics.items():
            if names_a_file(rubric.criterion):
                raise ValueError(f"rating.rubrics.{name}: give the text itself; {rubric.criterion} was not read in")
        long = [name for name, rubric in self.rubrics.items() if name in self.aspects and rubric.scale[1] > 9]
        digits = [judge for judge in self.judges if judge.readout == "logprobs" and not judge.is_pairwise]
        if any(set(long) & set(self.aspects_of(judge)) for judge in digits):
            raise ValueError(f"readout logprobs reads one digit; the scale of {long} goes beyond 9")
        _check_calibration(self)
        self._rewards_fit_in()
        return self

    @property
    def calibrated(self) -> Calibration | None:
        """The calibration by which the judges' scores count."""
        return None if isinstance(self.calibration, str) else self.calibration

    def _rewards_fit_in(self) -> None:
        """Refuse judges whose scores are on different scales and would be averaged, or that would leave texts without
        a rating in some aspect."""
        rewards = [judge for judge in self.judges if judge.is_reward]
        default = ["overall"] if rewards else []
        unrated = [aspect for aspect in self.aspects if aspect not in (*self.judged_aspects, *default)]
        if self.judges and unrated:
            raise ValueError(f"rating.aspects: no judge rates {unrated}; see the judges' own aspects")
        others = len(self.judges) + sum(not check.gate for check in self.checks) > 1
        unscaled = [judge.name for judge in rewards if judge.is_unscaled]
        if unscaled and others and self.aggregation != "z-scored" and self.calibration is None:
            raise ValueError(
                f"rating.judges: the scores of {unscaled} have no scale, so they cannot be averaged with others; "
                "give scale: [low, high], aggregation: z-scored, or calibration"
            )
        if rewards and self.own_family == "skip" and len({self.aspects_of(judge) for judge in self.judges}) > 1:
            raise ValueError("rating.own_family skip needs judges that all rate the same aspects")

    def aspects_of(self, judge: Judge) -> tuple[str, ...]:
        """The aspects that a judge rates: those that it names or brings; if it names none, all, or overall for a reward
        model."""
        return judge.aspects or tuple(judge.brings) or (("overall",) if judge.is_reward else self.aspects)

    @property
    def is_continuous(self) -> bool:
        """Whether scores can differ by next to nothing: probabilities of digits, rewards, z-scores.

        Ratings are whole numbers otherwise, and their means over aspects, orders and judges have steps.
        """
        judged = any(judge.readout == "logprobs" or judge.is_reward for judge in self.judges)
        return judged or self.aggregation == "z-scored"

    @property
    def judged_aspects(self) -> list[str]:
        """The aspects that at least one judge rates."""
        return list(dict.fromkeys(aspect for judge in self.judges for aspect in self.aspects_of(judge)))

    @property
    def raters(self) -> list[str]:
        """Names of all that rate: the judges, and one name for all checks."""
        return [judge.name for judge in self.judges] + ([CHECKS] if self.checks else [])

    @property
    def scorers(self) -> list[str]:
        """Names of the raters who give scores: not the checks where all of them are gates."""
        gates_only = all(check.gate for check in self.checks)
        return [name for name in self.raters if name != CHECKS or not gates_only]

    @property
    def unasked(self) -> list[str]:
        """Names of the raters that ask no model."""
        return [judge.name for judge in self.judges if judge.is_given] + ([CHECKS] if self.checks else [])

    def scale_of(self, aspect: str) -> tuple[int, int]:
        """Lowest and highest rating of an aspect."""
        if any(check.name == aspect for check in self.checks):
            return 0, 1
        return self.rubrics[aspect].scale if aspect in self.rubrics else (1, 5)

    def rates(self, judge: Judge, family: str, pool: Collection[str]) -> bool:
        """Whether a judge rates texts of a family. `pool`: the families of all members.

        With `auto`, a judge rates all texts or none: if it rated only some texts of a prompt, the others' scores would
        depend on how lenient their judges are.
        """
        if self.own_family == "auto":
            neutral = [other for other in self.judges if other.family_name not in pool and not other.is_given]
            covered = {aspect for other in neutral for aspect in self.aspects_of(other)}
            return judge.family_name not in pool or not covered.issuperset(self.aspects_of(judge))
        return self.own_family == "rate" or judge.family_name != family

    def judge(self, name: str) -> Judge:
        return next(judge for judge in self.judges if judge.name == name)


def _check_given_judges(rating: Rating) -> None:
    """Refuse judges that bring the same ratings, and aspects to bring that are none of the recipe's."""
    first: dict[tuple[bool, str], str] = {}
    for judge in rating.judges:
        known(f"rating.judges.{judge.name}.brings", judge.brings, judge.aspects or rating.aspects)
        for aspect in rating.aspects_of(judge) if judge.is_given else ():
            name = judge.brings.get(aspect, aspect)
            other = first.setdefault((judge.is_pairwise, name), judge.name)
            if other != judge.name:
                what = "votes" if judge.is_pairwise else "ratings"
                raise ValueError(
                    f"rating.judges: {other} and {judge.name} would bring the same {what}, {name} of the sources; "
                    f"name others in their brings, as in brings: {{{aspect}: {judge.name}}}"
                )


def _check_calibration(rating: Rating) -> None:
    """Refuse a calibration of other judges, and what would decide the scores beside it."""
    if rating.calibrated is None:
        if rating.calibration is not None:
            raise ValueError(f"rating.calibration: {rating.calibration} was not read in; give its content")
        return
    names, known = {judge.name for judge in rating.judges}, rating.calibrated.judges
    if unknown := sorted(names - {*known}):
        raise ValueError(f"rating.calibration: it knows nothing of {unknown}; run pairsmith calibrate with them")
    if lacking := sorted(name for name, judge in known.items() if judge.weight and name not in names):
        raise ValueError(f"rating.calibration: it counts {lacking}, which are no judges of the recipe")
    if any(not check.gate for check in rating.checks):
        raise ValueError("rating.calibration: checks have no weight in it; make them gates, or leave it out")
    if rating.aggregation != "mean":
        raise ValueError("rating.calibration: it says how scores become one; leave aggregation out")
    if weighted := [judge.name for judge in rating.judges if judge.weight != 1]:
        raise ValueError(f"rating.calibration: it has the weights; leave weight of {weighted} out")
