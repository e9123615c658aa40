from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pairsmith.config import Recipe
from pairsmith.judging.criteria_file import read_criteria
from tests.command_line import cli, new_process
from tests.conftest import ROOT, clean_environment
from tests.runs import run

RECIPE = str(ROOT / "recipes" / "echo.yaml")


def test_help_imports_nothing_heavy() -> None:
    heavy = ("prefect", "pandas", "pydantic", "torch", "rich", "yaml")
    code = f"import sys, pairsmith_flows.__main__; print([name for name in {heavy} if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert told == "[]\n"
    assert "Build preference datasets" in cli("--help").stdout


def test_validate_and_the_exit_codes(tmp_path: Path) -> None:
    assert cli("validate", RECIPE).returncode == 0
    wrong = cli("validate", RECIPE, "--set", "pairing.strategy=best")
    assert wrong.returncode == 2
    assert "pairing.strategy" in wrong.stderr
    assert "best-vs-worst" in wrong.stderr
    assert cli("validate", str(tmp_path / "no.yaml")).returncode == 2
    assert cli("run", RECIPE, "--limit", "0").returncode == 2
    (tmp_path / "empty.jsonl").write_text("")
    absent = cli("run", RECIPE, "--dry-run", "--set", f"prompts.sources.0.path={tmp_path}/absent.parquet")
    assert absent.returncode == 2
    empty = cli("run", RECIPE, "--dry-run", "--set", f"prompts.sources.0.path={tmp_path}/empty.jsonl")
    assert empty.returncode == 3
    assert "no prompts" in empty.stderr
    (tmp_path / "bad.parquet").write_text("")
    bad = cli("run", RECIPE, "--dry-run", "--set", f"prompts.sources.0.path={tmp_path}/bad.parquet")
    assert bad.returncode == 3
    assert "bad.parquet" in bad.stderr


def test_a_dry_run_shows_the_plan(tmp_path: Path) -> None:
    told = cli("run", RECIPE, "--dry-run", "--limit", "5", cwd=tmp_path)
    assert told.returncode == 0
    assert "5 prompts" in told.stdout
    assert "echo-judge" in told.stdout
    assert not list(tmp_path.iterdir())


