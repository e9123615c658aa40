"""A judge of a recipe: the model, how it is asked, and how its replies are read."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from pairsmith.config.base import Config, Name, Reasks, compiles, known, names_a_file
from pairsmith.config.check_kinds import is_pattern
from pairsmith.config.models import ModelSpec, Sampling
from pairsmith.config.plugins import Kind
from pairsmith.config.rubrics import CRITERIA
from pairsmith.text.templating import variables_in

JUDGE_PROMPT = Kind("judge prompt", "pairsmith.judge_prompts", (("messages", ("sheet",)), ("read", ("reply", "sheet"))))

SLOTS = ("prompt", "first", "second")  # of a reward model's input, each a text of the data
# What the templates of a judge's own format can show, and which groups its pattern has: by protocol.
_SHOWN = {"pointwise": ("text",), "pairwise": ("first", "second")}
_ABOUT = ("prompt", "reference", "criterion", "low", "high")
_GROUPS = {"pointwise": ("rating",), "pairwise": ("first", "second")}
_SLOT = re.compile(r"\{\{\s*(\w+)\s*\}\}")


class Comparisons(Config):
    """Which texts of a prompt a pairwise judge compares, where that is not each with each."""

    rounds: int | None = Field(
        None, ge=1, le=99, description="rounds of a Swiss draw: each text against one that has won as much as it"
    )
    against: Name | None = Field(None, description="each text against those of this member alone")

    @model_validator(mode="after")
    def _one_of_both(self) -> Comparisons:
        if (self.rounds is None) == (self.against is None):
            raise ValueError("give rounds or against, one of them")
        return self


class OwnFormat(Config):
    """How a model that was trained as a judge is asked, and how it answers, where that is in a format of its own.

    The templates show `prompt`, `reference`, `criterion`, `low` and `high`, and `text` or, in a comparison, `first` and
    `second`.
    """

    system: str | None = Field(None, description="template of the system message, as text or a file; none when absent")
    user: str = Field(min_length=1, description="template of the user's message, as text or a file")
    answer: str | None = Field(
        None,
        min_length=1,
        max_length=10_000,
        description="readout text: the pattern of the verdict in a reply, with a group (?P<rating>...) or, pairwise, "
        "(?P<first>...), (?P<second>...) and, if the model knows ties, (?P<tie>...)",
    )


class Judge(ModelSpec):
    """A model that rates. With `backend: reward`, it reads no instructions and gives each text a number."""

    is_judge: ClassVar[bool] = True
    counted_as: ClassVar[str] = "judge"

    name: Name = Field(description="the judge's name in tables and reports")
    sampling: Sampling = Field(
        Sampling(temperature=0.0, max_tokens=1024), description="how its replies are sampled; greedy by default"
    )
    protocol: Literal["listwise", "pointwise", "pairwise"] = Field(
        "listwise",
        description="all completions of a prompt in one request, one request each, or two at a time: which is better, "
        "asked in both orders",
    )
    readout: Literal["text", "json", "logprobs"] = Field(
        "text",
        description="how a rating is read: parsed text, constrained JSON, or digit probabilities; "
        "of a pairwise judge, a verdict or the probabilities of verdicts",
    )
    prompt: Annotated[str, JUDGE_PROMPT] | None = Field(
        None, description="a prompt of your own with what reads the replies; see docs/extending.md"
    )
    format: OwnFormat | None = Field(
        None,
        exclude_if=lambda format: format is None,  # so that it is in no digest of a recipe without one
        description="for a model that was trained as a judge: its own format, of what it is asked and what it answers",
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
    comparisons: Literal["all"] | Comparisons = Field(
        "all", description="pairwise: each text with each other, or fewer of them: {rounds: n} or {against: member}"
    )
    reasks: Reasks = 1
    seed: int = Field(0, description="seed of the order in which a listwise judge sees the texts")
    label: int | None = Field(
        None,
        ge=0,
        description="backend reward: which of the model's outputs is the score; may be absent if it has one. "
        "Pairwise: which of two outputs speaks for the first text; the first when absent",
    )
    input: str | None = Field(
        None,
        exclude_if=lambda template: template is None,
        description="backend reward, pairwise: all that the model reads, with {{ prompt }}, {{ first }} and "
        "{{ second }} in it, as text or a file; PairRM's own input when absent",
    )
    brings: dict[Name, Name] = Field(
        {},
        description="backend given: aspect -> the name under which the sources have its ratings, or its votes where "
        "the protocol is pairwise; that of the aspect where it is not named",
    )
    scale: tuple[float, float] | None = Field(
        None, description="backend reward: the scores that count as 1 and as 5 beside other judges"
    )

    @model_validator(mode="after")
    def _readable(self) -> Judge:
        if self.is_reward:
            _check_reward(self)
        elif self.label is not None or self.scale is not None:
            raise ValueError(f"judge {self.name}: label and scale go with backend reward, and only with it")
        elif self.input is not None:
            raise ValueError(f"judge {self.name}: input goes with backend reward; other models have format")
        if self.readout == "logprobs" and self.protocol == "listwise":
            raise ValueError(f"judge {self.name}: readout logprobs needs protocol pointwise or pairwise")
        if self.readout == "logprobs" and self.endpoint and not self.endpoint.rules.has_logprobs:
            raise ValueError(f"judge {self.name}: api {self.endpoint.api} gives no logprobs; use readout text or json")
        if self.brings and not self.is_given:
            raise ValueError(f"judge {self.name}: brings goes with backend given")
        if self.is_given and self.protocol == "pointwise":
            raise ValueError(f"judge {self.name}: protocol: ratings that are given have none; votes are pairwise")
        if self.orders > 1 and self.protocol != "listwise":
            raise ValueError(f"judge {self.name}: orders goes with protocol listwise")
        if self.comparisons != "all" and not self.is_pairwise:
            raise ValueError(f"judge {self.name}: comparisons goes with protocol pairwise")
        if self.prompt and self.is_pairwise:
            raise ValueError(f"judge {self.name}: a prompt of your own goes with protocol listwise or pointwise")
        if self.prompt and self.readout != "text":
            raise ValueError(f"judge {self.name}: a prompt of your own reads the replies itself; leave readout out")
        if self.format:
            _check_format(self, self.format)
        return self

    @property
    def is_reward(self) -> bool:
        return self.backend == "reward"

    @property
    def is_pairwise(self) -> bool:
        return self.protocol == "pairwise"

    @property
    def has_own_units(self) -> bool:
        """Whether its scores are on no aspect's scale but in the model's own units."""
        return self.is_reward and not self.is_pairwise

    @property
    def is_unscaled(self) -> bool:
        """Whether it has units of its own and the recipe does not say what they are on an aspect's scale."""
        return self.has_own_units and self.scale is None

    @property
    def rounds(self) -> int:
        """How many times it is asked about a prompt, each time knowing what it said before."""
        return (self.comparisons.rounds or 1) if self.comparisons != "all" else 1

    @property
    def against(self) -> str | None:
        """The member with whose texts alone it compares the others; None where it compares all."""
        return self.comparisons.against if self.comparisons != "all" else None

    @property
    def form(self) -> str:
        """How it is asked, in few words."""
        if self.aspects == (CRITERIA,):
            return f"criteria, {self.readout}"
        if self.is_reward:
            return "pairwise, reward" if self.is_pairwise else "reward"
        orders = [f"{self.orders} orders"] if self.orders > 1 else []
        own = ["own format"] if self.format else []
        return ", ".join([self.protocol, "own prompt" if self.prompt else self.readout, *own, *orders])


