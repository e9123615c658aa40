"""A wheel, installed elsewhere and run from an empty folder; and the two commands' files."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, clean_environment

pytestmark = pytest.mark.packaging
APART = "vllm"  # an extra whose own pins do not go with the lock: it has an environment of its own


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (made,) = folder.glob("*.whl")
    return made


def test_the_wheel_holds_the_packages_and_templates_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"pairsmith", "tasks", "flows"}
    for name in (
        "pairsmith/templates/judge/helpfulness.jinja",
        "pairsmith/templates/principles.yaml",
        "pairsmith/py.typed",
    ):
        assert name in names


def test_the_wheel_runs_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    empty = tmp_path / "empty"
    empty.mkdir()
    recipe = yaml.safe_load((ROOT / "recipes" / "echo.yaml").read_text())
    recipe["prompts"]["sources"][0]["path"] = "prompts.jsonl"
    (empty / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (empty / "prompts.jsonl").write_text('{"prompt": "Hi"}\n{"prompt": "Why?"}\n{"prompt": "How?"}\n')
    env = clean_environment(PREFECT_HOME=str(tmp_path / "prefect")) | {"PYTHONPATH": str(site)}
    code = "import flows, sys; assert flows.__file__.startswith(sys.argv.pop(1)); from pairsmith_flows.__main__ import main; main()"
    command = [sys.executable, "-c", code, str(site), "run", "recipe.yaml"]
    told = subprocess.run(command, cwd=empty, env=env, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert (empty / "pairsmith-data" / "echo" / "latest" / "README.md").exists()


def test_the_lock_pins_every_direct_dependency() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {name: group for name, group in project["optional-dependencies"].items() if name != APART}
    direct = project["dependencies"] + [name for group in extras.values() for name in group]
    names = {part.split("[")[0].split("<")[0].split(">")[0].split("=")[0].strip().lower() for part in direct}
    pinned = {
        line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    }
    assert names <= pinned, names - pinned
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text().splitlines()
