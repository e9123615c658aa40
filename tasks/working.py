"""A shard's work, the same in every process, and its result as what Prefect can pass on.

Where a task is of another process than its run, nobody there hears of its progress: what it told comes with its result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

from pairsmith.config import ModelSpec
from pairsmith.progress import Progress
from pairsmith.session import Session
from pairsmith.stages.base import StageResult
from pairsmith_tasks.endpoints import at_endpoint
from pairsmith_tasks.sessions import is_elsewhere, task_session
from pairsmith_tasks.wanted import stop_if_unwanted

_TOLD = "told"  # beside the fields of a result: the progress of a task of another process, by stage


def worked(work: Callable[[Session], StageResult], spec: ModelSpec | None = None, processes: int = 1) -> dict[str, Any]:
    """Do a shard's work in the session of this task, with the key and rates of the model that it asks.

    `processes`: how many share these rates.
    """
    session, told = task_session(), dict[str, Counter[str]]()
    with at_endpoint(spec, session, processes) if spec else nullcontext():
        if not is_elsewhere():
            return asdict(work(session))

        def note(event: Progress) -> None:
            counts = asdict(event)
            told.setdefault(counts.pop("stage"), Counter()).update(counts)

        apart = session.beside()
        with apart.listening(note), apart.listening(stop_if_unwanted):
            result = work(apart)
    return asdict(result) | {_TOLD: {stage: dict(counts) for stage, counts in told.items()}}


def taken_apart(found: Mapping[str, Any]) -> tuple[StageResult, list[Progress]]:
    """The result that a task returned, and what it told in another process than its run's."""
    fields = dict(found)
    told: Mapping[str, Any] = fields.pop(_TOLD, {})
    return StageResult(**fields), [Progress(stage, **counts) for stage, counts in told.items()]
