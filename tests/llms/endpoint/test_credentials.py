"""What stands for a key: tokens of clouds and of a user's own function, and signed calls."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pairsmith import build, preview
from pairsmith.config import Endpoint, ModelSpec, Recipe, Sampling
from pairsmith.config.loading import load_recipe
from pairsmith.config.plugins import modules_in
from pairsmith.errors import ConfigError
from pairsmith.llms.endpoint import attempts as backend
from pairsmith.llms.endpoint import credentials
from pairsmith.llms.endpoint.credentials import Tokens, credentials_of
from pairsmith.llms.endpoint.engines import MANY_CALLS
from pairsmith.llms.registry import open_llm
from pairsmith.planning.dry_run import plan_run
from pairsmith.protocol import Reply, Request
from pairsmith.session import process_session
from pairsmith.testing import FakeEndpoint, Fault
from tests.runs import generate, run

VERTEX = "/v1/projects/p/locations/l"
SECRET = "wJalrXUtnFEMI/K7MDENG"
OWN = """
given = []

def fetch(base_url):
    given.append(base_url)
    return f"own-{len(given)}", 3600
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "backoff", lambda *_: 0.01)


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[FakeEndpoint], None]:
    """A service account, whose tokens come from the fake login."""
    pytest.importorskip("google.auth")
    from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    pem = generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def log_in(endpoint: FakeEndpoint) -> None:
        account = {
            "type": "service_account",
            "project_id": "p",
            "private_key": pem.decode(),
            "client_email": "one@p.iam.gserviceaccount.com",
            "token_uri": endpoint.url.replace("/v1", "/token"),
        }
        (tmp_path / "account.json").write_text(json.dumps(account))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))

    return log_in


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("botocore")
    for name, value in {
        "ACCESS_KEY_ID": "AKIDEXAMPLE",
        "SECRET_ACCESS_KEY": SECRET,
        "SESSION_TOKEN": "session-1",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")


def requests(count: int = 1) -> list[Request]:
    return [Request(({"role": "user", "content": f"Question {n}?"},), Sampling(), 1) for n in range(count)]


def ask(endpoint: FakeEndpoint, name: str, path: str, count: int = 1, model: str = "m", **fields: Any) -> list[Reply]:
    base = endpoint.url.removesuffix("/v1") + path
    where = Endpoint(base_url=base, credentials=name, **fields)
    return generate(
        open_llm(ModelSpec(backend="openai", model=model, endpoint=where), process_session()), requests(count)
    )


@pytest.mark.parametrize(("api", "path"), [("openai", "/endpoints/openapi"), ("anthropic", "")])
def test_vertex_is_asked_with_tokens_that_are_renewed(google: Any, api: str, path: str) -> None:
    with FakeEndpoint() as endpoint:
        google(endpoint)
        endpoint.login.seconds = 3600
        assert {reply.error for reply in ask(endpoint, "google", VERTEX + path, 3, api=api)} == {None}
        assert len(endpoint.login.given) == 1
        endpoint.login.withdraw()
        replies = ask(endpoint, "google", VERTEX + path, 4, api=api)
        assert {reply.error for reply in replies} == {None}
        assert len(endpoint.login.given) == 2
        shown = [headers["authorization"] for headers in endpoint.headers]
    assert shown[0] == "Bearer fake-token-0"
    assert shown[-1] == "Bearer fake-token-1"
    assert all("x-api-key" not in headers for headers in endpoint.headers)


@pytest.mark.parametrize("path", ["", "/openai/v1"])
def test_azure_is_asked_with_tokens_of_entra(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    pytest.importorskip("azure.identity")
    with FakeEndpoint() as endpoint:
        monkeypatch.setenv("IDENTITY_ENDPOINT", endpoint.url.replace("/v1", "/msi/token"))
        monkeypatch.setenv("IDENTITY_HEADER", "header")
        replies = ask(endpoint, "azure", path, 2, api="azure")
    assert {reply.error for reply in replies} == {None}
    assert len(endpoint.login.given) == 1
    assert {headers["authorization"] for headers in endpoint.headers} == {"Bearer fake-token-0"}
    assert all("api-key" not in headers for headers in endpoint.headers)


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize("model", ["amazon.nova-lite-v1:0", "arn:aws:bedrock:eu-west-1:1:inference-profile/eu.claude"])
def test_bedrock_is_asked_with_signed_calls(model: str) -> None:
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    with FakeEndpoint() as endpoint:
        assert ask(endpoint, "aws", "", model=model, api="bedrock")[0].error is None
        url = endpoint.url.removesuffix("/v1") + endpoint.paths[0]
    sent, body = endpoint.headers[0], json.dumps(endpoint.journal[0]).encode()
    assert sent["x-amz-security-token"] == "session-1"
    signed = re.search(r"SignedHeaders=([^,]+), Signature=(\w+)", sent["authorization"])
    assert signed
    kept = {name: sent[name] for name in signed[1].split(";") if name != "host"}
    call = AWSRequest("POST", url, data=body, headers=kept)
    call.context["timestamp"] = sent["x-amz-date"]
    signer = SigV4Auth(Credentials("AKIDEXAMPLE", SECRET, "session-1"), "bedrock", "eu-west-1")
    assert signer.signature(signer.string_to_sign(call, signer.canonical_request(call)), call) == signed[2]


@pytest.mark.usefixtures("aws")
def test_aws_credentials_that_have_ended_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = Fault(403, '{"message": "The security token included in the request is expired"}')
    with FakeEndpoint([ended]) as endpoint:
        assert ask(endpoint, "aws", "", api="bedrock")[0].error is None
        assert len(endpoint.times) == 2
        endpoint.fail(ended, ended)
        with pytest.raises(ConfigError, match="is expired"):
            ask(endpoint, "aws", "", api="bedrock", concurrency=2)
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"):
        monkeypatch.delenv(f"AWS_{name}")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    with FakeEndpoint() as endpoint, pytest.raises(ConfigError, match="botocore finds none on this machine"):
        ask(endpoint, "aws", "", api="bedrock")
    assert not endpoint.asked


@pytest.fixture
def own(tmp_path: Path) -> Callable[..., str]:
    """Writes a module of a recipe's folder and names its function."""

    def write(source: str = OWN) -> str:
        (tmp_path / "own_login.py").write_text(source)
        return "own_login:fetch"

    return write


def own_recipe(
    echo_recipe: Callable[..., Recipe], endpoint: FakeEndpoint, folder: Path, name: str, **more: Any
) -> Recipe:
    """A recipe, in a file, whose members are asked with tokens of a function beside it."""
    where = {"base_url": endpoint.url, "credentials": name, **more}
    echoes = {"members": [{"name": n, "backend": "echo", "model": n} for n in "ab"]}
    pairing = {"strategy": "member-order", "member_order": ["a", "b"]}
    data = echo_recipe(4, pool=echoes, evolution=None, rating=None, pairing=pairing).model_dump(mode="json")
    data["pool"]["members"] = [{"name": n, "model": n, "backend": "openai", "endpoint": where} for n in "ab"]
    (folder / "recipe.yaml").write_text(yaml.safe_dump(data))
    return load_recipe(folder / "recipe.yaml")


@pytest.mark.parametrize("concurrency", [2, MANY_CALLS + 1], ids=["in this process", "in a process of its own"])
def test_a_function_of_ones_own_gives_tokens(
    echo_recipe: Callable[..., Recipe], own: Callable[..., str], tmp_path: Path, concurrency: int
) -> None:
    with FakeEndpoint() as endpoint:
        _, summary, _ = run(own_recipe(echo_recipe, endpoint, tmp_path, own(), concurrency=concurrency))
    assert summary.members["a"]["failed"] == 0
    assert {headers["authorization"][:11] for headers in endpoint.headers} == {"Bearer own-"}


def test_a_function_that_was_edited_counts_in_the_same_process(own: Callable[..., str], tmp_path: Path) -> None:
    with modules_in(str(tmp_path)), FakeEndpoint() as endpoint:
        ask(endpoint, own(), "/v1")
        ask(endpoint, own(OWN.replace("own-", "new-")), "/v1")
    assert [headers["authorization"] for headers in endpoint.headers] == ["Bearer own-1", "Bearer new-1"]


def test_a_token_that_is_refused_is_renewed_once(own: Callable[..., str], tmp_path: Path) -> None:
    with modules_in(str(tmp_path)), FakeEndpoint([Fault(401)] * 2) as endpoint:
        with pytest.raises(ConfigError, match="status 401"):
            ask(endpoint, own(), "/v1", concurrency=1)
        assert [headers["authorization"] for headers in endpoint.headers] == ["Bearer own-1", "Bearer own-2"]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (
            "def fetch(base_url):\n    raise RuntimeError('no login here')",
            "own_login:fetch failed: RuntimeError: no login",
        ),
        ("def fetch(base_url):\n    return 'a', 'b'", "a token and the seconds that it holds"),
        ("def fetch(base_url):\n    return '', 5", "a token and the seconds that it holds"),
        ("def fetch(base_url):\n    return 'a'", "own_login:fetch failed: ValueError"),
    ],
)
def test_a_function_that_gives_no_token_stops_the_run(
    own: Callable[..., str], tmp_path: Path, source: str, told: str
) -> None:
    with modules_in(str(tmp_path)), FakeEndpoint() as endpoint, pytest.raises(ConfigError, match=told):
        ask(endpoint, own(source), "/v1")
    assert not endpoint.asked


