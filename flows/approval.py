"""The release gate: a run whose version needs approval asks a person in the Prefect UI, and ends until it is answered.

The run is suspended, not paused: no process waits, no lock and no place of the deployment is held, so a question may
stand for days and through restarts of everything. Once it is answered Prefect starts the run anew; it finds the answer
and does nothing but what was decided. There is one question at a time for a data set: a newer candidate, or a decision
from elsewhere, takes the place of the older question.
"""

from __future__ import annotations

import shlex
from typing import Any, Literal, cast
from uuid import UUID

from prefect import get_run_logger, suspend_flow_run
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateDetails, StateType
from prefect.events import emit_event
from prefect.input import RunInput
from prefect.input.run_input import Keyset
from prefect.runtime import deployment, flow_run
from prefect.states import Cancelled
from pydantic import Field, ValidationError

from pairsmith.config import Recipe
from pairsmith.reporting.markdown import markdown_table, markdown_text
from pairsmith.stages.base import open_store
from pairsmith.storage import versions
from pairsmith.storage.decisions import Decision, Verdict
from pairsmith.storage.store import Store
from pairsmith_flows.service.stale import dataset_tags
from pairsmith_tasks.decide import decide_version

Filled = dict[str, Any]


class Answer(RunInput):
    """What a person says about a version that waits."""

    decision: Literal["release", "reject"] = Field(
        description="release: latest moves to it; reject: latest stays where it is"
    )
    reason: str = Field(min_length=1, max_length=1000, description="Why. It is recorded with the version.")
    name: str = Field(min_length=1, max_length=100, description="Who you are. It is recorded with the version.")


def ask_person(recipe: Recipe, published: Filled, days: float) -> None:
    """Suspend this run until a person has decided about its candidate; returns where none can be asked or was before.

    After so many days without an answer the server fails the run; the candidate waits on.
    """
    log, store, version = get_run_logger(), open_store(recipe), published["version"]
    command = f"pairsmith release {shlex.quote(published['folder'].rpartition('/versions/')[0])} --reason ..."
    with get_client(sync_client=True) as client:
        for run in asking(client, store):
            if asked_about(run) == version:
                log.info("%s waits for a decision already: %s asks for it; or `%s`", version, run.name, command)
                return
            told = f"{version} has taken the place of {asked_about(run)}, which nobody had decided about."
            client.set_flow_run_state(run.id, Cancelled(message=told), force=True)
    if deployment.id is None:
        log.info("%s waits for a decision: `%s`, or reject", version, command)
        return
    log.info("%s waits for a decision, for %g days at most: Resume in this run's menu; or `%s`", version, days, command)
    question = Answer.with_initial_data(description=question_about(published, days, command))
    suspend_flow_run(wait_for_input=question, timeout=round(days * 86_400), key=f"{version}-{len(asked_before()) + 1}")


def answer_given() -> tuple[str, Answer] | None:
    """The version that this run asked about before it was suspended, and what was said; None where it has no answer."""
    questions = asked_before()
    if not questions:
        return None
    try:
        said: Any = Answer.load(cast("Keyset", questions[-1].run_input_keyset))
    except ValidationError:  # it was never answered: somebody retries a run that waited for too long
        return None
    return about(questions[-1]), said


def asked_before() -> list[StateDetails]:
    """The questions that this run has asked, the oldest first."""
    if flow_run.id is None:
        return []
    with get_client(sync_client=True) as client:
        states = client.read_flow_run_states(UUID(str(flow_run.id)))
    asked = [state for state in states if state.is_paused() and state.state_details.run_input_keyset]
    return [state.state_details for state in sorted(asked, key=lambda state: state.timestamp)]


def carry_out(recipe: Recipe, version: str, said: Answer) -> Filled:
    """Do what was decided; returns what a run that publishes does."""
    done = decide_version(recipe, version, said.decision, by=said.name, reason=said.reason)
    store = open_store(recipe)
    past, found = versions.history(store), versions.version_at(store, version)
    assert found is not None
    state = past.state(version)
    get_run_logger().info("%s: %s by %s: %s", version, done["verdict"], done["by"], done["reason"])
    announce(store, str(state), version, done)
    fields = {"folder": found.folder, "version": version, "pairs": found.pairs, "digest": found.digest}
    return fields | {"new": False, "state": state, "latest": past.latest, "decision": done}


def question_about(published: Filled, days: float, command: str) -> str:
    """What a person needs to know before deciding, as markdown of names and numbers alone."""
    latest = f"`latest` leads to {published['latest']}" if published["latest"] else "there is no `latest` yet"
    report = markdown_text(f"{published['folder']}/report.html")
    bounded = [gate for gate in published["gates"] if gate["wanted"]]
    gates = markdown_table(bounded) if bounded else "The recipe has no gates."
    return (
        f"**{published['version']}** has {published['pairs']:,} pairs; {latest}.\n\n"
        f"{gates}\n\n"
        f"Report: {report}\n\nThe run's artifacts show the funnel, all that was measured, the cost and some pairs. "
        f"Without an answer the run fails in {days:g} days and the version waits on. On the command line: "
        f"{markdown_text(command)}"
    )


def asking(client: SyncPrefectClient, store: Store) -> list[FlowRun]:
    """The runs that wait for a decision about a version of a data set."""
    suspended = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED]))
    tags = FlowRunFilterTags(any_=[f"asks about {tag}" for tag in dataset_tags(store)])
    return client.read_flow_runs(flow_run_filter=FlowRunFilter(state=suspended, tags=tags))


def asked_about(run: FlowRun) -> str:
    """The version that a suspended run asks about."""
    assert run.state is not None
    return about(run.state.state_details)


def about(question: StateDetails) -> str:
    return str(question.pause_key).partition("-")[0]


def pass_on(store: Store, decision: Decision) -> list[str]:
    """Let runs that wait for a decision go on that was made elsewhere, as on the command line; returns their names."""
    with get_client(sync_client=True) as client:
        waiting = [run for run in asking(client, store) if asked_about(run) == decision.version]
        for run in waiting:
            word = "reject" if decision.verdict is Verdict.REJECTED else "release"
            client.resume_flow_run(run.id, {"decision": word, "reason": decision.reason, "name": decision.by})
    return [run.name for run in waiting]


def announce(store: Store, what: str, version: str, payload: Filled) -> None:
    """An event about a version, for the UI's feed and for automations: `pairsmith.version.released` and others."""
    dataset = store.url("").rstrip("/")
    emit_event(
        event=f"pairsmith.version.{what}",
        resource={
            "prefect.resource.id": f"pairsmith.version.{dataset}/{version}",
            "prefect.resource.name": f"{dataset.rpartition('/')[2]} {version}",
        },
        related=[
            {"prefect.resource.id": f"prefect.flow-run.{flow_run.id}", "prefect.resource.role": "flow-run"},
            {"prefect.resource.id": f"pairsmith.dataset.{dataset}", "prefect.resource.role": "dataset"},
        ],
        payload=payload,
    )
