"""A recipe: everything that decides what a run does, as frozen pydantic models.

`load_recipe` reads one from YAML; the same models are the parameters of the Prefect flow, so a server refuses a
wrong value before a run exists. Unknown fields are errors. Whatever a recipe refers to on disk is made absolute
(data) or read in (templates) at load time, so a recipe means the same on another machine's worker.
"""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from pairsmith.errors import ConfigError
from pairsmith.templating import compile_text, principle_texts

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Aspect = Literal["helpfulness", "honesty", "instruction-following", "truthfulness", "overall"]
Strategy = Literal[
    "best-vs-worst",
    "best-vs-random",
    "best-vs-second",
    "evolved-vs-original",
    "member-order",
    "all-above-margin",
]
METHODS = ("helpfulness", "relevance", "deepening", "creativity", "details")
DATA_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".parquet": "parquet"}


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


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


class Source(Config):
    """One place that prompts are read from."""

    path: str = Field(min_length=1, description="file, glob, data set folder, or Hugging Face data set id")
    format: Literal["auto", "jsonl", "json", "csv", "parquet", "dataset"] = "auto"
    config: str | None = Field(None, description="configuration of a Hugging Face data set")
    split: str = Field("train", description="split of a Hugging Face data set")
    revision: str | None = Field(None, description="commit or tag of a Hugging Face data set")
    columns: Columns = Columns()
    sample: int | None = Field(None, ge=1, description="draw this many rows at random")
    limit: int | None = Field(None, ge=1, description="read no more than this many rows")
    seed: int = Field(0, description="seed of the draw")


class Prompts(Config):
    sources: tuple[Source, ...] = Field(min_length=1)
    limit: int | None = Field(None, ge=1, description="read no more rows than this from all sources together")
    max_chars: int = Field(200_000, ge=1, description="reject longer prompts")


class Sampling(Config):
    """How an answer is sampled; every field is part of a request's identity."""

    temperature: float = Field(0.7, ge=0, le=5, description="0 is greedy")
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int | None = Field(None, ge=1)
    max_tokens: int = Field(1024, ge=1)
    stop: tuple[str, ...] = ()
    seed: int = 0


class LocalOptions(Config):
    """How a model runs in this process; none of it is part of a request's identity."""

    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: float32 on a CPU, bfloat16 elsewhere"
    )
    batch_size: int = Field(32, ge=1)
    trust_remote_code: bool = Field(False, description="run code that comes with the model")


class Endpoint(Config):
    """Where and how the `openai` backend asks; none of it is part of a request's identity."""

    base_url: str = Field("https://api.openai.com/v1", pattern=r"^https?://[^@?]+$", description="up to and with /v1")
    api_key_env: str | None = Field(
        "OPENAI_API_KEY", description="name of the environment variable that holds the key; null for none"
    )
    concurrency: int = Field(16, ge=1, le=1000, description="calls at a time, in the whole process")
    attempts: int = Field(5, ge=1, le=100, description="calls for one reply at most")
    deadline: float = Field(600, gt=0, description="seconds for one reply, waits and attempts included")
    max_tokens_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"


class ModelSpec(Config):
    """A model and where it runs."""

    backend: Literal["transformers", "openai", "echo"] = "transformers"
    model: str = Field(min_length=1, description="Hugging Face id or a local folder")
    revision: str | None = None
    local: LocalOptions = LocalOptions()
    endpoint: Endpoint | None = Field(None, description="for backend openai")

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if (self.backend == "openai") != (self.endpoint is not None):
            raise ValueError("endpoint goes with backend openai, and only with it")
        return self


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
    """An entry of the pool: a model with its own way of answering."""

    name: Name
    sampling: Sampling = Sampling()
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
    draw: int | None = Field(None, ge=1, description="members drawn per prompt; all when absent")
    seed: int = 0

    @model_validator(mode="after")
    def _consistent(self) -> Pool:
        _unique("pool.members", [member.name for member in self.members])
        _differ("pool.members", self.members)
        if self.draw and self.draw > len(self.members):
            raise ValueError(f"pool.draw is {self.draw} but there are {len(self.members)} members")
        return self


class Evolver(ModelSpec):
    name: Name = "evolver"
    sampling: Sampling = Sampling()


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
    of: tuple[Name, ...] = Field((), description="members whose completions are evolved; all when empty")
    keep: Literal["all", "last"] = "all"
    seed: int = 0

    @model_validator(mode="after")
    def _known(self) -> Evolution:
        unknown = set(self.methods) - set(METHODS) - set(self.templates)
        if unknown:
            raise ValueError(
                f"evolution.methods: unknown {sorted(unknown)}; built in are {list(METHODS)}, "
                "others need an entry in evolution.templates"
            )
        for name, text in self.templates.items():
            if _names_a_file(text):
                raise ValueError(f"evolution.templates.{name}: give the text itself; {text} was not read in")
            _compiles(text, f"evolution.templates.{name}")
        return self


