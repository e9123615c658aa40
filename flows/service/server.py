"""The Prefect server of a run: starts a temporary one that cannot outlive it, and warns of one that is open to all."""

from __future__ import annotations

import atexit
import ipaddress
import os
from urllib.parse import urlsplit

from pairsmith_flows.service.processes import VARIABLE
from pairsmith_flows.service.watchdog import Watchdog


def warning_for(api_url: str | None, has_auth: bool) -> str | None:
    """A warning where the Prefect API at `api_url` is open to others; None where it is safe or a temporary one."""
    host = urlsplit(api_url or "").hostname
    if host is None or has_auth or host == "localhost" or host.endswith(".localhost"):
        return None
    try:
        if ipaddress.ip_address(host).is_loopback:
            return None
    except ValueError:
        pass
    return (
        f"the Prefect API at {host} is used without authentication: whoever reaches it can start runs and read what "
        "they show; set PREFECT_SERVER_API_AUTH_STRING where it runs and PREFECT_API_AUTH_STRING here"
    )


def warn_of_open_server() -> str | None:
    """The warning for the server in this process's settings, if there is one."""
    from prefect.settings import get_current_settings

    api = get_current_settings().api
    return warning_for(api.url, bool(api.auth_string or api.key))


def api_url() -> str:
    """The URL of the API that this process uses: the one in its settings, or that of its temporary server."""
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import get_current_settings

    return get_current_settings().api.url or SubprocessASGIServer().api_url


def start_temporary_server() -> None:
    """Start Prefect's temporary server where none is configured, with a watchdog so that it ends with this process.

    Prefect stops the server at a normal exit. After kill -9 nobody would, so a watchdog is started before the server.
    It kills the server if that does not end soon, since the server holds this process's output streams, and other
    programs may wait for these to close.
    """
    from prefect.settings import get_current_settings

    if get_current_settings().api.url is not None:
        return
    from prefect.server.api.server import SubprocessASGIServer  # imports the whole server, which takes a second

    watchdog, before = Watchdog(), os.environ.get(VARIABLE)
    atexit.register(watchdog.release)  # keeps it alive; runs after Prefect's own handler, which stops the server
    os.environ.update(watchdog.environment("temporary server"))  # the server inherits it
    try:
        SubprocessASGIServer().start()
    finally:
        os.environ.pop(VARIABLE)
        os.environ.update({VARIABLE: before} if before else {})
    watchdog.confirm()
