"""What is rated beside the built-in aspects: rubrics of a recipe's own, and criteria written for each prompt."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from pairsmith.config.base import Config, Name, Reasks, unique
from pairsmith.config.models import ModelSpec, Sampling

CRITERIA = "criteria"  # the aspect under which judges rate by criteria


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


class Author(ModelSpec):
    """The model that writes criteria."""

    counted_as: ClassVar[str] = "author"
    form: ClassVar[str] = "to write criteria"  # how it is asked, in few words

    name: Name = Field("author", description="the author's name in tables and reports")
    sampling: Sampling = Field(
        Sampling(temperature=0.0, max_tokens=1024), description="how its replies are sampled; greedy by default"
    )
    reasks: Reasks = 1


class Criteria(Config):
    """Yes/no questions for each prompt, by a model that sees a strong and a weak answer, or by hand.

    Sources: Cook et al. 2024 (TICK), https://arxiv.org/abs/2410.03608; Viswanathan et al. 2025 (Checklists Are Better
    Than Reward Models), https://arxiv.org/abs/2507.18624; Gunjal et al. 2025 (Rubrics as Rewards),
    https://arxiv.org/abs/2507.17746.
    """

    author: Author | None = Field(None, description="the model that writes them; may be absent where there is a file")
    per_prompt: int = Field(6, ge=1, le=20, description="questions for a prompt at most")
    strongest_first: tuple[str, ...] = Field(
        (),
        description="members or labels from the strongest to the weakest: the author sees an answer of each end; when "
        "empty, pairing.member_order, else a rewritten answer and what it was made of, else two that are drawn",
    )
    min_spread: float = Field(
        0.1,
        ge=0,
        le=1,
        description="a question counts only if its probability of yes differs by so much among a prompt's answers",
    )
    file: str | None = Field(
        None,
        description="criteria as `pairsmith criteria` writes them, edited or written by hand: a JSON object a line; "
        "the author is asked only for prompts that it does not name",
    )

    @model_validator(mode="after")
    def _written_by_somebody(self) -> Criteria:
        if self.author is None and self.file is None:
            raise ValueError("rating.criteria needs an author, a file, or both")
        if self.author and self.author.is_given:
            raise ValueError("rating.criteria.author: backend given brings completions, and cannot write any")
        unique("rating.criteria.strongest_first", self.strongest_first)
        return self
