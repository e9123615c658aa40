"""How pairs are selected."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field

from pairsmith.config.base import Config, Name
from pairsmith.config.plugins import Kind

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


class Pairing(Config):
    """Which two completions of a prompt become chosen and rejected."""

    strategy: Annotated[str, STRATEGY] = Field(
        "best-vs-worst", description="which completions are paired; see docs/judging.md"
    )
    aspect_weights: dict[Name, float] = Field({}, description="weight of an aspect in the score; 1 if absent")
    conflicts: Literal["ignore", "drop", "prefer-aspects", "prefer-overall"] = Field(
        "ignore",
        description="what becomes of a pair that overall and the mean of the other aspects put in opposite orders",
    )
    length_penalty: float = Field(
        0.0, ge=0, description="taken off the score for each thousand characters of a text, when candidates are ranked"
    )
    length_control: bool = Field(
        False, description="take off the score what its length is worth by the whole data set, before texts are ranked"
    )
    guard: Guard = Field(Guard(), description="what becomes of suspicious completions")
    low_deviations: float = Field(
        2.0, ge=0, description="best-vs-low: reject the text nearest to so many standard deviations below the mean"
    )
    min_margin: float = Field(0.0, ge=0, description="least difference of the scores; ties never pair")
    max_similarity: float = Field(0.95, ge=0, le=1, description="reject pairs whose texts are more alike, 0 to 1")
    similarity: Encoder | None = Field(
        None,
        description="what tells how alike two texts are: a sentence model; by their characters (Indel) when absent",
    )
    allow_truncated: bool = Field(False, description="let completions cut at max_tokens be candidates")
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
    seed: int = Field(0, description="seed of the draw of rejected texts, and of the order among equal scores")
