"""The temporary Prefect server of a run from the terminal, which must not outlive the run however that ends."""

from __future__ import annotations

import subprocess


def start_temporary_server() -> None:
    """Start Prefect's temporary server where none is configured, watched so that it ends with this process.

    Prefect stops it at a normal exit. After kill -9 nobody would, so a shell waits on a pipe that closes when this
    process is gone.
    """
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import get_current_settings

    if get_current_settings().api.url is not None:
        return
    server = SubprocessASGIServer()
    server.start()
    assert server.server_process is not None
    command = ["sh", "-c", f"read _; kill {server.server_process.pid} 2>/dev/null"]
    subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
