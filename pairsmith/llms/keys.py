"""Keys of endpoints: named in a recipe, found where it runs, never passed on or stored.

A key is in an environment variable, or was handed over at run time by whoever can read the store that it is in (the
Prefect tasks read Secret blocks).
"""

from __future__ import annotations

import os

from pairsmith.config import Endpoint
from pairsmith.errors import ConfigError

NO_KEY = "none"  # what is sent to an endpoint that wants none
_handed_over: dict[str, str] = {}


def hand_over(block: str, key: str) -> None:
    """Make the key of a Secret block known to this process."""
    _handed_over[block] = key


def key_of(endpoint: Endpoint) -> str:
    """The key of an endpoint. Raises ConfigError that names where it should be."""
    if endpoint.api_key_block:
        key = _handed_over.get(endpoint.api_key_block)
        if not key:
            raise ConfigError(f"endpoint {endpoint.base_url}: the Secret block {endpoint.api_key_block} was not read")
        return key
    key = os.environ.get(endpoint.api_key_env) if endpoint.api_key_env else NO_KEY
    if not key:
        raise ConfigError(f"endpoint {endpoint.base_url}: the environment variable {endpoint.api_key_env} holds no key")
    return key
