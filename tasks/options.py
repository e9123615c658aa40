"""The settings of all stage tasks: retries with jitter for temporary faults, and no results kept by Prefect.

The tables and the ledger record what was done; Prefect only schedules and shows it.
"""

from __future__ import annotations

from typing import Any

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import exponential_backoff

from pairsmith.errors import PairsmithError


async def passing(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether a failure may be temporary. Errors that we raise on purpose (a wrong recipe, key or input) are not."""
    try:
        await state.aresult()
    except PairsmithError:
        return False
    except Exception:
        return True
    return False


STAGE: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(backoff_factor=2),
    "retry_jitter_factor": 1,
    "retry_condition_fn": passing,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}
