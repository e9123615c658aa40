"""The APIs that endpoints speak: what a recipe need not say of each, and what none may ask of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pairsmith.config.plugins import Kind

_AZURE = r"^https://[^/]+\.(openai|cognitiveservices|services\.ai)\.azure\.(com|us|cn)(?!.*(/anthropic|/v1/?$))(/|$)"
_ANTHROPIC = (
    r"^https://api\.anthropic\.com/?$|^https://[^/]+\.services\.ai\.azure\.(com|us|cn)/anthropic(/|$)|.*/v1/messages/?$"
)
_BEDROCK = r"^https://bedrock-runtime[^/]*\.amazonaws\.com(\.cn)?/?$"


@dataclass(frozen=True)
class Rules:
    """What a recipe need not say of an API, and what it may not ask.

    `spoken`: addresses at which nothing else is spoken. `needed`: an address to write where there is none for all.
    `batches`: addresses that take batches. `most_temperature`: the highest that it takes. `draws_by_one`: it takes
    temperature or top_p, not both.
    """

    base_url: str | None = None
    needed: str = ""
    key_env: str | None = None
    spoken: str = r"(?!)"
    has_logprobs: bool = False
    batches: str = r"(?!)"
    most_temperature: float = float("inf")
    draws_by_one: bool = False

    def has_batches(self, base_url: str) -> bool:
        """Whether requests can be handed in as files at an address."""
        return re.match(self.batches, base_url) is not None


RULES = {
    "openai": Rules("https://api.openai.com/v1", key_env="OPENAI_API_KEY", has_logprobs=True, batches=r"."),
    "azure": Rules(
        needed="https://RESOURCE.openai.azure.com",
        key_env="AZURE_OPENAI_API_KEY",
        spoken=_AZURE,
        has_logprobs=True,
        batches=r".*/v1/?$",
    ),
    "anthropic": Rules(
        "https://api.anthropic.com",
        key_env="ANTHROPIC_API_KEY",
        spoken=_ANTHROPIC,
        most_temperature=1.0,
        draws_by_one=True,
    ),
    "bedrock": Rules(
        needed="https://bedrock-runtime.REGION.amazonaws.com",
        key_env="AWS_BEARER_TOKEN_BEDROCK",
        spoken=_BEDROCK,
        most_temperature=1.0,
    ),
}
API = Kind(
    "api",
    "pairsmith.apis",
    (
        ("url", ("base_url", "model", "version")),
        ("headers", ("key", "version")),
        ("request", ("body",)),
        ("response", ("answer",)),
    ),
    tuple(RULES),
)
CREDENTIALS = Kind("credentials", "pairsmith.credentials", (("", ("base_url",)),), ("google", "azure", "aws"))
_OWN = Rules(needed="https://api.example.org", has_logprobs=True)


def rules_of(api: str) -> Rules:
    """What holds for an API; one of a user's own may be asked for anything but batches."""
    return RULES.get(api, _OWN)


def completed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an endpoint with those that its address or API leaves no doubt about.

    >>> completed({"base_url": "https://mine.openai.azure.com"})["api"]
    'azure'
    >>> completed({"base_url": "https://mine.openai.azure.com/openai?api-version=2024-10-21"})["api_version"]
    '2024-10-21'
    >>> completed({"api": "anthropic"})["base_url"]
    'https://api.anthropic.com'
    >>> completed({"base_url": "http://127.0.0.1:8000/v1/chat/completions"})["base_url"]
    'http://127.0.0.1:8000/v1'
    """
    made = dict(fields)
    address, _, query = str(fields.get("base_url", "")).partition("?")
    if version := re.fullmatch(r"api-version=([A-Za-z0-9._-]+)", query):
        made = {"api_version": version[1]} | made | {"base_url": address}
    if "api" not in made:
        made["api"] = next((name for name, rules in RULES.items() if re.match(rules.spoken, address, re.I)), "openai")
    if made["api"] == "openai" and isinstance(made.get("base_url"), str):
        made["base_url"] = re.sub(r"/chat/completions/?$", "", made["base_url"])
    rules = rules_of(str(made["api"]))
    if rules.base_url and made.get("credentials") is None:
        made.setdefault("base_url", rules.base_url)
    keyless = made.get("credentials") is not None or made.get("api_key_block") is not None
    if "api_key_env" not in made:
        made["api_key_env"] = None if keyless else rules.key_env
    return made
