"""Models: how they sample, where they run, and what they cost."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import BeforeValidator, Field, JsonValue, model_validator

from pairsmith.config.apis import API, CREDENTIALS, Rules, completed, rules_of
from pairsmith.config.base import Config, Name
from pairsmith.config.plugins import Kind, Reference
from pairsmith.config.providers import with_profile

Backend = Literal["transformers", "vllm", "openai", "echo", "reward", "given"]
BACKEND = Kind("backend", "pairsmith.backends", (("", ("spec",)),), get_args(Backend))


def _left_out(seed: Any) -> Any:
    if seed is True:
        raise ValueError("a number, or false to leave it out of what an endpoint is sent")
    return False if seed is None else seed


_SEED = BeforeValidator(_left_out, json_schema_input_type=int | Literal[False] | None)
_TEMPLATE_OURS = {"conversation", "chat_template", "add_generation_prompt", "continue_final_message", "tokenize"}
SECRET_HEADER = re.compile(r"auth|key|token|secret|cookie", re.IGNORECASE)
SECRET_VALUE = re.compile(r"\s*(bearer|basic|token|digest)\s", re.IGNORECASE)


class Sampling(Config):
    """How an answer is sampled. Every field is part of a request's key in the ledger."""

    temperature: float | None = Field(
        0.7,
        ge=0,
        le=5,
        description="how much chance decides: at 0 the likeliest token is always taken; "
        "null leaves it out of what an endpoint is sent",
    )
    top_p: float | None = Field(
        1.0,
        gt=0,
        le=1,
        description="draw among the likeliest tokens that have this probability together; 1 is all; "
        "null leaves it out of what an endpoint is sent",
    )
    top_k: int | None = Field(
        None, ge=1, description="draw among this many of the likeliest tokens; no such bound when absent"
    )
    max_tokens: int = Field(1024, ge=1, description="tokens after which a reply is cut")
    stop: tuple[str, ...] = Field((), description="a reply ends before the first of these texts")
    seed: Annotated[int | Literal[False], _SEED] = Field(
        0,
        description="each request's own seed is made from it; another one gives other replies; "
        "false or null leaves it out of what an endpoint is sent",
    )
    extra_body: dict[str, JsonValue] = Field({}, description="backend openai, or one of your own: further fields")
    template_kwargs: dict[str, JsonValue] = Field(
        {},
        description="what the model's chat template is given, such as enable_thinking: false; "
        "an endpoint is sent it as chat_template_kwargs",
    )
    fold_system: bool = Field(
        False, description="put the system message before the first user message's text, for models that refuse one"
    )

    @model_validator(mode="after")
    def _ours(self) -> Self:
        ours = {"model", "messages", "temperature", "top_p", "max_tokens", "seed", "stop", "n", "stream"}
        clash = sorted(ours & set(self.extra_body))
        if clash:
            raise ValueError(f"sampling.extra_body: {clash} have fields of their own, or are pairsmith's to set")
        if self.template_kwargs and "chat_template_kwargs" in self.extra_body:
            raise ValueError(
                "sampling.extra_body: chat_template_kwargs is what sampling.template_kwargs is sent as; "
                "put all of it into template_kwargs"
            )
        clash = sorted(_TEMPLATE_OURS & set(self.template_kwargs))
        if clash:
            raise ValueError(f"sampling.template_kwargs: {clash} are pairsmith's to set")
        return self

    @property
    def keyed(self) -> dict[str, Any]:
        """What of it is in a request's key. Fields of later versions are, where they are used."""
        unused = {name for name in ("template_kwargs", "fold_system") if not getattr(self, name)}
        return self.model_dump(mode="json", exclude={"seed", *unused})


class LocalOptions(Config):
    """How a model runs in this process. No field is part of a request's key in the ledger."""

    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: float32 on a CPU, bfloat16 elsewhere"
    )
    batch_size: int | None = Field(
        None, ge=1, description="rows that go through the model together; 32 on a CPU core, 128 elsewhere, when absent"
    )
    memory_gb: float | None = Field(
        None,
        gt=0,
        description="most that the model may take, on a CPU with the whole process: fewer rows go together then; "
        "half of what is free on a CPU, most of it elsewhere, when absent",
    )
    trust_remote_code: bool = Field(False, description="run code that comes with the model")


