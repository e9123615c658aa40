"""A small HTTP client for one model at an endpoint: it sends a body and returns a status and a body.

Both are those of chat completions, whichever API the endpoint speaks: what is sent and what comes are translated here.

Headers of chat completions come from OpenAI's SDK, connections from aiohttp. A call through the SDK takes 1.7 ms of
processor time, fifteen times what aiohttp takes for the same bytes: at hundreds of calls a second the client, not the
endpoint, would be the limit. Imported with the first request, since both packages take a while to import.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.request import getproxies

import aiohttp
import openai
from multidict import CIMultiDict
from yarl import URL

from pairsmith.about import __version__ as VERSION
from pairsmith.config import Endpoint
from pairsmith.llms.endpoint.apis import Api, api_of, same
from pairsmith.llms.endpoint.credentials import credentials_of
from pairsmith.llms.endpoint.keys import without
from pairsmith.llms.endpoint.reach import unconnected
from pairsmith.llms.endpoint.wire import PATH, BrokenAnswer, Unreached, retry_after

KEY_HEADERS = {"authorization", "api-key", "x-api-key"}
MAX_BODY = 16 * 1024 * 1024  # bytes of a response
Answer = tuple[int, Mapping[str, str], bytes]  # status, headers, body


class Client:
    """Posts JSON: follows no redirect, bounds bodies, retries nothing. Belongs to one event loop."""

    def __init__(self, endpoint: Endpoint, model: str, key: str) -> None:
        self._api = api = api_of(endpoint)
        self._credentials = credentials_of(endpoint)
        self._key, self._address = key, api.url(endpoint.base_url, model, endpoint.api_version)
        self._url = URL(self._address, encoded="%" in self._address)  # as it is signed, where something is escaped
        self._headers = _common(endpoint.api, key) | {"Accept-Encoding": "identity"}
        self._headers |= api.headers(key, endpoint.api_version) | dict(endpoint.headers)
        if self._credentials:
            self._headers = {name: value for name, value in self._headers.items() if name.lower() not in KEY_HEADERS}
        self._session: aiohttp.ClientSession | None = None

    def clean(self, error: object) -> str:
        """An error's text without the key, and without what the credentials gave."""
        text = str(error)
        for secret in (self._key, *(self._credentials.secrets if self._credentials else ())):
            text = without(secret, text)
        return text

    async def post(self, body: dict[str, Any]) -> Answer:
        """The answer to a body. Raises ConnectionError where there is none, or one too large, and BrokenAnswer where
        that one may have been paid for."""
        status, headers, content = await self._signed_post(json.dumps(self._api.request(body)).encode())
        if 200 <= status < 300:
            return status, headers, _translated(content, self._api)
        if not retry_after(headers) and (seconds := self._api.wait(headers)):
            headers = CIMultiDict([*headers.items(), ("retry-after", str(seconds))])
        return self._api.status(status, content), headers, content

    async def _signed_post(self, content: bytes) -> Answer:
        """Credentials that are refused are renewed, and the content sent once more."""
        if self._credentials is None:
            return await self._post(content, self._headers)
        signed = await self._credentials.headers(self._address, content)
        answer = await self._post(content, self._headers | signed)
        if _is_stale(answer):
            await self._credentials.renew(signed)
            answer = await self._post(content, self._headers | await self._credentials.headers(self._address, content))
        return answer

    async def _post(self, content: bytes, headers: Mapping[str, str]) -> Answer:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
            timeout = aiohttp.ClientTimeout(total=None)
            proxies = bool(getproxies())  # otherwise aiohttp looks for one at every call, in a thread
            cookies = aiohttp.DummyCookieJar()  # keeps no cookie, and searches for none at every call
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=timeout, cookie_jar=cookies, trust_env=proxies
            )
        with _as_connection_errors():
            async with self._session.post(self._url, data=content, headers=headers, allow_redirects=False) as response:
                return response.status, response.headers, await _read(response)

    async def list_models(self) -> Answer:
        """The answer to the question which models there are. Raises ConnectionError as `post` does."""
        address = str(self._url).removesuffix(PATH) + "/models"
        with _as_connection_errors():
            async with aiohttp.ClientSession() as session, session.get(address, headers=self._headers) as response:
                return response.status, response.headers, await _read(response)

    async def close(self) -> None:
        if self._session:
            await self._session.close()


@contextmanager
def _as_connection_errors() -> Iterator[None]:
    """Raises ConnectionError, or Unreached where no connection came to be, for what goes wrong within the block."""
    try:
        yield
    except BrokenAnswer:
        raise
    except aiohttp.ClientConnectorError as error:
        words = "no such host" if isinstance(error, aiohttp.ClientConnectorDNSError) else unconnected(error)
        if words is None and error.errno == errno.ECONNREFUSED:  # several addresses refused: aiohttp names the number
            words = unconnected(ConnectionRefusedError())
        raise Unreached(words) if words else ConnectionError(f"{type(error).__name__}: {error}") from None
    except (aiohttp.ClientError, OSError) as error:
        raise ConnectionError(f"{type(error).__name__}: {error}") from None


def _common(api: str, key: str) -> dict[str, str]:
    """The headers of every call: for chat completions those of OpenAI's SDK, which names organisations and projects."""
    if api != "openai":
        return {"Accept": "application/json", "Content-Type": "application/json", "User-Agent": f"pairsmith/{VERSION}"}
    unused = openai.DefaultHttpxClient(verify=False, trust_env=False)  # loading certificates would take 40 ms
    with openai.OpenAI(api_key=key, http_client=unused) as sdk:
        return {name: value for name, value in sdk.default_headers.items() if isinstance(value, str)}


def _translated(content: bytes, api: Api) -> bytes:
    """A response in the words of chat completions; what cannot be read as one stays as it is."""
    if api.response is same:
        return content
    try:
        return json.dumps(api.response(json.loads(content))).encode()
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return content


def _is_stale(answer: Answer) -> bool:
    """Whether credentials were refused that may have ended."""
    status, _, content = answer
    return status == 401 or (status == 403 and b"expired" in content.lower())


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
