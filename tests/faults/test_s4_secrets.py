"""S4: a key that pairsmith is given is used and never told.

Wherever a key comes from (the environment, a Secret block) and wherever it might come back from (an endpoint that
quotes it in an error), no log, table, ledger, artifact, card, data set, line of output or row of Prefect's database
holds it.
A recipe, which is stored and shown, may hold none: one in a header or an address is refused without being repeated.
"""

from __future__ import annotations

import base64
import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from pairsmith.config import Endpoint, ModelSpec, Recipe, Sampling
from pairsmith.config.loading import load_recipe, models_in
from pairsmith.config.plugins import modules_in
from pairsmith.errors import ConfigError
from pairsmith.ledger.ledger import Ledger
from pairsmith.llms.endpoint import attempts as backend
from pairsmith.llms.endpoint import batch_gathering
from pairsmith.llms.endpoint.batch import Batched
from pairsmith.llms.recorded import Recorded
from pairsmith.llms.registry import open_llm
from pairsmith.protocol import Reply, Request
from pairsmith.session import process_session
from pairsmith.stages.publish import push
from pairsmith.testing import FakeEndpoint, Fault
from tests.command_line import cli
from tests.faults.harness import started
from tests.runs import generate, run

Build = Callable[..., Recipe]
VARIABLE = "PAIRSMITH_TEST_KEY"
KEY = "sk-canary/7+tweet=="
FORMS = {
    "as it is": f"Bearer {KEY}",
    "in an address": quote(KEY, safe=""),
    "in JSON": KEY.replace("/", "\\/"),
    "in base64": base64.b64encode(f"user:{KEY}".encode()).decode(),
}


def traces(content: bytes) -> list[str]:
    """The forms of the key that stand in a content, upper and lower case alike."""
    forms = {"a part": "canary", "a part of another form": "sk%2dcanary"}
    for shift in range(3):  # base64 of a text depends on where in it the key begins
        forms[f"base64, shifted by {shift}"] = base64.b64encode(b"x" * shift + KEY.encode())[4:16].decode()
    low = content.lower()
    return [name for name, form in forms.items() if form.lower().encode() in low]


