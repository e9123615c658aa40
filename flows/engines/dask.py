"""Dask: a cluster that runs already, or one of this machine's own with a process for each core."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dask.system import CPU_COUNT
from distributed import Client, LocalCluster
from prefect_dask import DaskTaskRunner

from pairsmith.errors import ConfigError
from pairsmith_flows.engines.choosing import Engine

_SECONDS = 10.0  # that a scheduler, and its first worker, may take to answer


@contextmanager
def opened(address: str | None, api: str, at_a_time: int) -> Iterator[Engine]:
    """A cluster at an address, or one that is started here, for so many tasks at a time, and ends with the block."""
    logging.getLogger("distributed").setLevel(logging.WARNING)
    if address:
        with _connected(f"tcp://{address}") as client:
            yield _engine(client, address=f"tcp://{address}")
        return
    threads = math.ceil(at_a_time / CPU_COUNT)
    words: dict[str, Any] = {"env": {"PREFECT_API_URL": api}, "dashboard_address": "127.0.0.1:0"}
    # Whoever can connect to a scheduler can have code run, so this one knows only those that have its certificate.
    with (
        LocalCluster(n_workers=CPU_COUNT, threads_per_worker=threads, security=True, **words) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        known = {"security": cluster.security}
        yield _engine(client, address=cluster.scheduler_address, client_kwargs=known)


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    """A client of a scheduler that has workers."""
    try:
        client = Client(address, timeout=_SECONDS, set_as_default=False)
    except OSError as error:
        hint = "start one with `dask scheduler`, and `dask worker` for it on each machine"
        raise ConfigError(f"no Dask scheduler answers at {address} ({error}); {hint}") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=_SECONDS)
        except TimeoutError:
            raise ConfigError(
                f"the Dask scheduler at {address} has no worker; start some: `dask worker {address}`"
            ) from None
        yield client


def _engine(client: Client, **runner: Any) -> Engine:
    def ask(function: Any, *words: Any) -> Mapping[str, Any]:
        found: Mapping[str, Any] = client.run(function, *words, on_error="return")
        return found

    return Engine(DaskTaskRunner(**runner), lambda: len(client.nthreads()), ask)
