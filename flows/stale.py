"""Flow runs that died without a word: after kill -9 of a run and its worker, Prefect shows the run as running for ever.

Whoever holds a data set's lock knows that no other run works on it, so any that claims to is dead. A run says what it
holds with a tag.
"""

from __future__ import annotations

import socket

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import StateType
from prefect.runtime import flow_run
from prefect.states import Crashed

from pairsmith.config import Recipe
from pairsmith.stages import open_store


def dataset_tag(recipe: Recipe) -> str:
    """Names a data set among all that one Prefect server knows of: a local one belongs to its machine."""
    store = open_store(recipe)
    shared = not recipe.ledger_url.startswith("sqlite")
    return f"data set {store.url('').rstrip('/')}" + ("" if shared else f" on {socket.gethostname()}")


def take_over(recipe: Recipe) -> None:
    """Tag this run as the one that holds the data set, and mark dead ones as crashed. Called with the lock held."""
    tag, me = dataset_tag(recipe), flow_run.id
    if me is None:
        return
    claims = FlowRunFilter(
        tags=FlowRunFilterTags(all_=[tag]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING])),
    )
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=claims):
            if str(run.id) != str(me):
                get_run_logger().warning("%s had died without a word; it is marked as crashed", run.name)
                told = "The run died without a word: another one found its data set unlocked."
                client.set_flow_run_state(run.id, Crashed(message=told), force=True)
        mine = client.read_flow_run(me)
        client.update_flow_run(me, tags=sorted({*mine.tags, tag}))
