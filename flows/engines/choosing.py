"""The choice of an engine by its name, as `--on` has it; with a reason where there can be no run on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import util

from pairsmith.building.runs import waves_of
from pairsmith.config import Recipe
from pairsmith.errors import ConfigError
from pairsmith.stages.wiring import is_in_batches
from pairsmith_flows.engines.engine import Engine
from pairsmith_flows.engines.sharing import sharing_among

THREADS = "threads"
KINDS = (THREADS, "dask", "dask://HOST:PORT", "ray", "ray://HOST:PORT")
_NEEDS = {"dask": "prefect_dask", "ray": "prefect_ray"}  # engine, and its extra -> what it needs


def kind_of(name: str) -> tuple[str, str | None]:
    """The engine that a name means, and the address of one that runs already. Raises ConfigError.

    >>> kind_of("dask://host:8786"), kind_of("ray")
    (('dask', 'host:8786'), ('ray', None))
    """
    kind, has_address, address = name.partition("://")
    if name == THREADS or (kind in _NEEDS and bool(address) == bool(has_address)):
        return kind, address or None
    raise ConfigError(f"--on {name}: no such engine; there are {', '.join(KINDS)}")


def require_engine(name: str, recipe: Recipe) -> None:
    """Raise ConfigError where a recipe cannot run on an engine, for a reason that needs no look at the engine."""
    kind, _ = kind_of(name)
    if kind == THREADS:
        return
    if util.find_spec(_NEEDS[kind]) is None:
        raise ConfigError(f"--on {name}: {kind} is not installed; install pairsmith[{kind}]")
    if any(is_in_batches(spec) for spec in recipe.specs):
        raise ConfigError(
            f"--on {name}: `endpoint.mode: batch` gathers the requests of a whole run in one process; "
            f"run it on {THREADS}"
        )


@contextmanager
def engine_for(name: str, recipe: Recipe) -> Iterator[Engine | None]:
    """The engine of a name, ready for a run of the recipe while the block runs; None for threads of this process.

    The Prefect server must run already. Raises ConfigError where there is no engine, or its workers cannot work.
    """
    kind, address = kind_of(name)
    if kind == THREADS:
        yield None
        return
    require_engine(name, recipe)
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from pairsmith_flows.engines.probing import require_ready
    from pairsmith_flows.service.server import api_url

    api, at_a_time = api_url(), recipe.shards_in_flight * max(map(len, waves_of(recipe)))
    with temporary_settings({PREFECT_API_URL: api}), _opened(kind)(address, api, at_a_time) as engine:
        require_ready(engine.ask, recipe, api)
        with sharing_among(engine.processes):
            yield engine


def _opened(kind: str) -> Callable[[str | None, str, int], AbstractContextManager[Engine]]:
    """The function that reaches or starts an engine; only here is the engine's own library imported."""
    if kind == "dask":
        from pairsmith_flows.engines import dask

        return dask.opened
    from pairsmith_flows.engines import ray

    return ray.opened
