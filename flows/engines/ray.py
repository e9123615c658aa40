"""Ray: a cluster that runs already, or one of this machine's own with a process for each core."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray
from prefect_ray import RayTaskRunner
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pairsmith.errors import ConfigError
from pairsmith_flows.engines.engine import Engine


class Runner(RayTaskRunner):  # type: ignore[misc]
    """Prefect's, with Ray itself waiting for the tasks that come before one.

    Otherwise that one waits in a process of its own, and Ray starts another for whatever can be done meanwhile.
    """

    def submit(self, task: Any, parameters: Any, wait_for: Any = None, dependencies: Any = None) -> Any:
        self._before = [future.wrapped_future for future in wait_for or ()]
        return super().submit(task, parameters, wait_for, dependencies)

    def _exchange_prefect_for_ray_futures(self, parameters: Any) -> tuple[Any, list[Any]]:
        exchanged, first = super()._exchange_prefect_for_ray_futures(parameters)
        return exchanged, [*first, *self._before]


@contextmanager
def opened(address: str | None, api: str, at_a_time: int) -> Iterator[Engine]:
    """A cluster at an address, or one that is started here and ends with the block. Its processes do a task at a time.

    `api` is the Prefect server that the tasks report to.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    variables = {"env_vars": {"PREFECT_API_URL": api}}
    where = {"address": f"ray://{address}"} if address else {"include_dashboard": False}
    try:
        context = ray.init(**where, runtime_env=variables, log_to_driver=False, configure_logging=False)
    except (ConnectionError, OSError) as error:
        *_, reason = str(error).strip(" \n);").splitlines() or [type(error).__name__]
        hint = "start one with `ray start --head --ray-client-server-port 10001`"
        raise ConfigError(f"no Ray cluster answers at {address} ({reason}); {hint}") from None
    with context:
        yield Engine(Runner(), _processes, _ask)


def _processes() -> int:
    """How many tasks work at a time, each in a process of its own."""
    return int(ray.cluster_resources().get("CPU", 1))


def _ask(function: Any, *words: Any) -> Mapping[str, Any]:
    """What a function gives or raises in a task on each node."""
    asked = {}
    for node in ray.nodes():
        if node["Alive"]:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked[node["NodeName"]] = ray.remote(function).options(scheduling_strategy=there, num_cpus=0).remote(*words)
    return {name: _got(reference) for name, reference in asked.items()}


def _got(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except Exception as error:
        return getattr(error, "cause", None) or error
