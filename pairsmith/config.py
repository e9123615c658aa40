"""A recipe: everything that decides what a run does, as frozen pydantic models.

`recipes.load_recipe` reads one from YAML; the same models are the parameters of the Prefect flow, so a server refuses
a wrong value before a run exists. Unknown fields are errors.
"""

from __future__ import annotations

import glob
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

from pairsmith.errors import ConfigError
from pairsmith.templating import compile_text, principle_texts

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
ASPECTS = ("helpfulness", "honesty", "instruction-following", "truthfulness", "overall")
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
METHODS = ("helpfulness", "relevance", "deepening", "creativity", "details")
SECRET_HEADER = re.compile(r"auth|key|token|secret|cookie", re.IGNORECASE)
SECRET_VALUE = re.compile(r"\s*(bearer|basic|token|digest)\s", re.IGNORECASE)
MOST_PATTERN = 2_000_000  # characters with its repeats written out: some 500 MB in the `regex` module
DATA_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".parquet": "parquet"}


class Config(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=(), hide_input_in_errors=True
    )


class Columns(Config):
    """Where the parts of a prompt stand in a row.

    Each is a column's name, a dotted path into nested values (`instances.0.input`), or a Jinja template over the
    row (`"{{ instruction }}\\n\\n{{ instances[0].input }}"`). Without a mapping, columns of the usual names are used:
    messages, conversation, prompt, instruction, question, query or turns, and system_prompt, reference, source.
    """

    prompt: str | None = Field(None, description="text, or list of user turns (see turns)")
    messages: str | None = Field(None, description="chat: a list of {role, content}")
    system_prompt: str | None = Field(None, description="system prompt, part of the published prompt")
    reference: str | None = Field(None, description="a known good answer, shown to the judges")
    source: str | None = Field(None, description="origin of the row, for example a data set's name")
    instructions: str | None = Field(None, description="IFEval's ids of verifiable instructions: a list of names")
    instruction_kwargs: str | None = Field(None, description="and their settings: a list of objects")
    turns: Literal["first", "joined"] = Field(
        "first", description="a list of user turns: take the first, or join all into one message"
    )

    @model_validator(mode="after")
    def _one_of(self) -> Columns:
        if self.prompt and self.messages:
            raise ValueError("columns: name either prompt or messages, not both")
        for name in ("prompt", "messages", "system_prompt", "reference", "source"):
            mapped = getattr(self, name)
            if mapped and ("{{" in mapped or "{%" in mapped):
                _compiles(mapped, f"columns.{name}")
        return self


class Written(Config):
    """Where one completion stands, and what was said of it: columns' names, dotted paths or templates, as in `Columns`.

    Ratings are whole numbers on their aspect's scale, scores may lie between two; both may be text that holds one.
    """

    text: str | None = Field(None, description="its text, or a chat whose last message of the assistant it is")
    model: str | None = Field(None, description="the model that wrote it; its label when absent")
    ratings: dict[Name, str] = Field({}, description="aspect -> where its rating stands")
    scores: dict[Name, str] = Field({}, description="aspect -> where its score stands")
    rationales: dict[Name, str] = Field({}, description="aspect -> where the reason for its rating or score stands")

    @model_validator(mode="after")
    def _readable(self) -> Self:
        both = sorted(set(self.ratings) & set(self.scores))
        if both:
            raise ValueError(f"completions: {both} stand in ratings and in scores")
        _known("completions.rationales", self.rationales, self.rated)
        places = [self.text, self.model, *self.ratings.values(), *self.scores.values(), *self.rationales.values()]
        for mapped in places:
            if mapped and ("{{" in mapped or "{%" in mapped):
                _compiles(mapped, "completions")
        return self

    @property
    def rated(self) -> dict[str, str]:
        """Aspect -> where its rating or score stands."""
        return self.ratings | self.scores


