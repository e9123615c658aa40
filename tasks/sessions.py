"""The session that tasks work in. It is no parameter of a task: what is open in a process cannot be sent to another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from pairsmith.session import Session, process_session

_of_run: ContextVar[Session | None] = ContextVar("session", default=None)


@contextmanager
def run_session() -> Iterator[Session]:
    """The session of a run, in which its tasks of this process work: the one that is open already, or a new one."""
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
    """The session of the run that a task belongs to; in another process than the run's, that process's own."""
    return _of_run.get() or process_session()
