"""`pairsmith serve` for real: what it starts, whom it lets in, what it finds again, and what survives kill -9."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pairsmith.config import Recipe
from pairsmith.config.loading import parse_recipe
from pairsmith.stages.base import open_store
from pairsmith.storage import versions
from pairsmith.testing import FakeEndpoint
from pairsmith_flows.service.settings import BATCHES
from tests.conftest import ROOT, clean_environment
from tests.faults.harness import repeated
from tests.faults.test_s4_secrets import KEY, VARIABLE, keyed, leaks, quoting, traces
from tests.runs import run
from tests.service import Service, wait_for, write_deployments

CONCURRENCY = 4
IN_FLIGHT = 3 * CONCURRENCY  # two members and a judge


def recipe_over(
    endpoint: FakeEndpoint, folder: Path, count: int = 24, concurrency: int = CONCURRENCY, **changes: Any
) -> Recipe:
    """A recipe of two members and a judge of an endpoint, over a file of prompts, with everything in a folder."""
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"Question {n}?"}) + "\n" for n in range(count)))
    where = {"base_url": endpoint.url, "api_key_env": None, "concurrency": concurrency}
    model = {"backend": "openai", "endpoint": where}
    data: dict[str, Any] = {
        "name": "served",
        "workspace": str(folder / "data"),
        "shard_size": 8,
        "prompts": {"sources": [{"path": str(prompts)}]},
        "pool": {"members": [{"name": name, "model": name, **model} for name in "ab"]},
        "rating": {"aspects": ["overall"], "judges": [{"name": "judge", "model": "judge", **model}]},
    }
    return parse_recipe(data | changes, folder)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[FakeEndpoint]:
    with FakeEndpoint(latency=0.3) as started:
        yield started


@pytest.fixture(scope="module")
def service(endpoint: FakeEndpoint, made_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("served")
    deployments = write_deployments(folder, recipe_over(endpoint, folder))
    shutil.copytree(made_home, folder / "service" / "prefect")
    with Service(folder / "service", deployments, **{VARIABLE: KEY}) as started:
        yield started


@pytest.fixture
def fresh(endpoint: FakeEndpoint, tmp_path: Path) -> Recipe:
    """A recipe with a workspace of its own, of whose calls none has been made."""
    endpoint.asked.clear()
    return recipe_over(endpoint, tmp_path)


def parameters(recipe: Recipe) -> dict[str, Any]:
    return {"recipe": recipe.model_dump(mode="json")}


def version_of(recipe: Recipe) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(recipe.workspace, recipe.name, "latest", "version.json").read_text())
    return found


def undisturbed(endpoint: FakeEndpoint, folder: Path) -> str:
    """The digest of the data set of a run in one go, whose calls are not counted."""
    (folder / "other").mkdir()
    digest = run(recipe_over(endpoint, folder / "other"))[0].digest
    endpoint.asked.clear()
    return digest


def in_the_middle(service: Service, endpoint: FakeEndpoint, recipe: Recipe) -> str:
    """Start a refresh and wait until some calls have been answered and others are under way; returns its id."""
    begun = service.run("nightly", **parameters(recipe))
    wait_for(lambda: sum(endpoint.asked.values()) > 20, "calls are made")
    return begun


@pytest.mark.prefect
def test_nobody_else_can_read_the_login(service: Service) -> None:
    for name in ("login", "env"):
        assert stat.S_IMODE(os.stat(service.folder / name).st_mode) == 0o600
    told = (service.folder / "env").read_text()
    assert f"export PREFECT_API_URL={service.url}/api\n" in told
    assert service.login in told
    assert service.login not in service.said()
    assert len(service.login) > 30


@pytest.mark.prefect
def test_without_the_login_or_the_token_nothing_is_told_or_done(service: Service) -> None:
    for wrong in (None, "Basic YWRtaW46cGFzcw==", "Basic", f"Bearer {service.login}"):
        assert service.refused("GET", "/admin/settings", Authorization=wrong)[0] == 401
        assert service.refused("POST", "/flow_runs/filter", {}, Authorization=wrong)[0] == 401
    assert service.refused("POST", "/flow_runs/filter", {}, csrf=None)[0] == 403
    status, told = service.refused("POST", "/flow_runs/filter", {}, csrf=None, **{"Prefect-Csrf-Client": "x"})
    assert status == 403
    assert "CSRF" in told
    other = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    assert service.refused("OPTIONS", "/flow_runs/filter", **other)[0] == 400
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    (address,) = {words[1] for words in listening if words[3] == "0A" and words[1].endswith(f":{service.port:04X}")}
    assert address.startswith("0100007F:")


@pytest.mark.prefect
def test_the_server_writes_in_batches_and_keeps_places_through_a_restart(service: Service) -> None:
    found = service.ask("GET", "/admin/settings")["server"]
    services = found["services"]
    told = {
        f"PREFECT_SERVER_SERVICES_{part}_{name}".upper(): f"{value:g}"
        for part in ("task_run_recorder", "event_persister", "triggers")
        for name, value in services[part].items()
        if isinstance(value, int | float)
    }
    assert {name: told[name] for name in BATCHES} == BATCHES
    assert found["concurrency"]["lease_storage"].endswith("filesystem")
    assert found["api"]["csrf_protection_enabled"] is True


@pytest.mark.prefect
def test_deployments_are_those_of_the_file(service: Service) -> None:
    adhoc, nightly, weekly = (service.deployment(name) for name in ("ad-hoc", "nightly", "weekly"))
    assert adhoc["parameters"]["recipe"]["name"] == "served"
    assert adhoc["enforce_parameter_schema"] is True
    assert not adhoc["schedules"]
    for scheduled in (nightly, weekly):
        assert scheduled["concurrency_options"]["collision_strategy"] == "ENQUEUE"
        assert scheduled["global_concurrency_limit"]["limit"] == 1
        assert [one["active"] for one in scheduled["schedules"]] == [True]
    assert weekly["parameters"]["full"] is True
    expected = wait_for(lambda: service.runs(state={"type": {"any_": ["SCHEDULED"]}}), "runs are scheduled")
    assert {"scheduled", "pairsmith"} <= set(expected[0]["tags"])


@pytest.mark.prefect
@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("shard_size",), 0, "minimum"),
        (("pairing", "strategy"), "coin", "coin"),
        (("naem",), "x", "naem"),
        (("prompts", "sources"), "x.jsonl", "x.jsonl"),
    ],
    ids=["too small", "no such choice", "no such field", "no list"],
)
def test_a_wrong_value_is_refused_before_there_is_a_run(
    service: Service, fresh: Recipe, path: tuple[str, ...], value: Any, told: str
) -> None:
    before = len(service.runs("ad-hoc"))
    wrong = parameters(fresh)
    place = wrong["recipe"]
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    where = f"/deployments/{service.deployment('ad-hoc')['id']}/create_flow_run"
    status, said = service.refused("POST", where, {"parameters": wrong})
    assert status in (409, 422)
    assert told in said
    assert len(service.runs("ad-hoc")) == before


@pytest.mark.slow
@pytest.mark.prefect
@pytest.mark.parametrize("what", ["prefect.engine", "worker start", "server start"])
def test_the_next_refresh_finishes_what_a_kill_left(
    service: Service, endpoint: FakeEndpoint, fresh: Recipe, tmp_path: Path, what: str
) -> None:
    expected = undisturbed(endpoint, tmp_path)
    begun = in_the_middle(service, endpoint, fresh)
    service.kill(what)
    ended = service.wait(begun)["state_type"]
    assert ended == ("COMPLETED" if what == "server start" else "CRASHED")
    service.wait(service.run("nightly", **parameters(fresh)), "COMPLETED")
    assert version_of(fresh)["digest"] == expected
    assert version_of(fresh)["version"] == "v0001"
    assert repeated(endpoint) <= IN_FLIGHT
    if what == "server start":
        assert repeated(endpoint) == 0


@pytest.mark.slow
@pytest.mark.prefect
def test_of_two_refreshes_at_once_the_second_waits_and_asks_nothing(
    service: Service, endpoint: FakeEndpoint, fresh: Recipe
) -> None:
    first = in_the_middle(service, endpoint, fresh)
    second = service.run("nightly", **parameters(fresh))
    service.wait(second, "AwaitingConcurrencySlot")
    one, other = service.wait(first), service.wait(second, seconds=90)
    assert one["state_type"] == other["state_type"] == "COMPLETED"
    assert one["end_time"] < other["start_time"]
    assert repeated(endpoint) == 0
    assert version_of(fresh)["version"] == "v0001"


@pytest.mark.prefect
def test_a_service_that_is_killed_leaves_nothing_and_finds_all_when_it_is_back(
    service: Service, endpoint: FakeEndpoint, fresh: Recipe, tmp_path: Path
) -> None:
    expected = undisturbed(endpoint, tmp_path)
    nightly, login = service.deployment("nightly"), service.login
    paused = {"active": False, "schedule": nightly["schedules"][0]["schedule"]}
    service.ask("PATCH", f"/deployments/{nightly['id']}/schedules/{nightly['schedules'][0]['id']}", paused)
    weekly = f"/deployments/{service.deployment('weekly')['id']}"
    service.ask("PATCH", weekly, {"entrypoint": "flows.refresh.refresh_preference_dataset"})  # as version 0.1 made it
    begun = in_the_middle(service, endpoint, fresh)
    assert service.end(signal.SIGKILL) == -signal.SIGKILL
    service.start()
    assert service.login == login
    assert service.ask("GET", weekly)["entrypoint"] == "pairsmith_flows.refresh.refresh_preference_dataset"
    again = service.deployment("nightly")
    assert again["id"] == nightly["id"]
    assert not again["schedules"][0]["active"]
    ended = service.flow_run(begun)
    assert (ended["state_type"], ended["state"]["message"]) == ("CRASHED", "The service ended while it was under way.")
    service.wait(service.run("nightly", **parameters(fresh)), "COMPLETED")
    assert version_of(fresh)["digest"] == expected
    assert repeated(endpoint) <= IN_FLIGHT


@pytest.mark.slow
@pytest.mark.prefect
def test_a_service_that_is_told_to_end_ends_its_runs_and_says_so(
    service: Service, endpoint: FakeEndpoint, fresh: Recipe
) -> None:
    begun = in_the_middle(service, endpoint, fresh)
    assert service.end(signal.SIGTERM) == 0
    assert "ending the service" in service.said()
    service.start()
    assert service.flow_run(begun)["state_type"] == "CRASHED"


def serve(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pairsmith_flows", "serve", "--folder", str(folder), *words]
    return subprocess.run(
        command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False, timeout=60
    )


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told = serve(tmp_path / "service", "--port", str(port))
    assert told.returncode == 2
    assert told.stderr.startswith(f"error: port {port} cannot be had")
    assert "--port" in told.stderr


def test_a_login_that_others_can_read_and_a_file_that_is_absent_or_old_are_told(tmp_path: Path) -> None:
    told = serve(tmp_path / "service", "--prefect-file", "nowhere.yaml")
    assert (told.returncode, "nowhere.yaml: no such file" in told.stderr) == (2, True)
    (tmp_path / "old.yaml").write_text("build:\n- flows.steps.read_recipe: {path: recipe.yaml}\n")
    told = serve(tmp_path / "service", "--prefect-file", str(tmp_path / "old.yaml"))
    assert (told.returncode, "read_recipe is now pairsmith_flows.service" in told.stderr) == (2, True)
    (tmp_path / "login").write_text("admin:x")
    (tmp_path / "login").chmod(0o644)
    told = serve(tmp_path, "--port", "65000")
    assert (told.returncode, "others can read it" in told.stderr) == (2, True)


@pytest.mark.prefect
def test_a_folder_serves_one_at_a_time(service: Service) -> None:
    told = serve(service.folder, "--port", "65001")
    assert (told.returncode, "another `pairsmith serve` uses it" in told.stderr) == (2, True)


class Listener:
    """A web hook of the test: what is posted to it, in order."""

    def __enter__(self) -> Listener:
        self.posted: list[dict[str, Any]] = []
        listener = self

        class Hook(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                listener.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()


@pytest.mark.prefect
def test_a_person_is_told_of_a_version_that_waits_and_what_is_answered_is_done(
    service: Service, endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    endpoint.asked.clear()
    gated = recipe_over(endpoint, tmp_path, 8, publishing={"approval": "required"}, gates={"min_pairs": 3})
    store = open_store(gated)
    first = service.run("nightly", **parameters(gated))
    asked = service.wait(first, "Suspended", "FAILED")
    assert asked["state_name"] == "Suspended", asked["state"]
    assert (versions.waiting(store) or asked).name == "v0001"
    assert not store.exists("latest")
    artifacts = service.artifacts(first)
    assert {"served-gates", "served-samples", "served-summary", "served-report", "served-dataset"} <= set(artifacts)
    gates = {row["gate"]: row for row in json.loads(artifacts["served-gates"]["data"])}
    assert gates["min_pairs"] | {"measured": ""} == {
        "gate": "min_pairs", "measured": "", "wanted": "at least 3", "passed": "yes"
    }  # fmt: skip
    with store.lock():  # nobody holds it
        pass

    schema = service.input_schema(asked)
    assert schema["properties"]["decision"]["enum"] == ["release", "reject"]
    for wrong in ({}, {"decision": "perhaps", "reason": "x", "name": "y"}, {"decision": "reject", "name": "y"}):
        told = service.ask("POST", f"/flow_runs/{first}/resume", {"run_input": wrong})
        assert told["status"] == "REJECT"
    assert service.flow_run(first)["state_name"] == "Suspended"

    calls = sum(endpoint.asked.values())
    said = {"decision": "reject", "reason": "too few pairs", "name": "Ada"}
    service.ask("POST", f"/flow_runs/{first}/resume", {"run_input": said})
    ended = service.wait(first)
    assert ended["state_type"] == "COMPLETED"
    assert ended["name"] == asked["name"]
    past = versions.history(store)
    assert past.state("v0001") is versions.State.REJECTED
    assert (past.decisions[0].by, past.decisions[0].reason) == ("Ada", "too few pairs")
    assert sum(endpoint.asked.values()) == calls


@pytest.mark.slow
@pytest.mark.prefect
def test_a_newer_version_takes_the_place_of_one_that_waits_and_is_released_in_a_shell(
    service: Service, endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    gated = recipe_over(endpoint, tmp_path, 8, publishing={"approval": "required"})
    store = open_store(gated)
    first = service.run("nightly", **parameters(gated))
    service.wait(first, "Suspended")
    recipe_over(endpoint, tmp_path, 10)  # more prompts
    second = service.run("nightly", **parameters(gated))
    service.wait(second, "Suspended")
    over = service.flow_run(first)
    assert (over["state_type"], over["state"]["message"]) == (
        "CANCELLED", "v0002 has taken the place of v0001, which nobody had decided about."
    )  # fmt: skip

    shell = f". {service.folder}/env && exec {sys.executable} -m pairsmith_flows release {store.root} --reason fine"
    told = subprocess.run(
        ["sh", "-c", shell], cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False, timeout=60
    )
    assert told.returncode == 0, told.stderr
    assert service.wait(second)["state_type"] == "COMPLETED"
    assert version_of(gated)["version"] == "v0002"
    assert len(versions.history(store).decisions) == 1


@pytest.mark.slow
@pytest.mark.prefect
def test_a_question_that_nobody_answers_ends_the_run_and_the_version_waits_on(
    service: Service, endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    gated = recipe_over(endpoint, tmp_path, 3, publishing={"approval": "required"})
    run = service.run("ad-hoc", **parameters(gated), approval_days=1 / 86_400)
    ended = service.wait(run)
    assert (ended["state_type"], ended["state"]["message"]) == ("FAILED", "The flow was paused and never resumed.")
    assert versions.waiting(open_store(gated)) is not None


def notify(service: Service, url: str) -> None:
    """Make the notification block that the automations name."""
    kind = service.ask("GET", "/block_types/slug/custom-webhook")["id"]
    (schema, *_) = service.ask("POST", "/block_schemas/filter", {"block_schemas": {"block_type_id": {"any_": [kind]}}})
    data = {"name": "hook", "url": url, "json_data": {"subject": "{{subject}}", "body": "{{body}}"}}
    made = {"name": "notify", "data": data, "block_type_id": kind, "block_schema_id": schema["id"]}
    service.ask("POST", "/block_documents/", made)


@pytest.mark.slow
@pytest.mark.prefect
def test_s4_a_person_is_notified_and_no_key_is_told_in_parameters_questions_answers_or_notifications(
    service: Service, endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    gated = keyed(recipe_over(endpoint, tmp_path, 6, publishing={"approval": "required"}), attempts=1)
    with Listener() as listener:
        notify(service, listener.url)
        service.end(signal.SIGTERM)
        service.start()  # the automations find the block
        endpoint.fail(quoting(401))
        assert service.wait(service.run("nightly", **parameters(gated)))["state_type"] == "FAILED"
        wait_for(lambda: [one for one in listener.posted if "is Failed" in one["subject"]], "a failure is told")
        run = service.run("nightly", **parameters(gated))
        service.wait(run, "Suspended")
        wait_for(lambda: [one for one in listener.posted if "waits for a decision" in one["subject"]], "it is told")
    assert any("Authorization was" in one["body"] for one in listener.posted)
    assert not traces(json.dumps(listener.posted).encode())
    said = {"decision": "release", "reason": "fine", "name": "Ada"}
    service.ask("POST", f"/flow_runs/{run}/resume", {"run_input": said})
    assert service.wait(run)["state_type"] == "COMPLETED"
    assert {headers.get("authorization") for headers in endpoint.headers[-3:]} == {f"Bearer {KEY}"}
    database = b"".join(path.read_bytes() for path in (service.folder / "prefect").glob("prefect.db*"))
    assert b"Authorization was" in database  # the error is there, so the database is the one that was looked for
    assert service.login.encode() not in database + service.out.read_bytes()
    assert leaks(service.folder) == leaks(tmp_path) == {}
    assert not traces(service.out.read_bytes())
