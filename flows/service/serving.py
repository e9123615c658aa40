"""`pairsmith serve`: one command that runs a Prefect server, a worker and the deployments, and ends them with itself.

The server listens only on the loopback address and asks for a login. A server or worker that dies is started again.
Their state is in the service's folder (or in the database that PREFECT_API_DATABASE_CONNECTION_URL names), so the next
start finds it as it was.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click
from filelock import FileLock, Timeout

from pairsmith.errors import ConfigError, PairsmithError, RunError
from pairsmith_flows.service.login import AUTH, login, write_environment
from pairsmith_flows.service.old_names import check_names
from pairsmith_flows.service.parts import Part, commands, make_parts
from pairsmith_flows.service.reports import serving_reports
from pairsmith_flows.service.settings import for_service
from pairsmith_flows.service.watchdog import SIGNALS, Watchdog

START_SECONDS = 120.0  # within which the server must answer


def serve_until_stopped(folder: Path, port: int, prefect_file: Path, automations: Path) -> int:
    """Run the service until Ctrl-C or SIGTERM; returns an exit code."""
    stopping = threading.Event()
    for number in SIGNALS:
        signal.signal(number, lambda *_: stopping.set())
    try:
        for path in (prefect_file, automations):
            if not path.is_file():
                raise ConfigError(f"{path}: no such file; run this where it is, or name another one")
        check_names(prefect_file)
        with held(folder):
            run_service(commands(folder, prefect_file, automations), prepare(folder, port), folder, port, stopping)
    except (PairsmithError, OSError) as error:
        click.echo(f"error: {error}", err=True)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


def prepare(folder: Path, port: int) -> dict[str, str]:
    """The environment of the service; writes files to `folder` that say how to log in and how to reach it."""
    check_free(port)
    check_free(port + 1)
    environment = for_service(os.environ, folder, port, login(folder))
    write_environment(folder, environment)
    return environment


def run_service(
    commands: Mapping[str, list[str]],
    environment: Mapping[str, str],
    folder: Path,
    port: int,
    stopping: threading.Event,
) -> None:
    """Start the parts in their order and keep them running; whatever fails, none of them outlives this."""
    reports = serving_reports(folder / "reports", port + 1, environment[AUTH])
    with Watchdog() as watchdog, reports:
        watchdog.confirm()
        server, setup, worker = make_parts(commands, environment, watchdog, folder)
        if not start_parts(server, setup, worker, port, stopping):
            return
        click.echo(
            f"pairsmith is served at http://127.0.0.1:{port}\n"
            f"  log in: with the line in {folder / 'login'}\n"
            f"  other terminals: . {shlex.quote(str(folder / 'env'))}\n"
            "  end: Ctrl-C"
        )
        while not stopping.wait(0.5):
            server.revive()
            worker.revive()
            if not watchdog.alive:
                raise RunError("the watchdog of the service has ended, so the service ends too")
        click.echo("ending the service; runs under way are ended too, and the next one goes on where they were")


def start_parts(server: Part, setup: Part, worker: Part, port: int, stopping: threading.Event) -> bool:
    """Start the parts, each when the one before it is ready; False where the service is to stop before that."""
    click.echo("starting the server")
    server.start()
    if not answers(server, f"http://127.0.0.1:{port}/api/health", stopping):
        return False
    click.echo("making the deployments")
    setup.start()
    while setup.code is None:
        if stopping.wait(0.2):
            return False
    if setup.code:
        raise RunError(f"the deployments could not be made{setup.last_lines()}")
    worker.start()
    return True


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a service's folder, making it if needed. Raises ConfigError where another service holds it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigError(f"{folder}: another `pairsmith serve` uses it; end that, or name another folder") from None
    try:
        yield
    finally:
        lock.release()


def check_free(port: int) -> None:
    """Raise ConfigError where something listens on a port already."""
    with socket.socket() as probe:
        if os.name == "posix":  # on Windows it would let two servers share the port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            reason = f"port {port} cannot be had ({error.strerror}); end what uses it, or choose another with --port"
            raise ConfigError(reason) from None


def answers(server: Part, url: str, stopping: threading.Event) -> bool:
    """Wait until the server answers; False where the service is to stop before. Raises RunError if it never does."""
    ends = time.monotonic() + START_SECONDS
    while not stopping.wait(0.2):
        if server.code is not None or time.monotonic() > ends:
            raise RunError(f"the server does not answer{server.last_lines()}")
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - an address of our own
                return True
        except (urllib.error.URLError, OSError):
            continue
    return False
