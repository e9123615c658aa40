"""Keys of endpoints: a recipe names where a key is, the process that needs it reads it there, nothing stores it.

A key is in an environment variable or among the session's secrets; the Prefect tasks put the keys of Secret blocks
there while they run.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
from urllib.parse import quote, quote_plus

from pairsmith.config import Endpoint
from pairsmith.errors import ConfigError
from pairsmith.llms.endpoint.credentials import require_library
from pairsmith.session import Session

NO_KEY = "none"  # sent to an endpoint that needs no key
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{16,}")


def without(key: str, error: object) -> str:
    """An error's text with the key replaced by ***: as it is, quoted for a URL, JSON or HTML, and in base64."""
    text = str(error)
    if key == NO_KEY:
        return text
    quoted = {quote(key, safe=""), quote(key), quote_plus(key), html.escape(key)}
    for form in sorted({key, key.replace("/", "\\/"), json.dumps(key)[1:-1], *quoted}, key=len, reverse=True):
        text = re.sub(re.escape(form), "***", text, flags=re.IGNORECASE)
    return _BASE64.sub(lambda found: "***" if key.encode() in _decoded(found[0]) else found[0], text)


def _decoded(text: str) -> bytes:
    """The bytes of base64 text, decoded from each of the four positions at which its groups may begin."""
    text = text.replace("+", "-").replace("/", "_")
    parts = (text[start : start + (len(text) - start) // 4 * 4] for start in range(4))
    return b"\n".join(base64.urlsafe_b64decode(part) for part in parts)


def key_of(endpoint: Endpoint, session: Session) -> str:
    """The key of an endpoint; none where it names credentials. Raises ConfigError, which names what is absent."""
    if endpoint.credentials:
        require_library(endpoint.credentials)
        return NO_KEY
    if endpoint.api_key_block:
        key = session.secrets.get(endpoint.api_key_block)
        if not key:
            raise ConfigError(f"endpoint {endpoint.base_url}: the Secret block {endpoint.api_key_block} was not read")
        return key
    key = os.environ.get(endpoint.api_key_env) if endpoint.api_key_env else NO_KEY
    if not key:
        raise ConfigError(
            f"the environment variable {endpoint.api_key_env} holds no key for {endpoint.base_url}: set it, as by "
            f"export {endpoint.api_key_env}=..., or name another in api_key_env (null where none is needed)"
        )
    return key
