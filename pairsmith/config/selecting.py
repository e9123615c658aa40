"""How pairs are selected."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError, model_validator

from pairsmith.config.base import Config, Name, unique
from pairsmith.config.plugins import Kind, Reference
from pairsmith.ids import draw

Strategy = Literal[
    "best-vs-worst",
    "best-vs-random",
    "best-vs-second",
    "best-vs-low",
    "per-aspect",
    "evolved-vs-original",
    "member-order",
    "all-above-margin",
]
SIGNAL = "signal"  # the column that names a pair's signal, where a recipe has signals
STRATEGY = Kind("strategy", "pairsmith.strategies", (("", ("candidates", "pairing")),), get_args(Strategy))


class Guard(Config):
    """What happens to completions that address a judge, contain parts of a template, or repeat for many prompts."""

    on_flag: Literal["report", "not-chosen", "drop"] = Field(
        "report", description="only count them; or never choose them; or let them be no candidates at all"
    )
    repeated: int | None = Field(
        None,
        ge=2,
        description="flag a text that was given to so many different prompts or more; no text when absent",
    )


class Encoder(Config):
    """A sentence model in this process: two texts are as alike as the cosine of their mean token embeddings."""

    model: str = Field(min_length=1, description="Hugging Face id or a local folder")
    revision: str | None = Field(
        None, description="commit, branch or tag of the model on the hub; its main branch when absent"
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")


class LengthGap(Config):
    """How much longer one text of a pair may be than the other."""

    most: int = Field(ge=0, description="most difference of their lengths")
    tokenizer: str | None = Field(
        None,
        min_length=1,
        description="lengths are in tokens of this tokenizer, a Hugging Face id or a local folder; "
        "in characters when absent",
    )
    revision: str | None = Field(
        None, description="commit, branch or tag of the tokenizer on the hub; its main branch when absent"
    )

    @model_validator(mode="after")
    def _revision_of_a_tokenizer(self) -> LengthGap:
        if self.revision and not self.tokenizer:
            raise ValueError("max_length_difference: revision goes with tokenizer")
        return self


class Selecting(Config):
    """How the pairs of a prompt are selected, as far as it can differ between the signals of a data set."""

    strategy: Annotated[str, STRATEGY] = Field(
        "best-vs-worst", description="which completions are paired; see docs/judging.md"
    )
    length_penalty: float = Field(
        0.0, ge=0, description="taken off the score for each thousand characters of a text, when candidates are ranked"
    )
    low_deviations: float = Field(
        2.0, ge=0, description="best-vs-low: reject the text nearest to so many standard deviations below the mean"
    )
    min_margin: float = Field(0.0, ge=0, description="least difference of the scores; ties never pair")
    min_difference: float | None = Field(
        None,
        ge=0,
        exclude_if=lambda least: least is None,  # so that it is in no digest of a recipe that does not name it
        description="least difference of the scores that the judges gave, before length control and penalty; two texts "
        "nearer to each other are a tie. When absent 0.01 where scores are continuous, else any difference will do",
    )
    agree: tuple[Name, ...] = Field(
        (),
        exclude_if=lambda names: not names,
        description="judges, or checks for all checks together, each of which by itself must score chosen higher",
    )
    max_length_difference: Annotated[int, Field(ge=0)] | LengthGap | None = Field(
        None,
        exclude_if=lambda gap: gap is None,
        description="most difference between the lengths of chosen and rejected: in characters, or with "
        "{most: 100, tokenizer: ...} in tokens; any when absent",
    )
    max_similarity: float = Field(0.95, ge=0, le=1, description="reject pairs whose texts are more alike, 0 to 1")
    checked: bool = Field(
        True, description="evolved-vs-original, or one of your own: ask the judges, or trust the strategy"
    )
    member_order: tuple[str, ...] = Field((), description="member-order: members or labels from best to worst")
    max_pairs: int | None = Field(
        None,
        ge=1,
        description="all-above-margin: most pairs of one prompt, all when absent; the same for one of your own, "
        "1 when absent",
    )

    @property
    def length_gap(self) -> LengthGap | None:
        """`max_length_difference` in its long form."""
        gap = self.max_length_difference
        return LengthGap(most=gap) if isinstance(gap, int) else gap


class Signal(Selecting):
    """One of several selections of which a data set is made. A field that is absent is as the pairing has it."""

    name: Name = Field(description="the signal's name, in the column `signal` of its pairs")
    share: float = Field(
        1.0, gt=0, description="how many of the prompts it gets, beside the shares of the signals that may get them too"
    )
    sources: tuple[str, ...] = Field(
        (),
        description="it gets prompts of these sources alone (the column `source`), and signals that name none get no "
        "prompts of theirs; when empty, prompts of all sources that no signal names",
    )

    @property
    def answered_by(self) -> tuple[str, ...] | None:
        """The members whose answers it can pair; None if all members' can be."""
        return self.member_order if self.strategy == "member-order" else None


