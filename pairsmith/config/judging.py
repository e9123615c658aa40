"""Judges, aspects, and how the ratings of several judges are aggregated."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from pairsmith.config.base import Config, Name, known, names_a_file, unique
from pairsmith.config.check_kinds import Check
from pairsmith.config.models import ModelSpec, Sampling, differ
from pairsmith.config.plugins import Kind

Aggregation = Literal["mean", "median", "trimmed", "z-scored"]
AGGREGATION = Kind("aggregation", "pairsmith.aggregations", (("", ("scores", "weights")),), get_args(Aggregation))
JUDGE_PROMPT = Kind("judge prompt", "pairsmith.judge_prompts", (("messages", ("sheet",)), ("read", ("reply", "sheet"))))
ASPECTS = ("helpfulness", "honesty", "instruction-following", "truthfulness", "overall")


class Judge(ModelSpec):
    """A model that rates. With `backend: reward`, it reads no instructions and gives each text a number."""

    is_judge: ClassVar[bool] = True

    name: Name = Field(description="the judge's name in tables and reports")
    sampling: Sampling = Field(
        Sampling(temperature=0.0, max_tokens=1024), description="how its replies are sampled; greedy by default"
    )
    protocol: Literal["listwise", "pointwise"] = Field(
        "listwise", description="all completions of a prompt in one request, or one request each"
    )
    readout: Literal["text", "json", "logprobs"] = Field(
        "text", description="how a rating is read: parsed text, constrained JSON, or digit probabilities"
    )
    prompt: Annotated[str, JUDGE_PROMPT] | None = Field(
        None, description="a prompt of your own with what reads the replies; see docs/extending.md"
    )
    rationale: bool = Field(True, description="ask for the reason of each rating")
    critique: bool = Field(False, description="also ask for free feedback with an overall 1-10 score")
    aspects: tuple[Name, ...] = Field(
        (),
        description="those of the recipe's aspects that it rates; all when empty. "
        "Backend reward: the one that its scores stand under; overall when empty",
    )
    weight: float = Field(1.0, gt=0, description="weight among the judges of the recipe")
    orders: int = Field(1, ge=1, le=24, description="listwise: rate in so many orders of the texts, and take the mean")
    reasks: int = Field(
        1, ge=0, le=5, description="times to ask again, with what was wrong, for what could not be read"
    )
    seed: int = Field(0, description="seed of the order in which a listwise judge sees the texts")
    label: int | None = Field(
        None, ge=0, description="backend reward: which of the model's outputs is the score; may be absent if it has one"
    )
    scale: tuple[float, float] | None = Field(
        None, description="backend reward: the scores that count as 1 and as 5 beside other judges"
    )

    @model_validator(mode="after")
    def _readable(self) -> Judge:
        if self.is_reward:
            self._asks_nothing()
        elif self.label is not None or self.scale is not None:
            raise ValueError(f"judge {self.name}: label and scale go with backend reward, and only with it")
        if self.readout == "logprobs" and self.protocol == "listwise":
            raise ValueError(f"judge {self.name}: readout logprobs needs protocol pointwise")
        if self.readout == "logprobs" and self.endpoint and not self.endpoint.rules.has_logprobs:
            raise ValueError(f"judge {self.name}: api {self.endpoint.api} gives no logprobs; use readout text or json")
        if self.orders > 1 and self.protocol == "pointwise":
            raise ValueError(f"judge {self.name}: orders goes with protocol listwise")
        if self.prompt and self.readout != "text":
            raise ValueError(f"judge {self.name}: a prompt of your own reads the replies itself; leave readout out")
        return self

    def _asks_nothing(self) -> None:
        fields = type(self).model_fields
        asking = ("sampling", "protocol", "readout", "prompt", "rationale", "critique", "orders", "reasks", "seed")
        given = [name for name in asking if getattr(self, name) != fields[name].default]
        if given:
            raise ValueError(f"judge {self.name}: a reward model is asked nothing; leave {', '.join(given)} out")
        if len(self.aspects) > 1 or self.aspects == ("critique",):
            raise ValueError(f"judge {self.name}: aspects: a reward model scores one, and no critique")
        if self.scale and not self.scale[0] < self.scale[1]:
            raise ValueError(f"judge {self.name}: scale: {self.scale[0]:g} must be less than {self.scale[1]:g}")

    @property
    def is_reward(self) -> bool:
        return self.backend == "reward"


class Rubric(Config):
    """An aspect of your own: what is rated, and on which scale."""

    criterion: str = Field(min_length=1, description="what is rated and what the numbers mean, as text or a file")
    low: int = Field(1, ge=0, le=100, description="the worst rating")
    high: int = Field(5, ge=1, le=100, description="the best rating")
    items: tuple[str, ...] = Field((), description="pass or fail each: the rating is how many a text passes")
    may_be_na: bool = Field(False, description="a judge may say that it does not apply")

    @model_validator(mode="after")
    def _scale(self) -> Rubric:
        if self.items and (self.low, self.high) != (1, 5):
            raise ValueError("a rubric with items is rated from 0 to their number; leave low and high out")
        if not self.items and self.low >= self.high:
            raise ValueError(f"low must be less than high; they are {self.low} and {self.high}")
        return self

    @property
    def scale(self) -> tuple[int, int]:
        """Lowest and highest rating."""
        return (0, len(self.items)) if self.items else (self.low, self.high)


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
    aggregation: Annotated[str, AGGREGATION] = Field(
        "mean",
        description="how the ratings that several judges give a text in an aspect become one: median (weights do not "
        "count), trimmed (the mean without the lowest and the highest), z-scored (the mean of z-scores, of which each "
        "judge's are taken among the texts of a prompt)",
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
        if sum(judge.is_given for judge in self.judges) > 1:
            raise ValueError("rating.judges: one judge with backend given brings all ratings that the sources give")
        unique("rating.checks", [*{*self.aspects, *self.judged_aspects}, *(check.name for check in self.checks)])
        differ("rating.judges", {judge.name: judge for judge in self.judges if not judge.is_given})
        for judge in self.judges:
            if not judge.is_reward:
                known(f"rating.judges.{judge.name}.aspects", judge.aspects, self.aspects)
        unique("rating.aspects", self.aspects)
        known("rating.aspects", self.aspects, (*ASPECTS, *self.rubrics))
        clash = sorted({*ASPECTS, "critique"} & set(self.rubrics))
        if clash:
            raise ValueError(f"rating.rubrics: {clash} are aspects of pairsmith's own; choose other names")
        for name, rubric in self.rubrics.items():
            if names_a_file(rubric.criterion):
                raise ValueError(f"rating.rubrics.{name}: give the text itself; {rubric.criterion} was not read in")
        long = [name for name, rubric in self.rubrics.items() if name in self.aspects and rubric.scale[1] > 9]
        if any(judge.readout == "logprobs" and set(long) & set(self.aspects_of(judge)) for judge in self.judges):
            raise ValueError(f"readout logprobs reads one digit; the scale of {long} goes beyond 9")
        self._rewards_fit_in()
        return self

    def _rewards_fit_in(self) -> None:
        """Refuse judges whose scores are on different scales and would be averaged, or that would leave texts without
        a rating in some aspect."""
        rewards = [judge for judge in self.judges if judge.is_reward]
        default = ["overall"] if rewards else []
        unrated = [aspect for aspect in self.aspects if aspect not in (*self.judged_aspects, *default)]
        if self.judges and unrated:
            raise ValueError(f"rating.aspects: no judge rates {unrated}; see the judges' own aspects")
        others = len(self.judges) + sum(not check.gate for check in self.checks) > 1
        unscaled = [judge.name for judge in rewards if judge.scale is None]
        if unscaled and others and self.aggregation != "z-scored":
            raise ValueError(
                f"rating.judges: the scores of {unscaled} have no scale, so they cannot be averaged with others; "
                "give scale: [low, high], or aggregation: z-scored"
            )
        if rewards and self.own_family == "skip" and len({self.aspects_of(judge) for judge in self.judges}) > 1:
            raise ValueError("rating.own_family skip needs judges that all rate the same aspects")

    def aspects_of(self, judge: Judge) -> tuple[str, ...]:
        """The aspects that a judge rates: those that it names; if it names none, all, or overall for a reward model."""
        return judge.aspects or (("overall",) if judge.is_reward else self.aspects)

    @property
    def judged_aspects(self) -> list[str]:
        """The aspects that at least one judge rates."""
        return list(dict.fromkeys(aspect for judge in self.judges for aspect in self.aspects_of(judge)))

    @property
    def raters(self) -> list[str]:
        """Names of all that rate: the judges, and one name for all checks."""
        return [judge.name for judge in self.judges] + ([CHECKS] if self.checks else [])

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
