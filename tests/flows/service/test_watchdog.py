"""What ends a service's processes when the service is gone, and Prefect's temporary server with its run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pairsmith.errors import RunError
from pairsmith_flows.service import processes
from pairsmith_flows.service.watchdog import Watchdog
from tests.conftest import clean_environment
from tests.service import wait_for

PATIENT = "import time; time.sleep(300)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); {PATIENT}"


@contextmanager
def sleeping(code: str, mark: str, **options: bool) -> Iterator[subprocess.Popen[bytes]]:
    environment = dict(os.environ) | {processes.VARIABLE: mark}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, **options) as process:  # type: ignore[call-overload]
        try:
            if code == STUBBORN:
                process.stdout.readline()
            yield process
        finally:
            process.kill()


def pids(mark: str) -> set[int]:
    return {process.pid for process in processes.marked(mark)}


@pytest.mark.parametrize("how", ["closed", "killed before"])
def test_what_has_the_mark_is_ended_and_nothing_else(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(processes.GRACE_SECONDS, "setup", 0.5)  # of this process, which ends them in the second case
    guard = Watchdog()
    guard.confirm()
    with (
        sleeping(STUBBORN, f"{guard.mark} setup") as stubborn,
        sleeping(PATIENT, f"{guard.mark} worker", start_new_session=True) as marked,
        sleeping(PATIENT, f"{guard.mark}2 worker") as unmarked,
    ):
        assert pids(guard.mark) == {marked.pid, stubborn.pid}
        if how == "killed before":
            guard._process.kill()
            wait_for(lambda: not guard.alive, "the watchdog is gone")
        guard.close()
        assert marked.wait(1) == -signal.SIGTERM
        assert stubborn.wait(1) == -signal.SIGKILL
        assert unmarked.poll() is None


def test_a_watchdog_outlives_signals_and_whoever_started_it() -> None:
    """The process that started it is killed: what is marked ends, though the watchdog was asked to end before."""
    code = f"""
import os, subprocess, sys, time
from pairsmith_flows.service.watchdog import Watchdog
guard = Watchdog(); guard.confirm()
marked = subprocess.Popen([sys.executable, "-c", {PATIENT!r}], env=os.environ | guard.environment("worker"))
print(guard.mark, guard._process.pid, flush=True)
time.sleep(60)
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, env=clean_environment(), stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        mark, guard = starter.stdout.readline().split()
        assert len(pids(mark)) == 1
        os.kill(int(guard), signal.SIGTERM)
        starter.kill()
    wait_for(lambda: not pids(mark), "what was marked ends")


@pytest.mark.parametrize(
    ("program", "reason"),
    [("exit 1", "it says nothing"), ("echo one; echo no room >&2; exit 1", "no room")],
    ids=["in silence", "with a reason"],
)
def test_a_watchdog_that_does_not_start_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, reason: str
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{program}\n")
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(RunError, match=f"watchdog.*does not start: {reason}"), Watchdog() as guard:
        guard.confirm()


TEMPORARY = """
import os
from prefect.server.api import server
from pairsmith_flows.service.server import start_temporary_server
class Server:
    def start(self):
        import subprocess, sys, time
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
        print(os.environ["PAIRSMITH_SERVICE"].split()[0], flush=True)
        time.sleep({starts_for})
server.SubprocessASGIServer = Server
start_temporary_server()
print(os.environ.get("PAIRSMITH_SERVICE"), flush=True)
{then}
"""


@pytest.mark.prefect
@pytest.mark.parametrize(
    ("starts_for", "then"),
    [(60, ""), (0, "os.kill(os.getpid(), 9)"), (0, "os._exit(130)"), (0, "pass")],
    ids=["killed while it starts", "killed", "left at once", "an end"],
)
def test_a_temporary_server_ends_with_its_run(tmp_path: Path, starts_for: int, then: str) -> None:
    code = TEMPORARY.format(starts_for=starts_for, then=then)
    environment = clean_environment(PREFECT_HOME=str(tmp_path))
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        mark = run.stdout.readline().strip()
        if starts_for:
            assert len(pids(mark)) == 1
            run.kill()
        else:
            assert run.stdout.readline() == "None\n"  # nothing else has the mark
    wait_for(lambda: not pids(mark), "the server ends")