class Pairing(Selecting):
    """Which two completions of a prompt become chosen and rejected."""

    aspect_weights: dict[Name, float] = Field({}, description="weight of an aspect in the score; 1 if absent")
    conflicts: Literal["ignore", "drop", "prefer-aspects", "prefer-overall"] = Field(
        "ignore",
        description="what becomes of a pair that overall and the mean of the other aspects put in opposite orders",
    )
    length_control: bool = Field(
        False, description="take off the score what its length is worth by the whole data set, before texts are ranked"
    )
    guard: Guard = Field(Guard(), description="what becomes of suspicious completions")
    similarity: Encoder | None = Field(
        None,
        description="what tells how alike two texts are: a sentence model; by their characters (Indel) when absent",
    )
    allow_truncated: bool = Field(False, description="let completions cut at max_tokens be candidates")
    signals: tuple[Signal, ...] = Field(
        (),
        exclude_if=lambda signals: not signals,
        description="make the data set of several selections, each with a share of the prompts; see docs/judging.md",
    )
    seed: int = Field(
        0, description="seed of the draw of rejected texts, of the order among equal scores, and of prompts' signals"
    )

    @model_validator(mode="before")
    @classmethod
    def _signals_filled(cls, data: Any) -> Any:
        """Move what the pairing says of all signals into each that does not say otherwise, so that it stands once."""
        signals = data.get("signals") if isinstance(data, Mapping) else None
        if not signals or not isinstance(signals, list | tuple) or not all(isinstance(one, Mapping) for one in signals):
            return data
        common = {name: value for name, value in data.items() if name in Selecting.model_fields}
        try:
            Selecting.model_validate(common)
        except ValidationError:
            return data  # so that what is wrong is told of the pairing, where it stands
        own = {name: value for name, value in data.items() if name not in common}
        return own | {"signals": [common | dict(one) for one in signals]}

    @model_validator(mode="after")
    def _signals_differ(self) -> Pairing:
        unique("pairing.signals", [signal.name for signal in self.signals])
        return self

    @property
    def parts(self) -> list[tuple[str, Pairing]]:
        """The selections of which the data set is made, each as a pairing with its place in the recipe."""
        if not self.signals:
            return [("pairing", self)]
        return [(f"pairing.signals.{signal.name}", self.of(signal)) for signal in self.signals]

    def of(self, signal: Signal) -> Pairing:
        """How the pairs of a signal are selected."""
        own = {name: getattr(signal, name) for name in Selecting.model_fields}
        return self.model_copy(update={**own, "signals": ()})

    def signal_of(self, prompt_id: str, source: str) -> Signal | None:
        """The signal of a prompt: drawn by its id, so that no other prompt changes it. None if no signal may get it.

        Each signal draws a number, and the least wins: another signal or share moves no prompt between two others.
        Source: Efraimidis and Spirakis 2006, https://doi.org/10.1016/j.ipl.2005.11.003, a sample of one.
        """
        return min(self.signals_for(source), key=lambda one: self._lot(one, prompt_id), default=None)

    def signals_for(self, source: str) -> list[Signal]:
        """The signals that may get a prompt of a source."""
        named = [signal for signal in self.signals if source in signal.sources]
        return named or [signal for signal in self.signals if not signal.sources]

    def _lot(self, signal: Signal, prompt_id: str) -> tuple[float, str]:
        drawn = draw("signal", self.seed, prompt_id, signal.name)
        return -math.log1p(-drawn) / signal.share, signal.name

    def needs_scores(self, has_rating: bool) -> bool:
        """Whether pairs go by scores. `has_rating`: whether the recipe has a section `rating`."""
        if self.signals:
            return any(part.needs_scores(has_rating) for _, part in self.parts)
        if isinstance(self.strategy, Reference):
            return has_rating and self.checked
        trusted = self.strategy == "evolved-vs-original" and not self.checked
        return self.strategy != "member-order" and not trusted

    def is_judged(self, prompt_id: str, source: str) -> bool:
        """Whether judges rate the answers to a prompt: all, but where its signal needs no rating."""
        if not self.signals:
            return True
        signal = self.signal_of(prompt_id, source)
        return signal is not None and (bool(signal.agree) or self.of(signal).needs_scores(True))

    def can_pair(self, member: str, prompt_id: str, source: str) -> bool:
        """Whether answers of a member to a prompt can be paired: not where its signal pairs others' alone."""
        signal = self.signal_of(prompt_id, source)
        return signal is None or signal.answered_by is None or member in signal.answered_by

    @property
    def draws(self) -> list[Any]:
        """All that decides which signal a prompt gets, who answers it and whether it is judged; empty without signals.

        For the fingerprints of completions and ratings.
        """
        lots = [
            [one.name, one.share, one.sources, one.answered_by, bool(one.agree) or self.of(one).needs_scores(True)]
            for one in self.signals
        ]
        return [["signals", self.seed, lots]] if lots else []
