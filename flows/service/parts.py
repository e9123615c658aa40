"""The processes of a service: the server, the set-up, which ends on its own, and the worker."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import click

from pairsmith.errors import RunError
from pairsmith_flows.service.processes import detached
from pairsmith_flows.service.watchdog import Watchdog

POOL = "local"
DEATHS = 5  # of a part in a row, each within STEADY_SECONDS of its start, before the service gives up
STEADY_SECONDS = 60.0


@dataclass
class Part:
    """A process of the service, and where its output goes; None for the terminal."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path | None = None
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    deaths: list[int] = field(default_factory=list)

    def start(self) -> None:
        output = open(self.log, "ab") if self.log else None  # noqa: SIM115 - the process keeps writing
        try:
            self.process = subprocess.Popen(
                self.command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                **detached(),
            )
        finally:
            if output:
                output.close()
        self.started = time.monotonic()

    @property
    def code(self) -> int | None:
        assert self.process is not None
        return self.process.poll()

    def revive(self) -> None:
        """Start the process again if it has ended. Raises RunError where it keeps ending."""
        code = self.code
        if code is None:
            return
        steady = time.monotonic() - self.started > STEADY_SECONDS
        self.deaths = [*([] if steady else self.deaths), code]
        if len(self.deaths) == DEATHS:
            raise RunError(f"the {self.name} ended {DEATHS} times, at last with code {code}{self.last_lines()}")
        click.echo(f"the {self.name} ended with code {code} and is started again", err=True)
        self.start()

    def last_lines(self) -> str:
        if self.log is None or not self.log.exists():
            return ""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
        return f"; the end of {self.log}:\n" + "\n".join(lines)


def commands(folder: Path, prefect_file: Path, automations: Path) -> dict[str, list[str]]:
    """The command line of each part, in the order in which they start."""
    python, made = [sys.executable, "-m"], str(folder / "deployed")
    deploying = "pairsmith_flows.service.deploying"
    return {
        "server": [*python, "prefect", "server", "start"],
        "setup": [*python, deploying, str(prefect_file), str(automations), POOL, made, "--alone"],
        "worker": [*python, "prefect", "worker", "start", "--pool", POOL, "--type", "process"],
    }


def make_parts(
    commands: Mapping[str, list[str]], environment: Mapping[str, str], watchdog: Watchdog, folder: Path
) -> tuple[Part, Part, Part]:
    """Server, set-up and worker, with the mark by which the watchdog finds them; the worker writes to the terminal."""
    server, setup, worker = (
        Part(
            name,
            command,
            {**environment, **watchdog.environment(name)},
            None if name == "worker" else folder / f"{name}.log",
        )
        for name, command in commands.items()
    )
    return server, setup, worker
