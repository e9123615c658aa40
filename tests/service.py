"""A service of the tests' own: `pairsmith serve` in a process, asked over HTTP as a browser would."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import yaml

from pairsmith.config import Recipe
from pairsmith_flows.service.processes import VARIABLE
from tests.conftest import ROOT, clean_environment

SECONDS = 60.0
PATIENCE = 90.0  # with an answer; a server on SQLite may wait 60 s for a lock
QUICK = {"PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "2"}
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
STARTED = "end: Ctrl-C"
BUILD, REFRESH, SHORT = "build preference dataset", "refresh preference dataset", "build from a recipe file"


def free_port() -> int:
    """A free port, whose next is free too: a service shows its reports there."""
    while True:
        with socket.socket() as probe, socket.socket() as beside:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
            with suppress(OSError, OverflowError):
                beside.bind(("127.0.0.1", port + 1))
                return port


def wait_for(condition: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
    """Wait until a condition gives something; returns that."""
    ends = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < ends, f"waited {seconds:g} s in vain: {what}"
        time.sleep(0.1)
    return found


def write_deployments(folder: Path, recipe: Recipe, only: str | None = None, **changes: Any) -> Path:
    """The shipped deployments, or `only` one, with another recipe and some fields changed."""
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json", exclude_defaults=True)))
    data = yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text())
    data["build"][0]["pairsmith_flows.service.deploy_steps.read_recipe"]["path"] = str(folder / "recipe.yaml")
    data["deployments"] = [one for one in data["deployments"] if only in (None, one["name"])]
    for deployment in data["deployments"]:
        deployment.update(changes)
    path = folder / "prefect.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


class Service:
    """`pairsmith serve` with its things in `folder`, from the repository's root unless another place is named.

    As a context manager it is ended.
    """

    program: Sequence[str] = (sys.executable, "-m", "pairsmith_flows")
    place = ROOT

    def __init__(self, folder: Path, prefect_file: Path, *words: str, **environment: str) -> None:
        self.folder, self.port = folder, free_port()
        self._words = ("--folder", str(folder), "--port", str(self.port), "--prefect-file", str(prefect_file), *words)
        self._environment = clean_environment(**QUICK, **environment)
        self.out = folder.with_suffix(".out")
        self._csrf: dict[str, str] = {}

    def start(self) -> None:
        with open(self.out, "wb") as out:
            self.process = subprocess.Popen(
                [*self.program, "serve", *self._words],
                cwd=self.place,
                env=self._environment,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        try:
            wait_for(lambda: STARTED in self.said() or self.process.poll() is not None, "the service starts", 240)
            assert self.process.poll() is None, self.said()
        except BaseException:
            self.process.terminate()
            raise

    def said(self) -> str:
        return self.out.read_text(errors="replace")

    def __enter__(self) -> Service:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.end(signal.SIGTERM)

    def end(self, number: int) -> int:
        """Send a signal to the service alone, and wait until nothing of it is left."""
        self.process.send_signal(number)
        code = self.process.wait(60)
        wait_for(lambda: not self.processes(), "everything of the service ends")
        return code

    def processes(self) -> dict[int, str]:
        """The processes of the service, with the command of each."""
        mine, found = str(self.folder / "prefect"), {}
        for process in psutil.process_iter():
            try:
                environment = process.environ()
                if environment.get("PREFECT_HOME") == mine and VARIABLE in environment:
                    found[process.pid] = " ".join(process.cmdline())
            except psutil.Error:
                continue
        return found

    def kill(self, what: str) -> int:
        """kill -9 of the one process with a word in its command: `server start`, `worker start`, `prefect.engine`."""
        (process,) = [number for number, command in self.processes().items() if what in command]
        os.kill(process, signal.SIGKILL)
        return process

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def login(self) -> str:
        return (self.folder / "login").read_text().strip()

    def ask(self, method: str, path: str, body: Any = None, **headers: str | None) -> Any:
        """What the API answers, with the login and the token that it asks for; headers of None are left out."""
        if not self._csrf and method != "GET" and "csrf" not in headers:
            client = str(uuid.uuid4())
            token = self.ask("GET", f"/csrf-token?client={client}")["token"]
            self._csrf = {"Prefect-Csrf-Client": client, "Prefect-Csrf-Token": token}
        basic = f"Basic {base64.b64encode(self.login.encode()).decode()}"
        csrf = self._csrf if headers.pop("csrf", "yes") else {}
        whole = {"Authorization": basic, "Content-Type": "application/json", **csrf, **headers}
        data = None if body is None else json.dumps(body).encode()
        given = {name: value for name, value in whole.items() if value is not None}
        request = urllib.request.Request(f"{self.url}/api{path}", data, given, method=method)
        for attempt in range(6):  # as Prefect's client does: SQLite may be busy
            try:
                with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                    content = answer.read()
                    return json.loads(content) if content else None
            except urllib.error.HTTPError as error:
                if error.code != 503 or attempt == 5:
                    raise
                time.sleep(1)

    def refused(self, method: str, path: str, body: Any = None, **headers: str | None) -> tuple[int, str]:
        """The status and text with which the API refuses."""
        try:
            self.ask(method, path, body, **headers)
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        raise AssertionError(f"{method} {path} was not refused")

    def deployment(self, name: str) -> dict[str, Any]:
        flow = {"ad-hoc": BUILD, "short": SHORT}.get(name, REFRESH)
        found: dict[str, Any] = self.ask("GET", f"/deployments/name/{flow}/{name}".replace(" ", "%20"))
        return found

    def run(self, name: str, **parameters: Any) -> str:
        """Start a run of a deployment; returns its id."""
        where = f"/deployments/{self.deployment(name)['id']}/create_flow_run"
        return str(self.ask("POST", where, {"parameters": parameters, "state": {"type": "SCHEDULED"}})["id"])

    def flow_run(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("GET", f"/flow_runs/{run}")
        return found

    def input_schema(self, run: dict[str, Any]) -> dict[str, Any]:
        """What a suspended run asks for. Prefect stores it a moment after it has told the run's state."""
        key = run["state"]["state_details"]["run_input_keyset"]["schema"]

        def there() -> dict[str, Any] | None:
            try:
                return dict(self.ask("GET", f"/flow_runs/{run['id']}/input/{key}"))
            except urllib.error.HTTPError as error:
                if error.code != 404:
                    raise
                return None

        found: dict[str, Any] = wait_for(there, f"the form of run {run['id']}", PATIENCE)
        return found

    def runs(self, deployment: str | None = None, **filters: Any) -> list[dict[str, Any]]:
        """All runs, or those of one deployment: of others the scheduler makes some at any time."""
        if deployment:
            filters["deployment_id"] = {"any_": [self.deployment(deployment)["id"]]}
        return list(self.ask("POST", "/flow_runs/filter", {"flow_runs": filters, "sort": "START_TIME_ASC"}))

    def wait(self, run: str, *states: str, seconds: float = SECONDS) -> dict[str, Any]:
        """Wait until a run is in one of some states, by default a final one; returns it."""
        wanted = set(states) or FINAL

        def there() -> dict[str, Any] | None:
            try:
                found = self.flow_run(run)
            except (OSError, urllib.error.URLError):
                return None  # a server that starts again
            return found if found["state_type"] in wanted or found["state_name"] in wanted else None

        found: dict[str, Any] = wait_for(there, f"run {run} becomes {wanted}", seconds)
        return found

    def artifacts(self, run: str) -> dict[str, dict[str, Any]]:
        """Key -> artifact of a run."""
        wanted = {"artifacts": {"flow_run_id": {"any_": [run]}}}
        return {found["key"]: found for found in self.ask("POST", "/artifacts/filter", wanted)}
