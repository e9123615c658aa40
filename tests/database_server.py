"""A PostgreSQL server for tests, to be stopped, started and cut off from its clients."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class PostgresServer:
    """A running server; `folder` is its own."""

    url: str
    folder: Path
    programs: Path
    options: str

    @classmethod
    @contextmanager
    def started(cls) -> Iterator[PostgresServer]:
        programs = _programs()
        folder = Path(tempfile.mkdtemp(prefix="pairsmith-postgres-"))
        if os.geteuid() == 0:  # the server refuses to run as root
            shutil.chown(folder, "postgres")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        server = cls(f"postgresql://postgres@127.0.0.1:{port}/postgres", folder, programs, options)
        try:
            server.tell("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
            server.start()
            try:
                yield server
            finally:
                server.stop("immediate")
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def start(self) -> None:
        self.tell("pg_ctl", "start", "-w", "-l", str(self.folder / "log"), "-o", self.options)

    def stop(self, how: str = "fast") -> None:
        """Stop it: `fast` ends the connections, `immediate` is a crash."""
        self.tell("pg_ctl", "stop", "-w", "-m", how)

    def tell(self, program: str, *words: str) -> None:
        as_other = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        command = [*as_other, str(self.programs / program), "-D", str(self.folder / "data"), *words]
        subprocess.run(command, check=True, cwd=self.folder, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)


def cut(ledger_url: str, name: str = "%") -> int:
    """End all connections to a database whose programs have a name like this; returns how many."""
    import psycopg

    ended = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND application_name LIKE %s"
    )
    with psycopg.connect(ledger_url, autocommit=True) as connection:
        return len(connection.execute(ended, [name]).fetchall())


def _programs() -> Path:
    found = [path.parent for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))]
    on_path = shutil.which("initdb")
    if not found and not on_path:
        pytest.skip("PostgreSQL is not installed: neither /usr/lib/postgresql/*/bin/initdb nor initdb on the path")
    return found[-1] if found else Path(str(on_path)).parent