class Given(Written):
    """Completions that a source brings, in one of three layouts.

    `columns`: each in columns of its own. `items`: in a list within the row; all other places are then seen from an
    item of it. Neither: each row is one completion, and the rows of a prompt may stand anywhere in the sources.
    """

    columns: dict[str, Written | str] = Field(
        {}, description="label -> where its completion stands; a column's name alone is that of its text"
    )
    items: str | None = Field(None, description="where the list of completions stands")
    member: str | None = Field(None, description="where a completion's label stands, of who wrote it")

    @model_validator(mode="after")
    def _one_layout(self) -> Self:
        alone = self.model_dump(exclude={"columns"}, exclude_defaults=True)
        if self.columns and alone:
            raise ValueError(f"completions.columns: {sorted(alone)} go into its entries")
        if any(written.text is None for written in self.by_label.values()) or not (
            self.columns or self.items or self.text
        ):
            raise ValueError("completions: name the text of each, in columns, items or text")
        if not all(label.strip() for label in self.columns):
            raise ValueError("completions.columns: a label must not be blank")
        return self

    @property
    def by_label(self) -> dict[str, Written]:
        """Label -> where its completion stands, in the layout with columns."""
        return {
            label: Written(text=where) if isinstance(where, str) else where for label, where in self.columns.items()
        }

    @property
    def rated_anywhere(self) -> set[str]:
        """The aspects of which the source brings ratings or scores."""
        return {aspect for written in (self, *self.by_label.values()) for aspect in written.rated}


class Source(Config):
    """One place that prompts are read from."""

    path: str = Field(min_length=1, description="file, glob, data set folder, or Hugging Face data set id")
    format: Literal["auto", "jsonl", "json", "csv", "parquet", "dataset"] = "auto"
    config: str | None = Field(None, description="configuration of a Hugging Face data set")
    split: str = Field("train", description="split of a Hugging Face data set")
    revision: str | None = Field(None, description="commit or tag of a Hugging Face data set")
    columns: Columns = Columns()
    completions: Given | None = Field(None, description="completions that its rows bring, and their ratings")
    sample: int | None = Field(None, ge=1, description="draw this many rows at random")
    limit: int | None = Field(None, ge=1, description="read no more than this many rows")
    seed: int = Field(0, description="seed of the draw")


class Decontamination(Config):
    """Benchmarks that no prompt may come from: one that shares `n` words in a row with an item of theirs is rejected.

    Source: GPT-3's rule, Brown et al. 2020, https://arxiv.org/abs/2005.14165, appendix C.
    """

    against: tuple[Source, ...] = Field(min_length=1, description="the benchmarks, with columns as in prompts.sources")
    n: int = Field(13, ge=1, description="words in a row; a text with fewer counts by all its words")

    @model_validator(mode="after")
    def _prompts_only(self) -> Decontamination:
        if any(source.completions for source in self.against):
            raise ValueError("decontaminate.against: completions are not looked at; leave them out")
        return self


class Prompts(Config):
    sources: tuple[Source, ...] = Field(min_length=1)
    limit: int | None = Field(None, ge=1, description="read no more rows than this from all sources together")
    max_chars: int = Field(200_000, ge=1, description="reject longer prompts")
    near_duplicates: float | None = Field(
        None, gt=0, le=1, description="reject prompts as alike as this to an earlier one (Jaccard of word pairs)"
    )
    decontaminate: Decontamination | None = None


class Sampling(Config):
    """How an answer is sampled; every field is part of a request's identity."""

    temperature: float = Field(0.7, ge=0, le=5, description="0 is greedy")
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int | None = Field(None, ge=1)
    max_tokens: int = Field(1024, ge=1)
    stop: tuple[str, ...] = ()
    seed: int = 0
    extra_body: dict[str, JsonValue] = Field({}, description="backend openai: further fields of the request's body")

    @model_validator(mode="after")
    def _ours(self) -> Self:
        ours = {"model", "messages", "temperature", "top_p", "max_tokens", "seed", "stop", "n", "stream"}
        clash = sorted(ours & set(self.extra_body))
        if clash:
            raise ValueError(f"sampling.extra_body: {clash} have fields of their own, or are pairsmith's to set")
        return self


class LocalOptions(Config):
    """How a model runs in this process; none of it is part of a request's identity."""

    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: float32 on a CPU, bfloat16 elsewhere"
    )
    batch_size: int = Field(32, ge=1)
    trust_remote_code: bool = Field(False, description="run code that comes with the model")


