"""Progress of a run in the Prefect UI: an artifact per stage that is updated while its tasks run, and log lines."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import copy_context

from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from pairsmith.progress import Progress
from pairsmith.session import Session
from pairsmith_tasks.publish import artifact_key

EVERY_SECONDS = 5.0  # between updates of an artifact; one costs the server about 50 ms
SAID_EVERY_SECONDS = 60.0  # between lines in the log


@contextmanager
def progress_artifacts(name: str, stages: Iterable[str], prompts: int, session: Session) -> Iterator[None]:
    """While the block runs, show the share of prompts that each stage has done, and log the rates."""
    artifacts = {
        stage: create_progress_artifact(0.0, key=artifact_key(name, stage), description=f"{stage}: {prompts} prompts")
        for stage in stages
    }
    done, log, over, begun = StageCounts(), get_run_logger(), threading.Event(), time.monotonic()
    shown: dict[str, float] = dict.fromkeys(artifacts, 0.0)

    def update() -> None:
        for stage, artifact in artifacts.items():
            percent = min(100.0, round(100 * done.prompts[stage] / prompts, 1))
            if percent != shown[stage]:
                update_progress_artifact(artifact, percent)  # type: ignore[arg-type]
                shown[stage] = percent

    def keep_updating() -> None:
        last_line = time.monotonic()
        while not over.wait(EVERY_SECONDS):
            update()
            if time.monotonic() - last_line >= SAID_EVERY_SECONDS:
                last_line = time.monotonic()
                log.info("%s", done.told(artifacts, prompts, last_line - begun))

    updater = threading.Thread(target=copy_context().run, args=(keep_updating,), daemon=True)
    with session.listening(done.note):
        updater.start()
        try:
            yield
        finally:
            over.set()
            updater.join()
            update()


class StageCounts:
    """How much of each stage is done."""

    def __init__(self) -> None:
        self.prompts: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self.replies: Counter[str] = Counter()

    def note(self, progress: Progress) -> None:
        self.prompts[progress.stage] += progress.prompts  # type: ignore[assignment]
        self.tokens[progress.stage] += progress.tokens
        self.replies[progress.stage] += progress.replies

    def told(self, stages: Iterable[str], prompts: int, seconds: float) -> str:
        """A line about all stages: the progress of each, rates, and an estimate of the time that the slowest needs."""
        parts, left = [], 0.0
        for stage in stages:
            done = min(self.prompts[stage], prompts)
            parts.append(f"{stage} {done:,.0f} of {prompts:,}")
            if 0 < done < prompts:
                left = max(left, seconds * (prompts - done) / done)
        replies, tokens = (sum(counted.values()) / seconds for counted in (self.replies, self.tokens))
        rates = f"{replies:,.1f} replies/s, {tokens:,.0f} tokens/s"
        return f"{'; '.join(parts)} prompts; {rates}" + (f"; about {duration(left)} left" if left else "")


def duration(seconds: float) -> str:
    """Seconds as a short text in seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
