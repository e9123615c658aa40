"""Dask: a cluster that runs already, or one of this machine's own with a process for each core."""

from __future__ import annotations

import logging
import math
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dask
from dask.system import CPU_COUNT
from distributed import Client, LocalCluster
from prefect_dask import DaskTaskRunner

from pairsmith.errors import ConfigError
from pairsmith_flows.engines.engine import Engine

_SECONDS = 10.0  # that a scheduler, and its first worker, may take to answer
_PROFILE = "distributed.worker.profile.enabled"
_SAFE = (3, 11, 9)  # the first Python in which Dask's profiler, looking at all threads, cannot stop them for ever


@contextmanager
def opened(address: str | None, api: str, at_a_time: int) -> Iterator[Engine]:
    """A cluster at an address, or one that is started here, for so many tasks at a time, and ends with the block."""
    logging.getLogger("distributed").setLevel(logging.WARNING)
    dask.config.set({_PROFILE: False})
    if address:
        scheme = "tls" if dask.config.get("distributed.comm.require-encryption") else "tcp"
        with _connected(f"{scheme}://{address}") as client:
            yield _engine(client, address=f"{scheme}://{address}")
        return
    threads = math.ceil(at_a_time / CPU_COUNT)
    words: dict[str, Any] = {"env": {"PREFECT_API_URL": api}, "dashboard_address": "127.0.0.1:0"}
    words |= {"n_workers": CPU_COUNT, "threads_per_worker": threads, "silence_logs": logging.ERROR}
    # Whoever can connect to a scheduler can have code run, so this one knows only those that have its certificate.
    with (
        LocalCluster(security=True, **words) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        known = {"security": cluster.security}
        yield _engine(client, address=cluster.scheduler_address, client_kwargs=known)


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    """A client of a scheduler that has workers, none of which may hang."""
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
        _refuse_profiled(client)
        yield client


def _refuse_profiled(client: Client) -> None:
    """Raise ConfigError where a worker's Python can come to a stop in Dask's profiler."""
    pythons = client.run(platform.python_version_tuple)
    found = [
        worker
        for worker, is_profiled in client.run(dask.config.get, _PROFILE).items()
        if is_profiled and tuple(map(int, pythons[worker])) < _SAFE
    ]
    if found:
        raise ConfigError(
            f"{', '.join(found)}: before Python {'.'.join(map(str, _SAFE))} Dask's profiler can stop a worker for "
            "ever; start it with DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=False, or with a newer Python"
        )


def _engine(client: Client, **runner: Any) -> Engine:
    def ask(function: Any, *words: Any) -> Mapping[str, Any]:
        found: Mapping[str, Any] = client.run(function, *words, on_error="return")
        return found

    return Engine(DaskTaskRunner(**runner), lambda: len(client.nthreads()), ask)
