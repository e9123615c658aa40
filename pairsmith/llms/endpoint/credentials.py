"""What stands for a key where a cloud's own login does: tokens that are renewed, and calls that are signed.

A recipe's `endpoint.credentials` names them. Tokens of Google and of Azure's Entra ID come from the clouds' own
libraries, as they are found on the machine: a service account, a managed identity, a person's login. A function of a
user's own, `(base_url) -> (token, seconds that it holds or None)`, does for any other. They are fetched by the process
that calls, when they are needed, and stored nowhere.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from typing import Any, Protocol

from pairsmith.config import Endpoint, ModelSpec
from pairsmith.config.plugins import Reference, failed, load_plugin, said
from pairsmith.errors import ConfigError, PairsmithError

MARGIN_SECONDS = 300.0  # before its end that a token is renewed; a fifth of its time, where that is shorter
GOOGLE_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
AZURE_SCOPE = "https://cognitiveservices.azure.{}/.default"  # com, or that of a cloud of its own: us, cn
LIBRARIES = {"google": "google.auth", "azure": "azure.identity", "aws": "botocore"}
log = logging.getLogger(__name__)

Fetched = tuple[str, float | None]


class Credentials(Protocol):
    """What signs the calls to one endpoint. `secrets`: what it has sent of late, to be kept out of errors."""

    @property
    def secrets(self) -> list[str]: ...

    async def headers(self, url: str, content: bytes) -> dict[str, str]:
        """The headers that a call needs. Raises ConfigError where there are no credentials, and ConnectionError where
        they cannot be fetched now."""
        ...

    async def renew(self, sent: Mapping[str, str]) -> None:
        """Fetch anew what was refused, unless that has been done since. `sent`: the headers of the refused call."""
        ...


class Tokens:
    """Bearer tokens, fetched when there is none, shortly before the last one ends, and when one was refused."""

    def __init__(self, name: str, fetch: Callable[[], Fetched]) -> None:
        self._name, self._fetch, self._lock = name, fetch, asyncio.Lock()
        self._token, self._renewed, self._until = "", 0.0, 0.0
        self._sent: deque[str] = deque(maxlen=8)

    @property
    def secrets(self) -> list[str]:
        return list(self._sent)

    async def headers(self, url: str, content: bytes) -> dict[str, str]:
        if time.monotonic() >= self._renewed:
            async with self._lock:
                if time.monotonic() >= self._renewed:
                    await self._fetch_one()
        return {"Authorization": f"Bearer {self._token}"}

    async def renew(self, sent: Mapping[str, str]) -> None:
        async with self._lock:
            if sent.get("Authorization") == f"Bearer {self._token}":
                self._until = 0.0
                await self._fetch_one()

    async def _fetch_one(self) -> None:
        try:
            token, seconds = await asyncio.to_thread(self._fetch)
        except OSError as error:
            problem = f"credentials {self._name}: {said(error)}"
            if time.monotonic() >= self._until:
                raise ConnectionError(problem) from None
            log.warning("%s; the token in use holds for another %.0f s", problem, self._until - time.monotonic())
            self._renewed = min(time.monotonic() + MARGIN_SECONDS / 10, self._until)
            return
        if not isinstance(token, str) or not token or not isinstance(seconds, int | float | None):
            raise ConfigError(
                f"credentials {self._name}: they are to be a token and the seconds that it holds, or None"
            )
        left = float("inf") if seconds is None else seconds
        self._token, self._until = token, time.monotonic() + left
        self._renewed = self._until - min(MARGIN_SECONDS, left / 5)
        if token not in self._sent:
            self._sent.append(token)


class Signature:
    """Calls signed as AWS wants it, by botocore, with the credentials that it finds and renews."""

    def __init__(self, base_url: str) -> None:
        from botocore.session import Session

        self._open = Session
        region = re.search(r"\bbedrock-runtime(?:-fips)?\.([a-z0-9-]+)\.", base_url)
        self._region = region[1] if region else Session().get_config_variable("region")
        if not self._region:
            raise ConfigError(f"credentials aws: {base_url} names no region, and there is none in AWS_DEFAULT_REGION")
        self._found: Any = None
        self._token: str | None = None

    @property
    def secrets(self) -> list[str]:
        return [self._token] if self._token else []

    async def headers(self, url: str, content: bytes) -> dict[str, str]:
        return await asyncio.to_thread(self._signed, url, content)

    async def renew(self, sent: Mapping[str, str]) -> None:
        if sent.get("X-Amz-Security-Token") == self._token:
            self._found = None

    def _signed(self, url: str, content: bytes) -> dict[str, str]:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._found = self._found or self._open().get_credentials()
            frozen = self._found and self._found.get_frozen_credentials()
        except (BotoCoreError, ClientError) as error:
            raise ConnectionError(f"credentials aws: {said(error)}") from None
        if not frozen:
            raise ConfigError(
                "credentials aws: botocore finds none on this machine; `aws configure list` says where it looks"
            )
        self._token = frozen.token
        call = AWSRequest("POST", url, data=content, headers={"Content-Type": "application/json"})
        SigV4Auth(frozen, "bedrock", self._region).add_auth(call)
        return dict(call.headers.items())


def credentials_of(endpoint: Endpoint) -> Credentials | None:
    """The credentials that an endpoint names; None where it has a key. Raises ConfigError where a library is absent."""
    name, base_url = endpoint.credentials, endpoint.base_url
    if name is None:
        return None
    require_library(name)
    if name == "aws":
        return Signature(base_url)
    if isinstance(name, Reference):
        return Tokens(name, lambda: _own(name, base_url))
    return Tokens(name, _google if name == "google" else lambda: _azure(base_url))


def require(models: Iterable[ModelSpec]) -> None:
    """Raise ConfigError where a library is absent that the credentials of one need, before any model is asked."""
    for model in models:
        if model.endpoint and model.endpoint.credentials:
            require_library(model.endpoint.credentials)


def require_library(name: str) -> None:
    """Raise ConfigError where the library behind credentials is not installed."""
    library = LIBRARIES.get(name)
    try:
        is_there = library is None or find_spec(library) is not None
    except ModuleNotFoundError:  # of the package that it is in
        is_there = False
    if not is_there:
        raise ConfigError(f"endpoint.credentials {name} needs {library}: pip install 'pairsmith[{name}]'")


def _own(name: Reference, base_url: str) -> Fetched:
    try:
        token, seconds = load_plugin(name)(base_url)
    except (OSError, PairsmithError):
        raise
    except Exception as error:
        raise failed(name, error) from None
    return token, seconds


def _google() -> Fetched:
    import google.auth
    from google.auth.exceptions import GoogleAuthError, TransportError
    from google.auth.transport.requests import Request

    try:
        found, _ = google.auth.default(scopes=[GOOGLE_SCOPE])
        found.refresh(Request())  # type: ignore[no-untyped-call]
    except GoogleAuthError as error:
        if isinstance(error, TransportError) or error.retryable:
            raise ConnectionError(said(error)) from None
        raise ConfigError(f"credentials google: {said(error)}") from None
    return str(found.token), found.expiry.timestamp() - time.time() if found.expiry else None


def _azure(base_url: str) -> Fetched:
    from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError, ServiceResponseError
    from azure.identity import DefaultAzureCredential

    try:
        with DefaultAzureCredential() as found:
            cloud = re.search(r"\.azure\.(us|cn)\b", base_url)
            token = found.get_token(AZURE_SCOPE.format(cloud[1] if cloud else "com"))
    except (ServiceRequestError, ServiceResponseError) as error:
        raise ConnectionError(said(error)) from None
    except ClientAuthenticationError as error:
        raise ConfigError(f"credentials azure: {said(error)}") from None
    return token.token, token.expires_on - time.time()
