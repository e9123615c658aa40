"""Prefect's settings, as the service and the terminal set them."""

from __future__ import annotations

from pathlib import Path

from pairsmith_flows.service import settings


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
