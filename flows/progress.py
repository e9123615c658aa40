"""Progress artifacts: one per stage, moved while the tasks work."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import copy_context

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from pairsmith.progress import Progress, listening

EVERY_SECONDS = 5.0  # an update costs the server about 50 ms


@contextmanager
def progress_artifacts(key: str, stages: Iterable[str], prompts: int) -> Iterator[None]:
    """Show each stage's share of `prompts` in the Prefect UI for as long as the block runs."""
    artifacts = {
        stage: create_progress_artifact(0.0, key=f"{key}-{stage}", description=f"{stage}: {prompts} prompts")
        for stage in stages
    }
    done: Counter[str] = Counter()
    shown: dict[str, float] = dict.fromkeys(artifacts, 0.0)
    over = threading.Event()

    def note(progress: Progress) -> None:
        done[progress.stage] += progress.prompts  # type: ignore[assignment]

    def update() -> None:
        for stage, artifact in artifacts.items():
            percent = min(100.0, round(100 * done[stage] / prompts, 1))
            if percent != shown[stage]:
                update_progress_artifact(artifact, percent)  # type: ignore[arg-type]
                shown[stage] = percent

    def keep_updating() -> None:
        while not over.wait(EVERY_SECONDS):
            update()

    updater = threading.Thread(target=copy_context().run, args=(keep_updating,), daemon=True)
    with listening(note):
        updater.start()
        try:
            yield
        finally:
            over.set()
            updater.join()
            update()
