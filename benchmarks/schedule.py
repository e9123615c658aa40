"""A service on a schedule of one minute: versions in a row, each asking only for what was new, one after a missed run.

    python benchmarks/schedule.py

Starts `pairsmith serve` with a fake endpoint. Prompts are added after each version; before the last one the service is
ended by kill -9 and stays away for more than a minute, so that a scheduled run is missed. Prints a line per version and
what it asked: four calls a prompt, of two members and a judge for two aspects. About six minutes.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from pairsmith.config import Recipe  # noqa: E402
from pairsmith.config.loading import parse_recipe  # noqa: E402
from pairsmith.testing import FakeEndpoint  # noqa: E402
from tests.service import Service, wait_for, write_deployments  # noqa: E402

AWAY_SECONDS = 90
WAIT_SECONDS = 240.0


def recipe_over(endpoint: FakeEndpoint, folder: Path, count: int) -> Recipe:
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"Question {n}?"}) + "\n" for n in range(count)))
    model = {"backend": "openai", "endpoint": {"base_url": endpoint.url, "api_key_env": None, "concurrency": 8}}
    data: dict[str, Any] = {
        "name": "minutely",
        "workspace": str(folder / "data"),
        "shard_size": 64,
        "prompts": {"sources": [{"path": str(prompts)}]},
        "pool": {"members": [{"name": name, "model": name, **model} for name in "ab"]},
        "rating": {"aspects": ["helpfulness", "honesty"], "judges": [{"name": "judge", "model": "j", **model}]},
    }
    return parse_recipe(data, folder)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    minutely = {"schedules": [{"cron": "* * * * *", "timezone": "UTC", "slug": "minutely"}]}
    with FakeEndpoint(latency=0.02) as endpoint, tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        deployments = write_deployments(folder, recipe_over(endpoint, folder, 100), only="nightly", **minutely)
        latest = folder / "data" / "minutely" / "latest"
        with Service(folder / "service", deployments) as service:
            asked = 0
            for number, count in enumerate((100, 130, 150, 160), 1):
                recipe_over(endpoint, folder, count)
                begun = time.monotonic()
                if number == 4:
                    service.end(signal.SIGKILL)
                    time.sleep(AWAY_SECONDS)
                    service.start()
                wait_for(lambda n=number: version(latest) == f"v{n:04}", f"version {number}", WAIT_SECONDS)
                wait_for(lambda: not runs(service, "RUNNING"), f"the end of run {number}", WAIT_SECONDS)
                calls, asked = len(endpoint.journal) - asked, len(endpoint.journal)
                print(
                    f"v{number:04} after {time.monotonic() - begun:3.0f} s: {count} prompts, {calls} calls", flush=True
                )
            print(f"calls repeated: {len(endpoint.journal) - len(endpoint.asked)}")
            for name in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
                print(f"{name:>9}: {runs(service, name)} runs")


def runs(service: Service, state: str) -> int:
    return len(service.runs(state={"type": {"any_": [state]}}))


def version(latest: Path) -> str | None:
    try:
        return str(json.loads((latest / "version.json").read_text())["version"])
    except OSError:
        return None


if __name__ == "__main__":
    main()
