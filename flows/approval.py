"""Approval of versions: a run whose version needs approval asks a person in the Prefect UI, and is suspended meanwhile.

The run is suspended, not paused: no process waits, and no lock and no slot of the deployment is held, so a question may
stay open for days and through restarts of everything. After the answer Prefect starts the run again; it finds the
answer and only carries out the decision. A data set has one question at a time: a newer candidate, or a decision made
elsewhere, replaces the older question.
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
    """A person's decision about a version that waits."""

    decision: Literal["release", "reject"] = Field(
        description="release: latest moves to it; reject: latest stays where it is"
    )
    reason: str = Field(min_length=1, max_length=1000, description="Why. It is recorded with the version.")
    name: str = Field(min_length=1, max_length=100, description="Who you are. It is recorded with the version.")


def ask_person(recipe: Recipe, published: Filled, days: float) -> None:
    """Suspend this run until a person has decided about its candidate.

    Returns at once where another run asks about it already, or where this run has no deployment and so cannot ask.
    After so many days without an answer the server fails the run; the candidate still waits.
    """
    log, store, version = get_run_logger(), open_store(recipe), published["version"]
    command = f"pairsmith release {shlex.quote(published['folder'].rpartition('/versions/')[0])} --reason ..."
    if others := drop_questions(store, but=version):
        log.info("%s waits for a decision already: %s asks for it; or `%s`", version, others[0], command)
        return
    if deployment.id is None:
        log.info("%s waits for a decision: `%s`, or reject", version, command)
        return
    log.info("%s waits for a decision, for %g days at most: Resume in this run's menu; or `%s`", version, days, command)
    question = Answer.with_initial_data(description=question_about(published, days, command))
    suspend_flow_run(wait_for_input=question, timeout=round(days * 86_400), key=f"{version}-{len(asked_before()) + 1}")


def drop_questions(store: Store, but: str) -> list[str]:
    """End the runs that ask about another version, whose place this one took; returns the names of those about it."""
    same = []
    with get_client(sync_client=True) as client:
        for run in asking(client, store):
            if asked_about(run) == but:
                same.append(run.name)
            else:
                message = f"{but} has taken the place of {asked_about(run)}, which nobody had decided about."
                client.set_flow_run_state(run.id, Cancelled(message=message), force=True)
    return same


def answer_given() -> tuple[str, Answer] | None:
    """The version that this run asked about before it was suspended, and the answer; None where there is none."""
    questions = asked_before()
    if not questions:
        return None
    try:
        answer: Any = Answer.load(cast("Keyset", questions[-1].run_input_keyset))
    except ValidationError:  # it was never answered: somebody retries a run whose time to answer is over
        return None
    return about(questions[-1]), answer


def asked_before() -> list[StateDetails]:
    """The questions that this run has asked, the oldest first."""
    if flow_run.id is None:
        return []
    with get_client(sync_client=True) as client:
        states = client.read_flow_run_states(UUID(str(flow_run.id)))
    asked = [state for state in states if state.is_paused() and state.state_details.run_input_keyset]
    return [state.state_details for state in sorted(asked, key=lambda state: state.timestamp)]


def carry_out(recipe: Recipe, version: str, answer: Answer) -> Filled:
    """Carry out the decision; returns the same as a run that publishes."""
    done = decide_version(recipe, version, answer.decision, by=answer.name, reason=answer.reason)
    store = open_store(recipe)
    all_versions, found = versions.history(store), versions.version_at(store, version)
    assert found is not None
    state = all_versions.state(version)
    get_run_logger().info("%s: %s by %s: %s", version, done["verdict"], done["by"], done["reason"])
    announce(store, str(state), version, done)
    fields = {"folder": found.folder, "version": version, "pairs": found.pairs, "digest": found.digest}
    fields |= {page: store.url(found.place(file)) for page, file in (("card", "README.md"), ("report", "report.html"))}
    return fields | {"new": False, "state": state, "latest": all_versions.latest, "decision": done}


def question_about(published: Filled, days: float, command: str) -> str:
    """What a person needs to know before deciding, as markdown that holds only names and numbers."""
    latest = f"`latest` leads to {published['latest']}" if published["latest"] else "there is no `latest` yet"
    report = markdown_text(published["report"])
    bounded = [gate for gate in published["gates"] if gate["wanted"]]
    gates = markdown_table(bounded) if bounded else "The recipe has no gates."
    reasons = "".join(f"- {markdown_text(reason)}\n" for reason in published["reasons"])
    held = f"It was held back:\n\n{reasons}\n" if reasons else ""
    return (
        f"**{published['version']}** has {published['pairs']:,} pairs; {latest}.\n\n"
        f"{held}{gates}\n\n"
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
    """Resume the runs that wait for a decision that was made elsewhere, as on the command line; returns their names."""
    with get_client(sync_client=True) as client:
        waiting = [run for run in asking(client, store) if asked_about(run) == decision.version]
        for run in waiting:
            word = "reject" if decision.verdict is Verdict.REJECTED else "release"
            client.resume_flow_run(run.id, {"decision": word, "reason": decision.reason, "name": decision.by})
    return [run.name for run in waiting]


def announce(store: Store, what: str, version: str, payload: Filled) -> None:
    """Emit an event about a version, for the UI's feed and automations: `pairsmith.version.released` and others."""
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
