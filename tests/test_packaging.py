"""The package as others have it: a wheel, a wheel made from the sdist, and a checkout, beside a user's own packages."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pairsmith.llms.endpoint.engines import MANY_CALLS
from pairsmith.testing import FakeEndpoint
from tests.conftest import ROOT, clean_environment
from tests.flows.service.test_serving import recipe_over
from tests.service import Service, write_deployments

pytestmark = pytest.mark.packaging
OWN_LOCK = "vllm"  # an extra whose own pins do not go with the lock: it has an environment of its own
NAMES = {"pairsmith", "pairsmith_flows", "pairsmith_tasks"}
INSTALLS = ["wheel", "checkout"]
PLACES = ["working directory", "PYTHONPATH", "installed"]


def run(*command: str | Path, cwd: Path | None = None, **environment: str) -> str:
    """The output of a command, which must not fail, in an environment that does not know the repository."""
    env = clean_environment(PYTHONPATH="") | environment
    told = subprocess.run(list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr + told.stdout
    return told.stdout


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An sdist, and the wheel made from it."""
    folder = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


Install = Callable[..., Path]


@pytest.fixture(scope="session")
def installed(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Install:
    """Makes an environment with pairsmith from the wheel or the checkout; the libraries are this one's."""
    made: dict[tuple[str | Path, ...], Path] = {}
    what: dict[str, list[str | Path]] = {"wheel": [built[1]], "checkout": ["editables", "-e", ROOT]}

    def install(how: str, *more: Path) -> Path:
        if (how, *more) not in made:
            folder = made[how, *more] = tmp_path_factory.mktemp(how) / "venv"
            run(sys.executable, "-m", "venv", "--without-pip", folder)
            paths = sysconfig.get_path("purelib", vars={"base": str(folder)})
            Path(paths, "libraries.pth").write_text(sysconfig.get_path("purelib"))
            pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--no-deps"]
            run(*pip, "--quiet", "--disable-pip-version-check", *what[how], *more)
        return made[how, *more] / "bin"

    return install


def write_project(folder: Path, note: Path) -> Path:
    """A user's own packages `flows` and `tasks`, with modules named as ours are or were; each notes its import."""
    modules = ["__init__", "guard", "preferences", "serving", "settings", "refresh", "steps", "options"]
    for name in [*(f"{package}/{module}" for package in ("flows", "tasks") for module in modules), *modules[1:]]:
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"open({str(note)!r}, 'a').write(__name__ + '\\n')\n")
    return folder


@pytest.fixture(scope="session")
def own_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the user's with top-level `flows` and `tasks`; the file `imported` beside it notes their import."""
    folder = tmp_path_factory.mktemp("own")
    project, path = write_project(folder / "project", folder / "imported"), folder / "own-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file in project.glob("*/*.py"):
            wheel.write(file, file.relative_to(project))
        wheel.writestr("own-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: own\nVersion: 1.0\n")
        wheel.writestr("own-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("own-1.0.dist-info/RECORD", "")
    return path


def write_recipe(folder: Path) -> None:
    recipe = yaml.safe_load((ROOT / "recipes" / "echo.yaml").read_text())
    recipe["prompts"]["sources"][0]["path"] = "prompts.jsonl"
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "prompts.jsonl").write_text('{"prompt": "Hi"}\n{"prompt": "Why?"}\n{"prompt": "How?"}\n')


def sources(package: Path) -> list[Path]:
    return [file for file in package.glob("**/*") if file.is_file() and "__pycache__" not in file.parts]


def test_sdist_and_wheels_hold_the_packages_and_their_files(built: tuple[Path, Path], tmp_path: Path) -> None:
    sdist, wheel = built
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == NAMES
    assert {name for name in names if ".dist-info" not in name} == {
        file.relative_to(ROOT).as_posix() for name in NAMES for file in sources(ROOT / name)
    }
    assert {"pairsmith/judging/templates/helpfulness.jinja", "pairsmith/config/principles.yaml"} <= names
    assert {"pairsmith/py.typed", "pairsmith_flows/service/watchdog.py", "pairsmith_tasks/generate.py"} <= names
    run(sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, ROOT)
    assert set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()) == names
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    assert {"flows", "tasks", "tests", "recipes", "README.md"} <= {one.name.split("/")[1] for one in members}
    assert all(one.isfile() for one in members)