class Endpoint(Config):
    """Where and how the `openai` backend asks; none of it is part of a request's identity.

    Members and judges that name the same endpoint and model share its limits, in all task runs of a process.
    """

    base_url: str = Field("https://api.openai.com/v1", pattern=r"^https?://[^@?#]+$", description="up to and with /v1")
    api_key_env: str | None = Field(
        "OPENAI_API_KEY", description="name of the environment variable that holds the key; null for none"
    )
    api_key_block: str | None = Field(None, description="name of the Prefect Secret block that holds the key, instead")
    headers: dict[str, str] = Field({}, description="further headers; no secrets: recipes are stored and shown")
    mode: Literal["live", "batch"] = Field("live", description="batch: hand requests in as files, collect them later")
    concurrency: int = Field(16, ge=1, le=1000, description="calls at a time; fewer while the endpoint says 429 or 503")
    requests_per_minute: float | None = Field(None, gt=0, description="calls started in a minute at most")
    tokens_per_minute: float | None = Field(
        None, gt=0, description="tokens in a minute at most: prompt, by its length, and max_tokens"
    )
    shared_limit: str | None = Field(
        None,
        description="Prefect global concurrency limit of which each shard's task holds a slot; "
        "a process has the share of the limits above that its slots are of all",
    )
    attempts: int = Field(5, ge=1, le=100, description="calls for one reply at most")
    deadline: float = Field(600, gt=0, description="seconds for one reply, waits and attempts included")
    breaker: int = Field(20, ge=1, description="failures in a row after which nothing is asked for a while")
    breaker_seconds: float = Field(30, gt=0, description="that while; then one call tries again")
    max_tokens_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"

    @model_validator(mode="after")
    def _no_secrets(self) -> Self:
        secret = [
            name for name, value in self.headers.items() if SECRET_HEADER.search(name) or SECRET_VALUE.match(value)
        ]
        if secret:
            raise ValueError(f"endpoint.headers: {secret} look like secrets; use api_key_env or api_key_block")
        return self


class Price(Config):
    """What a model costs per million tokens, in any currency that all prices of a recipe share."""

    prompt: float = Field(0.0, ge=0)
    completion: float = Field(0.0, ge=0)

    def of(self, n_prompt_tokens: int, n_tokens: int) -> float:
        """The cost of so many tokens.

        >>> Price(prompt=1, completion=2).of(1_000_000, 500_000)
        2.0
        """
        return (self.prompt * n_prompt_tokens + self.completion * n_tokens) / 1e6


class ModelSpec(Config):
    """A model and where it runs."""

    backend: Literal["transformers", "openai", "echo", "reward", "given"] = Field(
        "transformers",
        description="reward: a model that gives scores and no texts, for judges only; "
        "given: no model, what the sources bring (see prompts.sources.completions)",
    )
    model: str = Field("", description="Hugging Face id or a local folder; none for backend given")
    revision: str | None = None
    sampling: Sampling = Sampling()
    price: Price | None = Field(None, description="per million tokens; needed for a budget of cost")
    family: Name | None = Field(None, description="what it is related to; the first letters of its name when absent")
    local: LocalOptions = LocalOptions()
    endpoint: Endpoint | None = Field(None, description="for backend openai")

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if (self.backend == "openai") != (self.endpoint is not None):
            raise ValueError("endpoint goes with backend openai, and only with it")
        if self.sampling.extra_body and self.backend != "openai":
            raise ValueError("sampling.extra_body goes with backend openai, and only with it")
        if self.backend == "reward" and not isinstance(self, Judge):
            raise ValueError("a reward model gives scores, not texts: only a judge can have backend reward")
        if not self.model and not self.is_given:
            raise ValueError("model: name one")
        if self.is_given:
            fields = type(self).model_fields.items()
            meant = [name for name, field in fields if getattr(self, name) != field.get_default()]
            vain = sorted(set(meant) - {"backend", "name", "weight", "aspects"})
            if vain:
                raise ValueError(f"backend given asks no model; leave out {vain}")
        return self

    @property
    def is_given(self) -> bool:
        """Whether it stands for what the sources bring, and there is no model to ask."""
        return self.backend == "given"

    @property
    def family_name(self) -> str:
        """The family, as told or as the model's name begins: `Qwen/Qwen2.5-7B` is of `qwen`."""
        return self.family or family_of(self.model)


def family_of(model: str) -> str:
    """How a model's name begins.

    >>> family_of("Qwen/Qwen2.5-7B")
    'qwen'
    """
    return re.match(r"[a-z]*", Path(model).name.lower())[0]  # type: ignore[index]


class Principles(Config):
    """UltraFeedback's principles: a system prompt drawn per completion, weighted by the prompt's source.

    Source: Cui et al. 2023, https://arxiv.org/abs/2310.01377, section 2 and appendix.
    """

    weights: dict[str, dict[str, float]] = Field(
        description="source -> principle -> weight; the source `default` serves all others"
    )
    seed: int = 0

    @model_validator(mode="after")
    def _usable(self) -> Principles:
        if "default" not in self.weights:
            raise ValueError("principles.weights needs an entry for the source `default`")
        for source, weights in self.weights.items():
            if not weights or min(weights.values()) < 0 or sum(weights.values()) <= 0:
                raise ValueError(f"principles.weights.{source} must have weights >= 0, one of them > 0")
            _known(f"principles.weights.{source}", weights, principle_texts())
        return self


