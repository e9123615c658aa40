"""S9: a redirect takes neither a key nor a prompt to another host.

An endpoint that redirects is not followed: the run ends with an error that names the address that it was sent to, after
no more calls than were under way. In batch mode and at the hub, whose clients may follow, no key goes along.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pairsmith.config import Endpoint, ModelSpec, Recipe, Sampling
from pairsmith.errors import ConfigError
from pairsmith.ledger.ledger import Ledger
from pairsmith.llms.endpoint import attempts as backend
from pairsmith.llms.endpoint import batch_gathering
from pairsmith.llms.endpoint.batch import Batched
from pairsmith.llms.recorded import Recorded
from pairsmith.llms.registry import open_llm
from pairsmith.protocol import Request
from pairsmith.session import process_session
from pairsmith.stages.publish import push
from pairsmith.testing import FakeEndpoint, Fault
from tests.runs import generate, run

Build = Callable[..., Recipe]
STATUSES = [301, 302, 303, 307, 308]
VARIABLE, KEY = "PAIRSMITH_TEST_KEY", "sk-canary"


class Host:
    """A server that notes whatever reaches it, and answers or redirects."""

    def __init__(self, status: int = 200, location: str | None = None, at: str = "") -> None:
        self.received: list[str] = []  # first line, headers and body of each request
        host = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                host.received.append(f"{self.requestline}\n{self.headers}\n{body.decode(errors='replace')}")
                moves = location is not None and at in self.path
                self.send_response(status if moves else 200)
                if moves:
                    self.send_header("location", f"{location}{self.path}")
                self.send_header("content-type", "application/json")
                self.send_header("content-length", "2")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(b"{}")

            do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = answer

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Host:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def was_told_a_key(self) -> bool:
        return any("canary" in text.lower() or "authorization" in text.lower() for text in self.received)


@pytest.fixture
def elsewhere() -> Iterator[Host]:
    with Host() as host:
        yield host


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, KEY)
    monkeypatch.setattr(backend, "backoff", lambda *_: 0.01)


def requests(count: int) -> list[Request]:
    return [Request(({"role": "user", "content": f"Question {n}?"},), Sampling(), 1) for n in range(count)]


def model(url: str, **fields: Any) -> ModelSpec:
    where = {"base_url": url, "api_key_env": VARIABLE, "concurrency": 4, "attempts": 2, "deadline": 5, **fields}
    return ModelSpec(backend="openai", model="m", endpoint=Endpoint.model_validate(where))


@pytest.mark.parametrize("status", STATUSES)
def test_s9_a_redirect_is_named_and_not_followed(endpoint: FakeEndpoint, elsewhere: Host, status: int) -> None:
    target = f"{elsewhere.url}/v1/chat/completions"
    endpoint.fail(*[Fault(status, headers={"location": target})] * 50)
    with pytest.raises(ConfigError, match="redirects to") as error:
        generate(open_llm(model(endpoint.url), process_session()), requests(50))
    assert target in str(error.value)
    assert KEY not in str(error.value)
    assert elsewhere.received == []
    assert 1 <= len(endpoint.journal) <= 8


@pytest.mark.parametrize(
    "location",
    ["/v1/other", "{own}/chat/completions/", "//127.0.0.1:9/v1", "https://127.0.0.1:9/v1", "file:///etc/passwd"],
)
def test_s9_no_redirect_is_followed_wherever_it_leads(endpoint: FakeEndpoint, location: str) -> None:
    endpoint.fail(Fault(307, headers={"location": location.format(own=endpoint.url)}))
    with pytest.raises(ConfigError, match="redirects to"):
        generate(open_llm(model(endpoint.url), process_session()), requests(1))
    assert len(endpoint.journal) == 1


def test_s9_a_location_that_quotes_the_key_is_told_without_it(endpoint: FakeEndpoint) -> None:
    endpoint.fail(Fault(302, headers={"location": f"https://login.example/?key={KEY}"}))
    with pytest.raises(ConfigError, match=r"https://login\.example") as error:
        generate(open_llm(model(endpoint.url), process_session()), requests(1))
    assert KEY not in str(error.value)


def test_s9_a_redirect_without_a_location_ends_the_run_too(endpoint: FakeEndpoint) -> None:
    endpoint.fail(*[Fault(302)] * 20)
    with pytest.raises(ConfigError, match="302"):
        generate(open_llm(model(endpoint.url), process_session()), requests(20))
    assert len(endpoint.journal) <= 8


def test_s9_a_whole_run_ends_with_the_error_and_keeps_what_it_has(
    base_recipe: Build, endpoint: FakeEndpoint, elsewhere: Host
) -> None:
    recipe = base_recipe(endpoint, 6, members=2)
    endpoint.fail(Fault(308, headers={"location": f"{elsewhere.url}/v1/chat/completions"}))
    with pytest.raises(ConfigError, match=elsewhere.url):
        run(recipe)
    assert elsewhere.received == []
    before = len(endpoint.journal)
    _, summary, _ = run(recipe)
    assert summary.paired + sum(summary.prompt_reasons.values()) == 6
    assert len(endpoint.journal) == 6 + 6 + 6 + 1  # a listwise judge; the redirected call alone is asked twice
    assert before >= 1


def hand_in(host: Host, folder: Path) -> None:
    """Two requests as a batch."""
    ledger = Ledger(f"sqlite:///{folder}/ledger.sqlite")
    llm = Batched(model(f"{host.url}/v1", mode="batch", attempts=1, deadline=0.5), ledger, process_session())
    generate(Recorded(llm, ledger), requests(2))


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("at", ["/files", "/batches"])
def test_s9_batches_take_no_key_elsewhere(
    elsewhere: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, at: str
) -> None:
    monkeypatch.setattr(batch_gathering, "POLL_SECONDS", 0.01)
    with Host(status, elsewhere.url, at) as host:
        with contextlib.suppress(Exception):  # however it ends
            hand_in(host, tmp_path)
        assert any(KEY in text for text in host.received)
    assert not elsewhere.was_told_a_key


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("at", ["/files", "/batches"])
def test_s9_batches_that_are_redirected_are_named_and_not_handed_in(
    elsewhere: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, at: str
) -> None:
    monkeypatch.setattr(batch_gathering, "POLL_SECONDS", 0.01)
    with Host(status, elsewhere.url, at) as host, pytest.raises(ConfigError) as error:
        hand_in(host, tmp_path)
    assert elsewhere.received == []
    assert elsewhere.url in str(error.value)
    assert KEY not in str(error.value)


@pytest.mark.parametrize("status", [302, 307, 308])
def test_s9_the_hub_takes_no_token_elsewhere(
    echo_recipe: Build, elsewhere: Host, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    import huggingface_hub

    recipe = echo_recipe(3, publishing={"hub": {"repo_id": "me/pairs", "token_env": VARIABLE}})
    published, _, _ = run(recipe)
    with Host(status, elsewhere.url) as hub:
        real = huggingface_hub.HfApi
        monkeypatch.setattr("huggingface_hub.HfApi", lambda token: real(endpoint=hub.url, token=token))
        with pytest.raises(Exception):  # noqa: B017 - whatever the hub's client raises
            push(recipe, published, process_session())
        assert any(KEY in text for text in hub.received)
    assert not elsewhere.was_told_a_key