@pytest.mark.parametrize("how", INSTALLS)
def test_an_installation_offers_three_names_alone(installed: Install, tmp_path: Path, how: str) -> None:
    ours = sorted({path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")} | NAMES)
    code = f"from importlib.util import find_spec; print(*[name for name in {ours} if find_spec(name)])"
    assert set(run(installed(how) / "python", "-c", code, cwd=tmp_path).split()) == NAMES


@pytest.mark.parametrize(
    ("how", "place"),
    [("wheel", place) for place in PLACES]
    + [("checkout", PLACES[0])]
    + [pytest.param("checkout", place, marks=pytest.mark.slow) for place in PLACES[1:]],
)
def test_beside_a_users_own_packages_everything_starts_and_theirs_stay_theirs(
    installed: Install, own_wheel: Path, tmp_path: Path, how: str, place: str
) -> None:
    note = own_wheel.parent / "imported" if place == "installed" else tmp_path / "imported"
    note.unlink(missing_ok=True)
    project = write_project(tmp_path / "project", note)
    cwd, path = tmp_path / "empty", {"PYTHONPATH": str(project)} if place == "PYTHONPATH" else {}
    cwd.mkdir()
    if place == "working directory":
        cwd = project
    write_recipe(cwd)
    programs = installed(how, *([own_wheel] if place == "installed" else []))
    python = programs / "python"
    assert "Build preference datasets" in run(programs / "pairsmith", "--help", cwd=cwd, **path)
    for program in ([programs / "pairsmith"], [python, "-m", "pairsmith_flows"]):
        assert "a valid recipe" in run(*program, "validate", "recipe.yaml", cwd=cwd, **path)
    engine = [python, "-P", "-m", "pairsmith.llms.endpoint.engine_server"]
    subprocess.run(engine, cwd=cwd, env=clean_environment(PYTHONPATH="") | path, input=b"", check=True, timeout=60)
    trial = (
        "from concurrent.futures import ProcessPoolExecutor as Pool; from multiprocessing import get_context as how; "
        "from pairsmith.llms.local.trial import Device; print(Pool(1, how('spawn')).submit(Device, (), 1).result())"
    )
    assert "Device(" in run(python, "-c", trial, cwd=cwd, **path)
    assert not note.exists(), note.read_text()
    theirs = run(python, "-c", "import flows.guard, tasks; print(flows.__file__, tasks.__file__)", cwd=cwd, **path)
    where = "site-packages" if place == "installed" else str(project)
    assert all(where in path for path in theirs.split())
    assert note.read_text().split() == ["flows", "flows.guard", "tasks"]


@pytest.mark.prefect
def test_a_run_from_a_wheel_beside_a_users_own_packages(
    installed: Install, own_wheel: Path, tmp_path: Path, prefect_home: str
) -> None:
    """With a temporary server; the user's packages are in the working folder, on the path and installed."""
    project, programs = write_project(tmp_path / "project", tmp_path / "imported"), installed("wheel", own_wheel)
    (own_wheel.parent / "imported").unlink(missing_ok=True)
    write_recipe(project)
    path = {"PYTHONPATH": str(project), "PREFECT_HOME": prefect_home}
    run(programs / "pairsmith", "run", "recipe.yaml", cwd=project, **path)
    assert (project / "pairsmith-data" / "echo" / "latest" / "README.md").exists()
    assert not (tmp_path / "imported").exists()
    assert not (own_wheel.parent / "imported").exists()


@pytest.mark.slow
@pytest.mark.prefect
@pytest.mark.parametrize("how", INSTALLS)
def test_a_service_and_a_worker_by_hand_beside_a_users_own_packages(
    installed: Install, own_wheel: Path, made_home: Path, tmp_path: Path, how: str
) -> None:
    """The runs ask an endpoint, so they start the process that speaks with it."""
    project, programs = write_project(tmp_path / "project", tmp_path / "imported"), installed(how, own_wheel)
    (own_wheel.parent / "imported").unlink(missing_ok=True)
    path = {"PYTHONPATH": str(project)}
    with FakeEndpoint() as endpoint:
        recipe = recipe_over(endpoint, project, 6, concurrency=MANY_CALLS)
        deployments = write_deployments(project, recipe, "ad-hoc")
        automations = str(ROOT / "deployments" / "automations.yaml")
        shutil.copytree(made_home, tmp_path / "service" / "prefect")
        service = Service(tmp_path / "service", deployments, "--automations", automations, **path)
        service.program, service.place = [str(programs / "pairsmith")], project
        with service:
            served = service.wait(service.run("ad-hoc"), seconds=120)
            asked = sum(endpoint.asked.values())
            api = {"PREFECT_API_URL": f"{service.url}/api", "PREFECT_API_AUTH_STRING": service.login}
            path |= api | {"PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_WORKER_QUERY_SECONDS": "1"}
            run(programs / "pairsmith", "run", "recipe.yaml", "--set", "name=by-command", cwd=project, **path)
            by_hand = run_by_hand(service, programs, project, path)
        assert (served["state_type"], by_hand["state_type"]) == ("COMPLETED", "COMPLETED"), service.said()
        assert asked == 3 * 6
    assert len(list(project.glob("data/*/latest/version.json"))) == 2
    assert not (tmp_path / "imported").exists()
    assert not (own_wheel.parent / "imported").exists()


def run_by_hand(service: Service, programs: Path, project: Path, path: dict[str, str]) -> dict[str, Any]:
    """A run of the deployment by a worker of the user's own, in a pool of its own."""
    service.ask("POST", "/work_pools/", {"name": "hand", "type": "process"})
    service.ask("PATCH", f"/deployments/{service.deployment('ad-hoc')['id']}", {"work_pool_name": "hand"})
    command = [str(programs / "python"), "-m", "prefect", "worker", "start", "--pool", "hand", "--type", "process"]
    worker = subprocess.Popen(
        command, cwd=project, env=clean_environment(**path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        return service.wait(service.run("ad-hoc"), seconds=120)
    finally:
        worker.terminate()
        worker.wait(180)  # a busy machine needs more than the usual seconds


def test_the_lock_pins_every_direct_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {name: group for name, group in project["optional-dependencies"].items() if name != OWN_LOCK}
    direct = project["dependencies"] + [name for group in extras.values() for name in group]
    names = {re.split(r"[\[<>=]", part)[0].strip().lower() for part in direct}
    pinned = {
        line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    }
    assert names <= pinned, names - pinned
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text().splitlines()
