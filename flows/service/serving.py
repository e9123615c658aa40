"""`pairsmith serve`: a Prefect server, a worker and the deployments, as one command that ends all of them with itself.

The server listens on the loopback address alone and asks for a login, which is made once and kept in a file that only
its owner reads. A server or worker that dies is started again. What they know is in the service's folder (or in the
database that PREFECT_API_DATABASE_CONNECTION_URL names), so the next start finds it as it was.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click

from pairsmith.errors import ConfigError, PairsmithError, RunError
from pairsmith_flows.service import watchdog
from pairsmith_flows.service.settings import for_service

POOL = "local"
START_SECONDS = 120.0  # that the server may take to answer
DEATHS = 5  # of a part, each within STEADY_SECONDS of its start, before the service gives up
STEADY_SECONDS = 60.0
AUTH = "PREFECT_SERVER_API_AUTH_STRING"


@dataclass
class Part:
    """A process of the service, and where what it says goes; None for the terminal."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path | None = None
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    deaths: list[int] = field(default_factory=list)

    def start(self) -> None:
        said = open(self.log, "ab") if self.log else None  # noqa: SIM115 - the process writes on
        try:
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                start_new_session=True,
            )  # fmt: skip
        finally:
            if said:
                said.close()
        self.started = time.monotonic()

    @property
    def code(self) -> int | None:
        assert self.process is not None
        return self.process.poll()

    def revive(self) -> None:
        """Start again what has ended. Raises RunError where it keeps ending."""
        code = self.code
        if code is None:
            return
        steady = time.monotonic() - self.started > STEADY_SECONDS
        self.deaths = [*([] if steady else self.deaths), code]
        if len(self.deaths) == DEATHS:
            raise RunError(f"the {self.name} ended {DEATHS} times, at last with code {code}{self.last_said()}")
        click.echo(f"the {self.name} ended with code {code} and is started again", err=True)
        self.start()

    def last_said(self) -> str:
        if self.log is None or not self.log.exists():
            return ""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
        return f"; the end of {self.log}:\n" + "\n".join(lines)


def serve(folder: Path, port: int, prefect_file: Path, automations: Path) -> int:
    """Run the service until Ctrl-C or SIGTERM; returns an exit code."""
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopping.set())
    try:
        for path in (prefect_file, automations):
            if not path.is_file():
                raise ConfigError(f"{path}: no such file; run this where it is, or name another one")
        with held(folder):
            environment = prepare(folder, port)
            with guarded() as mark:
                run(parts(environment, mark, folder, prefect_file, automations), folder, port, stopping)
    except (PairsmithError, OSError) as error:
        click.echo(f"error: {error}", err=True)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


def prepare(folder: Path, port: int) -> dict[str, str]:
    """The environment of the service; leaves in `folder` how to log in and how to reach it."""
    check_free(port)
    environment = for_service(os.environ, folder, port, login(folder))
    names = ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING")
    lines = [f"export {name}={shlex.quote(environment[name])}\n" for name in names]
    write_private(folder / "env", "".join(lines))
    return environment


def parts(
    environment: Mapping[str, str], mark: str, folder: Path, prefect_file: Path, automations: Path
) -> tuple[Part, Part, Part]:
    """The server, the set-up, which ends by itself, and the worker."""
    python = [sys.executable, "-m"]
    commands = {
        "server": [*python, "prefect", "server", "start"],
        "setup": [
            *python,
            "pairsmith_flows.service.deploying",
            str(prefect_file),
            str(automations),
            POOL,
            str(folder / "deployed"),
            "--alone",
        ],
        "worker": [*python, "prefect", "worker", "start", "--pool", POOL, "--type", "process"],
    }
    server, setup, worker = (
        Part(
            name,
            command,
            {**environment, watchdog.VARIABLE: f"{mark} {name}"},
            None if name == "worker" else folder / f"{name}.log",
        )
        for name, command in commands.items()
    )
    return server, setup, worker


def run(parts: tuple[Part, Part, Part], folder: Path, port: int, stopping: threading.Event) -> None:
    """Start the parts in their order, tell where they are, and keep them running."""
    server, setup, worker = parts
    click.echo("starting the server")
    server.start()
    if not wait_for(server, f"http://127.0.0.1:{port}/api/health", stopping):
        return
    click.echo("making the deployments")
    setup.start()
    while setup.code is None:
        if stopping.wait(0.2):
            return
    if setup.code:
        raise RunError(f"the deployments could not be made{setup.last_said()}")
    worker.start()
    click.echo(
        f"pairsmith is served at http://127.0.0.1:{port}\n"
        f"  log in: with the line in {folder / 'login'}\n"
        f"  other terminals: . {shlex.quote(str(folder / 'env'))}\n"
        "  end: Ctrl-C"
    )
    while not stopping.wait(0.5):
        server.revive()
        worker.revive()
    click.echo("ending the service; runs under way are ended too, and the next one goes on where they were")


@contextmanager
def guarded() -> Iterator[str]:
    """The mark for what the service starts: all of it is ended with the block, or by the guard after a kill."""
    mark = secrets.token_hex(8)
    watcher = watchdog.start(mark)
    assert watcher.stdin is not None
    try:
        yield mark
    finally:
        watcher.stdin.close()
        watcher.wait()


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a service's folder, made where it is absent. Raises ConfigError where another service holds it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(folder / ".lock", "a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"{folder}: another `pairsmith serve` uses it; end that, or name another folder"
            ) from None
        yield


def check_free(port: int) -> None:
    """Raise ConfigError where something listens on a port already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            told = f"port {port} cannot be had ({error.strerror}); end what uses it, or choose another with --port"
            raise ConfigError(told) from None


def login(folder: Path) -> str:
    """The login of the service, `user:password`: of the environment, else that of its file, made where it is absent."""
    if given := os.environ.get(AUTH):
        return given
    path = folder / "login"
    if not path.exists():
        write_private(path, f"admin:{secrets.token_urlsafe(24)}\n")
    if path.stat().st_mode & 0o077:
        raise ConfigError(f"{path}: others can read it; `chmod 600` it, or delete it for a new one")
    return path.read_text(encoding="utf-8").strip()


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    new.replace(path)


def wait_for(server: Part, url: str, stopping: threading.Event) -> bool:
    """Wait until the server answers; false where the service is to end before. Raises RunError where it does not."""
    ends = time.monotonic() + START_SECONDS
    while not stopping.wait(0.2):
        if server.code is not None or time.monotonic() > ends:
            raise RunError(f"the server does not answer{server.last_said()}")
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - an address of our own
                return True
        except (urllib.error.URLError, OSError):
            continue
    return False
