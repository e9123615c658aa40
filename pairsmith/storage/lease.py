"""A data set on object storage, held by one run among all machines: a lease, renewed for as long as its holder works.

The lease is a file that is put if absent and changed by compare-and-swap. A holder that renews it no more loses it to
the next run, which takes the next number. No two clocks are compared: a run that waits takes a lease for lapsed when it
has not changed for longer than the lease's own seconds, by the clock of the one who looks. A holder counts its seconds
from before its last renewal, so it knows first.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace

from pairsmith.errors import DataError
from pairsmith.storage.fence import Fence, beside, take_among_machines, taken_over_by
from pairsmith.storage.files import Files, refuse_unconditional
from pairsmith.storage.reads import parsed_with_etag

log = logging.getLogger(__name__)
FILE = "lease.json"
SECONDS = 30.0  # that a lease lasts without being renewed
RENEWALS = 6  # in that time
LOOKS = 40  # of a run that waits, in that time
_HINT = "so it cannot keep two runs apart; name a ledger on PostgreSQL, which can (`ledger: postgresql://...`)"


@dataclass(frozen=True)
class Lease:
    """What the file holds. `number` goes up with each holder; `beat` is new at each renewal; no holder: it is free."""

    number: int = 0
    holder: str | None = None
    seconds: float = 0.0
    beat: str = ""


@contextmanager
def hold_lease(files: Files, me: str, wait: float | None = None) -> Iterator[Fence]:
    """Hold the data set in `files`, waiting up to `wait` seconds for it; yields the run's fence.

    A lease whose holder died is waited for until it lapses, also without `wait`. Raises RunError where another run
    holds it; ConfigError where the storage does not keep to conditional writes.
    """
    refuse_unconditional(files, _HINT)
    held = HeldLease(files, me, SECONDS)
    take_among_machines(held.take, files.url(""), wait)
    with held.renewed():
        yield held


class HeldLease(Fence):
    """The lease of a data set, while it is taken and held."""

    def __init__(self, files: Files, me: str, seconds: float) -> None:
        super().__init__(files.url(""))
        self._files, self._me, self._seconds = files, me, seconds
        self._lease, self._renewed_at = Lease(), 0.0
        self._etag: str | None = None
        self._changing = threading.Lock()

    def take(self) -> str | None:
        """Try to take the lease: None on success, else its holder, who was seen to renew it."""
        first, since = None, time.monotonic()
        while True:
            seen, etag = self._read()
            if first is None:
                first = seen
                if seen.holder:
                    log.warning("%s: held by %s; looking whether it is still at work", self._what, seen.holder)
            elif seen.beat != first.beat and seen.holder:
                return seen.holder
            lapsed = time.monotonic() - since > seen.seconds
            if (lapsed or not seen.holder) and self._put(Lease(seen.number + 1, self._me, self._seconds), etag):
                return None
            time.sleep(seen.seconds / LOOKS)

    def check(self) -> None:
        """Renew the lease now, so that it lasts for what comes next; raises RunError where another run has it."""
        with self._changing:
            self.stop_if_lost()
            self._renew()
        self.stop_if_lost()

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Have a thread renew the lease for as long as the block runs, then give it back."""
        try:
            with beside(self._keep, "pairsmith lease"):
                yield
        finally:
            self._release()

    def _keep(self, ended: threading.Event) -> None:
        while not ended.wait(self._seconds / RENEWALS) and not self.is_lost:
            try:
                with self._changing:
                    self._renew()
            except Exception as error:  # whatever a storage raises: it may pass before the lease has lapsed
                log.warning("%s: its lease cannot be renewed (%s)", self._what, error)
                if time.monotonic() - self._renewed_at > self._seconds:  # another run may have it
                    self.lose(f"its lease could not be renewed for {self._seconds:g} s ({error})")

    def _renew(self) -> None:
        """Renew the lease, or note who has taken it."""
        if self._put(self._lease, self._etag):
            return
        seen, etag = self._read()
        if seen.number == self._lease.number and self._put(seen, etag):
            return  # a renewal before had come through, though its answer had not
        self.lose(taken_over_by(seen.holder or "it has ended since"))

    def _release(self) -> None:
        if not self.is_lost:
            with suppress(Exception):  # then it lapses
                self._put(replace(self._lease, holder=None), self._etag)

    def _read(self) -> tuple[Lease, str | None]:
        """The lease and its ETag; a free one without an ETag where there is no file."""
        try:
            return parsed_with_etag(self._files, FILE, self._parse)
        except FileNotFoundError:
            return Lease(), None

    def _parse(self, content: bytes) -> Lease:
        try:
            return Lease(**json.loads(content))
        except (ValueError, TypeError) as error:
            hint = "delete it while no run works on this data set"
            raise DataError(f"{self._files.url(FILE)}: damaged ({error}); {hint}") from None

    def _put(self, lease: Lease, etag: str | None) -> bool:
        """Write the lease with a new beat if it has this ETag; it then lasts from before that request on."""
        began, beating = time.monotonic(), replace(lease, beat=uuid.uuid4().hex)
        if not self._files.compare_and_swap(FILE, json.dumps(asdict(beating)).encode(), etag):
            return False
        seen, etag = self._read()
        if seen != beating:
            return False
        self._lease, self._etag, self._renewed_at = beating, etag, began
        return True
