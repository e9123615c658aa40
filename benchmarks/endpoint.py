"""How fast a run is when its models are behind an endpoint, each figure beside the most that is possible.

    python benchmarks/endpoint.py [throughput] [latency] [weather] [memory] [--prefect] [--json FILE]

The endpoint is `pairsmith.testing` in a process of its own on the loopback address. Four members and one listwise
judge: five calls a prompt. Each run is a process of its own and times the work, not the imports; with --prefect it is
the whole flow on a temporary Prefect server, which has the same two cores.

- throughput: an endpoint that answers at once. Beside it: the calls a second that the endpoint itself can serve.
- latency: 200 ms, evenly spread by half, at 64 and 256 calls at a time; from the first call to the last reply, and the
  whole run. Beside it: the seconds that all calls were under way, by the endpoint's clock, over the concurrency.
- weather: the same with 30% of calls failing (500, 503, broken connections) and half a second of 429 in every five.
  Beside it: the same ideal for all attempts that were made.
- memory: peak memory at 10,000 prompts beside 1,000, and a second run in which everything is known.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pairsmith.session import process_session

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

CALLS = 5  # a prompt: four members, one judge
LATENCY, SPREAD = 0.2, 0.5
STORM, STORM_EVERY = 0.5, 5.0


@contextmanager
def endpoint(**weather: Any) -> Iterator[str]:
    """A fake endpoint in a process of its own; gives its address."""
    options = [word for name, value in weather.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    command = [sys.executable, "-m", "pairsmith.testing", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def stats(url: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{url}/stats") as answer:
        return json.loads(answer.read())


def recipe_for(url: str, folder: Path, prompts: int, concurrency: int) -> Any:
    from pairsmith.config.loading import parse_recipe

    source = folder / f"prompts-{prompts}.jsonl"
    lines = (json.dumps({"prompt": f"Question {n}: what follows from it, and why?"}) for n in range(prompts))
    source.write_text("\n".join(lines))
    where = {
        "backend": "openai",
        "model": "fake",
        "endpoint": {"base_url": url, "api_key_env": None, "concurrency": concurrency, "attempts": 20},
    }
    members = [{"name": f"member-{n}", "sampling": {"max_tokens": 200, "seed": n}, **where} for n in range(4)]
    data = {
        "name": "bench",
        "workspace": str(folder),
        "prompts": {"sources": [{"path": str(source)}]},
        "pool": {"members": members},
        "rating": {"aspects": ["overall"], "judges": [{"name": "judge", **where}]},
    }
    return parse_recipe(data, folder)


def child(url: str, folder: str, prompts: int, concurrency: int, prefect: bool) -> None:
    """One run, in this process; prints what it took."""
    import pairsmith.llms.endpoint.client
    import pairsmith.llms.endpoint.openai
    import pairsmith.memory
    import pairsmith.stages.base  # noqa: F401

    recipe = recipe_for(url, Path(folder), prompts, concurrency)
    run = _flow if prefect else _library
    if prefect:
        from pairsmith_flows.cli.running import prepare_prefect

        prepare_prefect(verbose=False)
        from pairsmith_flows.service.server import start_temporary_server

        start_temporary_server()
        import pairsmith_flows.preferences  # noqa: F401
    seconds, cpu = time.perf_counter(), time.process_time()
    pairs = run(recipe)
    took = {"seconds": time.perf_counter() - seconds, "cpu": time.process_time() - cpu, "pairs": pairs}
    print(json.dumps(took | {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def _flow(recipe: Any) -> int:
    from pairsmith_flows.preferences import build_preference_dataset

    return int(build_preference_dataset(recipe)["pairs"])


def _library(recipe: Any) -> int:
    """What the flow does, with threads in place of Prefect's task runs."""
    from pairsmith.memory import frugal_memory
    from pairsmith.stages.freshness import unfinished
    from pairsmith.stages.generate import generate_shard
    from pairsmith.stages.load import load as load_sources
    from pairsmith.stages.pair import pair_shard
    from pairsmith.stages.publish import publish_run
    from pairsmith.stages.rate import rate_shard

    def shard(name: str) -> None:
        list(
            members.map(
                lambda member: generate_shard(recipe, name, member.name, process_session()), recipe.pool.members
            )
        )
        rate_shard(recipe, name, "judge", process_session())
        pair_shard(recipe, name, process_session())

    with frugal_memory(), ThreadPoolExecutor(recipe.shards_in_flight) as shards, ThreadPoolExecutor(64) as members:
        loaded = load_sources(recipe, process_session())
        list(shards.map(shard, unfinished(recipe, loaded.shards, process_session())))
        return publish_run(recipe, loaded, process_session())[0].pairs


def measure(url: str, folder: Path, prompts: int, concurrency: int, prefect: bool) -> dict[str, Any]:
    command = [sys.executable, __file__, "child", url, str(folder), str(prompts), str(concurrency), str(int(prefect))]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    if told.returncode:
        raise SystemExit(told.stderr)
    return json.loads(told.stdout.splitlines()[-1])


