"""Nothing that `pairsmith serve` starts outlives it, whatever fails: cheap programs stand in for its parts."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT, clean_environment
from tests.service import STARTED, free_port, wait_for

NAME = "PAIRSMITH_TEST_SERVICE"  # in the environment of everything that a test starts
SERVE = """
import sys
from pathlib import Path
from pairsmith_flows.service import parts, serving
folder, port, *programs = sys.argv[1:]
commands = dict(zip(("server", "setup", "worker"), ([sys.executable, "-c", code, port] for code in programs)))
serving.commands = lambda *_: commands
deployments, FILES = Path("deployments"), ("prefect.yaml", "automations.yaml")
{before}
sys.exit(serving.serve_until_stopped(Path(folder), int(port), *(deployments / name for name in FILES)))
"""
# Each part starts another process, in a session of its own as a worker's runs are.
CHILD = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
"""
ANSWERS = f"""{CHILD}
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
WAITS, ENDS, FAILS = f"{CHILD}time.sleep(300)", CHILD, f"{CHILD}sys.exit(3)"


def left(folder: Path) -> list[str]:
    """The commands of the processes that a test has started and that are still there."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(NAME) == str(folder):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


@contextmanager
def served(folder: Path, *programs: str, before: str = "") -> Iterator[subprocess.Popen[str]]:
    """`pairsmith serve` with other programs as its server, set-up and worker."""
    command = [sys.executable, "-c", SERVE.format(before=before), str(folder / "service"), str(free_port()), *programs]
    environment = clean_environment(**{NAME: str(folder)})
    with open(folder / "out", "wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("programs", "before", "error"),
    [
        ((ANSWERS, ENDS, WAITS), "sys.executable = '/bin/false'", "the watchdog, .* does not start"),
        ((FAILS, ENDS, WAITS), "", "the server does not answer"),
        ((WAITS, ENDS, WAITS), "serving.START_SECONDS = 1.0", "the server does not answer"),
        ((ANSWERS, FAILS, WAITS), "", "the deployments could not be made"),
        ((ANSWERS, ENDS, FAILS), "parts.DEATHS = 2", "the worker ended 2 times, at last with code 3"),
        ((ANSWERS, ENDS, WAITS), "commands['worker'] = ['/no/such/program']", "/no/such/program"),
        ((ANSWERS, ENDS, WAITS), "commands['setup'] = ['/no/such/program']", "/no/such/program"),
    ],
    ids=[
        "no watchdog", "the server dies", "the server hangs", "no deployments", "the worker dies", "no worker",
        "no set-up",
    ],
)  # fmt: skip
def test_where_a_step_fails_nothing_is_left(
    tmp_path: Path, programs: tuple[str, str, str], before: str, error: str
) -> None:
    with served(tmp_path, *programs, before=before) as service:
        assert service.wait(60) == 1
    assert left(tmp_path) == []
    lines = (tmp_path / "out").read_text()
    (told,) = [line for line in lines.splitlines() if line.startswith("error: ")]
    assert re.search(error, told)
    assert "Traceback" not in lines
    assert ("starting the server" in lines) == ("watchdog" not in error)  # before it, nothing is started


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL], ids=lambda one: one.name
)
@pytest.mark.parametrize(
    ("programs", "line"),
    [
        ((WAITS, ENDS, WAITS), "starting the server"),
        ((ANSWERS, WAITS, WAITS), "making the deployments"),
        ((ANSWERS, ENDS, WAITS), STARTED),
    ],
    ids=["the server starts", "deployments are made", "the worker runs"],
)
def test_a_signal_at_any_step_leaves_nothing(
    tmp_path: Path, programs: tuple[str, str, str], line: str, number: signal.Signals
) -> None:
    with served(tmp_path, *programs) as service:
        wait_for(lambda: line in (tmp_path / "out").read_text(), line)
        service.send_signal(number)
        assert service.wait(60) == (-number if number == signal.SIGKILL else 0)
        if number != signal.SIGKILL:
            assert left(tmp_path) == []
    wait_for(lambda: not left(tmp_path), "everything ends")


def test_a_service_whose_watchdog_is_killed_ends_what_it_started_itself(tmp_path: Path) -> None:
    with served(tmp_path, ANSWERS, ENDS, WAITS) as service:
        wait_for(lambda: STARTED in (tmp_path / "out").read_text(), "it is served")
        (guard,) = [
            one for one in psutil.Process(service.pid).children() if "service.watchdog" in " ".join(one.cmdline())
        ]
        os.kill(guard.pid, signal.SIGKILL)
        assert service.wait(60) == 1
    assert left(tmp_path) == []
    assert "error: the watchdog of the service has ended" in (tmp_path / "out").read_text()
