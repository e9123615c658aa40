"""Files over HTTP: fetched where they changed, whole or not at all, and without secrets on a redirect."""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import tenacity
from pydantic import ValidationError

from pairsmith.config import Recipe, Source
from pairsmith.errors import ConfigError, DataError, RunError
from pairsmith.planning.dry_run import plan_run
from pairsmith.sources import http
from pairsmith.sources.http import fetch
from pairsmith.stages.base import open_store
from pairsmith.storage.tables import LOAD_REJECTIONS
from tests.runs import run

Build = Callable[..., Recipe]
LINES = b'{"prompt": "one"}\n{"prompt": "two"}\n'


class Server:
    """Serves `body` at any path, with ETags; says first what stands in `faults`."""

    def __init__(self) -> None:
        self.body, self.faults, self.redirect, self.tags = LINES, list[Any](), "", True
        self.asked: list[dict[str, str]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append({name.lower(): value for name, value in self.headers.items()})
                fault = server.faults.pop(0) if server.faults else None
                if isinstance(fault, int):
                    self.send_error(fault)
                    return
                if server.redirect:
                    self.send_response(302)
                    self.send_header("Location", server.redirect)
                    self.end_headers()
                    return
                tag = f'"{hashlib.sha256(server.body).hexdigest()}"'
                if server.tags and self.headers.get("If-None-Match") == tag:
                    self.send_response(304)
                    self.end_headers()
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(server.body)))
                if server.tags:
                    self.send_header("ETag", tag)
                self.end_headers()
                self.wfile.write(server.body[:10] if fault == "cut" else server.body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.close()


@pytest.fixture
def other() -> Iterator[Server]:
    started = Server()
    yield started
    started.close()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_WAIT", tenacity.wait_none())


def source(server: Server, name: str = "x.jsonl", **http: Any) -> Source:
    return Source.model_validate({"path": f"{server.url}/{name}", "http": http})


def test_a_body_is_fetched_anew_only_where_it_changed(server: Server, tmp_path: Path) -> None:
    file = fetch(source(server), tmp_path)
    stamp = file.stat().st_mtime_ns
    assert fetch(source(server), tmp_path).stat().st_mtime_ns == stamp
    assert "if-none-match" in server.asked[1]
    server.body = LINES * 2
    assert fetch(source(server), tmp_path).read_bytes() == LINES * 2
    file.write_bytes(b"damaged")
    assert fetch(source(server), tmp_path).read_bytes() == LINES * 2
    assert "if-none-match" not in server.asked[3]
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".body", ".json"]


def test_passing_faults_are_tried_again_and_others_are_not(server: Server, tmp_path: Path) -> None:
    server.faults = [503, 429, "cut"]
    assert fetch(source(server), tmp_path).read_bytes() == LINES
    assert len(server.asked) == 4
    server.faults = [500] * 9
    with pytest.raises(RunError, match=r"x\.jsonl: could not be fetched in 2 tries: status 500"):
        fetch(source(server, attempts=2), tmp_path)
    server.faults = [404]
    with pytest.raises(DataError, match=r"x\.jsonl: status 404"):
        fetch(source(server), tmp_path)
    with pytest.raises(RunError, match="could not be fetched in 1 tries"):
        fetch(Source.model_validate({"path": "http://127.0.0.1:9/x.jsonl", "http": {"attempts": 1}}), tmp_path)


def test_what_is_too_large_is_refused_and_nothing_is_left(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"larger than http\.max_bytes = 20"):
        fetch(source(server, max_bytes=20), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_server_that_says_nothing_is_not_waited_for_without_end(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/x.jsonl"
        slow = Source.model_validate({"path": address, "http": {"timeout": 0.1, "attempts": 2}})
        with pytest.raises(RunError, match="could not be fetched in 2 tries: .*timed out"):
            fetch(slow, tmp_path)


def test_a_redirect_carries_no_secret(
    server: Server, other: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAIRSMITH_TEST_TOKEN", "Bearer canary")
    secret = {"headers_env": {"Authorization": "PAIRSMITH_TEST_TOKEN"}}
    server.redirect = f"{other.url}/y.jsonl"
    assert fetch(source(server, **secret), tmp_path).read_bytes() == LINES
    assert server.asked[0]["authorization"] == "Bearer canary"
    assert "authorization" not in other.asked[0]
    other.faults = [401]
    with pytest.raises(
        DataError, match=f"status 401 .*after a redirect to {other.url.removeprefix('http://')}"
    ) as told:
        fetch(source(server, **secret), tmp_path)
    assert "canary" not in str(told.value)
    server.redirect = "ftp://127.0.0.1/x.jsonl"
    with pytest.raises(DataError, match="redirects from http to ftp"):
        fetch(source(server), tmp_path)
    monkeypatch.delenv("PAIRSMITH_TEST_TOKEN")
    with pytest.raises(ConfigError, match="PAIRSMITH_TEST_TOKEN holds no value for the header Authorization"):
        fetch(source(server, **secret), tmp_path)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"path": "https://me:secret@host/x.jsonl"}, "a secret in it would be stored"),
        ({"path": "https://host/x.jsonl?api_key=secret"}, "a secret in it would be stored"),
        ({"path": "https://host/x"}, "what format is it"),
        ({"path": "https:///x.jsonl"}, "not the http"),
        ({"path": "x.jsonl", "http": {"max_bytes": 3}}, "the path is no http"),
        ({"path": "https://host/x", "format": "jsonl"}, None),
        ({"path": "https://host/x.jsonl.gz?version=3"}, None),
    ],
)
def test_addresses_that_cannot_be_are_refused(given: dict[str, Any], told: str | None) -> None:
    if told is None:
        Source.model_validate(given)
        return
    with pytest.raises(ValidationError, match=told):
        Source.model_validate(given)


def test_a_run_over_http_asks_only_for_what_is_new(echo_recipe: Build, server: Server) -> None:
    recipe = echo_recipe(1, prompts={"sources": [{"path": f"{server.url}/x.jsonl.gz"}]})
    server.body = gzip.compress(LINES + b"not json\n")
    _, summary, calls = run(recipe)
    assert (summary.loaded, calls["generate"]) == (2, 4)
    (refused,) = open_store(recipe).read(LOAD_REJECTIONS)["detail"]
    assert refused.startswith(f"{server.url}/x.jsonl.gz:3: not valid JSON")
    assert not run(recipe)[2]
    server.body = gzip.compress(LINES + b'{"prompt": "three"}\n')
    _, summary, calls = run(recipe)
    assert (summary.loaded, calls["generate"]) == (3, 2)
    assert plan_run(recipe).accepted == 3
    server.body = b"\x1f\x8b damaged"
    with pytest.raises(DataError, match=r"x\.jsonl\.gz: cannot be read"):
        run(recipe)
    other = echo_recipe(2)
    run(other)
    assert not list(Path(open_store(recipe).path("sources")).iterdir())
