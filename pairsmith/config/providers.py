"""What providers are known to refuse, and what a recipe therefore leaves out where it says nothing itself.

Only what a provider always refuses stands here, so no recipe that works is changed by it. A field that the recipe sets
is sent as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pairsmith.config.apis import completed

_HOST = re.compile(r"https?://([^/:]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Profile:
    """Fields of `sampling` and `endpoint` for models whose name begins as `models` says, at hosts within `host`."""

    host: str
    models: str = ""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    endpoint: Mapping[str, Any] = field(default_factory=dict)

    def fits(self, host: str, model: str) -> bool:
        at_host = host == self.host or host.endswith(f".{self.host}")
        return at_host and re.match(self.models, model, re.IGNORECASE) is not None


PROFILES = (
    Profile(
        "api.openai.com",
        r"o[134](-|$)|gpt-5(-mini|-nano|-pro|-20\d\d-.*)?$",
        {"temperature": None, "top_p": None},
        {"max_tokens_name": "max_completion_tokens"},
    ),
    Profile("generativelanguage.googleapis.com", r"(models/)?gemma-", {"seed": False, "fold_system": True}),
    Profile("generativelanguage.googleapis.com", "", {"seed": False}),
    Profile("api.mistral.ai", "", {"seed": False}),
    Profile("api.anthropic.com", r"claude-(opus-4-[1-9]|(sonnet|haiku|opus)-4-[5-9])", {"top_p": None}),
)  # the first that fits counts


# Where the terms stand on which a provider's models are used, by the host of its addresses.
TERMS = {
    r"api\.openai\.com": "https://openai.com/policies/services-agreement/",
    r".+\.(openai|services\.ai|cognitiveservices)\.azure\.com": "https://www.microsoft.com/licensing/terms",
    r"api\.anthropic\.com": "https://www.anthropic.com/legal/commercial-terms",
    r"generativelanguage\.googleapis\.com": "https://ai.google.dev/gemini-api/terms",
    r"(.+-)?aiplatform\.googleapis\.com": "https://cloud.google.com/terms",
    r"bedrock(-runtime|-mantle)?\..+\.amazonaws\.com": "https://aws.amazon.com/service-terms/",
    r"api\.mistral\.ai": "https://mistral.ai/terms",
    r"api\.cohere\.(com|ai)": "https://cohere.com/terms-of-use",
    r"api\.deepseek\.com": "https://cdn.deepseek.com/policies/en-US/deepseek-open-platform-terms-of-service.html",
    r"api\.x\.ai": "https://x.ai/legal/terms-of-service-enterprise",
    r"api\.together\.(xyz|ai)": "https://www.together.ai/terms-of-service",
    r"api\.fireworks\.ai": "https://fireworks.ai/terms-of-service",
    r"openrouter\.ai": "https://openrouter.ai/terms",
}


def terms_at(base_url: str) -> str | None:
    """Where the terms of the provider at an address stand; None where it is not known.

    >>> terms_at("https://api.openai.com/v1")
    'https://openai.com/policies/services-agreement/'
    """
    named = _HOST.match(base_url)
    host = named[1].lower() if named else ""
    return next((terms for known, terms in TERMS.items() if re.fullmatch(known, host)), None)


def with_profile(fields: Mapping[str, Any], sampling: Mapping[str, Any]) -> dict[str, Any]:
    """A model's fields, as a recipe gives them, with what its provider is known to refuse left out.

    `sampling`: what counts where the recipe gives none.

    >>> made = with_profile({"model": "mistral-small", "endpoint": {"base_url": "https://api.mistral.ai/v1"}}, {})
    >>> made["sampling"]
    {'seed': False}
    """
    endpoint = _given(fields.get("endpoint"))
    if endpoint is None:
        return dict(fields)
    named = _HOST.match(str(completed(endpoint).get("base_url", "")))
    host, model = named[1].lower() if named else "", str(fields.get("model", ""))
    profile = next((one for one in PROFILES if one.fits(host, model)), None)
    if profile is None:
        return dict(fields)
    given = _given(fields["sampling"]) if "sampling" in fields else {}
    if given is None:
        return dict(fields)
    drawn = {**profile.sampling, **given} if given else {**sampling, **profile.sampling}
    return {**fields, "sampling": drawn, "endpoint": {**profile.endpoint, **endpoint}}


def _given(part: Any) -> dict[str, Any] | None:
    """The fields that a recipe gives a part; None where it gives no such part."""
    if isinstance(part, Mapping):
        return dict(part)
    return part.model_dump(exclude_unset=True) if hasattr(part, "model_dump") else None
