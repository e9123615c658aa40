"""What the workflow itself costs: prompts/s through all stages of the echo recipe, against the bare model calls.

    python benchmarks/overhead.py [prompts] [rounds]

Measured in one process without Prefect, baseline and runs in turns: the bare calls of the same requests, a
first run (every reply made durable, every table written and checked), and a second run that knows everything. Prints
the median of the rounds, the spread, and the ratios; saves nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from pairsmith.config import Recipe  # noqa: E402
from pairsmith.config.loading import parse_recipe  # noqa: E402
from pairsmith.llms.recorded import Recorded  # noqa: E402
from tests.runs import run  # noqa: E402


def recipe_for(folder: Path, count: int) -> Recipe:
    data = yaml.safe_load((ROOT / "recipes" / "echo.yaml").read_text())
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"Question {n}: why?"}) + "\n" for n in range(count)))
    return parse_recipe(data | {"prompts": {"sources": [{"path": str(path)}]}, "workspace": str(folder)}, folder)


def seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def bare(recipe: Recipe) -> float:
    """Seconds that the model alone takes for the requests of a run, with no ledger and no tables."""
    batches: list[tuple[Any, Any]] = []
    real = Recorded.stream

    def noted(self: Recorded, requests: Any) -> Any:
        batches.append((self._llm, requests))
        return real(self, requests)

    Recorded.stream = noted  # type: ignore[method-assign]
    try:
        run(recipe)
    finally:
        Recorded.stream = real  # type: ignore[method-assign]
    return seconds(lambda: [list(llm.stream(requests)) for llm, requests in batches])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompts", nargs="?", type=int, default=1000)
    parser.add_argument("rounds", nargs="?", type=int, default=3)
    options = parser.parse_args()
    count, rounds = options.prompts, options.rounds
    times: dict[str, list[float]] = {"bare model calls": [], "first run": [], "second run": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            times["bare model calls"].append(bare(recipe_for(Path(one), count)))
            recipe = recipe_for(Path(other), count)
            times["first run"].append(seconds(lambda recipe=recipe: run(recipe)))  # type: ignore[misc]
            times["second run"].append(seconds(lambda recipe=recipe: run(recipe)))  # type: ignore[misc]
    base = statistics.median(times["bare model calls"])
    print(f"{count} prompts, 6 calls each, median of {rounds}")
    for name, values in times.items():
        middle = statistics.median(values)
        spread = (max(values) - min(values)) / middle
        print(f"{name:>17}: {count / middle:8,.0f} prompts/s   {middle / base:5.1f} x bare   spread {spread:.0%}")


if __name__ == "__main__":
    main()
