"""Azure OpenAI's addresses and headers; its bodies are those of chat completions.

Described at https://learn.microsoft.com/azure/ai-foundry/openai/reference and .../api-version-lifecycle
"""

from __future__ import annotations

from urllib.parse import quote

VERSION = "2024-10-21"  # the last one that is no preview, of addresses with deployments


def url(base_url: str, model: str, version: str | None) -> str:
    """Where calls of a model go: an address that ends with /v1 is told the model in the body, any other the deployment.

    >>> url("https://mine.openai.azure.com/openai/v1/", "gpt", None)
    'https://mine.openai.azure.com/openai/v1/chat/completions'
    >>> url("https://mine.openai.azure.com", "gpt", None)
    'https://mine.openai.azure.com/openai/deployments/gpt/chat/completions?api-version=2024-10-21'
    """
    base = base_url.rstrip("/").removesuffix("/chat/completions")
    if base.endswith("/v1"):
        return f"{base}/chat/completions" + (f"?api-version={version}" if version else "")
    if "/deployments/" not in base and not base.endswith("/models"):
        base = f"{base.removesuffix('/openai')}/openai/deployments/{quote(model, safe='')}"
    return f"{base}/chat/completions?api-version={version or VERSION}"


def headers(key: str, version: str | None) -> dict[str, str]:
    """The header of a key, or of a token of Entra ID, which is a JSON web token."""
    is_token = key.startswith("eyJ") and key.count(".") == 2
    return {"Authorization": f"Bearer {key}"} if is_token else {"api-key": key}
