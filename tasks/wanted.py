"""Whether anybody waits for what a task of another process does: where its run has ended, it must not ask on."""

from __future__ import annotations

import sys

from pairsmith.errors import RunError


def stop_if_unwanted(_: object) -> None:
    """Raise RunError in a task that Dask has given up, as it does where the process of the run is gone.

    Ray ends the processes of such tasks by itself.
    """
    dask = sys.modules.get("distributed")  # loaded in every process of Dask's
    if dask is None:
        return
    try:
        worker = dask.get_worker()
        task = worker.state.tasks.get(worker.get_current_task())
    except (ValueError, KeyError):  # this thread does no task of Dask's
        return
    if task is None or task.state == "cancelled":
        raise RunError("nobody waits for this task any more, as where its run was killed; what was answered is kept")
