"""Runs on engines other than threads: a cluster of this test's own, with two worker processes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pairsmith.config import Recipe
from pairsmith_tasks.sessions import run_session

THREADS = "threads"
PROCESSES = 2


def require(engine: str) -> None:
    """The test is skipped where an engine is not installed."""
    pytest.importorskip(f"prefect_{engine}", reason=f"{engine} is not installed: `pip install pairsmith[{engine}]`")


@contextmanager
def dask_cluster() -> Iterator[Any]:
    """A client of a Dask cluster with two worker processes."""
    require("dask")
    import dask
    from distributed import Client, LocalCluster

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # workers that are killed
    dask.config.set({"distributed.worker.profile.enabled": False})  # it can stop a worker of Python 3.11.7 for ever
    shape: dict[str, Any] = {"n_workers": PROCESSES, "threads_per_worker": 8, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(**shape) as cluster, Client(cluster, set_as_default=False) as client:
        yield client


def address_of(client: Any) -> str:
    """What `--on` calls the cluster of a client."""
    return "dask://" + client.scheduler.address.removeprefix("tcp://")


def run_on(on: str, recipe: Recipe, listener: Callable[[Any], None] | None = None) -> dict[str, Any]:
    """What a flow run returns whose tasks work on an engine. `listener` hears of its progress."""
    from pairsmith_flows.engines.choosing import engine_for
    from pairsmith_flows.preferences import build_preference_dataset as flow

    with engine_for(on, recipe) as engine, run_session() as session:
        session.listeners += [listener] if listener else []
        found: dict[str, Any] = (flow.with_options(task_runner=engine.runner) if engine else flow)(recipe)
        return found
