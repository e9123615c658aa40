"""Prefect's settings, as the service and the terminal set them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pairsmith_flows.service import settings, watchdog


def test_what_the_user_has_set_stays_but_for_where_the_service_is() -> None:
    given = {
        "PREFECT_API_URL": "http://elsewhere/api",
        "PREFECT_SERVER_API_HOST": "0.0.0.0",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "7",
        "PREFECT_API_DATABASE_CONNECTION_URL": "postgresql+asyncpg://x",
    }
    made = settings.for_service(given, Path("/srv/pairsmith"), 4300, "admin:x")
    assert made["PREFECT_API_URL"] == "http://127.0.0.1:4300/api"
    assert made["PREFECT_SERVER_API_HOST"] == "127.0.0.1"
    assert made["PREFECT_SERVER_API_AUTH_STRING"] == made["PREFECT_API_AUTH_STRING"] == "admin:x"
    assert made["PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE"] == "7"
    assert made["PREFECT_API_DATABASE_CONNECTION_URL"] == "postgresql+asyncpg://x"
    assert made["PREFECT_HOME"] == "/srv/pairsmith/prefect"
    assert settings.SERVER.keys() | settings.WORKER.keys() <= made.keys()


def test_a_guard_ends_what_has_its_mark_and_nothing_else_once_its_input_ends() -> None:
    ignoring = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    )
    polite, other = [sys.executable, "-c", "import time; time.sleep(60)"], dict(os.environ)
    stubborn = subprocess.Popen(
        [sys.executable, "-c", ignoring], env=other | {watchdog.VARIABLE: "m setup"}, stdout=subprocess.PIPE
    )
    assert stubborn.stdout is not None
    stubborn.stdout.readline()
    marked = subprocess.Popen(polite, env=other | {watchdog.VARIABLE: "m worker"}, start_new_session=True)
    unmarked = subprocess.Popen(polite, env=other | {watchdog.VARIABLE: "m2 worker"})
    watcher = watchdog.start("m")
    assert watcher.stdin is not None
    try:
        assert set(watchdog.marked("m worker") + watchdog.marked("m setup")) == {marked.pid, stubborn.pid}
        watcher.stdin.close()
        assert watcher.wait(30) == 0
        assert marked.wait(1) < 0
        assert stubborn.wait(1) == -9
        assert unmarked.poll() is None
    finally:
        for process in (stubborn, marked, unmarked):
            process.kill()
            process.wait()
        stubborn.stdout.close()
