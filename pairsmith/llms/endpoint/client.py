"""A small HTTP client for one address and key: it sends a body and returns a status and a body.

Address and headers come from OpenAI's SDK, connections from aiohttp. A call through the SDK takes 1.7 ms of processor
time, fifteen times what aiohttp takes for the same bytes: at hundreds of calls a second the client, not the endpoint,
would be the limit. Imported with the first request, since both packages take a while to import.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.request import getproxies

import aiohttp
import openai

from pairsmith.llms.endpoint.wire import BrokenAnswer

MAX_BODY = 16 * 1024 * 1024  # bytes of a response


class Client:
    """Posts JSON: follows no redirect, bounds bodies, retries nothing. Belongs to one event loop."""

    def __init__(self, base_url: str, key: str, headers: Mapping[str, str]) -> None:
        self.sdk = openai.AsyncOpenAI(base_url=base_url, api_key=key, max_retries=0, default_headers=dict(headers))
        of_sdk = {k: v for k, v in (self.sdk.default_headers | self.sdk.auth_headers).items() if isinstance(v, str)}
        self._headers = of_sdk | {"Accept-Encoding": "identity"}
        self._address = str(self.sdk.base_url).rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def post(self, path: str, body: dict[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of the answer. Raises ConnectionError where there is none, or one too large, and
        BrokenAnswer where that one may have been paid for."""
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
            timeout = aiohttp.ClientTimeout(total=None)
            proxies = bool(getproxies())  # otherwise aiohttp looks for one at every call, in a thread
            cookies = aiohttp.DummyCookieJar()  # keeps no cookie, and searches for none at every call
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=timeout, cookie_jar=cookies, trust_env=proxies
            )
        content = json.dumps(body).encode()
        try:
            async with self._session.post(
                self._address + path, data=content, headers=self._headers, allow_redirects=False
            ) as response:
                return response.status, response.headers, await _read(response)
        except BrokenAnswer:
            raise
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionError(f"{type(error).__name__}: {error}") from None

    async def close(self) -> None:
        await self.sdk.close()
        if self._session:
            await self._session.close()


async def _read(response: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    try:
        async for part in response.content.iter_any():
            size += len(part)
            if size > MAX_BODY:
                raise ConnectionError(f"a response of more than {MAX_BODY} bytes")
            parts.append(part)
    except (aiohttp.ClientError, OSError) as error:
        if not 200 <= response.status < 300:
            raise
        name = "" if type(error) is ConnectionError else f"{type(error).__name__}: "
        raise BrokenAnswer(f"{name}{error}", max(size, response.content_length or 0)) from None
    return b"".join(parts)