class Endpoint(Config):
    """Where and how the `openai` backend sends requests. No field is part of a request's key in the ledger.

    Members and judges that name the same endpoint and model share its limits, in all task runs of a process.
    """

    api: Annotated[str, API] = Field(
        "openai",
        description="what is spoken there: openai (chat completions, as nearly all do), azure, anthropic (its "
        "Messages), bedrock (its Converse) or one of your own; told by the address where that leaves no doubt",
    )
    base_url: str = Field(
        "https://api.openai.com/v1",
        pattern=r"^https?://[^@?#]+$",
        description="up to and with /v1; that of OpenAI or Anthropic when absent",
    )
    api_version: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9._-]+$",
        description="azure: the api-version of an address with deployments, 2024-10-21 when absent; "
        "anthropic: the anthropic-version, 2023-06-01 when absent",
    )
    api_key_env: str | None = Field(
        "OPENAI_API_KEY",
        description="name of the environment variable that holds the key; null for none. For other APIs, when absent: "
        "AZURE_OPENAI_API_KEY, ANTHROPIC_API_KEY, AWS_BEARER_TOKEN_BEDROCK",
    )
    api_key_block: str | None = Field(None, description="name of the Prefect Secret block that holds the key, instead")
    credentials: Annotated[str, CREDENTIALS] | None = Field(
        None,
        description="instead of a key, what a cloud's own login gives, renewed before it ends: google (Vertex AI), "
        "azure (Entra ID), aws (signed calls), or a function of your own",
    )
    headers: dict[str, str] = Field({}, description="further headers; no secrets: recipes are stored and shown")
    mode: Literal["live", "batch"] = Field("live", description="batch: hand requests in as files, collect them later")
    batch_requests: int = Field(50_000, ge=1, description="mode batch: requests in one batch at most")
    batch_megabytes: float = Field(190, gt=0, description="mode batch: size of one batch's file at most")
    batch_tokens: int | None = Field(
        None,
        ge=1,
        description="mode batch: tokens of all batches under way at most: prompts, by their length, and max_tokens; "
        "no such bound when absent",
    )
    concurrency: int = Field(16, ge=1, le=1000, description="calls at a time; fewer while the endpoint says 429 or 503")
    requests_per_minute: float | None = Field(
        None, gt=0, description="calls started in a minute at most; no such bound when absent"
    )
    tokens_per_minute: float | None = Field(
        None,
        gt=0,
        description="tokens in a minute at most: prompt, by its length, and max_tokens; no such bound when absent",
    )
    shared_limit: str | None = Field(
        None,
        description="Prefect global concurrency limit of which each shard's task holds a slot; "
        "a process has the share of the limits above that its slots are of all",
    )
    attempts: int = Field(5, ge=1, le=100, description="calls for one reply at most")
    deadline: float = Field(600, gt=0, description="seconds for one reply, waits and attempts included")
    wait_for: float = Field(
        0,
        ge=0,
        le=86400,
        description="seconds to wait for a server that is starting, until it answers for the first time; when it "
        "answers nobody by then, it is given up, without this after 3 s",
    )
    breaker: int = Field(20, ge=1, description="failures in a row after which nothing is asked for a while")
    breaker_seconds: float = Field(
        30, gt=0, description="seconds that nothing is asked after so many failures; then one call tries again"
    )
    max_tokens_name: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="what the endpoint calls max_tokens in a request; some take the other name alone"
    )

    @model_validator(mode="before")
    @classmethod
    def _completed(cls, fields: Any) -> Any:
        return completed(fields) if isinstance(fields, Mapping) else fields

    @model_validator(mode="after")
    def _spoken(self) -> Self:
        if "base_url" not in self.model_fields_set:
            what = (
                f"api {self.api} needs one, such as {self.rules.needed}"
                if self.rules.needed
                else "credentials need one"
            )
            raise ValueError(f"endpoint.base_url: {what}")
        if self.credentials and (self.api_key_env or self.api_key_block):
            raise ValueError("endpoint: credentials stand for a key; leave api_key_env and api_key_block out")
        if self.mode == "batch" and (self.credentials or not self.rules.has_batches(self.base_url)):
            what = "credentials" if self.credentials else f"api {self.api} at {self.base_url}"
            raise ValueError(f"endpoint.mode: batch does not go with {what}; leave it out: such calls are made live")
        return self

    @property
    def rules(self) -> Rules:
        """What its API leaves out and does not do."""
        return rules_of(self.api)

    @model_validator(mode="after")
    def _no_secrets(self) -> Self:
        secret = [
            name for name, value in self.headers.items() if SECRET_HEADER.search(name) or SECRET_VALUE.match(value)
        ]
        if secret:
            raise ValueError(f"endpoint.headers: {secret} look like secrets; use api_key_env or api_key_block")
        return self


class Price(Config):
    """What a model costs per million tokens. The currency is free, but all prices of a recipe must be in the same."""

    prompt: float = Field(0.0, ge=0, description="for a million tokens of prompts")
    completion: float = Field(0.0, ge=0, description="for a million tokens of replies")

    def of(self, n_prompt_tokens: int, n_tokens: int) -> float:
        """The cost of so many tokens.

        >>> Price(prompt=1, completion=2).of(1_000_000, 500_000)
        2.0
        """
        return (self.prompt * n_prompt_tokens + self.completion * n_tokens) / 1e6