class Member(ModelSpec):
    """An entry of the pool: a model with its own way of answering, or the completions that the sources bring.

    Those stand under the labels that the sources give them, and under the member's name where they give none.
    """

    name: Name
    system_prompt: str | None = Field(None, min_length=1, description="set on top of the prompt's own; not published")
    principles: Principles | None = None
    samples: int = Field(1, ge=1, le=1024, description="answers per prompt")

    @model_validator(mode="after")
    def _one_of(self) -> Member:
        if self.system_prompt and self.principles:
            raise ValueError(f"member {self.name}: give system_prompt or principles, not both")
        if self.samples > 1 and self.sampling.temperature == 0:
            raise ValueError(f"member {self.name}: {self.samples} samples at temperature 0 would all be the same")
        return self


class Pool(Config):
    members: tuple[Member, ...] = Field(min_length=1)
    draw: int | None = Field(
        None, ge=1, description="members drawn per prompt, beside the given completions; all when absent"
    )
    seed: int = 0

    @model_validator(mode="after")
    def _consistent(self) -> Pool:
        _unique("pool.members", [member.name for member in self.members])
        _differ("pool.members", self.asked)
        if len(self.members) - len(self.asked) > 1:
            raise ValueError("pool.members: one member with backend given brings all that the sources give")
        if self.draw and self.draw > len(self.asked):
            raise ValueError(f"pool.draw is {self.draw} but there are {len(self.asked)} members")
        return self

    @property
    def asked(self) -> list[Member]:
        """The members that a model answers for."""
        return [member for member in self.members if not member.is_given]

    @property
    def given(self) -> Member | None:
        """The member that stands for the completions that the sources bring."""
        return next((member for member in self.members if member.is_given), None)

    def member(self, name: str) -> Member:
        return next(member for member in self.members if member.name == name)


class Evolver(ModelSpec):
    name: Name = "evolver"


class Evolution(Config):
    """EvolQuality: a model rewrites completions to be better in one respect a round.

    Source: Liu et al. 2023 (Deita), https://arxiv.org/abs/2312.15685, section 3.
    """

    evolver: Evolver
    rounds: int = Field(1, ge=1, le=16)
    methods: tuple[Name, ...] = Field(METHODS, min_length=1)
    templates: dict[Name, str] = Field(
        {}, description="own methods: name -> criterion, as text or a .jinja or .txt file"
    )
    of: tuple[str, ...] = Field((), description="members whose completions are evolved; all when empty")
    keep: Literal["all", "last"] = "all"
    seed: int = 0

    @model_validator(mode="after")
    def _known(self) -> Evolution:
        if self.evolver.is_given:
            raise ValueError("evolution.evolver: backend given brings completions, and cannot rewrite any")
        unknown = set(self.methods) - set(METHODS) - set(self.templates)
        if unknown:
            raise ValueError(
                f"evolution.methods: unknown {sorted(unknown)}; built in are {list(METHODS)}, "
                "others need an entry in evolution.templates"
            )
        for name, text in self.templates.items():
            if names_a_file(text):
                raise ValueError(f"evolution.templates.{name}: give the text itself; {text} was not read in")
            _compiles(text, f"evolution.templates.{name}")
        return self