def test_show_and_status(echo_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    published, _, _ = run(echo_recipe(5))
    for place in (published.folder, str(Path(published.folder).parent.parent)):
        told = cli("show", place, "-n", "2")
        assert told.returncode == 0
        assert told.stdout.count("chosen: ") == 2
    status = cli("status", str(tmp_path / "data"))
    assert "v0001" in status.stdout
    assert "echo-judge" in status.stdout
    assert cli("show", str(tmp_path)).returncode == 3
    (data,) = Path(published.folder, "data").glob("*.parquet")
    data.write_bytes(b"PAR1")
    damaged = cli("show", published.folder)
    assert damaged.returncode == 3
    assert data.name in damaged.stderr


@pytest.mark.prefect
def test_run_prints_the_places_and_a_pair(tmp_path: Path) -> None:
    """For the first time ever: Prefect's database is made on the way."""
    short = ("--set", "pool.members.1.sampling.max_tokens=8")
    told = new_process("run", RECIPE, *short, cwd=tmp_path, PREFECT_HOME=str(tmp_path / "prefect"))
    assert told.returncode == 0, told.stderr
    over = "Answers and pairs passed over: the answer was cut off (57), the best answers are tied (3)."
    for what in ("dataset: ", "card: ", "report: ", "prompts/s", "chosen: ", "rejected: ", over):
        assert what in told.stdout
    assert (tmp_path / "pairsmith-data" / "echo" / "latest" / "report.html").exists()


@pytest.mark.prefect
def test_a_failed_run_exits_with_one(tmp_path: Path, prefect_api: dict[str, str]) -> None:
    told = cli("run", RECIPE, "--set", "pairing.min_margin=9", cwd=tmp_path, **prefect_api)
    assert told.returncode == 1
    assert told.stderr.startswith("error: no pair to publish")
    assert "Traceback" not in told.stderr


@pytest.mark.prefect
def test_a_server_that_is_down_is_named(tmp_path: Path) -> None:
    told = new_process("run", RECIPE, cwd=tmp_path, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert told.returncode == 1
    assert told.stderr.startswith("error: Failed to reach API at http://127.0.0.1:9/api")
    assert "Traceback" not in told.stderr


@pytest.mark.prefect
def test_a_given_set_is_paired_and_rated_anew_with_the_calls_counted(
    tmp_path: Path, prefect_api: dict[str, str]
) -> None:
    from pairsmith.testing import FakeEndpoint

    recipe = str(ROOT / "recipes" / "re-pair.yaml")
    with FakeEndpoint() as endpoint:
        judge = f"{{name: j, backend: openai, model: m, endpoint: {{base_url: '{endpoint.url}', api_key_env: null}}}}"
        asked = ("--set", f"rating.judges=[{judge}]", "--set", "rating.aspects=[helpfulness]")
        asked = (*asked, "--set", "pairing={}")
        first = cli("pair", recipe, cwd=tmp_path, **prefect_api)
        assert first.returncode == 0, first.stderr
        assert "Asked the models 0 times" in first.stdout
        assert "version: v0001 (new), 6 pairs" in first.stdout
        lacking = cli("pair", recipe, *asked, cwd=tmp_path, **prefect_api)
        assert lacking.returncode == 1
        assert "6 of 6 prompts have no ratings by j. `pairsmith rate` with this recipe makes them" in lacking.stderr
        assert sum(endpoint.asked.values()) == 0
        rated = cli("rate", recipe, *asked, cwd=tmp_path, **prefect_api)
        assert rated.returncode == 0, rated.stderr
        assert "Rated: 6 prompts" in rated.stdout
        assert sum(endpoint.asked.values()) >= 6
    assert cli("rate", recipe, "--set", "rating=null", cwd=tmp_path).returncode == 2


def test_a_preview_shows_pairs_without_prefect_and_without_a_version(tmp_path: Path) -> None:
    code = (
        "import sys; from pairsmith_flows.__main__ import main\n"
        f"main(['preview', {RECIPE!r}, '-n', '2'], standalone_mode=False); assert 'prefect' not in sys.modules"
    )
    command = [sys.executable, "-c", code]
    told = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=clean_environment(), check=False)
    assert told.returncode == 0, told.stderr
    assert told.stdout.count("chosen: ") == 2
    assert told.stdout.endswith("2 pairs of 2 prompts. No version was made.\n")
    assert [path.name for path in (tmp_path / "pairsmith-data").iterdir() if path.is_dir()] == []
    none = cli("preview", RECIPE, "-n", "2", "--set", "pairing.min_margin=9", cwd=tmp_path)
    assert (none.returncode, none.stderr.startswith("error: no pair to publish: 2 prompts, ")) == (1, True)


def test_a_data_set_is_named_by_its_name_or_its_path(echo_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    published, _, _ = run(echo_recipe(5, workspace=str(tmp_path / "pairsmith-data")))
    (tmp_path / "echo").mkdir()  # a folder that has the name of the data set and is none
    for place in ("echo", "echo/latest", "echo/versions/v0001", "pairsmith-data/echo", published.folder):
        assert cli("show", place, cwd=tmp_path).returncode == 0, place
    for words in (
        ("versions", "echo"),
        ("diff", "echo", "v0001", "latest"),
        ("compare", "echo", "echo/versions/v0001"),
    ):
        assert cli(*words, cwd=tmp_path).returncode == 0, words
    assert cli("export", "echo", "copy", cwd=tmp_path).returncode == 0
    absent = cli("versions", "other", cwd=tmp_path)
    assert (absent.returncode, "'other' does not exist" in absent.stderr) == (2, True)


def test_criteria_are_printed_as_a_file(echo_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    rating = {"aspects": ["overall", "criteria"], "criteria": {"author": {"backend": "echo", "model": "author"}}}
    settings = echo_recipe(2, rating=rating)
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json", exclude_defaults=True)))
    before = cli("criteria", str(tmp_path / "r.yaml"))
    assert before.returncode == 3
    assert "has them written" in before.stderr
    run(settings)
    (tmp_path / "mine.jsonl").write_text(cli("criteria", str(tmp_path / "r.yaml")).stdout)
    assert len(read_criteria(str(tmp_path / "mine.jsonl"))) == 2
    assert cli("criteria", RECIPE).returncode == 2  # it has none