class ModelSpec(Config):
    """A model and where it runs."""

    is_judge: ClassVar[bool] = False
    counted_as: ClassVar[str] = "member"  # the role under which its failures are counted

    backend: Annotated[str, BACKEND] = Field(
        "transformers",
        description="what runs the model: transformers or vllm in this process, openai for an endpoint; "
        "echo: made-up replies, without weights; reward: a model that gives scores and no texts, for judges only; "
        "given: no model, what the sources bring (see prompts.sources.completions)",
    )
    model: str = Field("", description="Hugging Face id or a local folder; none for backend given")
    revision: str | None = Field(
        None, description="commit, branch or tag of the model on the hub; its main branch when absent"
    )
    identity: Name | None = Field(
        None,
        description="what tells it from another endpoint's model of the same name; without it, they share replies",
    )
    sampling: Sampling = Field(Sampling(), description="how its replies are sampled")
    price: Price | None = Field(None, description="what it costs; needed where the recipe has a budget of cost")
    family: Name | None = Field(None, description="what it is related to; the first letters of its name when absent")
    license: str | None = Field(None, description="its licence, for the card; what its own files say when absent")
    terms: str | None = Field(None, pattern=r"^https?://\S+$", description="where its terms stand, for the card")
    local: LocalOptions = Field(LocalOptions(), description="how it runs, where it runs in this process")
    endpoint: Endpoint | None = Field(
        None, description="where and how it is asked: for backend openai, and only for it"
    )

    @model_validator(mode="before")
    @classmethod
    def _as_the_provider_takes_it(cls, fields: Any) -> Any:
        usual = cls.model_fields["sampling"].default.model_dump(exclude_unset=True)
        return with_profile(fields, usual) if isinstance(fields, Mapping) else fields

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if (self.backend == "openai") != (self.endpoint is not None):
            raise ValueError("endpoint goes with backend openai, and only with it")
        if self.sampling.extra_body and self.backend != "openai" and not isinstance(self.backend, Reference):
            raise ValueError("sampling.extra_body goes with backend openai or one of your own, and only with them")
        left_out = {"temperature": None, "top_p": None, "seed": False}
        vain = [name for name, none in left_out.items() if getattr(self.sampling, name) is none]
        if vain and self.backend in ("transformers", "vllm"):
            raise ValueError(
                f"sampling: {vain} can be left out of what an endpoint is sent; give backend {self.backend} a value"
            )
        if self.identity and self.endpoint is None:
            raise ValueError("identity goes with backend openai: weights of this process are named by their revision")
        if self.backend == "vllm" and self.local.device not in ("auto", "cuda"):
            raise ValueError("local.device: backend vllm takes the GPUs that CUDA_VISIBLE_DEVICES names; leave it out")
        if self.backend == "reward" and not self.is_judge:
            raise ValueError("a reward model gives scores, not texts: only a judge can have backend reward")
        if not self.model and not self.is_given:
            raise ValueError("model: this field is required")
        if self.is_given:
            fields = type(self).model_fields.items()
            meant = [name for name, field in fields if getattr(self, name) != field.get_default()]
            surplus = sorted(
                set(meant) - {"backend", "name", "weight", "aspects", "protocol", "brings", "license", "terms"}
            )
            if surplus:
                raise ValueError(f"backend given asks no model; leave out {surplus}")
        return self

    @model_validator(mode="after")
    def _within_api(self) -> Self:
        """Refuse sampling that the endpoint's API takes in no request."""
        if self.endpoint is None:
            return self
        api, rules, temperature = self.endpoint.api, self.endpoint.rules, self.sampling.temperature
        if temperature is not None and temperature > rules.most_temperature:
            raise ValueError(f"sampling.temperature: api {api} takes {rules.most_temperature:g} at most")
        if rules.draws_by_one and self.sampling.top_p not in (None, 1) and temperature not in (None, 1):
            raise ValueError(
                f"sampling: api {api} takes temperature or top_p; leave top_p out, or set temperature to 1"
            )
        return self

    @property
    def is_given(self) -> bool:
        """Whether it stands for completions or ratings from sources, so that no model is asked."""
        return self.backend == "given"

    @property
    def family_name(self) -> str:
        """The family that the recipe names; else the one that the model's name tells (see `family_of`)."""
        return self.family or family_of(self.model)


def family_of(model: str) -> str:
    """The letters with which a model's name begins, in lower case.

    >>> family_of("Qwen/Qwen2.5-7B")
    'qwen'
    """
    return re.match(r"[a-z]*", Path(model).name.lower())[0]  # type: ignore[index]


def differ(where: str, those: Mapping[str, ModelSpec]) -> None:
    """Raise ValueError if two models would be asked the same and so give the same answers. `those`: name -> model."""
    alike: dict[str, str] = {}
    elsewhere = {"name", "samples", "local", "endpoint", "price", "weight", "family", "license", "terms"}
    for name, one in those.items():
        first = alike.setdefault(one.model_dump_json(exclude=elsewhere), name)
        if first != name:
            raise ValueError(
                f"{where}: {first} and {name} would give the same answers; give one another model or sampling.seed"
            )
