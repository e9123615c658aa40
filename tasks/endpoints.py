"""What a task needs from Prefect before it asks an endpoint: keys from Secret blocks, and a share of its rates.

Several workers that share an endpoint name one of Prefect's global concurrency limits in `endpoint.shared_limit`. A
shard's task holds one of its slots while it works, and the process uses that share of the calls and tokens per minute:
with a limit of 4 and 3 shards under way, three quarters. This costs one call to the server per shard, not per request.

Without such a limit, the processes of one run have equal shares of an endpoint's rates.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency

from pairsmith.config import ModelSpec
from pairsmith.errors import ConfigError
from pairsmith.llms.endpoint.engines import engine_for
from pairsmith.session import Session
from pairsmith_tasks.sessions import is_elsewhere


class HeldSlots:
    """The number of slots that this process holds, by limit and endpoint."""

    def __init__(self) -> None:
        self._held: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def change(self, spec: ModelSpec, slots: int, by: int, session: Session) -> None:
        """Note slots taken or given back, and set the engine's share of the rates to match."""
        assert spec.endpoint is not None
        name = (str(spec.endpoint.shared_limit), f"{spec.endpoint.base_url} {spec.model}")
        with self._lock:
            self._held[name] += by
            engine_for(spec.endpoint, spec.model, session).divide(min(1.0, max(self._held[name], 1) / slots))


@contextmanager
def at_endpoint(spec: ModelSpec, session: Session, processes: int = 1) -> Iterator[None]:
    """Within the block, the model's endpoint has its key and its share of the rates.

    `processes`: how many work for the run, where this is another one than the run's own.
    """
    endpoint = spec.endpoint
    if endpoint is None:
        yield
        return
    if endpoint.api_key_block:
        session.secrets[endpoint.api_key_block] = secret(endpoint.api_key_block)
    if endpoint.shared_limit is None:
        if is_elsewhere() and (endpoint.requests_per_minute or endpoint.tokens_per_minute):
            engine_for(endpoint, spec.model, session).divide(1 / processes)
        yield
        return
    slots, held = slots_of(endpoint.shared_limit), session.share("held slots", HeldSlots)
    with concurrency(endpoint.shared_limit, occupy=1, strict=True):
        held.change(spec, slots, 1, session)
        try:
            yield
        finally:
            held.change(spec, slots, -1, session)


def secret(block: str) -> str:
    """The text of a Secret block. Raises ConfigError where there is none."""
    try:
        found: Any = Secret.load(block)
    except ValueError:
        raise ConfigError(f"there is no Secret block {block}; make one in the Prefect UI under Blocks") from None
    return str(found.get())


def slots_of(limit: str) -> int:
    """The number of slots of a global concurrency limit. Raises ConfigError where there is no such limit."""
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            return int(client.read_global_concurrency_limit_by_name(limit).limit)
        except ObjectNotFound:
            made = f"prefect gcl create {limit} --limit 4"
            raise ConfigError(f"there is no concurrency limit {limit}; make it with `{made}`") from None
