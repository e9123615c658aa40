"""The Prefect settings that pairsmith makes, as environment variables.

Prefect reads them once, when it is imported, so this module imports nothing of it. What the user has set in the
environment stays, except for a service's address, login and folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

# Writing in batches cuts the server's CPU time per task run to a third or less.
BATCHES = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TRIGGERS_READ_BATCH_SIZE": "200",
}
HEARTBEAT_SECONDS = 30  # the least that Prefect allows; deployments/automations.yaml waits for three of them
# What a server needs wherever it runs: deployments/compose.yaml and kubernetes.yaml say the same.
SERVER = BATCHES | {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
    # In memory, a restart of the server would lose the slots of runs under way and cancel the runs.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
}
WORKER = {
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
    "PREFECT_LOGGING_EXTRA_LOGGERS": "pairsmith",
    "PREFECT_WORKER_QUERY_SECONDS": "5",
}


def for_terminal(verbose: bool) -> dict[str, str]:
    """Settings for a run from the terminal, with a temporary server where none is configured."""
    return BATCHES | {
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "INFO" if verbose else "CRITICAL",
        "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    }


def for_service(environment: Mapping[str, str], folder: Path, port: int, auth: str) -> dict[str, str]:
    """The environment of everything that `pairsmith serve` starts: a server on the loopback address, with `auth`, and
    the reports at the next port."""
    address = f"http://127.0.0.1:{port}"
    defaults = {
        **SERVER,
        **WORKER,
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": address,
    }
    ours = {
        "PWD": str(Path.cwd()),  # prefect.yaml names it
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": f"{address}/api",
        "PREFECT_UI_URL": address,
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_API_AUTH_STRING": auth,
        "PREFECT_API_AUTH_STRING": auth,
        "PAIRSMITH_REPORTS": str(folder / "reports"),
        "PAIRSMITH_REPORTS_URL": f"http://127.0.0.1:{port + 1}/reports",
    }
    return defaults | dict(environment) | ours
