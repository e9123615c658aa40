"""The pool of models that answer, and the evolution of their completions."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import Literal

import yaml
from pydantic import Field, model_validator

from pairsmith.config.base import Config, Name, close, compiles, known, names_a_file, unique
from pairsmith.config.models import ModelSpec, differ

METHODS = ("helpfulness", "relevance", "deepening", "creativity", "details")


@lru_cache
def principle_texts() -> dict[str, list[str]]:
    """Principle -> system prompts, from `principles.yaml`."""
    text = resources.files(__package__).joinpath("principles.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


class Principles(Config):
    """UltraFeedback's principles: for each completion a system prompt is drawn, with weights by the prompt's source.

    Source: Cui et al. 2023, https://arxiv.org/abs/2310.01377, section 2 and appendix.
    """

    weights: dict[str, dict[str, float]] = Field(
        description="source -> principle -> weight; the source `default` serves all others"
    )
    seed: int = Field(0, description="seed of the draw; another one draws other principles")

    @model_validator(mode="after")
    def _usable(self) -> Principles:
        if "default" not in self.weights:
            raise ValueError("principles.weights needs an entry for the source `default`")
        for source, weights in self.weights.items():
            if not weights or min(weights.values()) < 0 or sum(weights.values()) <= 0:
                raise ValueError(f"principles.weights.{source} must have weights >= 0, one of them > 0")
            known(f"principles.weights.{source}", weights, principle_texts())
        return self


class Member(ModelSpec):
    """An entry of the pool: a model with settings of its own or, with `backend: given`, the sources' completions.

    Completions from sources have the labels that the sources give them, and the member's name where they give none.
    """

    name: Name = Field(description="the member's name in tables, reports and other fields of the recipe")
    system_prompt: str | None = Field(None, min_length=1, description="set on top of the prompt's own; not published")
    principles: Principles | None = Field(
        None, description="draw a system prompt for each completion; none is drawn when absent"
    )
    samples: int = Field(1, ge=1, le=1024, description="answers per prompt")

    @model_validator(mode="after")
    def _one_of(self) -> Member:
        if self.system_prompt and self.principles:
            raise ValueError(f"member {self.name}: give system_prompt or principles, not both")
        if self.samples > 1 and self.sampling.temperature == 0:
            raise ValueError(f"member {self.name}: {self.samples} samples at temperature 0 would all be the same")
        return self


class Pool(Config):
    """The members that answer the prompts: all of them, or some that are drawn for each prompt."""

    members: tuple[Member, ...] = Field(min_length=1, description="the models that answer, and what the sources bring")
    draw: int | None = Field(
        None, ge=1, description="members drawn per prompt, beside the given completions; all when absent"
    )
    always: tuple[Name, ...] = Field(
        (),
        exclude_if=lambda names: not names,  # so that it is in no digest of a recipe that does not name it
        description="with draw: members that answer every prompt beside those drawn, and are not drawn themselves",
    )
    seed: int = Field(0, description="seed of the draw of members")

    @model_validator(mode="after")
    def _consistent(self) -> Pool:
        unique("pool.members", [member.name for member in self.members])
        differ("pool.members", {member.name: member for member in self.asked})
        if len(self.members) - len(self.asked) > 1:
            raise ValueError("pool.members: one member with backend given brings all that the sources give")
        unique("pool.always", self.always)
        known("pool.always", self.always, [member.name for member in self.asked])
        if self.always and not self.draw:
            raise ValueError("pool.always goes with pool.draw: without it all members answer every prompt")
        if self.draw and self.draw > len(self.drawable):
            beside = " beside those of pool.always" if self.always else ""
            raise ValueError(f"pool.draw is {self.draw} but there are {len(self.drawable)} members{beside}")
        return self

    @property
    def asked(self) -> list[Member]:
        """The members that are models, unlike the one that stands for completions from sources."""
        return [member for member in self.members if not member.is_given]

    @property
    def drawable(self) -> list[Member]:
        """The members among which `draw` chooses."""
        return [member for member in self.asked if member.name not in self.always]

    @property
    def given(self) -> Member | None:
        """The member that stands for completions from sources, if there is one."""
        return next((member for member in self.members if member.is_given), None)

    def member(self, name: str) -> Member:
        return next(member for member in self.members if member.name == name)


class Evolver(ModelSpec):
    """The model that rewrites completions."""

    name: Name = Field("evolver", description="the evolver's name in tables and reports; no member may have it")


class Evolution(Config):
    """EvolQuality: in each round, a model rewrites completions to be better in one respect.

    Source: Liu et al. 2023 (Deita), https://arxiv.org/abs/2312.15685, section 3.
    """

    evolver: Evolver = Field(description="the model that rewrites")
    rounds: int = Field(
        1, ge=1, le=16, description="times that a completion is rewritten, each time from the last text"
    )
    methods: tuple[Name, ...] = Field(
        METHODS,
        min_length=1,
        description="what a rewrite is to improve; one is drawn for each completion and round. "
        "All that are built in by default; others need an entry in templates",
    )
    templates: dict[Name, str] = Field(
        {}, description="own methods: name -> criterion, as text or a .jinja or .txt file"
    )
    of: tuple[str, ...] = Field((), description="members whose completions are rewritten; all when empty")
    keep: Literal["all", "last"] = Field(
        "all", description="which rewrites can be candidates: those of all rounds, or the last of each completion alone"
    )
    seed: int = Field(0, description="seed of the draw of methods")

    @model_validator(mode="after")
    def known(self) -> Evolution:
        if self.evolver.is_given:
            raise ValueError("evolution.evolver: backend given brings completions, and cannot rewrite any")
        unknown = set(self.methods) - set(METHODS) - set(self.templates)
        if unknown:
            built_in = f"; built in are {', '.join(METHODS)}, others need an entry in evolution.templates"
            meant = close(min(unknown), METHODS) or built_in
            raise ValueError(f"evolution.methods: there is no {' and no '.join(sorted(unknown))}{meant}")
        for name, text in self.templates.items():
            if names_a_file(text):
                raise ValueError(f"evolution.templates.{name}: give the text itself; {text} was not read in")
            compiles(text, f"evolution.templates.{name}")
        return self
