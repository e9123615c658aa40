"""What is known of an engine that was reached, whichever it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect.task_runners import TaskRunner

Ask = Callable[..., Mapping[str, Any]]  # a function and its arguments -> what it gave or raised, by worker


@dataclass(frozen=True)
class Engine:
    """`runner`: what is given a flow's tasks; `processes`: how many work; `ask`: has each worker call a function."""

    runner: TaskRunner[Any]
    processes: Callable[[], int]
    ask: Ask
