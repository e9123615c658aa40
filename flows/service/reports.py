"""Serves the reports of versions that the service's runs published, at a port of its own beside the Prefect server.

A report is opened from the link among a run's artifacts. The browser asks for the service's login, user and password.
The port makes a report a page of another site than Prefect's, and `sandbox` one of no site at all.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from pairsmith_tasks.served_reports import PAGES, page

SECONDS = 30.0  # for a request to arrive
HEADERS = {
    "Content-Security-Policy": "sandbox allow-scripts; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@contextmanager
def serving_reports(folder: Path, port: int, login: str) -> Iterator[None]:
    """While the block runs, serve what `folder` notes on the loopback address, to those who have the login."""

    class Handler(BaseHTTPRequestHandler):
        timeout = SECONDS

        def do_GET(self) -> None:
            if not knows(self.headers.get("Authorization"), login):
                self.answer(401, b"log in with the service's login", **{"WWW-Authenticate": 'Basic realm="pairsmith"'})
                return
            name, _, what = self.path.removeprefix("/reports/").partition("/")
            found = page(folder, name, what) if self.path.startswith("/reports/") else None
            if found is None:
                self.answer(404, b"no run of this service published that, or it is not there any more")
            else:
                self.answer(200, found, **{"Content-Type": PAGES[what]})

        def answer(self, status: int, content: bytes, **headers: str) -> None:
            self.send_response(status)
            for key, value in ({"Content-Type": "text/plain; charset=utf-8"} | HEADERS | headers).items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing is logged: an address names a report."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Of a browser that goes away in the middle of an answer nothing is said."""

    with Server(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def knows(header: str | None, login: str) -> bool:
    """Whether an Authorization header gives the login, `user:password`."""
    scheme, _, given = (header or "").partition(" ")
    try:
        told = base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError):
        return False
    return scheme.casefold() == "basic" and hmac.compare_digest(told, login.encode())
