"""The session of tasks. It is no parameter of theirs, since what is open in one process cannot be sent to another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from pairsmith.session import Session, process_session

_of_run: ContextVar[Session | None] = ContextVar("session", default=None)


@contextmanager
def run_session() -> Iterator[Session]:
    """The session of a run, shared by its tasks in this process: the one that is open already, or a new one."""
    known = _of_run.get()
    if known is not None:
        yield known
        return
    with Session() as session:
        token = _of_run.set(session)
        try:
            yield session
        finally:
            _of_run.reset(token)


def task_session() -> Session:
    """The session of a task's run; in a process other than the run's, that process's own session."""
    return _of_run.get() or process_session()


def is_elsewhere() -> bool:
    """Whether this task is of another process than its run."""
    return _of_run.get() is None
