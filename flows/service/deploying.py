"""Sets up a server: makes the work pool, the deployments and the automations. `pairsmith serve` runs it.

    python -m pairsmith_flows.service.deploying PREFECT_FILE AUTOMATIONS POOL STAMP [--alone]

STAMP is a file that holds a digest of what was made last. Where nothing differs, nothing is made again: so changes in
the UI, such as a paused schedule, stay until a file changes. Deployments with version 0.1's names of our flows get
today's names. --alone says that the pool has no worker: then its runs that seem to be under way are marked as crashed.
"""

from __future__ import annotations

import os
import runpy
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolCreate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import BlockDocument, StateType
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectAlreadyExists
from prefect.states import Crashed
from prefect.workers.process import ProcessWorker

from pairsmith.config import Recipe
from pairsmith.config.loading import load_recipe
from pairsmith.config.plugins import lists_only, references
from pairsmith.errors import PairsmithError
from pairsmith.ids import fingerprint
from pairsmith_flows.service.allowed_code import VARIABLE
from pairsmith_flows.service.deploy_steps import read_recipe
from pairsmith_flows.service.old_names import check_names, renewed

STEP = f"{read_recipe.__module__}.{read_recipe.__qualname__}"


def _main() -> None:
    """Make what is new. An error ends the process with a line that says why."""
    prefect_file, automations, pool, stamp, *alone = sys.argv[1:]
    try:
        with get_client(sync_client=True) as client:
            if alone:
                mark_dead(client, pool)
            check_names(Path(prefect_file))
            renew_names(client)
            wanted = state_of(Path(prefect_file), Path(automations), client)
            if Path(stamp).exists() and Path(stamp).read_text(encoding="utf-8") == wanted:
                return
            make_pool(client, pool)
            with nullcontext() if code_expected(Path(prefect_file)) else lists_only():
                deploy(prefect_file)
            make_automations(client, Path(automations))
            Path(stamp).write_text(state_of(Path(prefect_file), Path(automations), client), encoding="utf-8")
    except PairsmithError as error:
        sys.exit(f"error: {error}")


def state_of(prefect_file: Path, automations: Path, client: SyncPrefectClient) -> str:
    """A digest of everything that the deployments are made from, and of the deployments that exist."""
    text = prefect_file.read_text(encoding="utf-8")
    recipes = [read_recipe(**step) for step in recipe_steps(yaml.safe_load(text))]
    existing = sorted(str(deployment.id) for deployment in client.read_deployments())
    schema = Recipe.model_json_schema()
    return fingerprint(
        text, automations_in(automations, client), recipes, schema, code_expected(prefect_file), existing
    )


def code_expected(prefect_file: Path) -> bool:
    """Whether the service allows users' code or a recipe names some.

    Only then do the forms of the deployments take such names: as text, where there is else a list to choose from.
    """
    if os.environ.get(VARIABLE):
        return True
    steps = recipe_steps(yaml.safe_load(prefect_file.read_text(encoding="utf-8")))
    return any(True for step in steps for _ in references(load_recipe(Path(step["path"]))))


def recipe_steps(data: Any) -> list[dict[str, Any]]:
    """The inputs of every step in a prefect.yaml that reads a recipe."""
    if isinstance(data, list):
        return [step for part in data for step in recipe_steps(part)]
    if not isinstance(data, dict):
        return []
    inputs = {name: value for name, value in (data.get(STEP) or {}).items() if name not in ("id", "requires")}
    return ([inputs] if inputs else []) + recipe_steps(list(data.values()))


def make_pool(client: SyncPrefectClient, name: str) -> None:
    """Make a work pool of processes, unless there is one of that name."""
    try:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(WorkPoolCreate(name=name, type=ProcessWorker.type, base_job_template=template))
    except ObjectAlreadyExists:
        return


def mark_dead(client: SyncPrefectClient, pool: str) -> None:
    """Mark the runs that an earlier worker of the pool left under way as crashed, which frees their slots."""
    under_way = FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING, StateType.CANCELLING])
    for run in client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=under_way)),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
    ):
        client.set_flow_run_state(run.id, Crashed(message="The service ended while it was under way."), force=True)


def renew_names(client: SyncPrefectClient) -> None:
    """Put today's module names into deployments that an earlier version made; else their runs would fail."""
    for deployment in client.read_deployments():
        named = {"entrypoint": deployment.entrypoint, "pull_steps": deployment.pull_steps}
        changed = {name: renewed(value) for name, value in named.items() if renewed(value) != value}
        if changed:
            client.update_deployment(deployment.id, DeploymentUpdate(**changed))
            print(f"deployment {deployment.name}: its entrypoint is now {renewed(deployment.entrypoint)}")


def deploy(prefect_file: str) -> None:
    """`prefect deploy --all`, in this process."""
    argv = sys.argv
    sys.argv = ["prefect", "--no-prompt", "deploy", "--all", "--prefect-file", prefect_file]
    try:
        runpy.run_module("prefect", run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
    finally:
        sys.argv = argv


def make_automations(client: SyncPrefectClient, path: Path) -> None:
    """Create the automations of a file, or update those of the same name; one that was switched off stays off."""
    existing = {found.name: found for found in client.read_automations()}
    for data in automations_in(path, client):
        wanted = AutomationCore.model_validate(data)
        found = existing.get(wanted.name)
        if found is None:
            client.create_automation(wanted)
        else:
            client.update_automation(found.id, wanted.model_copy(update={"enabled": found.enabled}))


def automations_in(path: Path, client: SyncPrefectClient) -> list[dict[str, Any]]:
    """The automations of a file, with the ids of the notification blocks that they name.

    An action whose block does not exist becomes one that does nothing.
    """
    found: list[dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))["automations"]
    blocks = {str(block.name): str(block.id) for block in client.read_block_documents() if notifies(block)}
    for automation in found:
        automation["actions"] = [with_block(action, blocks) for action in automation["actions"]]
    return found


def with_block(action: dict[str, Any], blocks: dict[str, str]) -> dict[str, Any]:
    if "block" not in action:
        return action
    found = blocks.get(action["block"])
    others = {name: value for name, value in action.items() if name != "block"}
    return others | {"block_document_id": found} if found else {"type": "do-nothing"}


def notifies(block: BlockDocument) -> bool:
    return block.block_schema is not None and "notify" in block.block_schema.capabilities


if __name__ == "__main__":
    _main()
