"""A hub of this process: the parts of the Hugging Face hub's HTTP API by which models are resolved and downloaded."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MODEL = "org/model"


@dataclass
class Hub:
    """`refs`: branch or tag -> its commit, or the status to answer. `commits`: commit -> the folder with its files.

    `always`: the status, and the error code of the hub's own, with which everything is answered.
    """

    url: str = ""
    refs: dict[str, str | int] = field(default_factory=dict)
    commits: Mapping[str, Path] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    always: tuple[int, str] | None = None

    def found(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer to a path."""
        self.asked.append(path)
        if self.always:
            status, code = self.always
            return status, {"X-Error-Code": code}, json.dumps({"id": MODEL}).encode()
        if "/tree/" in path:  # a folder of the repository: there is none
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        if path.startswith(f"/api/models/{MODEL}"):
            rest = path.removeprefix(f"/api/models/{MODEL}").removeprefix("/revision/") or "main"
            commit = rest if rest in self.commits else self.refs.get(rest, 404)
            if isinstance(commit, int):
                return commit, {"X-Error-Code": "RevisionNotFound"} if commit == 404 else {}, b"{}"
            return 200, {"Content-Type": "application/json"}, json.dumps({"id": MODEL, "sha": commit}).encode()
        _, _, rest = path.partition(f"/{MODEL}/resolve/")
        commit, _, name = rest.partition("/")
        file = self.commits[commit] / name if commit in self.commits else None
        if file is None or not file.is_file():
            return 404, {"X-Error-Code": "EntryNotFound" if file else "RepoNotFound"}, b""
        content = file.read_bytes()
        return 200, {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": commit}, content


@contextmanager
def serving(**refs: str | int) -> Iterator[Hub]:
    """A hub whose one model has these branches and tags, for as long as the block runs."""
    hub = Hub(refs=refs)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = hub.found(self.path.partition("?")[0])
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
