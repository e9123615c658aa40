"""The whole recipe, and its sections on publishing, gates and budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, ValidationError, model_validator

from pairsmith.about import __version__
from pairsmith.config.base import Config, Name
from pairsmith.config.check_kinds import Check
from pairsmith.config.complaints import in_lines, mistakes
from pairsmith.config.consistency import (
    check_criteria,
    check_given,
    check_member_names,
    check_pairing,
    check_places,
    check_signals,
)
from pairsmith.config.generating import Evolution, Evolver, Member, Pool
from pairsmith.config.judges import Judge
from pairsmith.config.judging import Rating
from pairsmith.config.plugins import modules_in
from pairsmith.config.renamed import with_new_names
from pairsmith.config.rubrics import Author, Criteria
from pairsmith.config.screening import Screen
from pairsmith.config.selecting import SIGNAL, Pairing
from pairsmith.config.sources import Prompts
from pairsmith.errors import WrongFields

FORMAT = 1  # of recipes; raised by every change that an older pairsmith would misunderstand


class Hub(Config):
    """The data set on the Hugging Face hub that versions are pushed to."""

    repo_id: str = Field(
        pattern=r"^\w[\w.-]{0,95}/\w[\w.-]{0,95}$",
        description="the data set's id, such as me/pairs; made if it is not there",
    )
    private: bool = Field(True, description="keep the data set private; false allows a public one")
    token_env: str = Field("HF_TOKEN", description="name of the environment variable that holds the token")


class Publishing(Config):
    """What is published, in which forms, and where."""

    test_fraction: float = Field(0.0, ge=0, lt=1, description="share of the prompts in a test split")
    seed: int = Field(0, description="seed of the draw of the test split")
    exports: tuple[Literal["kto", "reward", "jsonl", "csv"], ...] = Field(
        (),
        description="also: prompt-completion-label rows (kto), chosen and rejected as whole chats (reward), "
        "one pair a line (jsonl), a table for spreadsheets (csv)",
    )
    license: str | None = Field(
        None, description="licence id for the card, such as apache-2.0; the card names none when absent"
    )
    language: tuple[str, ...] = Field((), description="language codes for the card, such as en")
    approval: Literal["none", "required"] = Field(
        "none", description="required: a new version waits until a person releases or rejects it; `latest` stays"
    )
    keep: int | None = Field(
        None,
        ge=1,
        exclude_if=lambda keep: keep is None,  # so that it is in no digest of a recipe that does not name it
        description="newest versions to keep; a publish removes older ones, but never what `latest` leads to; "
        "all are kept when absent",
    )
    max_shrink: float | None = Field(
        0.2,
        ge=0,
        lt=1,
        description="most of the released version's pairs that a new one may lack, as a share; one that lacks more "
        "waits until a person releases or rejects it, whatever `approval` says; null: any number may go",
    )
    max_failed_rate: float = Field(
        0.5,
        ge=0,
        le=1,
        description="most of its calls in which a member, evolver or judge may fail, as a share; where one failed in "
        "more, the new version waits, whatever `approval` says, and the run ends as failed; 1 turns it off",
    )
    hub: Hub | None = Field(None, description="push what `latest` leads to there; nothing is pushed when absent")
    screen: Screen | None = Field(
        None,
        exclude_if=lambda screen: screen is None,
        description="look for secrets and personal data in what is published; nothing is looked for when absent",
    )


class Gates(Config):
    """What a data set must be like to be published. Otherwise the run fails, and the error gives the numbers.

    A gate that is absent is not checked.
    """

    min_pairs: int | None = Field(None, ge=1, description="least number of pairs")
    min_yield: float | None = Field(None, gt=0, le=1, description="least share of the prompts that have a pair")
    max_null_rate: float | None = Field(None, ge=0, le=1, description="most ratings without a value, of any judge")
    max_tie_rate: float | None = Field(None, ge=0, le=1, description="most prompts lost to ties, of all")
    min_agreement: float | None = Field(None, ge=-1, le=1, description="least Krippendorff's alpha of any aspect")
    max_length_bias: float | None = Field(
        None,
        ge=0,
        le=0.5,
        description="most that the share of pairs whose chosen text is the longer may differ from half",
    )
    min_gold_accuracy: float | None = Field(
        None,
        ge=0,
        le=1,
        exclude_if=lambda least: least is None,  # so that it is in no digest of a recipe that does not name it
        description="least lower end of the 95% interval of how often the judges are right on gold, by "
        "rating.calibration; where it is below, the new version waits, and the run does not fail",
    )
    max_found_rate: float | None = Field(
        None,
        ge=0,
        le=1,
        description="most pairs in which publishing.screen found something, of all; what it masked counts, and what it "
        "dropped does not",
    )


class Budget(Config):
    """What a data set may cost in all its runs together. A request that could exceed it is not sent."""

    tokens: int | None = Field(None, ge=0, description="prompt and completion tokens at most; no bound when absent")
    cost: float | None = Field(
        None, ge=0, description="money at most, in the currency of the prices; no bound when absent"
    )


class Recipe(Config):
    """Everything that decides what a run does."""

    name: Name = Field(description="the data set's name, and that of its folder in the workspace")
    description: str = Field("", description="what the data set is, for its card")
    format: int = Field(1, ge=1, le=FORMAT, description="format of the recipe; a recipe that names none is of format 1")
    workspace: str = Field(
        "pairsmith-data", min_length=1, description="folder or URL that holds ledger, tables and datasets"
    )
    ledger: str | None = Field(
        None, description="SQLAlchemy URL of the ledger; a SQLite file in the workspace when absent"
    )
    code_folder: str | None = Field(
        None,
        description="folder of the modules that the recipe names as module:function; "
        "the recipe's own when absent; Python's path is looked at after it",
    )
    budget: Budget = Field(Budget(), description="what the data set may cost; there is no bound by default")
    shard_size: int = Field(256, ge=1, le=100_000, description="prompts in a shard")
    shards_in_flight: int = Field(8, ge=1, le=256, description="shards worked on at the same time")
    prompts: Prompts = Field(description="which prompts are answered")
    pool: Pool = Field(description="who answers them")
    evolution: Evolution | None = Field(
        None, description="rewrite answers to be better in one respect a round; none is rewritten when absent"
    )
    rating: Rating | None = Field(
        None, description="who rates the answers; may be absent where the pairing strategy needs no scores"
    )
    pairing: Pairing = Field(Pairing(), description="which answers become pairs")
    gates: Gates = Field(Gates(), description="what the data set must be like to be published; anything by default")
    publishing: Publishing = Field(Publishing(), description="what is published, in which forms, and where")

    @model_validator(mode="before")
    @classmethod
    def _of_today(cls, data: Any) -> Any:
        """Replace old names of fields by the current ones. Refuses a newer format, since its fields are unknown."""
        number = data.get("format") if isinstance(data, Mapping) else None
        if isinstance(number, int) and number > FORMAT:
            raise ValueError(
                f"this recipe is of format {number}, made for a newer pairsmith; this is pairsmith {__version__}"
            )
        return with_new_names(data)

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        check_pairing(self.pairing, self.rating, self.evolution, self.needs_scores)
        check_signals(self.pairing, self.prompts)
        check_given(self.prompts, self.pool, self.rating)
        check_criteria(self.rating)
        check_member_names(self.prompts, self.pool, self.pairing, self.evolution, self.rating)
        check_places(self.name, self.workspace, self.ledger)
        if self.gates.max_found_rate is not None and self.publishing.screen is None:
            raise ValueError("gates.max_found_rate needs publishing.screen, which says what is looked for")
        if self.gates.min_gold_accuracy is not None and not (self.rating and self.rating.calibrated):
            raise ValueError("gates.min_gold_accuracy needs rating.calibration, made by pairsmith calibrate --write")
        if self.budget.cost is not None:
            free = [spec.model for spec in self.specs if spec.price is None and not spec.is_given]
            if free:
                raise ValueError(f"budget.cost needs a price for every model (0 is one); {free} have none")
        return self

    @model_validator(mode="wrap")  # the last validator, and so around all others
    @classmethod
    def _in_words(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Validate with `code_folder` known, so that references to the user's own code look for modules there.

        Raises WrongFields for what is wrong, wherever a recipe is made: in Python, from a file, by Prefect.
        """
        folder = data.get("code_folder") if isinstance(data, Mapping) else None
        try:
            with modules_in(folder if isinstance(folder, str) else None):
                return handler(data)
        except ValidationError as error:
            found = mistakes(error, data, cls)
            raise WrongFields(f"recipe:\n{in_lines(found, {})}", found) from None

    @property
    def specs(self) -> list[Member | Evolver | Author | Judge]:
        """Every model of the recipe, in the order of the stages."""
        authors = [self.criteria.author] if self.criteria and self.criteria.author else []
        return [*self._writers, *authors, *(self.rating.judges if self.rating else ())]

    @property
    def _writers(self) -> list[Member | Evolver]:
        return [*self.pool.members, *([self.evolution.evolver] if self.evolution else [])]

    @property
    def families(self) -> dict[str, str]:
        """Member or evolver -> the family of its model. Given completions have no family."""
        return {spec.name: spec.family_name for spec in self._writers if not spec.is_given}

    @property
    def families_with_judges(self) -> dict[str, str]:
        """The same, and judge -> the family of its model."""
        judges = self.rating.judges if self.rating else ()
        return self.families | {judge.name: judge.family_name for judge in judges}

    @property
    def needs_scores(self) -> bool:
        return self.pairing.needs_scores(self.rating is not None)

    @property
    def kept(self) -> tuple[str, ...]:
        """The columns of published rows beside those of every data set: those that sources keep, and the signal."""
        return (*self.prompts.kept, *([SIGNAL] if self.pairing.signals else ()))

    @property
    def checks(self) -> tuple[Check, ...]:
        return self.rating.checks if self.rating else ()

    @property
    def criteria(self) -> Criteria | None:
        """The criteria by which texts are rated, where there are any."""
        return self.rating.criteria if self.rating else None

    @property
    def needs_survey(self) -> bool:
        """Whether the pairs of a shard depend on other shards too, and so wait until all shards are rated."""
        return self.pairing.length_control or self.pairing.guard.repeated is not None

    @property
    def ledger_url(self) -> str:
        return self.ledger or f"sqlite:///{self.workspace.rstrip('/')}/ledger.sqlite"
