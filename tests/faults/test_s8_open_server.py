"""S8: whoever uses a Prefect API that others can reach without a password is told so.

The warning names the host and what to set; it comes from the command line before a run and from the flow within one. An
API on the loopback address, a temporary one and one with a password are used in silence.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pairsmith.config import Recipe
from pairsmith_flows.service.server import warning_for
from tests.command_line import cli
from tests.conftest import ROOT

Build = Callable[..., Recipe]
RECIPE = str(ROOT / "recipes" / "echo.yaml")
OPEN = [
    "http://0.0.0.0:4200/api", "http://[::]:4200/api", "http://192.168.1.7:4200/api", "http://prefect:4200/api",
    "https://prefect.example.com/api", "http://localhost.example.com/api", "http://127.0.0.1.example.com/api",
    "http://[fe80::1]/api", "http://10.0.0.1/api", "http://128.0.0.1/api", "http://localhosts/api",
    "http://localhost@evil.example/api", "HTTP://PREFECT/api",
]  # fmt: skip
CLOSED = [
    None, "", "http://127.0.0.1:4200/api", "http://127.8.9.1/api", "http://localhost:4200/api", "http://[::1]:4200/api",
    "http://LOCALHOST:4200/api", "http://prefect.localhost/api",
]  # fmt: skip


@pytest.mark.parametrize("url", OPEN)
def test_s8_an_open_api_is_warned_of(url: str) -> None:
    told = warning_for(url, has_auth=False)
    assert told is not None
    assert "without authentication" in told
    assert "PREFECT_API_AUTH_STRING" in told
    assert url.lower().split("//")[1].rpartition("@")[2].split("/")[0].split(":4200")[0].strip("[]") in told
    assert warning_for(url, has_auth=True) is None


@pytest.mark.parametrize("url", CLOSED)
def test_s8_one_of_this_machine_is_not(url: str | None) -> None:
    assert warning_for(url, has_auth=False) is None


@pytest.mark.parametrize("url", ["http://user:canary@prefect:4200/api", "http://prefect/api?key=canary"])
def test_s8_the_warning_repeats_no_secret_of_the_address(url: str) -> None:
    assert "canary" not in (warning_for(url, has_auth=False) or "")


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ({}, True),
        ({"PREFECT_API_AUTH_STRING": "admin:secret"}, False),
        ({"PREFECT_API_KEY": "pnu_secret"}, False),
        ({"PREFECT_API_AUTH_STRING": ""}, True),
    ],
    ids=["nothing", "a password", "a key", "an empty password"],
)
def test_s8_the_settings_of_the_process_decide(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], warned: bool
) -> None:
    import prefect.settings

    from pairsmith_flows.service.server import warn_of_open_server

    names = {"PREFECT_API_URL": "http://prefect:4200/api", **settings}
    made = {getattr(prefect.settings, name): value for name, value in names.items()}
    with prefect.settings.temporary_settings(made):
        assert (warn_of_open_server() is not None) == warned


def test_s8_the_flow_warns_before_it_does_anything(echo_recipe: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    from pairsmith_flows import preferences

    class Reached(Exception):
        pass

    told: list[str] = []

    def stop(*_: Any) -> None:
        raise Reached

    monkeypatch.setattr(
        "pairsmith_flows.service.server.warning_for", lambda url, has_auth: "whoever reaches it can start runs"
    )
    monkeypatch.setattr(preferences, "get_run_logger", lambda: SimpleNamespace(warning=told.append))
    monkeypatch.setattr(preferences, "run", stop)
    with pytest.raises(Reached):
        preferences.run_recipe(echo_recipe(1))
    assert told == ["whoever reaches it can start runs"]


@pytest.mark.prefect
def test_s8_the_command_line_warns_and_only_then(tmp_path: Path) -> None:
    home = {"PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_CLIENT_MAX_RETRIES": "0"}
    told = cli("run", RECIPE, cwd=tmp_path, PREFECT_API_URL="http://0.0.0.0:9/api", **home)
    assert told.returncode == 1
    assert told.stderr.startswith("warning: the Prefect API at 0.0.0.0 is used without authentication")
    told = cli("run", RECIPE, cwd=tmp_path, PREFECT_API_URL="http://127.0.0.1:9/api", **home)
    assert told.returncode == 1
    assert "warning" not in told.stderr