def leaks(folder: Path) -> dict[str, list[str]]:
    """Files of a folder that hold the key, by what they hold."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    found = {str(path.relative_to(folder)): traces(path.read_bytes()) for path in files}
    return {name: held for name, held in found.items() if held}


def quoting(status: int, form: str = "as it is") -> Fault:
    body = json.dumps({"error": {"message": "unwanted"}}).replace("unwanted", f"Authorization was {FORMS[form]}")
    return Fault(status, body, headers={"x-echo": KEY})


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(VARIABLE, KEY)
    monkeypatch.setattr(backend, "backoff", lambda *_: 0.01)
    return VARIABLE


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], str]]:
    """All that any logger says, down to debugging."""
    levels = {name: logging.getLogger(name).level for name in ("openai", "httpx", "httpcore", "aiohttp", "pairsmith")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.DEBUG)
    with caplog.at_level(logging.DEBUG):
        yield lambda: "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records) + caplog.text
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def requests(count: int) -> list[Request]:
    return [Request(({"role": "user", "content": f"Question {n}?"},), Sampling(), 1) for n in range(count)]


def keyed(recipe: Recipe, **fields: Any) -> Recipe:
    """The recipe with a key for every endpoint."""
    data = recipe.model_dump(mode="json")
    for spec in models_in(data):
        spec["endpoint"] |= {"api_key_env": VARIABLE, **fields}
    return Recipe.model_validate(data)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("status", [401, 403, 404, 302])
def test_s4_an_endpoint_that_quotes_the_key_ends_the_run_without_it(
    endpoint: FakeEndpoint, key: str, logged: Callable[[], str], status: int, form: str
) -> None:
    endpoint.fail(quoting(status, form))
    where = Endpoint(base_url=endpoint.url, api_key_env=key)
    with pytest.raises(ConfigError, match="Authorization was") as error:
        generate(open_llm(ModelSpec(backend="openai", model="m", endpoint=where), process_session()), requests(1))
    assert endpoint.headers[0]["authorization"] == f"Bearer {KEY}"
    assert not traces(str(error.value).encode())
    assert not traces(logged().encode())


@pytest.mark.parametrize("form", FORMS)
def test_s4_an_error_of_a_request_is_kept_without_the_key(
    base_recipe: Build, endpoint: FakeEndpoint, key: str, logged: Callable[[], str], tmp_path: Path, form: str
) -> None:
    endpoint.fail(*[quoting(status, form) for status in (400, 413, 422, 500, 503)])
    garbage = f"not JSON, {FORMS[form]}"
    endpoint.fail(Fault(200, garbage), Fault(200, json.dumps({"choices": [{"finish_reason": garbage}]})))
    published, summary, _ = run(keyed(base_recipe(endpoint, 20, members=2), attempts=1))
    assert summary.members["a"]["failed"] == 7
    assert Path(published.folder, "README.md").exists()
    assert leaks(tmp_path) == {}
    assert not traces(logged().encode())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shown", ["anthropic", "azure", "bedrock", "s4_login:fetch"])
def test_s4_no_api_and_no_token_is_told(
    endpoint: FakeEndpoint, key: str, logged: Callable[[], str], tmp_path: Path, shown: str, form: str
) -> None:
    (tmp_path / "s4_login.py").write_text(f"import os\n\ndef fetch(base_url):\n    return os.environ['{key}'], 3600\n")
    with modules_in(str(tmp_path)):
        where = {"credentials": shown} if ":" in shown else {"api": shown, "api_key_env": key}
        spec = Endpoint(base_url=endpoint.url, attempts=1, concurrency=1, **where)
    llm = open_llm(ModelSpec(backend="openai", model="m", endpoint=spec), process_session())
    endpoint.fail(quoting(400, form), quoting(500, form), Fault(200, f"not JSON, {FORMS[form]}"))
    replies = generate(llm, requests(3))
    assert any(KEY in value for value in endpoint.headers[0].values())
    assert all(reply.error for reply in replies)
    assert not traces(str(replies).encode())
    endpoint.fail(quoting(401, form), quoting(401, form))
    with pytest.raises(ConfigError, match="Authorization was") as error:
        generate(llm, requests(1))
    assert not traces(str(error.value).encode())
    assert not traces(logged().encode())


@pytest.mark.parametrize("form", FORMS)
def test_s4_batches_tell_no_key(
    endpoint: FakeEndpoint,
    key: str,
    logged: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    form: str,
) -> None:
    monkeypatch.setattr(batch_gathering, "POLL_SECONDS", 0.01)
    bodies = iter([FORMS[form], {"error": {"message": FORMS[form]}}])

    def refused(_: dict[str, Any]) -> dict[str, Any]:
        return {"choices": [{"finish_reason": f"{next(bodies)}"}]}

    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    where = Endpoint(base_url=endpoint.url, api_key_env=key, mode="batch", attempts=1)
    llm = Batched(ModelSpec(backend="openai", model="m", endpoint=where), ledger, process_session())
    monkeypatch.setattr("pairsmith.testing.completion", refused)
    replies: list[Reply] = generate(Recorded(llm, ledger), requests(2))
    assert all(reply.error for reply in replies)
    assert not traces(str(replies).encode())
    assert leaks(tmp_path) == {}
    assert not traces(logged().encode())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("base_url", f"https://user:{KEY}@127.0.0.1/v1"),
        ("base_url", f"https://{KEY}@127.0.0.1/v1"),
        ("base_url", f"https://127.0.0.1/v1?key={KEY}"),
        ("base_url", f"https://127.0.0.1/v1#key={KEY}"),
        ("base_url", f"ftp://127.0.0.1/{KEY}"),
        ("headers", {"Authorization": f"Bearer {KEY}"}),
        ("headers", {"x-api-key": KEY}),
        ("headers", {"Api-Token": KEY}),
        ("headers", {"Cookie": f"session={KEY}"}),
        ("headers", {"X-Anything": f"Bearer {KEY}"}),
        ("headers", {"X-Anything": "Basic " + base64.b64encode(f"user:{KEY}".encode()).decode()}),
        ("headers", KEY),
        ("api_key", KEY),
    ],
    ids=str,
)
def test_s4_a_recipe_that_holds_a_key_is_refused_and_not_repeated(
    base_recipe: Build, endpoint: FakeEndpoint, tmp_path: Path, field: str, value: Any
) -> None:
    data = base_recipe(endpoint, 1, members=2).model_dump(mode="json")
    data["pool"]["members"][0]["endpoint"][field] = value
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError, match=f"endpoint.*{field}") as error:
        load_recipe(path)
    assert not traces(str(error.value).encode())
    with pytest.raises(ConfigError, match=field) as invalid:  # as a server validates a run's parameters
        Recipe.model_validate(data)
    assert not traces(str(invalid.value).encode())


def test_s4_an_override_that_holds_a_key_is_not_repeated(
    base_recipe: Build, endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(base_recipe(endpoint, 1, members=2).model_dump(mode="json")))
    told = cli("validate", str(path), "--set", f"pool.members.0.endpoint.base_url=https://user:{KEY}@127.0.0.1/v1")
    assert told.returncode == 2
    assert "base_url" in told.stderr
    assert not traces((told.stdout + told.stderr).encode())


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://user:{quote(KEY, safe='')}@127.0.0.1:9/db",
        f"postgresql://127.0.0.1:9/db?user=user&password={quote(KEY, safe='')}",
    ],
)
def test_s4_a_password_of_the_ledger_is_not_part_of_a_recipe(
    base_recipe: Build, endpoint: FakeEndpoint, url: str
) -> None:
    with pytest.raises(ConfigError, match="ledger") as error:
        base_recipe(endpoint, 1, members=2, ledger=url)
    assert not traces(str(error.value).encode())


def test_s4_a_ledger_that_is_out_of_reach_is_told_without_its_password(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    for url in (f"postgresql://user:{quote(KEY, safe='')}@127.0.0.1:9/db", f"nonsense://user:{KEY}@x", f"canary:{KEY}"):
        told = cli("ledger", "--ledger", url, cwd=tmp_path)
        assert told.returncode in (2, 3)
        assert told.stderr.startswith("error: ledger")
        assert not traces((told.stdout + told.stderr).replace("canary:", "").encode())


def test_s4_the_token_of_the_hub_is_told_nowhere(
    echo_recipe: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, logged: Callable[[], str]
) -> None:
    recipe = echo_recipe(5, publishing={"hub": {"repo_id": "me/pairs", "token_env": VARIABLE}})
    published, _, _ = run(recipe)
    given: list[str] = []

    class Api:
        endpoint = "https://hub"

        def __init__(self, token: str) -> None:
            given.append(token)

        def create_repo(self, *_: Any, **__: Any) -> None:
            pass

        def dataset_info(self, repo_id: str) -> Any:
            return SimpleNamespace(private=True)

        def upload_folder(self, folder_path: str, **_: Any) -> None:
            assert leaks(Path(folder_path)) == {}

    monkeypatch.setenv(VARIABLE, KEY)
    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    assert push(recipe, published, process_session()) == "https://hub/datasets/me/pairs"
    assert given == [KEY]
    assert leaks(tmp_path) == {}
    assert not traces(logged().encode())


def test_s4_a_key_that_is_missing_is_named_by_its_variable(endpoint: FakeEndpoint) -> None:
    where = Endpoint(base_url=endpoint.url, api_key_env="PAIRSMITH_NO_SUCH_KEY")
    with pytest.raises(ConfigError, match="PAIRSMITH_NO_SUCH_KEY holds no key"):
        generate(open_llm(ModelSpec(backend="openai", model="m", endpoint=where), process_session()), requests(1))
    assert not endpoint.asked


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_home")
def test_s4_a_run_leaves_its_key_neither_in_prefect_nor_anywhere_else(
    base_recipe: Build, endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    recipe = keyed(base_recipe(endpoint, 12, members=2, prompts={"limit": 12}))
    environment = {
        VARIABLE: KEY,
        "HF_TOKEN": KEY,
        "PREFECT_LOGGING_LEVEL": "DEBUG",
        "PREFECT_SERVER_LOGGING_LEVEL": "DEBUG",
    }
    said = b""
    endpoint.fail(quoting(401))
    for code in (2, 0):
        with started(recipe, tmp_path, **environment) as process:
            out, told = process.communicate(timeout=120)
        assert process.returncode == code, told
        said += (out + told).encode()
        endpoint.fail(*[quoting(status) for status in (400, 500, 422, 503)])
    assert b"Authorization was" in said
    assert {headers["authorization"] for headers in endpoint.headers} == {f"Bearer {KEY}"}
    database = tmp_path / "prefect" / "prefect.db"
    log = database.read_bytes() + (
        database.with_name("prefect.db-wal").read_bytes() if os.path.exists(f"{database}-wal") else b""
    )
    assert b"Authorization was" in log  # the error is there, so the database is the one that was looked for
    assert not traces(said)
    assert leaks(tmp_path) == {}


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
def test_s4_a_key_from_a_secret_block_is_stored_nowhere_else(
    base_recipe: Build, endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    from prefect.blocks.system import Secret

    from pairsmith_flows.preferences import build_preference_dataset
    from tests.flows.test_preferences import read

    block = {"base_url": endpoint.url, "api_key_env": None, "api_key_block": "pairsmith-test-key"}
    model = {"backend": "openai", "endpoint": block}
    pool = {"members": [{"name": name, "model": name, **model} for name in "ab"]}
    judges = [{"name": "j", "model": "j", **model}]
    recipe = base_recipe(endpoint, 6, pool=pool, rating={"judges": judges})
    with pytest.raises(ConfigError, match="no Secret block pairsmith-test-key"):
        build_preference_dataset(recipe)
    assert not endpoint.asked
    Secret(value=KEY).save("pairsmith-test-key")
    build_preference_dataset(recipe)
    assert {headers["authorization"] for headers in endpoint.headers} == {f"Bearer {KEY}"}
    assert leaks(tmp_path) == {}
    for what in ("read_flow_runs", "read_task_runs", "read_artifacts", "read_logs"):
        assert not traces(str([item.model_dump() for item in read(what)]).encode()), what
