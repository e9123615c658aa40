"""What Prefect costs a run: seconds to the first model call, and the server's processor time for each task run.

    python benchmarks/service.py [--rounds 3] [--shards 60]

First call: `pairsmith run` of the echo recipe, from the start of its process, beside a flow of one line, whose time is
that of Prefect's own import and start; each with a server that is up and with a temporary one. Task runs: many small
shards, on a server with Prefect's own settings and on one with those of `pairsmith serve`; the processor time of the
server's process from the first task run until it has been idle for a while. Baseline and pairsmith take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from flows.settings import SERVER  # noqa: E402

TRIVIAL = """
import time
from prefect import flow

@flow(name="one line")
def one_line():
    print("first", time.time(), flush=True)

one_line()
"""
ECHO = """
import sys, time
from pairsmith.llms.echo import Echo

answer, first = Echo.stream, []

def noted(self, requests):
    if not first:
        first.append(time.time())
        print("first", first[0], flush=True)
    yield from answer(self, requests)

Echo.stream = noted
from flows.__main__ import main
main(sys.argv[1:])
"""
IDLE_SECONDS = 5.0  # for which the server must do next to nothing before its time is read


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**kept, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(home), "PREFECT_LOGGING_LEVEL": "CRITICAL", **more}


@contextmanager
def server(home: Path, **settings: str) -> Iterator[tuple[str, int]]:
    """A Prefect server of its own: its address and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, env=environment(home, **settings), **quiet)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=5)
                break
            except OSError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/api", process.pid
    finally:
        process.terminate()
        process.wait(30)


def processor_seconds(process: int) -> float:
    """Of a process and its children."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return own + sum(processor_seconds(int(child)) for child in children)


def settled(process: int) -> float:
    """The processor time of a server once it has nothing left to write."""
    before = processor_seconds(process)
    while True:
        time.sleep(IDLE_SECONDS)
        now = processor_seconds(process)
        if now - before < 0.1 * IDLE_SECONDS:
            return now
        before = now


def recipe(folder: Path, prompts: int, shard_size: int) -> Path:
    data = yaml.safe_load((ROOT / "recipes" / "echo.yaml").read_text())
    file = folder / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"Question {n}: why?"}) + "\n" for n in range(prompts)))
    data |= {"prompts": {"sources": [{"path": str(file)}]}, "workspace": str(folder / "data"), "shard_size": shard_size}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def first_call(code: str, arguments: list[str], variables: dict[str, str]) -> float:
    """Seconds from the start of a process to what it prints first."""
    begun = time.time()
    command = [sys.executable, "-c", code, *arguments]
    told = subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout
    return float(next(line for line in told.split("\n") if line.startswith("first ")).split()[1]) - begun


def start_times(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        with server(home / "up", **SERVER) as (address, _):
            where = {"a server that is up": {"PREFECT_API_URL": address}, "a temporary server": {}}
            for name, variables in where.items():
                taken: dict[str, list[float]] = {"Prefect alone": [], "pairsmith": []}
                for number in range(rounds):
                    folder = home / f"{number}-{len(variables)}"
                    folder.mkdir()
                    patience = {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120"}
                    known = environment(folder / "home" if not variables else home / "up", **variables, **patience)
                    taken["Prefect alone"].append(first_call(TRIVIAL, [], known))
                    taken["pairsmith"].append(first_call(ECHO, ["run", str(recipe(folder, 20, 256))], known))
                middle = {who: statistics.median(times) for who, times in taken.items()}
                spread = max(taken["pairsmith"]) - min(taken["pairsmith"])
                told = ", ".join(f"{who} {seconds:.1f} s" for who, seconds in middle.items())
                more = middle["pairsmith"] - middle["Prefect alone"]
                print(f"{name}: {told}; pairsmith adds {more:.1f} s (spread {spread:.1f} s)", flush=True)


def server_times(rounds: int, shards: int) -> None:
    each: dict[str, list[float]] = {"Prefect's own settings": [], "those of pairsmith serve": []}
    client: list[float] = []
    for _ in range(rounds):
        for name, settings in zip(each, ({"PREFECT_SERVER_ANALYTICS_ENABLED": "false"}, SERVER), strict=True):
            with tempfile.TemporaryDirectory() as scratch, server(Path(scratch) / "home", **settings) as (address, pid):
                path = recipe(Path(scratch), shards * 2, 2)
                before, begun = settled(pid), time.monotonic()
                known = environment(Path(scratch) / "client", PREFECT_API_URL=address)
                command = [sys.executable, "-m", "flows", "run", str(path)]
                subprocess.run(command, env=known, capture_output=True, check=True)
                client.append(time.monotonic() - begun)
                tasks = counted(address)
                each[name].append((settled(pid) - before) / tasks)
    default, ours = (statistics.median(times) for times in each.values())
    for name, times in each.items():
        told = ", ".join(f"{1000 * seconds:.0f}" for seconds in times)
        print(f"{name}: {1000 * statistics.median(times):.0f} ms of the server's processor a task run ({told})")
    print(f"{default / ours:.1f} times less; {tasks} task runs, a whole run {statistics.median(client):.0f} s")


def counted(address: str) -> int:
    headers = {"Content-Type": "application/json", "Prefect-Csrf-Client": "benchmark"}
    try:
        with urllib.request.urlopen(f"{address}/csrf-token?client=benchmark", timeout=60) as answer:
            headers["Prefect-Csrf-Token"] = json.loads(answer.read())["token"]
    except urllib.error.HTTPError:  # a server that asks for none
        headers.pop("Prefect-Csrf-Client")
    ask = urllib.request.Request(f"{address}/task_runs/count", b"{}", headers)
    with urllib.request.urlopen(ask, timeout=60) as answer:
        return int(answer.read())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shards", type=int, default=60)
    options = parser.parse_args()
    start_times(options.rounds)
    server_times(options.rounds, options.shards)


if __name__ == "__main__":
    main()
