"""Progress of a run in the Prefect UI: an artifact per stage that moves with its tasks, and a line now and then."""

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

EVERY_SECONDS = 5.0  # an update costs the server about 50 ms
SAID_EVERY_SECONDS = 60.0  # a line in the log


@contextmanager
def progress_artifacts(name: str, stages: Iterable[str], prompts: int, session: Session) -> Iterator[None]:
    """Show each stage's share of a recipe's prompts for as long as the block runs, and say how fast it goes."""
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
        said = time.monotonic()
        while not over.wait(EVERY_SECONDS):
            update()
            if time.monotonic() - said >= SAID_EVERY_SECONDS:
                said = time.monotonic()
                log.info("%s", done.told(artifacts, prompts, said - begun))

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
    """What was done of each stage, and how fast."""

    def __init__(self) -> None:
        self.prompts: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self.replies: Counter[str] = Counter()

    def note(self, progress: Progress) -> None:
        self.prompts[progress.stage] += progress.prompts  # type: ignore[assignment]
        self.tokens[progress.stage] += progress.tokens
        self.replies[progress.stage] += progress.replies

    def told(self, stages: Iterable[str], prompts: int, seconds: float) -> str:
        """A line about all stages: how far each is, rates, and about how long the slowest still takes."""
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
    """Seconds as a person says them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
