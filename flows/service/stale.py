"""Flow runs that died without a word: after kill -9 of a run and its worker, Prefect shows the run as running for ever.

Whoever holds a data set's lock knows that no other run works on it, so any that claims to is dead. A run says what it
holds with a tag, for as long as it does.
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
    """Names a data set among all that one Prefect server knows of: for all machines, and for this one."""
    shared = f"data set {store.url('').rstrip('/')}"
    return shared, f"{shared} on {socket.gethostname()}"


def dataset_tag(recipe: Recipe) -> str:
    """The tag of a recipe's data set; one with a ledger of its own belongs to its machine."""
    shared, local = dataset_tags(open_store(recipe))
    return local if recipe.ledger_url.startswith("sqlite") else shared


def take_over(recipe: Recipe) -> None:
    """Tag this run as the one that holds the data set, and mark dead ones as crashed. Called with the lock held.

    `let_go` takes the tag away, while the lock is still held.
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
                get_run_logger().warning("%s had died without a word; it is marked as crashed", run.name)
                told = "The run died without a word: another one found its data set unlocked."
                client.set_flow_run_state(run.id, Crashed(message=told), force=True)
        mine = client.read_flow_run(me)
        client.update_flow_run(me, tags=sorted({*mine.tags, tag, recipe.name}))


def let_go(recipe: Recipe, asks: bool) -> None:
    """Take the tag away: this run works on the data set no more, though it may be one that asks about a version."""
    tag, me = dataset_tag(recipe), flow_run.id
    if me is None:
        return
    with get_client(sync_client=True) as client:
        mine = client.read_flow_run(me)
        client.update_flow_run(me, tags=sorted({*mine.tags, *([f"asks about {tag}"] if asks else [])} - {tag}))
