"""Whether an endpoint has ever answered, and how long it is waited for until then: a server may still be starting.

Once it has answered, a connection that drops is a failure that passes, and the attempts go on as for any other.
"""

from __future__ import annotations

import logging
import socket
import ssl

from pairsmith.config import Endpoint
from pairsmith.protocol import UNREACHED, Reply

PATIENCE = 3.0  # seconds for which an endpoint that has never answered is tried at the least
STARTING = {502, 503, 504}  # statuses of a server, or of what stands before it, while its model loads
_UNCONNECTED: dict[type[BaseException], str] = {
    ConnectionRefusedError: "connection refused, nothing listens there",
    socket.gaierror: "no such host",
    ssl.SSLError: "no TLS there",
}
log = logging.getLogger(__name__)


def unconnected(error: BaseException) -> str | None:
    """Why no connection came to be, in plain words, by what lies under a client's error; None where another reason
    does, which may pass."""
    under: BaseException | None = error
    while under is not None:
        for kind, words in _UNCONNECTED.items():
            if isinstance(under, kind):
                return f"{words}: {under}" if kind is ssl.SSLError else words
        under = under.__cause__ or under.__context__
    return None


def mend(endpoint: Endpoint) -> str:
    """What to do where nobody is at an endpoint, and whether waiting helps."""
    waits = "" if endpoint.mode == "batch" else "; `endpoint.wait_for: 300` waits for one that is starting"
    return f"start the server, or correct endpoint.base_url{waits}"


class NotReached(Exception):
    """An attempt that found nobody at an endpoint that has never answered."""


class Reach:
    """What is known of one endpoint by the calls of one engine. Times are those of the engine's clock, in seconds."""

    def __init__(self, endpoint: Endpoint, model: str) -> None:
        self._where, self._seconds = f"{endpoint.base_url}, model {model}", max(endpoint.wait_for, PATIENCE)
        self._waits = endpoint.wait_for > 0
        self._since: float | None = None
        self._is_told = False
        self.has_answered = False
        self.problem = ""

    def is_starting(self, status: int) -> bool:
        """Whether a status is that of a server which is waited for."""
        return self._waits and not self.has_answered and status in STARTING

    def answered(self, now: float) -> bool:
        """Note an answer; returns whether it is the first after failures."""
        is_news = not self.has_answered and self._since is not None
        self.has_answered = True
        if is_news and self._is_told and self._since is not None:
            log.warning("%s answers after %.0f s", self._where, now - self._since)
        return is_news

    def goes_on(self, problem: str, now: float) -> bool:
        """Note that nobody was found; returns whether to try again. With `wait_for`, says once who is waited for."""
        self._since = now if self._since is None else self._since
        self.problem = f"{UNREACHED}: {problem}"
        if self._waits and not self._is_told:
            self._is_told = True
            log.warning("waiting up to %g s (endpoint.wait_for) for %s: %s", self._seconds, self._where, problem)
        return now - self._since < self._seconds

    def waited(self, now: float) -> float:
        """Seconds since the first call that found nobody."""
        return 0.0 if self._since is None else now - self._since

    def gave_up(self) -> Reply:
        """The reply to a request that finds nobody, and to those that are not sent since another found nobody."""
        return Reply("", error=self.problem)
