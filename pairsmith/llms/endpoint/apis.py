"""The APIs that endpoints speak, each told by how it differs from chat completions. Pure functions.

All of pairsmith speaks chat completions (`wire`): a request is written as its body, and a reply is read from its
response. An `Api` says where such a body goes and with which headers, and puts it and its response into other words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pairsmith.config import Endpoint
from pairsmith.config.plugins import failed, load_plugin
from pairsmith.llms.endpoint import anthropic, azure, bedrock
from pairsmith.llms.endpoint.wire import PATH

Body = dict[str, Any]


@dataclass(frozen=True)
class Api:
    """How an API differs from chat completions.

    `url`: of calls, from `base_url`, model and `api_version`. `headers`: from key and `api_version`. `request`: a body
    of chat completions in this API's words. `response`: this API's response in those of chat completions; whatever is
    no response, such as an error, stays as it is. `status`: what that of a refusal means, by its body. `wait`: seconds
    to wait that a refusal's headers ask for otherwise than by Retry-After.
    """

    url: Callable[[str, str, str | None], str]
    headers: Callable[[str, str | None], dict[str, str]]
    request: Callable[[Body], Body]
    response: Callable[[Any], Any]
    status: Callable[[int, bytes], int] = lambda status, content: status
    wait: Callable[[Mapping[str, str]], float] = lambda headers: 0.0


def bearer(key: str, version: str | None = None) -> dict[str, str]:
    """The header of a key, or of a token that stands for one."""
    return {"Authorization": f"Bearer {key}"}


def same(content: Any) -> Any:
    """Chat completions as they are."""
    return content


APIS = {
    "openai": Api(lambda base_url, model, version: base_url.rstrip("/") + PATH, bearer, same, same),
    "azure": Api(azure.url, azure.headers, same, same),
    "anthropic": Api(
        anthropic.url, anthropic.headers, anthropic.request, anthropic.response, anthropic.status, anthropic.wait
    ),
    "bedrock": Api(bedrock.url, bearer, bedrock.request, bedrock.response, bedrock.status),
}


def api_of(endpoint: Endpoint) -> Api:
    """The API of an endpoint; a user's own is an object with url, headers, request and response."""
    if known := APIS.get(endpoint.api):
        at_vertex = endpoint.api == "anthropic" and anthropic.is_vertex(endpoint.base_url)
        return replace(known, request=anthropic.vertex_request) if at_vertex else known
    own = load_plugin(endpoint.api)
    return Api(*(_guarded(endpoint.api, getattr(own, name)) for name in ("url", "headers", "request", "response")))


def _guarded(reference: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A user's function, whose errors stop the run and name it."""

    def call(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception as error:
            raise failed(reference, error) from error

    return call