def ceiling(url: str, calls: int = 6000, concurrency: int = 64) -> float:
    """Calls a second that the endpoint serves to a client that does nothing but post."""
    import aiohttp

    async def go() -> float:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            numbers = iter(range(calls))

            async def work() -> None:
                for number in numbers:
                    chat = [{"role": "user", "content": f"Question {number}: what follows from it, and why?"}]
                    body = {"model": "fake", "messages": chat, "max_tokens": 200, "seed": number}
                    async with session.post(f"{url}/chat/completions", json=body) as answer:
                        await answer.read()

            begun = time.perf_counter()
            await asyncio.gather(*(work() for _ in range(concurrency)))
            return calls / (time.perf_counter() - begun)

    return asyncio.run(go())


def throughput(prefect: bool, prompts: int = 4096) -> Iterator[dict[str, Any]]:
    with endpoint() as url, tempfile.TemporaryDirectory() as folder:
        most = ceiling(url)
        took = measure(url, Path(folder), prompts, 64, prefect)
        rate = prompts / took["seconds"]
        yield {
            "what": f"no latency, {prompts} prompts",
            "measured": f"{rate:,.0f} prompts/s ({1e3 * took['cpu'] / prompts:.1f} ms of processor time each)",
            "limit": f"endpoint alone {most / CALLS:,.0f} prompts/s",
            "ratio": rate / (most / CALLS),
        }


def latency(prefect: bool, prompts: int = 2000) -> Iterator[dict[str, Any]]:
    for concurrency in (64, 256):
        with endpoint(latency=LATENCY, spread=SPREAD) as url, tempfile.TemporaryDirectory() as folder:
            took, seen = measure(url, Path(folder), prompts, concurrency, prefect), stats(url)
            yield from _against_ideal(f"200 ms, {concurrency} at a time", took, seen, concurrency)


def weather(prefect: bool, prompts: int = 2000) -> Iterator[dict[str, Any]]:
    bad = {"latency": LATENCY, "spread": SPREAD, "errors": 0.3, "storm": STORM, "storm_every": STORM_EVERY}
    for concurrency in (64, 256):
        with endpoint(**bad) as url, tempfile.TemporaryDirectory() as folder:
            took, seen = measure(url, Path(folder), prompts, concurrency, prefect), stats(url)
            what = f"30% errors, storms, {concurrency} at a time"
            yield from _against_ideal(what, took, seen, concurrency)


def _against_ideal(
    what: str, took: dict[str, Any], seen: dict[str, float], concurrency: int
) -> Iterator[dict[str, Any]]:
    """The makespan and the whole run, each beside the time in which `concurrency` callers that never rest would have
    had the same calls answered, those that failed among them."""
    ideal = seen["under_way"] / concurrency
    attempts = f"{seen['calls'] / seen['different']:.2f} attempts a call"
    for name, seconds in (("first call to last reply", seen["seconds"]), ("whole run", took["seconds"])):
        yield {
            "what": f"{what}: {name}",
            "measured": f"{seconds:.2f} s, {took['pairs']} pairs, {attempts}",
            "limit": f"ideal {ideal:.2f} s",
            "ratio": ideal / seconds,
        }


def memory(prefect: bool) -> Iterator[dict[str, Any]]:
    peaks = {}
    for prompts in (1000, 10_000):
        with endpoint() as url, tempfile.TemporaryDirectory() as folder:
            took = measure(url, Path(folder), prompts, 64, prefect)
            peaks[prompts] = took["peak_mb"]
            if prompts == 10_000:
                calls = stats(url)["calls"]
                again = measure(url, Path(folder), prompts, 64, prefect)
                asked = stats(url)["calls"] - calls
    yield {
        "what": "peak memory, 10,000 prompts",
        "measured": f"{peaks[10_000]:.0f} MB",
        "limit": f"{peaks[1000]:.0f} MB at 1,000",
        "ratio": peaks[10_000] / peaks[1000],
    }
    yield {
        "what": "second run, all known",
        "measured": f"{10_000 / again['seconds']:,.0f} prompts/s, {asked} calls",
        "limit": "5,000 prompts/s wanted",
        "ratio": 10_000 / again["seconds"] / 5000,
    }


PARTS = {"throughput": throughput, "latency": latency, "weather": weather, "memory": memory}


def main() -> None:
    if sys.argv[1:2] == ["child"]:
        url, folder, prompts, concurrency, prefect = sys.argv[2:]
        child(url, folder, int(prompts), int(concurrency), prefect == "1")
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"{', '.join(PARTS)}; all when none is named")
    parser.add_argument("--prefect", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    rows = []
    print(f"{'as a Prefect flow' if options.prefect else 'the library alone'}, {CALLS} calls a prompt")
    for name in options.parts or PARTS:
        for row in PARTS[name](options.prefect):
            rows.append(row)
            print(f"{row['what']:<56} {row['measured']:<58} {row['limit']:<32} ratio {row['ratio']:.2f}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