class Judge(ModelSpec):
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
    seed: int = Field(0, description="seed of the order in which a listwise judge sees the texts")

    @model_validator(mode="after")
    def _readable(self) -> Judge:
        if self.readout == "logprobs" and self.protocol == "listwise":
            raise ValueError(f"judge {self.name}: readout logprobs needs protocol pointwise")
        return self


class Rating(Config):
    judges: tuple[Judge, ...] = Field(min_length=1)
    aspects: tuple[Aspect, ...] = Field(("overall",), min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Rating:
        _unique("rating.judges", [judge.name for judge in self.judges])
        _differ("rating.judges", self.judges)
        _unique("rating.aspects", self.aspects)
        return self


class Pairing(Config):
    strategy: Strategy = "best-vs-worst"
    aspect_weights: dict[Aspect, float] = Field({}, description="weight of an aspect in the score; 1 if absent")
    min_margin: float = Field(0.0, ge=0, description="least difference of the scores; ties never pair")
    max_similarity: float = Field(
        0.95, ge=0, le=1, description="reject pairs whose texts are more alike (Indel similarity, 0 to 1)"
    )
    allow_truncated: bool = Field(False, description="let completions cut at max_tokens be candidates")
    checked: bool = Field(True, description="evolved-vs-original: ask the judges, or trust the evolution")
    member_order: tuple[Name, ...] = Field((), description="member-order: members from best to worst")
    max_pairs: int | None = Field(None, ge=1, description="all-above-margin: most pairs of one prompt")
    seed: int = 0


class Hub(Config):
    repo_id: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    private: bool = True
    token_env: str = Field("HF_TOKEN", description="name of the environment variable that holds the token")


class Publishing(Config):
    test_fraction: float = Field(0.0, ge=0, lt=1, description="share of the prompts in a test split")
    seed: int = 0
    exports: tuple[Literal["kto", "jsonl"], ...] = ()
    license: str | None = Field(None, description="licence id for the card, such as apache-2.0")
    language: tuple[str, ...] = ()
    hub: Hub | None = None


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
    shard_size: int = Field(256, ge=1, le=100_000, description="prompts in a shard")
    shards_in_flight: int = Field(4, ge=1, le=256, description="shards worked on at the same time")
    prompts: Prompts
    pool: Pool
    evolution: Evolution | None = None
    rating: Rating | None = None
    pairing: Pairing = Pairing()
    publishing: Publishing = Publishing()

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        pairing, members = self.pairing, [member.name for member in self.pool.members]
        if pairing.strategy == "evolved-vs-original" and not self.evolution:
            raise ValueError("pairing.strategy evolved-vs-original needs an evolution section")
        if pairing.strategy == "member-order":
            _unique("pairing.member_order", pairing.member_order)
            if len(pairing.member_order) < 2:
                raise ValueError("pairing.strategy member-order needs two or more names in member_order")
        if self.needs_scores and not self.rating:
            raise ValueError(f"pairing.strategy {pairing.strategy} needs a rating section")
        _known("pairing.aspect_weights", pairing.aspect_weights, self.rating.aspects if self.rating else ())
        if self.rating and self.needs_scores:
            weights = [pairing.aspect_weights.get(aspect, 1.0) for aspect in self.rating.aspects]
            if min(weights) < 0 or sum(weights) <= 0:
                raise ValueError("pairing.aspect_weights: weights must be >= 0 and one of them > 0")
        _known("pairing.member_order", pairing.member_order, members)
        if self.name.startswith("ledger.sqlite"):
            raise ValueError("name: the workspace's ledger has that name")
        if "?" in self.workspace and not self.ledger:
            raise ValueError("workspace: a ? would end the ledger's URL; name the ledger, or choose another folder")
        if "://" in self.workspace and not self.ledger:
            raise ValueError("ledger: a workspace on object storage needs a ledger URL, such as postgresql://...")
        if self.evolution:
            _known("evolution.of", self.evolution.of, members)
            if self.evolution.evolver.name in members:
                raise ValueError(f"evolution.evolver.name {self.evolution.evolver.name} is a member's name too")
        return self

    @property
    def needs_scores(self) -> bool:
        strategy = self.pairing.strategy
        return strategy != "member-order" and not (strategy == "evolved-vs-original" and not self.pairing.checked)

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
        first = alike.setdefault(one.model_dump_json(exclude={"name", "samples", "local", "endpoint"}), one.name)
        if first != one.name:
            raise ValueError(
                f"{where}: {first} and {one.name} would give the same answers; give one another sampling.seed"
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


def load_recipe(path: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe from YAML and apply `key=value` overrides (dotted keys, YAML values).

    Raises ConfigError that names the file, the field and what is wrong with it.
    """
    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such recipe") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: a recipe is a mapping with name, prompts, pool, ...; see recipes/echo.yaml")
    data = _unshared(data)
    for override in overrides:
        _override(data, override)
    return parse_recipe(data, base=path.parent, where=str(path))


def parse_recipe(data: Mapping[str, Any], base: Path, where: str = "recipe") -> Recipe:
    """Validate a recipe, read in the templates it names and make its paths absolute.

    Paths are looked for in `base`, then in the working directory.
    """
    try:
        recipe = Recipe.model_validate(_with_templates(data, base))
    except ValidationError as error:
        raise ConfigError(f"{where}:\n" + "\n".join(_complaints(error))) from None
    resolved = recipe.model_dump(mode="json")
    for source in resolved["prompts"]["sources"]:
        source["path"] = _resolve(source["path"], base)
        suffix = Path(source["path"]).suffix.lower()
        if source["format"] == "auto" and Path(source["path"]).is_file() and suffix not in DATA_SUFFIXES:
            raise ConfigError(
                f"{source['path']}: what format is it? Set the source's format to jsonl, json, csv or parquet"
            )
    for spec in models_in(resolved):
        folder = base / Path(spec["model"]).expanduser()
        spec["model"] = str(folder.resolve()) if folder.is_dir() else spec["model"]
    if "://" not in recipe.workspace:
        resolved["workspace"] = str(Path(recipe.workspace).expanduser().resolve())
    return Recipe.model_validate(resolved)


def models_in(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The members, evolver and judges in a recipe's dumped data."""
    evolution, rating = data.get("evolution"), data.get("rating")
    return [
        *data["pool"]["members"],
        *([evolution["evolver"]] if evolution else []),
        *(rating["judges"] if rating else []),
    ]


def _complaints(error: ValidationError) -> Iterable[str]:
    for item in error.errors(include_url=False):
        field = ".".join(str(part) for part in item["loc"]) or "recipe"
        message = item["msg"].removeprefix("Value error, ")
        given = f" (given: {item['input']!r})" if not isinstance(item["input"], dict | list) else ""
        if item["type"] == "extra_forbidden":
            message, given = "there is no such field", ""
        yield f"  {field}: {message}{given}"


def _override(data: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override}: write it as key=value, for example pairing.min_margin=0.5")
    *parents, last = key.split(".")
    target: Any = data
    try:
        for part in parents:
            if isinstance(target, list):
                target = target[int(part)]
            else:
                target[part] = {} if target.get(part) is None else target[part]
                target = target[part]
        target[int(last) if isinstance(target, list) else last] = yaml.safe_load(value)
    except (ValueError, IndexError, TypeError, AttributeError) as error:
        raise ConfigError(f"--set {override}: the recipe has no place {key} ({error})") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value is not valid YAML: {error}") from error


def is_local(path: str) -> bool:
    """Whether `path` is meant as something on disk rather than a data set's id."""
    return path.startswith((".", "/", "~")) or Path(path).suffix in DATA_SUFFIXES or glob.has_magic(path)


def _resolve(path: str, base: Path) -> str:
    for folder in (base, Path.cwd()):
        candidate = folder / Path(path).expanduser()
        if candidate.exists() or (glob.has_magic(path) and glob.glob(str(candidate), recursive=True)):
            return str(candidate.absolute())
    if is_local(path):
        raise ConfigError(f"prompts.sources: {path} is neither in {base.absolute()} nor in {Path.cwd()}")
    return path


def _names_a_file(text: str) -> bool:
    return text.endswith((".jinja", ".txt")) and "\n" not in text


def _with_templates(data: Mapping[str, Any], base: Path) -> Mapping[str, Any]:
    """The recipe with the text of each template file in place of the file's name."""
    evolution = data.get("evolution")
    templates = evolution.get("templates") if isinstance(evolution, Mapping) else None
    if not isinstance(evolution, Mapping) or not isinstance(templates, Mapping):
        return data
    texts = {name: _read_in(text, base) for name, text in templates.items()}
    return {**data, "evolution": {**evolution, "templates": texts}}


def _read_in(text: Any, base: Path) -> Any:
    if not isinstance(text, str) or not _names_a_file(text):
        return text
    try:
        return (base / text).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"evolution.templates: {base / text} cannot be read: {error}") from error


def _unshared(value: Any) -> Any:
    """A copy in which nothing stands twice: a YAML anchor gives one object to several places."""
    if isinstance(value, dict):
        return {key: _unshared(part) for key, part in value.items()}
    return [_unshared(part) for part in value] if isinstance(value, list) else value
