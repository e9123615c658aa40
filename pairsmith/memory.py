"""How Python collects garbage while much is kept for long."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# Young objects looked at, then rounds until older ones are: measured with benchmarks/endpoint.py.
_THRESHOLDS = (10_000, 20, 50)


@contextmanager
def patient_collector() -> Iterator[None]:
    """Leave out of each collection what is there already, and collect less often.

    A process that has imported Prefect, pandas and torch has a million objects that never go away; looking through
    them again and again took a quarter of the time of a run against a fast endpoint.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