def _check_reward(judge: Judge) -> None:
    """Refuse what a reward model cannot be told, since it is asked nothing."""
    fields = Judge.model_fields
    compares = () if judge.is_pairwise else ("protocol", "comparisons", "seed")
    asking = ("sampling", "readout", "prompt", "format", "rationale", "critique", "orders", "reasks", *compares)
    given = [name for name in asking if getattr(judge, name) != fields[name].default]
    if given:
        raise ValueError(f"judge {judge.name}: a reward model is asked nothing; leave {', '.join(given)} out")
    if len(judge.aspects) > 1 or judge.aspects == ("critique",):
        raise ValueError(f"judge {judge.name}: aspects: a reward model scores one, and no critique")
    if judge.scale and judge.is_pairwise:
        raise ValueError(f"judge {judge.name}: scale: a pairwise judge's scores are on the aspect's; leave scale out")
    if judge.scale and not judge.scale[0] < judge.scale[1]:
        raise ValueError(f"judge {judge.name}: scale: {judge.scale[0]:g} must be less than {judge.scale[1]:g}")
    if judge.input is None:
        return
    if not judge.is_pairwise:
        raise ValueError(f"judge {judge.name}: input goes with protocol pairwise; else the chat template says it all")
    _not_a_file(judge.input, f"judge {judge.name}: input")
    literals, names = input_parts(judge.input)
    if sorted(names) != sorted(SLOTS) or not all(literals[1:-1]):
        raise ValueError(
            f"judge {judge.name}: input: put {{{{ prompt }}}}, {{{{ first }}}} and {{{{ second }}}} into it, "
            "each once, with what keeps them apart between them"
        )


def input_parts(template: str) -> tuple[list[str], list[str]]:
    """The texts around the slots of a reward model's input, and the names of the slots, one fewer.

    >>> input_parts("Q: {{ prompt }} A: {{first}}")
    (['Q: ', ' A: ', ''], ['prompt', 'first'])
    """
    parts = _SLOT.split(template)
    return parts[::2], parts[1::2]


def _check_format(judge: Judge, form: OwnFormat) -> None:
    """Refuse a format that could not be asked, or whose answers could not be read."""
    where = f"judge {judge.name}: format"
    if judge.prompt or judge.readout == "json" or judge.protocol == "listwise" or judge.is_given:
        raise ValueError(
            f"{where} goes with protocol pointwise or pairwise, readout text or logprobs, and without prompt"
        )
    shown, templates = _SHOWN[judge.protocol], {"system": form.system or "", "user": form.user}
    for name, template in templates.items():
        _not_a_file(template, f"{where}.{name}")
        compiles(template, f"{where}.{name}")
        known(f"{where}.{name}", variables_in(template), (*_ABOUT, *shown))
    if lacking := [name for name in shown if name not in variables_in(form.user)]:
        raise ValueError(f"{where}.user: it does not show {{{{ {lacking[0]} }}}}, so the model would not see it")
    if (form.answer is None) == (judge.readout == "text"):
        raise ValueError(f"{where}.answer goes with readout text, and only with it")
    if form.answer is not None:
        groups = is_pattern(form.answer, f"{where}.answer")
        if lacking := [name for name in _GROUPS[judge.protocol] if name not in groups]:
            raise ValueError(f"{where}.answer: with protocol {judge.protocol} it needs a group (?P<{lacking[0]}>...)")


def _not_a_file(text: str, where: str) -> None:
    if names_a_file(text):
        raise ValueError(f"{where}: give the text itself; {text} was not read in")
