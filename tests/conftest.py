"""What tests share: recipes of the echo backend, rows, and the paths of optional data and models."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import fsspec
import pytest
import yaml
from filelock import FileLock
from hypothesis import settings

from pairsmith.config import Recipe
from pairsmith.config.loading import parse_recipe
from pairsmith.memory import frugal_memory
from tests.database_server import PostgresServer
from tests.faults.table import pytest_runtest_logreport, pytest_terminal_summary  # noqa: F401 - pytest's hooks

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("PAIRSMITH_TEST_DATA", ROOT.parent / "shared" / "data"))
MODELS = {
    "smollm2": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "qwen": "Qwen/Qwen2.5-Coder-0.5B-Instruct",
}
STARTS_SERVERS = ("prefect", "browser", "packaging")

# How long an example takes says more of the machine than of the code. The examples are the same in each run, so that a
# change passes or fails by itself; `make faults` draws new ones.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("drawn", deadline=None, print_blob=True)
settings.load_profile("repeatable")


def shared(name: str) -> Path:
    """A file of the optional test data; the test is skipped where it is absent."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"optional test data not found: {path} (set PAIRSMITH_TEST_DATA)")
    return path


def children_of(process: int) -> list[int]:
    """The processes that a process's first thread started and that have not been reaped."""
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def clean_environment(**more: str) -> dict[str, str]:
    """The environment for a process of a user: none of the Prefect settings of this session."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


def model_id(name: str) -> str:
    """A default model; the test is skipped where `make models` has not fetched it."""
    from pairsmith.llms.local.hub_models import stored_at

    if not stored_at(MODELS[name]).exists():
        pytest.skip(f"{MODELS[name]} is not in the model store; `make models` fetches it")
    return MODELS[name]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files whose tests wait for servers first, so that no such file is left at the end with idle processes beside it.

    What is slow is left out, but for `make faults`, which says how many kills it wants, and for `-m slow`.
    """
    waiting = {item.path for item in items if any(item.get_closest_marker(mark) for mark in STARTS_SERVERS)}
    items.sort(key=lambda item: item.path not in waiting)
    if "PAIRSMITH_KILLS" in os.environ or "slow" in config.getoption("-m"):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.fixture(scope="session", autouse=True)
def _frugal() -> Iterator[None]:
    """All tests' modules are imported by now: what they made is looked through once, not by each run of a recipe."""
    with frugal_memory():
        yield


@pytest.fixture(scope="session", autouse=True)
def _state_home() -> Iterator[None]:
    """A folder of this session's own, and of its processes, for replies that a ledger cannot take."""
    with tempfile.TemporaryDirectory(prefix="pairsmith-state-") as folder:
        before = os.environ.get("XDG_STATE_HOME")
        os.environ["XDG_STATE_HOME"] = folder
        yield
        os.environ.pop("XDG_STATE_HOME")
        if before is not None:
            os.environ["XDG_STATE_HOME"] = before