def test_a_login_that_is_out_of_reach_passes(own: Callable[..., str], tmp_path: Path) -> None:
    source = OWN.replace(
        "given.append(base_url)", "given.append(base_url)\n    if len(given) < 3: raise OSError('down')"
    )
    with modules_in(str(tmp_path)), FakeEndpoint() as endpoint:
        assert ask(endpoint, own(source), "/v1")[0].error is None
    assert endpoint.headers[0]["authorization"] == "Bearer own-3"


def test_a_recipe_with_a_function_that_is_not_there_is_refused(
    echo_recipe: Callable[..., Recipe], own: Callable[..., str], tmp_path: Path
) -> None:
    own()
    with FakeEndpoint() as endpoint:
        with pytest.raises(ConfigError, match="there is no get in"):
            own_recipe(echo_recipe, endpoint, tmp_path, "own_login:get")
        with pytest.raises(ConfigError, match="did you mean google"):
            own_recipe(echo_recipe, endpoint, tmp_path, "gogle")


class Clock:
    """A clock that is put forward, and a login whose tokens hold for so many seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float | None) -> None:
        self.now, self.seconds, self.given, self.is_down = 1000.0, seconds, 0, False
        monkeypatch.setattr(credentials.time, "monotonic", lambda: self.now)

    def fetch(self) -> tuple[str, float | None]:
        if self.is_down:
            raise OSError("down")
        self.given += 1
        return f"token-{self.given}", self.seconds


def shown(tokens: Tokens) -> str:
    return asyncio.run(tokens.headers("", b""))["Authorization"].removeprefix("Bearer ")


@pytest.mark.parametrize(("seconds", "renewed"), [(3600, 3300), (60, 48), (None, None)])
def test_a_token_is_renewed_before_it_ends(
    monkeypatch: pytest.MonkeyPatch, seconds: float | None, renewed: float | None
) -> None:
    clock = Clock(monkeypatch, seconds)
    tokens = Tokens("mine", clock.fetch)
    assert shown(tokens) == "token-1"
    clock.now += (renewed or 1e6) - 1
    assert shown(tokens) == "token-1"
    clock.now += 2
    assert shown(tokens) == ("token-2" if renewed else "token-1")


def test_a_token_serves_to_its_end_while_the_login_is_down(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock(monkeypatch, 3600)
    tokens = Tokens("mine", clock.fetch)
    assert shown(tokens) == "token-1"
    clock.now, clock.is_down = clock.now + 3400, True
    with caplog.at_level(logging.WARNING):
        assert [shown(tokens), shown(tokens)] == ["token-1", "token-1"]
    assert caplog.text.count("the token in use holds for another 200 s") == 1
    clock.now += 200
    with pytest.raises(ConnectionError, match="credentials mine: OSError: down"):
        shown(tokens)
    clock.is_down = False
    assert shown(tokens) == "token-2"


def test_many_calls_renew_a_refused_token_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, None)
    tokens = Tokens("mine", clock.fetch)

    async def refused_together() -> None:
        sent = await tokens.headers("", b"")
        await asyncio.gather(*(tokens.renew(sent) for _ in range(5)))

    asyncio.run(refused_together())
    assert clock.given == 2
    assert tokens.secrets == ["token-1", "token-2"]


@pytest.mark.parametrize("name", ["google", "azure", "aws"])
def test_a_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(credentials, "find_spec", lambda _: None)
    endpoint = Endpoint(base_url="http://127.0.0.1:9/v1", credentials=name)
    with pytest.raises(ConfigError, match=re.escape(f"pip install 'pairsmith[{name}]'")):
        credentials_of(endpoint)


def test_a_library_that_a_judge_needs_is_missed_before_anything_is_asked(
    echo_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "find_spec", lambda _: None)
    where = {"base_url": "http://127.0.0.1:9/v1", "credentials": "google"}
    judges = [{"name": "j", "backend": "openai", "model": "j", "endpoint": where}]
    recipe = echo_recipe(2, rating={"judges": judges})
    for begin in (build, preview, plan_run):
        with pytest.raises(ConfigError, match="needs google.auth"):
            begin(recipe)
    assert not Path(recipe.workspace, recipe.name).exists()


API = """
class Plain:
    @staticmethod
    def url(base_url, model, version):
        return f"{base_url}/chat/completions"

    @staticmethod
    def headers(key, version):
        return {"X-Own-Key": key}

    @staticmethod
    def request(body):
        return {"model": body["model"], "messages": body["messages"], "max_tokens": 7}

    @staticmethod
    def response(answer):
        answer["choices"][0]["message"]["content"] += "!"
        return answer
"""


def test_an_api_of_ones_own_is_spoken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "plain_api.py").write_text(API)
    monkeypatch.setenv("PAIRSMITH_TEST_KEY", "sk-1")
    with modules_in(str(tmp_path)), FakeEndpoint() as endpoint:
        where = Endpoint(base_url=endpoint.url, api="plain_api:Plain", api_key_env="PAIRSMITH_TEST_KEY")
        spec = ModelSpec(backend="openai", model="m", endpoint=where)
        (reply,) = generate(open_llm(spec, process_session()), requests())
    assert reply.text.endswith("!")
    assert reply.n_tokens > 0
    assert endpoint.journal[0].keys() == {"model", "messages", "max_tokens"}
    assert endpoint.headers[0]["x-own-key"] == "sk-1"
    assert "authorization" not in endpoint.headers[0]
