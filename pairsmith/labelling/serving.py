"""Serves the page on the loopback address, from a thread of its own, until the person is done."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from pairsmith.errors import ConfigError
from pairsmith.labelling.app import labelling_app
from pairsmith.labelling.desk import Desk

LOOPBACK = "127.0.0.1"
STOP_SECONDS = 5.0  # for an answer under way


@contextmanager
def serving(desk: Desk, port: int = 0) -> Iterator[tuple[str, threading.Event]]:
    """While the block runs, serve a desk's page: its address, and what is set when the person says that it is done.

    `port`: 0 for any that is free. Raises ConfigError where it is taken.
    """
    done, token = threading.Event(), secrets.token_urlsafe(24)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
        except OSError as error:
            raise ConfigError(f"--port {port}: {error.strerror}; name another, or 0 for any that is free") from None
        config = uvicorn.Config(
            labelling_app(desk, token, done.set),
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=int(STOP_SECONDS),
        )
        server = uvicorn.Server(config)
        listener.listen()
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield f"http://{LOOPBACK}:{listener.getsockname()[1]}/{token}/", done
        finally:
            server.should_exit = True
            thread.join(2 * STOP_SECONDS)