class Judge(ModelSpec):
    """A model that rates; with `backend: reward`, one that gives each text a number instead of reading instructions."""

    name: Name
    sampling: Sampling = Sampling(temperature=0.0, max_tokens=1024)
    protocol: Literal["listwise", "pointwise"] = Field(
        "listwise", description="all completions of a prompt in one request, or one request each"
    )
    readout: Literal["text", "json", "logprobs"] = Field(
        "text", description="how a rating is read: parsed text, constrained JSON, or digit probabilities"
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
        if self.orders > 1 and self.protocol == "pointwise":
            raise ValueError(f"judge {self.name}: orders goes with protocol listwise")
        return self

    def _asks_nothing(self) -> None:
        fields = type(self).model_fields
        asking = ("sampling", "protocol", "readout", "rationale", "critique", "orders", "reasks", "seed")
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


class CheckConfig(Config):
    """What all programmatic judges share."""

    name: Name = Field(description="the aspect under which its results are rated")
    gate: bool = Field(False, description="a text that fails can never be a candidate")


class ExactMatch(CheckConfig):
    """Whether a text is the prompt's reference, or ends in the same number."""

    kind: Literal["exact-match"]
    casefold: bool = Field(False, description="upper and lower case are the same")
    strip_punctuation: bool = Field(False, description="leave out punctuation, and see runs of white space as one")
    last_number: bool = Field(False, description="compare only the last number of each (GSM8K); 1,000.0 is 1000")


class Regex(CheckConfig):
    """Whether a pattern of the `regex` module, which reads those of Python's `re`, is found in a text."""

    kind: Literal["regex"]
    pattern: str = Field(min_length=1, max_length=10_000)
    negate: bool = Field(False, description="pass where the pattern is not found")
    whole: bool = Field(False, description="the pattern must match the whole text")
    ignore_case: bool = False
    multiline: bool = Field(False, description="^ and $ also match at the lines' ends")
    dot_all: bool = Field(False, description="a dot also matches a line's end")

    @model_validator(mode="after")
    def _readable(self) -> Regex:
        _is_pattern(self.pattern, f"check {self.name}: pattern")
        return self


class JsonSchema(CheckConfig):
    """Whether a text, bare or in a fence, is JSON that fits a schema. `format` is not looked at."""

    # In Python the field cannot be called schema: pydantic's models have a method of that name.
    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    kind: Literal["json-schema"]
    schema_: dict[str, JsonValue] = Field(alias="schema", description="JSON schema, of draft 2020-12 if it names none")

    @model_validator(mode="after")
    def _sound(self) -> JsonSchema:
        from jsonschema import Draft202012Validator, SchemaError, validators  # type: ignore[import-untyped]
        from referencing import Registry, Resource
        from referencing.exceptions import Unresolvable
        from referencing.jsonschema import DRAFT202012

        where, dialect = (
            f"check {self.name}: schema",
            self.schema_.get("$schema", Draft202012Validator.META_SCHEMA["$id"]),
        )
        draft = validators.validator_for({"$schema": dialect}, None) if isinstance(dialect, str) else None
        if draft is None:
            raise ValueError(f"{where}: $schema names no known draft")
        try:
            draft.check_schema(self.schema_)
            root: Resource[Any] = Resource.from_contents(self.schema_, default_specification=DRAFT202012)
            refs = set(_refs({key: part for key, part in self.schema_.items() if key not in ("$schema", "$id")}, where))
            resolver = Registry().with_resource("", root).resolver()
            for ref in sorted(refs):
                resolver.lookup(ref)
        except (SchemaError, Unresolvable, RecursionError) as error:
            told = error.message if isinstance(error, SchemaError) else f"{type(error).__name__}: {error}"
            raise ValueError(f"{where}: not a valid JSON schema: {told[:500]}") from None
        return self


class IfEval(CheckConfig):
    """Whether a text follows its prompt's verifiable instructions, and which share of them; needs the extra `ifeval`.

    They stand in the prompt's extras: `{"instructions": [{"id": "punctuation:no_comma", "kwargs": {}}]}`.
    Source: Zhou et al. 2023, https://arxiv.org/abs/2311.07911; the prompt-level strict measure.
    """

    kind: Literal["ifeval"]


class PythonCheck(CheckConfig):
    """A function of one's own, called with the keywords messages, text and reference: a bool, or 0 to 1.

    It is imported when the check is used, not when the recipe is read; it must be pure, and nothing bounds its time.
    """

    kind: Literal["python"]
    callable: str = Field(
        pattern=r"^[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*$", description="package.module:function"
    )


Check = Annotated[ExactMatch | Regex | JsonSchema | IfEval | PythonCheck, Field(discriminator="kind")]


class Rubric(Config):
    """An aspect of one's own: what is rated, and on which scale."""

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


CHECKS = "checks"  # the judge that programmatic checks stand under


class Rating(Config):
    judges: tuple[Judge, ...] = ()
    checks: tuple[Check, ...] = Field((), description="judges that are programs, each an aspect of its own or a gate")
    aspects: tuple[Name, ...] = Field(
        ("overall",), min_length=1, description=f"of {', '.join(ASPECTS)}, and those in rubrics"
    )
    rubrics: dict[Name, Rubric] = Field({}, description="own aspects: name -> what is rated, on which scale")
    aggregation: Literal["mean", "median", "trimmed", "z-scored"] = Field(
        "mean", description="of several judges, per text and aspect; z-scored: by judge, among the texts of a prompt"
    )
    own_family: Literal["auto", "rate", "skip"] = Field(
        "auto", description="may a judge rate texts of its own family? auto: only where no other family judges"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Rating:
        if not self.judges and not self.checks:
            raise ValueError("rating needs judges or checks")
        _unique("rating.judges", [CHECKS, *(judge.name for judge in self.judges)])
        if sum(judge.is_given for judge in self.judges) > 1:
            raise ValueError("rating.judges: one judge with backend given brings all ratings that the sources give")
        _unique("rating.checks", [*{*self.aspects, *self.judged_aspects}, *(check.name for check in self.checks)])
        _differ("rating.judges", [judge for judge in self.judges if not judge.is_given])
        for judge in self.judges:
            if not judge.is_reward:
                _known(f"rating.judges.{judge.name}.aspects", judge.aspects, self.aspects)
        _unique("rating.aspects", self.aspects)
        _known("rating.aspects", self.aspects, (*ASPECTS, *self.rubrics))
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
        """Refuse what would average numbers of different scales, or leave an aspect out for some texts."""
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
        """What a judge rates: those that it names, else all, or, of a reward model, overall."""
        return judge.aspects or (("overall",) if judge.is_reward else self.aspects)

    @property
    def judged_aspects(self) -> list[str]:
        """The aspects that some judge rates."""
        return list(dict.fromkeys(aspect for judge in self.judges for aspect in self.aspects_of(judge)))

    @property
    def raters(self) -> list[str]:
        """Names of all who rate: the judges, and the checks together."""
        return [judge.name for judge in self.judges] + ([CHECKS] if self.checks else [])

    @property
    def unasked(self) -> list[str]:
        """Names of those who rate without a model."""
        return [judge.name for judge in self.judges if judge.is_given] + ([CHECKS] if self.checks else [])

    def scale_of(self, aspect: str) -> tuple[int, int]:
        """Lowest and highest rating of an aspect."""
        if any(check.name == aspect for check in self.checks):
            return 0, 1
        return self.rubrics[aspect].scale if aspect in self.rubrics else (1, 5)

    def rates(self, judge: Judge, family: str) -> bool:
        """Whether a judge is to rate texts of a family."""
        rivals = [j for j in self.judges if j.family_name != judge.family_name and not j.is_given]
        others = {aspect for rival in rivals for aspect in self.aspects_of(rival)}.issuperset(self.aspects_of(judge))
        may = self.own_family == "rate" or (self.own_family == "auto" and not others)
        return may or judge.family_name != family

    def judge(self, name: str) -> Judge:
        return next(judge for judge in self.judges if judge.name == name)


class Guard(Config):
    """What becomes of completions that speak to a judge, hold what only a template should, or stand at many prompts."""

    on_flag: Literal["report", "not-chosen", "drop"] = Field(
        "report", description="only count them; or never choose them; or let them be no candidates at all"
    )
    repeated: int | None = Field(
        None, ge=2, description="flag a text that was given to so many different prompts or more"
    )


class Encoder(Config):
    """A sentence model in this process: two texts are as alike as the cosine of their mean token embeddings."""

    model: str = Field(min_length=1, description="Hugging Face id or a local folder")
    revision: str | None = None
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")


class Pairing(Config):
    strategy: Strategy = "best-vs-worst"
    aspect_weights: dict[Name, float] = Field({}, description="weight of an aspect in the score; 1 if absent")
    conflicts: Literal["ignore", "drop", "prefer-aspects", "prefer-overall"] = Field(
        "ignore", description="a pair that overall and the mean of the other aspects put in opposite orders"
    )
    length_penalty: float = Field(
        0.0, ge=0, description="taken off the score for each thousand characters of a text, when candidates are ranked"
    )
    length_control: bool = Field(
        False, description="take off the score what its length is worth by the whole data set, before texts are ranked"
    )
    guard: Guard = Guard()
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
    checked: bool = Field(True, description="evolved-vs-original: ask the judges, or trust the evolution")
    member_order: tuple[str, ...] = Field((), description="member-order: members or labels from best to worst")
    max_pairs: int | None = Field(None, ge=1, description="all-above-margin: most pairs of one prompt")
    seed: int = 0


class Hub(Config):
    repo_id: str = Field(pattern=r"^\w[\w.-]{0,95}/\w[\w.-]{0,95}$")
    private: bool = True
    token_env: str = Field("HF_TOKEN", description="name of the environment variable that holds the token")


class Publishing(Config):
    test_fraction: float = Field(0.0, ge=0, lt=1, description="share of the prompts in a test split")
    seed: int = 0
    exports: tuple[Literal["kto", "jsonl", "csv"], ...] = Field(
        (),
        description="also: prompt-completion-label rows (kto), one pair a line (jsonl), a table for spreadsheets (csv)",
    )
    license: str | None = Field(None, description="licence id for the card, such as apache-2.0")
    language: tuple[str, ...] = ()
    hub: Hub | None = None


class Gates(Config):
    """What a data set must be like to be published; a run whose data set is not fails, with the numbers."""

    min_pairs: int | None = Field(None, ge=1)
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


class Budget(Config):
    """What a data set may cost in all its runs together; nothing is asked that could exceed it."""

    tokens: int | None = Field(None, ge=0, description="prompt and completion tokens")
    cost: float | None = Field(None, ge=0, description="in the currency of the prices")


class Recipe(Config):
    """Everything that decides what a run does."""

    name: Name
    description: str = ""
    workspace: str = Field(
        "pairsmith-data", min_length=1, description="folder or URL that holds ledger, tables and datasets"
    )
    ledger: str | None = Field(
        None, description="SQLAlchemy URL of the ledger; a SQLite file in the workspace when absent"
    )
    budget: Budget = Budget()
    shard_size: int = Field(256, ge=1, le=100_000, description="prompts in a shard")
    shards_in_flight: int = Field(8, ge=1, le=256, description="shards worked on at the same time")
    prompts: Prompts
    pool: Pool
    evolution: Evolution | None = None
    rating: Rating | None = None
    pairing: Pairing = Pairing()
    gates: Gates = Gates()
    publishing: Publishing = Publishing()

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        pairing = self.pairing
        if pairing.strategy == "evolved-vs-original" and not self.evolution:
            raise ValueError("pairing.strategy evolved-vs-original needs an evolution section")
        if pairing.strategy == "member-order":
            _unique("pairing.member_order", pairing.member_order)
            if len(pairing.member_order) < 2:
                raise ValueError("pairing.strategy member-order needs two or more names in member_order")
        if self.needs_scores and not self.rating:
            raise ValueError(f"pairing.strategy {pairing.strategy} needs a rating section")
        if pairing.length_control and not self.needs_scores:
            raise ValueError(f"pairing.length_control needs scores, which strategy {pairing.strategy} does without")
        counted = [check.name for check in self.rating.checks if not check.gate] if self.rating else []
        judged = self.rating.judged_aspects if self.rating else []
        _known("pairing.aspect_weights", pairing.aspect_weights, [*judged, *counted])
        if pairing.conflicts != "ignore" and not {*judged} > {"overall"}:
            raise ValueError("pairing.conflicts needs the aspect overall and others beside it")
        if self.rating and self.needs_scores:
            weights = [pairing.aspect_weights.get(aspect, 1.0) for aspect in (*judged, *counted)]
            if not weights:
                raise ValueError("rating: gates alone give no scores; add a judge, or a check that is none")
            if min(weights) < 0 or sum(weights) <= 0:
                raise ValueError("pairing.aspect_weights: weights must be >= 0 and one of them > 0")
        self._check_given()
        if not self._labels_unknown:
            _known("pairing.member_order", pairing.member_order, self._names)
        address = urlsplit(self.ledger or "")
        if address.password or "password" in parse_qs(address.query):
            raise ValueError("ledger: a password in it would be stored and shown; use PGPASSWORD or a password file")
        if self.name.startswith("ledger.sqlite"):
            raise ValueError("name: the workspace's ledger has that name")
        if "?" in self.workspace and not self.ledger:
            raise ValueError("workspace: a ? would end the ledger's URL; name the ledger, or choose another folder")
        if "://" in self.workspace and not self.ledger:
            raise ValueError("ledger: a workspace on object storage needs a ledger URL, such as postgresql://...")
        if self.budget.cost is not None:
            free = [spec.model for spec in self.specs if spec.price is None and not spec.is_given]
            if free:
                raise ValueError(f"budget.cost needs a price for every model (0 is one); {free} have none")
        if self.evolution:
            if not self._labels_unknown:
                _known("evolution.of", self.evolution.of, self._names)
            if self.evolution.evolver.name in self._names:
                raise ValueError(f"evolution.evolver.name {self.evolution.evolver.name} is a member's name too")
        return self

    def _check_given(self) -> None:
        """Refuse given completions or ratings that would come to nothing, and those named but not brought."""
        brought = [source.completions for source in self.prompts.sources if source.completions]
        if bool(brought) != bool(self.pool.given):
            raise ValueError(
                "a source with completions needs a member with backend given in pool.members, and the other way round"
            )
        if not self.rating:
            return
        rated = {aspect for given in brought for aspect in given.rated_anywhere}
        _known("prompts.sources.completions: ratings and scores", sorted(rated), (*ASPECTS, *self.rating.rubrics))
        for judge in self.rating.judges:
            if judge.is_given:
                _known(f"rating.judges.{judge.name}.aspects", judge.aspects or self.rating.aspects, rated)

    @property
    def _names(self) -> list[str]:
        """Names that the recipe knows a completion's member by."""
        brought = [source.completions for source in self.prompts.sources if source.completions]
        return [
            *(member.name for member in self.pool.members),
            *(label for given in brought for label in given.columns),
        ]

    @property
    def _labels_unknown(self) -> bool:
        """Whether some labels of given completions stand in the data alone."""
        return any(source.completions and source.completions.member for source in self.prompts.sources)

    @property
    def specs(self) -> list[Member | Evolver | Judge]:
        """Every model of the recipe, in the order of the stages."""
        evolvers = [self.evolution.evolver] if self.evolution else []
        return [*self.pool.members, *evolvers, *(self.rating.judges if self.rating else ())]

    @property
    def needs_scores(self) -> bool:
        strategy = self.pairing.strategy
        return strategy != "member-order" and not (strategy == "evolved-vs-original" and not self.pairing.checked)

    @property
    def needs_survey(self) -> bool:
        """Whether pairs depend on more than their own shard, and so wait until all shards are rated."""
        return self.pairing.length_control or self.pairing.guard.repeated is not None

    @property
    def ledger_url(self) -> str:
        return self.ledger or f"sqlite:///{self.workspace.rstrip('/')}/ledger.sqlite"


def _unique(where: str, names: Iterable[str]) -> None:
    doubles = [name for name, count in Counter(names).items() if count > 1]
    if doubles:
        raise ValueError(f"{where}: {doubles} named more than once")


def _differ(where: str, those: Iterable[Member | Judge]) -> None:
    alike: dict[str, str] = {}
    for one in those:
        first = alike.setdefault(
            one.model_dump_json(exclude={"name", "samples", "local", "endpoint", "price", "weight", "family"}), one.name
        )
        if first != one.name:
            raise ValueError(
                f"{where}: {first} and {one.name} would give the same answers; give one another model or sampling.seed"
            )


def _compiles(template: str, where: str) -> None:
    try:
        compile_text(template, where)
    except ConfigError as error:
        raise ValueError(str(error)) from None


def _known(where: str, names: Iterable[str], known: Iterable[str]) -> None:
    unknown = [name for name in names if name not in set(known)]
    if unknown:
        raise ValueError(f"{where}: unknown {unknown}; known are {sorted(known)}")


def _is_pattern(pattern: str, where: str) -> None:
    """Refuse what the `regex` module cannot compile within bounds: it writes counted repeats out, and nested ones
    multiply."""
    import regex  # type: ignore[import-untyped]

    counts = [max(int(count), 1) for count in re.findall(r"\{([0-9]{1,9})", pattern)]
    if math.prod(counts, start=len(pattern)) > MOST_PATTERN:
        raise ValueError(f"{where}: its counted repeats are too large together")
    try:
        regex.compile(pattern)
    except (regex.error, RecursionError, ValueError, OverflowError) as error:
        raise ValueError(f"{where}: not a valid pattern: {error}") from None


def _refs(schema: JsonValue, where: str) -> Iterator[str]:
    """The references of a JSON schema; refuses what could reach a network or run without a bound on its time."""
    if isinstance(schema, list):
        for part in schema:
            yield from _refs(part, where)
    elif isinstance(schema, dict):
        for key, part in schema.items():
            if key in ("$id", "$schema", "patternProperties") and isinstance(part, str | dict):
                raise ValueError(f"{where}: {key} is not supported" + (" below the root" if key[0] == "$" else ""))
            if key in ("$ref", "$dynamicRef", "$recursiveRef") and isinstance(part, str):
                if not part.startswith("#"):
                    raise ValueError(f"{where}: {key} {part} is not within the schema")
                yield part
            if key == "pattern" and isinstance(part, str):
                _is_pattern(part, f"{where}: pattern {part[:100]}")
            yield from _refs(part, where)


def is_local(path: str) -> bool:
    """Whether `path` is meant as something on disk rather than a data set's id."""
    return path.startswith((".", "/", "~")) or Path(path).suffix in DATA_SUFFIXES or glob.has_magic(path)


def names_a_file(text: str) -> bool:
    """Whether a template is given as the name of a file rather than as text."""
    return text.endswith((".jinja", ".txt")) and "\n" not in text
