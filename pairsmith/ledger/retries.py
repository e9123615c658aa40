"""Which errors of a database pass by themselves, and trying again until they have passed.

PostgreSQL ends one of two transactions that wait for each other, and cuts every connection when it restarts. What was
under way then can be done again from its beginning, if doing it twice changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa
import tenacity

log = logging.getLogger(__name__)
T = TypeVar("T")
PATIENCE = 120.0  # seconds for a server to restart
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_PASSING = {
    "40001": "serialization_failure",
    "40P01": "deadlock_detected",
    "53300": "too_many_connections",
    "57P01": "admin_shutdown",
    "57P02": "crash_shutdown",
    "57P03": "cannot_connect_now",
}
_CONNECTION = "08"  # the class of errors of connections
_STARTING = ("starting up", "shutting down", "not yet accepting connections", "in recovery mode")


def reason_of(error: BaseException) -> str:
    """The database's own message of an error, without the values of a row that it did not take."""
    message = str(error.orig) if isinstance(error, sa.exc.DBAPIError) else str(error)
    return message.partition("\nDETAIL:")[0].strip()


def is_passing(error: BaseException) -> bool:
    """Whether PostgreSQL may well do the same thing a moment later: a deadlock, a lost connection, a restart.

    An error without a code comes from the driver, as where nobody answers at the server's address.
    """
    if not isinstance(error, sa.exc.DBAPIError):
        return False
    code = getattr(error.orig, "sqlstate", "")  # SQLite's errors have none
    lost = error.connection_invalidated or (code is None and isinstance(error, sa.exc.OperationalError))
    return lost or code in _PASSING or str(code).startswith(_CONNECTION)


def is_starting(error: BaseException) -> bool:
    """Whether a PostgreSQL server answered that it takes no connection yet, or no longer."""
    return is_passing(error) and any(words in reason_of(error) for words in _STARTING)


def _warn(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    if error and state.attempt_number == 3:  # the first few pass unseen, as deadlocks do
        log.warning("ledger: %s; it is tried again for up to %g s", reason_of(error), PATIENCE)


def until_passed(work: Callable[[], T]) -> T:
    """What `work` returns; it is done again while it fails for a reason that passes, for at most `PATIENCE` seconds.

    The first time is outside tenacity, whose bookkeeping takes as long as a small commit.
    """
    try:
        return work()
    except sa.exc.DBAPIError as error:
        if not is_passing(error):
            raise
    return _again_until_passed(work)


_again_until_passed = tenacity.Retrying(
    retry=tenacity.retry_if_exception(is_passing),
    wait=tenacity.wait_random_exponential(multiplier=0.05, max=2),
    stop=tenacity.stop_after_delay(PATIENCE),
    before_sleep=_warn,
    reraise=True,
)
