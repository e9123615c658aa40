"""Reports of a service: shown to those who have its login, and only of versions that its runs published."""

from __future__ import annotations

import base64
import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pairsmith.config import Recipe
from pairsmith.stages.base import open_store
from pairsmith.storage import versions
from tests.runs import run
from tests.service import free_port

LOGIN = "admin:a-login"
Build = Callable[..., Recipe]


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of the reports of a service whose runs are those of this process."""
    from pairsmith_flows.service.reports import serving_reports

    port, folder = free_port(), tmp_path / "reports"
    address = f"http://127.0.0.1:{port}/reports"
    monkeypatch.setenv("PAIRSMITH_REPORTS", str(folder))
    monkeypatch.setenv("PAIRSMITH_REPORTS_URL", address)
    with serving_reports(folder, port, LOGIN):
        yield address


def ask(url: str, login: str | None = LOGIN) -> tuple[int, str, dict[str, str]]:
    headers = {} if login is None else {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return answer.status, answer.read().decode(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), dict(error.headers)


def noted(recipe: Recipe) -> str:
    from pairsmith_tasks.served_reports import note

    store = open_store(recipe)
    version = versions.version_at(store, run(recipe)[0].version)
    assert version is not None
    address = note(store, version)
    assert address is not None
    return address


def test_a_report_and_its_recipe_are_shown_to_those_who_log_in(served: str, echo_recipe: Build) -> None:
    address = noted(echo_recipe(4, name="shown"))
    assert address.startswith(f"{served}/")
    status, page, headers = ask(address)
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "<title>shown: report</title>" in page
    assert headers["Content-Security-Policy"].startswith("sandbox allow-scripts;")
    assert headers["X-Content-Type-Options"] == "nosniff"
    status, recipe, headers = ask(address.replace("report.html", "recipe.yaml"))
    assert (status, headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
    assert recipe.startswith("name: shown")
    for wrong in (None, "admin:guess", "", "admin"):
        status, told, headers = ask(address, wrong)
        assert (status, headers["WWW-Authenticate"]) == (401, 'Basic realm="pairsmith"')
        assert "shown" not in told


def test_nothing_else_is_shown(served: str, echo_recipe: Build, tmp_path: Path) -> None:
    recipe = echo_recipe(4, name="other")
    published = Path(run(recipe)[0].folder)  # by a run that noted nothing
    address = noted(echo_recipe(4, name="one"))
    name = address.split("/")[-2]
    (tmp_path / "secret.html").write_text("secret")
    for path in (
        f"{name}/README.md", f"{name}/version.json", f"{name}/", f"{name}/../../secret.html", f"../{name}/report.html",
        f"{name}.json", "0" * 32 + "/report.html", "../secret.html", f"{published}/report.html",
        f"{name}/report.html/x",        f"{name}%2Freport.html", "", "x/report.html",
    ):  # fmt: skip
        assert ask(f"{served}/{path}")[0] == 404, path
    assert ask(served.removesuffix("reports") + "login")[0] == 404


def test_what_is_gone_or_another_version_by_now_is_not_shown(served: str, echo_recipe: Build, tmp_path: Path) -> None:
    recipe = echo_recipe(4, name="gone")
    address, folder = noted(recipe), Path(recipe.workspace, "gone", "versions", "v0001")
    about = json.loads((folder / "version.json").read_text())
    (folder / "version.json").write_text(json.dumps(about | {"digest": "0" * 64}))
    assert ask(address)[0] == 404
    (folder / "version.json").write_text(json.dumps(about))
    assert ask(address)[0] == 200
    shutil.rmtree(folder)
    assert ask(address)[0] == 404


def test_a_run_of_no_service_notes_nothing(echo_recipe: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    from pairsmith_tasks.served_reports import note

    monkeypatch.delenv("PAIRSMITH_REPORTS", raising=False)
    recipe = echo_recipe(4, name="alone")
    version = versions.version_at(open_store(recipe), run(recipe)[0].version)
    assert version is not None
    assert note(open_store(recipe), version) is None
