"""The service as a person sees it: Chromium logs in, starts a run by the UI's form, watches it, releases its version.

The server is the one of `pairsmith serve`, on PostgreSQL. With PAIRSMITH_PICTURES, a folder, its pictures are taken for
docs/operations.md (`make pictures`).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from pairsmith.config import Recipe
from pairsmith.config.loading import parse_recipe
from pairsmith.stages.base import open_store
from pairsmith.storage import versions
from pairsmith.testing import FakeEndpoint
from tests.conftest import ROOT
from tests.reporting.test_page_browser import WIDTHS, browser  # noqa: F401 - a fixture
from tests.service import Service, wait_for, write_deployments

pytestmark = [pytest.mark.prefect, pytest.mark.browser, pytest.mark.postgres]
SIZE = {"width": 1280, "height": 860}
NAME = "support-answers"
# The UI is in the theme that it was last in, and follows the browser's only when that changes: so its class is set.
PICTURES = os.environ.get("PAIRSMITH_PICTURES")
THEME = """scheme => {
  document.documentElement.classList.remove("light", "dark");
  document.documentElement.classList.add(scheme);
}"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder with a short name, since it is in the pictures."""
    made = Path(tempfile.mkdtemp(prefix="pairsmith-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Iterator[Recipe]:
    asked = (ROOT / "recipes" / "prompts" / "demo.jsonl").read_text().splitlines(keepends=True)
    (folder / "prompts.jsonl").write_text("".join(asked[:24]))
    with FakeEndpoint(latency=0.35) as endpoint:
        where = {"base_url": endpoint.url, "api_key_env": None, "concurrency": 2}
        model = {"backend": "openai", "endpoint": where}
        data: dict[str, Any] = {
            "name": NAME,
            "description": "Answers to everyday questions, refreshed every night and released by a person.",
            "workspace": str(folder / "data"),
            "shard_size": 8,
            "prompts": {"sources": [{"path": str(folder / "prompts.jsonl")}]},
            "pool": {"members": [{"name": name, "model": name, **model} for name in ("brief", "long")]},
            "rating": {
                "aspects": ["helpfulness", "honesty"],
                "judges": [{"name": "judge", "model": "judge", **model}],
            },
            "gates": {"min_pairs": 10, "max_null_rate": 0.1},
            "publishing": {"approval": "required"},
        }
        yield parse_recipe(data, folder)


@pytest.fixture(scope="module")
def service(folder: Path, recipe: Recipe, postgres: str) -> Iterator[Service]:
    import psycopg

    name = f"prefect_{uuid.uuid4().hex}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    url = f"{postgres.rpartition('/')[0]}/{name}".replace("postgresql://", "postgresql+asyncpg://")
    deployments = write_deployments(folder, recipe)
    told = {"PREFECT_API_DATABASE_CONNECTION_URL": url, "PAIRSMITH_RECIPES": str(folder)}
    with Service(folder / "service", deployments, **told) as started:
        yield started


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:  # noqa: F811
    context = browser.new_context(viewport=SIZE, device_scale_factor=1)
    opened = context.new_page()
    opened.set_default_timeout(20_000)
    yield opened
    context.close()


def picture(page: Any, name: str) -> None:
    """Take a picture where pictures are wanted, once the page is at rest."""
    if PICTURES:
        page.wait_for_timeout(1500)
        page.screenshot(path=Path(PICTURES) / f"service-{name}.png")


def log_in(page: Any, service: Service) -> None:
    page.goto(service.url)
    page.get_by_role("button", name="Login").wait_for()
    assert "/login" in page.url
    page.locator("input[type=password]").fill("admin:guess")
    page.get_by_role("button", name="Login").click()
    page.get_by_text("Invalid").first.wait_for()
    assert "/login" in page.url
    page.locator("input[type=password]").fill(service.login)
    page.get_by_role("button", name="Login").click()
    page.wait_for_url("**/dashboard**")


def start_by_the_form(page: Any, service: Service) -> str:
    """Start `ad-hoc` by hand, with a wrong value first; returns the run's id."""
    page.get_by_role("link", name="Deployments").click()
    page.get_by_role("link", name="weekly").wait_for()
    picture(page, "deployments")
    page.get_by_role("link", name="ad-hoc").click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Custom run").click()
    size = page.get_by_label("Shard Size")
    size.wait_for()
    assert size.input_value() == "8"  # of the recipe's file
    assert page.get_by_label("Shards In Flight").input_value() == "8"  # a default
    assert page.get_by_text("folder or URL that holds ledger, tables and datasets").is_visible()
    picture(page, "form")
    page.get_by_label("Strategy").click()
    assert page.get_by_role("option").count() == 8
    page.keyboard.press("Escape")

    before = len(service.runs("ad-hoc"))
    size.fill("0")  # refused by the form
    page.get_by_role("button", name="Submit").click()
    size.fill("8")
    (name,) = [one for one in page.get_by_label("Name", exact=True).all() if one.input_value() == NAME]
    name.fill("Not a name")  # refused by the server
    page.get_by_role("button", name="Submit").click()
    page.get_by_text("does not match").first.wait_for()
    assert "/run?" in page.url
    assert len(service.runs("ad-hoc")) == before
    name.fill(NAME)
    name.press("Tab")
    page.get_by_text(re.compile("^'Not a name' does not match")).wait_for(state="detached")
    page.get_by_role("button", name="Submit").click()
    page.get_by_role("button", name="View run").click()
    page.wait_for_url("**/flow-run/**")
    return str(page.url.partition("/flow-run/")[2].partition("?")[0])


def watch(page: Any, service: Service, run: str) -> list[str]:
    """The first two shares that the page of a progress artifact shows while the run works."""
    wait_for(lambda: f"{NAME}-rate" in service.artifacts(run), "there is progress")
    artifact = service.artifacts(run)[f"{NAME}-rate"]["id"]
    page.goto(f"{service.url}/v2/artifacts/artifact/{artifact}")
    seen: list[str] = []
    while len(seen) < 2 and service.flow_run(run)["state_type"] in ("PENDING", "RUNNING"):
        page.wait_for_timeout(1000)
        page.reload(wait_until="networkidle")
        page.get_by_text("%").first.wait_for()
        shown = page.get_by_text("%").first.inner_text()
        seen += [shown] if shown not in seen[-1:] else []
    picture(page, "progress")
    return seen


def test_a_person_starts_a_run_watches_it_and_releases_its_version(page: Any, service: Service, recipe: Recipe) -> None:
    log_in(page, service)
    run = start_by_the_form(page, service)
    given = service.flow_run(run)["name"]
    assert len(watch(page, service, run)) == 2
    suspended = service.wait(run, "Suspended")
    assert suspended["name"] == given
    assert NAME in suspended["tags"]
    page.goto(f"{service.url}/v2/runs/flow-run/{run}")
    page.get_by_text("Suspended").first.wait_for()
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text(f"{NAME}-samples").wait_for()
    picture(page, "run")
    store = open_store(recipe)
    assert not store.exists("latest")

    page.get_by_role("button", name="Open menu").click()
    page.get_by_role("menuitem", name="Resume").click()
    form = page.get_by_role("dialog")
    form.get_by_text("at least 10").wait_for()
    form.get_by_role("button", name="Resume").click()  # without an answer
    page.get_by_text("'decision' is a required property").wait_for()
    assert service.flow_run(run)["state_name"] == "Suspended"
    form.get_by_label("Decision").click()
    page.get_by_role("option", name="release").click()
    form.get_by_label("Reason").fill("Read twenty pairs; the gates are passed.")
    form.get_by_label("Name").fill("Ada")
    if PICTURES:
        page.set_viewport_size({"width": SIZE["width"], "height": 1100})
        page.get_by_text("'decision' is a required property").wait_for(state="detached")
    picture(page, "release")
    form.get_by_role("button", name="Resume").click()
    done = service.wait(run)
    assert (done["state_type"], done["name"]) == ("COMPLETED", given)
    past = versions.history(store)
    assert past.latest == "v0001"
    assert [(one.by, one.reason) for one in past.decisions] == [("Ada", "Read twenty pairs; the gates are passed.")]

    wanted = {"filter": {"event": {"prefix": ["pairsmith."]}}}
    wait_for(lambda: service.ask("POST", "/events/filter", wanted)["total"] == 2, "a candidate and its release")
    page.get_by_role("link", name="Automations").click()
    page.get_by_text("pairsmith: no sign of life").wait_for()
    picture(page, "automations")
    told = json.dumps(service.artifacts(run))
    assert service.login not in told


def test_a_person_pastes_a_recipe_into_the_short_form_and_reads_the_report_by_its_link(
    browser: Any,  # noqa: F811
    service: Service,
    folder: Path,
) -> None:
    deployment = service.deployment("short")["id"]
    form = f"{service.url}/deployments/deployment/{deployment}/run"
    shown = product(WIDTHS, ("light", "dark")) if PICTURES else zip(WIDTHS, ("light", "dark"), strict=True)
    for device, scheme in shown:
        page = opened(browser, device, scheme)
        log_in(page, service)
        page.goto(form)
        page.get_by_text("recipe_file").wait_for()
        page.evaluate(THEME, scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[device]
        height = page.get_by_role("button", name="Submit").bounding_box()["y"]
        assert height < 2000, height  # the form with a field for each of the recipe's has it below 20,000
        picture(page, f"short-form-{device}-{scheme}")
        page.context.close()

    page = opened(browser, "desktop", "light")
    log_in(page, service)
    text = (folder / "recipe.yaml").read_text()
    ends = {}
    for pasted in (text.replace("shard_size", "shard_siz"), text.replace(NAME, "pasted")):
        page = page.context.new_page()
        page.goto(form)
        page.get_by_text("recipe_file").wait_for()
        page.locator("textarea").last.fill(pasted)
        before = {one["id"] for one in service.runs("short")}
        page.get_by_role("button", name="Submit").click()
        (run,) = wait_for(partial(begun, service, before), "the run is there")
        ends[run] = service.wait(run, "Failed", "Suspended")
    (_, failed), (run, waiting) = ends.items()
    assert "the pasted recipe" in failed["state"]["message"]
    assert "shard_siz" in failed["state"]["message"]
    assert waiting["state_name"] == "Suspended"
    wanted = {"logs": {"flow_run_id": {"any_": [run]}, "task_run_id": {"is_null_": True}}, "sort": "TIMESTAMP_ASC"}

    def said() -> list[str]:
        return [line["message"] for line in service.ask("POST", "/logs/filter", wanted)]

    # A flow's lines reach the server in batches, the last of them after its state.
    for line in ("generate shard 1 by brief: 8 rows", "rate shard 2 by judge: 32 rows"):
        wait_for(lambda line=line: line in said(), line)
    wait_for(lambda: len([line for line in said() if line.startswith("pair shard ")]) > 2, "lines of pairs")

    link = service.artifacts(run)["pasted-report"]["data"]
    address = re.search(r"\((http[^)]+)\)", link)
    assert address is not None
    assert address[1].startswith(f"http://127.0.0.1:{service.port + 1}/reports/")
    user, _, password = service.login.partition(":")
    context = browser.new_context(http_credentials={"username": user, "password": password})
    report = context.new_page()
    assert report.goto(address[1]).status == 200
    report.get_by_text("There is one judge, so nobody knows").wait_for()
    report.get_by_role("button", name="Open all").click()  # the page's own script runs
    report.get_by_role("link", name="the recipe").click()
    report.get_by_text("name: pasted").wait_for()
    context.close()
    page.context.close()


def begun(service: Service, before: set[str]) -> set[str]:
    return {str(one["id"]) for one in service.runs("short")} - before


def opened(browser: Any, device: str, scheme: str) -> Any:  # noqa: F811
    page = browser.new_context(viewport=SIZE | {"width": WIDTHS[device]}, color_scheme=scheme).new_page()
    page.set_default_timeout(20_000)
    return page
