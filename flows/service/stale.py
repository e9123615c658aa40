"""Marks dead flow runs as crashed: after kill -9 of a run and its worker, Prefect shows the run as running for ever.

A run tags itself with its data set while it holds the lock. Whoever holds the lock knows that no other run works on the
data set, so any other running run with that tag is dead.
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
from pairsmith.stages.base import open_store
from pairsmith.storage.store import Store


def dataset_tags(store: Store) -> tuple[str, str]:
    """Two tags that identify a data set on a Prefect server: one for all machines, one for this machine."""
    shared = f"data set {store.url('').rstrip('/')}"
    return shared, f"{shared} on {socket.gethostname()}"


def dataset_tag(recipe: Recipe) -> str:
    """The tag of a recipe's data set: the machine's where the ledger is a SQLite file, else the one for all."""
    shared, local = dataset_tags(open_store(recipe))
    return local if recipe.ledger_url.startswith("sqlite") else shared


def take_over(recipe: Recipe) -> None:
    """Tag this run as the holder of the data set, and mark dead holders as crashed. Call it with the lock held.

    `let_go` removes the tag, while the lock is still held.
    """
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
                get_run_logger().warning("%s ended without reporting it; it is marked as crashed", run.name)
                message = "The run ended without reporting it: another run found its data set unlocked."
                client.set_flow_run_state(run.id, Crashed(message=message), force=True)
        mine = client.read_flow_run(me)
        client.update_flow_run(me, tags=sorted({*mine.tags, tag, recipe.name}))


def let_go(recipe: Recipe, asks: bool) -> None:
    """Remove the tag: this run no longer works on the data set. `asks`: tag it as one that asks about a version."""
    tag, me = dataset_tag(recipe), flow_run.id
    if me is None:
        return
    with get_client(sync_client=True) as client:
        mine = client.read_flow_run(me)
        client.update_flow_run(me, tags=sorted({*mine.tags, *([f"asks about {tag}"] if asks else [])} - {tag}))
