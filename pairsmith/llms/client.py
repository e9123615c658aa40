"""The SDK's client for one address and key, as little of it as is needed: a body out, a status and a body back.

Imported only when an endpoint is asked for the first time, since the SDK takes a second to import.
"""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2
import openai

MAX_BODY = 16 * 1024 * 1024  # bytes of a response


class Client:
    """Posts JSON. The SDK's retries are off, no redirect is followed, and bodies are bounded.

    The SDK's aiohttp transport and its generic `post` take a quarter of the time of its typed methods: at hundreds of
    calls a second the client, not the endpoint, would be the limit. Made for one event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, base_url: str, key: str, headers: Mapping[str, str]) -> None:
        http_client = openai.DefaultAioHttpClient(
            follow_redirects=False,
            timeout=None,
            limits=httpx2.Limits(max_connections=10_000, keepalive_expiry=30),
            event_hooks={"response": [_cap]},
        )
        self._sdk = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=key,
            max_retries=0,
            timeout=None,
            default_headers={"accept-encoding": "identity", **headers},  # what is not compressed cannot unfold
            http_client=http_client,
        )
        atexit.register(lambda: asyncio.run_coroutine_threadsafe(self._sdk.close(), loop).result(2))

    async def post(self, path: str, body: dict[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of the answer. Raises ConnectionError where there is none, or too much of it."""
        try:
            response = await self._sdk.post(path, body=body, cast_to=httpx2.Response)
        except openai.APIStatusError as error:
            response = error.response
        except (openai.APIError, httpx2.HTTPError, OSError) as error:
            raise ConnectionError(f"{type(error.__cause__ or error).__name__}: {error.__cause__ or error}") from None
        return response.status_code, response.headers, response.content


class _Capped(httpx2.AsyncByteStream):
    """A response's bytes, as long as they are not too many."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > MAX_BODY:
                raise ConnectionError(f"a response of more than {MAX_BODY} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _cap(response: httpx2.Response) -> None:
    response.stream = _Capped(response.stream)