@pytest.fixture
def prompts_file(tmp_path: Path) -> Callable[[int], Path]:
    """Writes a JSONL file of n prompts and returns its path."""

    def write(count: int, name: str = "prompts.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(f'{{"prompt": "Question {n}?"}}\n' for n in range(count)))
        return path

    return write


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """Writes a file of the test's folder."""

    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture
def echo_recipe(tmp_path: Path, prompts_file: Callable[[int], Path]) -> Callable[..., Recipe]:
    """Builds a recipe of the echo backend over n prompts, with changes given as a nested dict."""

    def build(count: int = 12, **changes: Any) -> Recipe:
        data = yaml.safe_load((ROOT / "recipes" / "echo.yaml").read_text())
        data["prompts"] = {"sources": [{"path": str(prompts_file(count))}]}
        data["workspace"] = str(tmp_path / "data")
        return parse_recipe(_merge(data, changes), base=tmp_path)

    return build


@pytest.fixture(params=["folder", "object storage"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Fields of a recipe whose data set is local or not."""
    if request.param == "folder":
        yield {}
        return
    if request.param == "s3":
        yield {"workspace": request.getfixturevalue("s3"), "ledger": f"sqlite:///{tmp_path}/ledger.sqlite"}
        return
    yield {"workspace": f"memory://{tmp_path.name}", "ledger": f"sqlite:///{tmp_path}/ledger.sqlite"}
    fsspec.filesystem("memory").rm(f"/{tmp_path.name}", recursive=True)


@pytest.fixture(scope="session")
def prefect_server(made_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A temporary Prefect server and database for the session; the folder that Prefect keeps results in.

    Prefect's own fixture makes its database anew, in a folder of which it asks for the name; here one that is made
    already lies there.
    """
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")
    from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    kept = tmp_path_factory.mktemp("prefect-storage")
    database = Path(tempfile.mkdtemp(prefix="prefect-harness-"))
    shutil.copy(made_home / "prefect.db", database / "prefect-test.db")
    with (
        mock.patch("prefect.testing.utilities.mkdtemp", return_value=str(database)),
        prefect_test_harness(server_startup_timeout=120),
        temporary_settings({PREFECT_LOCAL_STORAGE_PATH: kept}),
    ):
        yield kept


@pytest.fixture
def prefect_api(prefect_server: Path) -> dict[str, str]:
    """What lets a process of its own use this session's Prefect server instead of starting one."""
    from prefect.settings import PREFECT_API_URL

    return {"PREFECT_API_URL": str(PREFECT_API_URL.value()), "PREFECT_HOME": str(prefect_server)}


@pytest.fixture(scope="session")
def made_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of Prefect's with a database that is made already: Prefect takes ten seconds to make one.

    The processes that run tests side by side make one together.
    """
    common = tmp_path_factory.getbasetemp()
    home = (common.parent if "PYTEST_XDIST_WORKER" in os.environ else common) / "prefect-home"
    with FileLock(f"{home}.lock"):
        if not home.exists():
            making = tmp_path_factory.mktemp("prefect-home")
            command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"]
            env = clean_environment(PREFECT_HOME=str(making))
            subprocess.run(command, check=True, env=env, stdout=subprocess.DEVNULL)
            making.rename(home)
    return home


@pytest.fixture
def prefect_home(made_home: Path, tmp_path: Path) -> str:
    """A folder of Prefect's for this test alone, in its own folder."""
    return str(shutil.copytree(made_home, tmp_path / "prefect"))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server of this session's own, empty; tests are skipped where PostgreSQL is not installed."""
    with PostgresServer.started() as server:
        yield server


@pytest.fixture(scope="session")
def postgres(postgres_server: PostgresServer) -> str:
    """URL of a PostgreSQL server of this session's own."""
    return postgres_server.url


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Address of an S3 server of this session's own, one that keeps to conditional writes."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield "http://{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of an empty bucket of this test's own on that server."""
    return _bucket(s3_server, monkeypatch)


@pytest.fixture
def careless_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The same on a server that ignores conditions, and so lets a second create replace the first."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "served").mkdir()
    program = str(Path(sys.executable).with_name("rclone"))
    keys = ["--auth-key", "key,secret", "--addr", f"127.0.0.1:{port}", "--config", os.devnull]
    server = subprocess.Popen([program, "serve", "s3", *keys, str(tmp_path / "served")], stderr=subprocess.DEVNULL)
    try:
        ends = time.monotonic() + 30
        while socket.socket().connect_ex(("127.0.0.1", port)) and time.monotonic() < ends:
            time.sleep(0.05)
        yield _bucket(f"http://127.0.0.1:{port}", monkeypatch)
    finally:
        server.kill()
        server.wait()


def _bucket(address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket at an address, which this process and its children find by their environment."""
    import boto3

    access = {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret", "DEFAULT_REGION": "us-east-1"}
    for name, value in (access | {"ENDPOINT_URL": address}).items():
        monkeypatch.setenv(f"AWS_{name}", value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def new_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], str]]:
    """Gives the URL of a new ledger at each call, on SQLite and on PostgreSQL."""
    numbers = itertools.count(1)
    if request.param == "sqlite":
        yield lambda: f"sqlite:///{tmp_path}/deep/ledger-{next(numbers)}.sqlite"
        return
    import psycopg

    server: str = request.getfixturevalue("postgres")
    made: list[str] = []

    def create() -> str:
        made.append(f"test_{uuid.uuid4().hex}")
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {made[-1]}")
        return server.rpartition("/")[0] + f"/{made[-1]}"

    yield create
    with psycopg.connect(server, autocommit=True) as connection:  # another one: a test may restart the server
        for name in made:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def ledger_url(new_ledger: Callable[[], str]) -> str:
    """URL of a new ledger, on SQLite and on PostgreSQL."""
    return new_ledger()


def _merge(base: Any, changes: Any) -> Any:
    if not isinstance(base, dict) or not isinstance(changes, dict):
        return changes
    return base | {key: _merge(base.get(key), value) for key, value in changes.items()}
