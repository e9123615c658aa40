"""What Prefect costs a run: seconds to the first model call, and client and server time of a task run.

    python benchmarks/service.py [shards]

Without Prefect: the same stages in one thread. Servers: none (each run starts a temporary one), one with Prefect's own
settings, one with those of `pairsmith serve`. The baseline is a flow that does nothing: its seconds from the command
to its first line. Server time is the processor's, of the server's process, from before the run until it rests after
it, without what it uses when nothing runs. Takes about eight minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from pairsmith_flows.service.settings import BATCHES, for_service  # noqa: E402
from tests.conftest import clean_environment  # noqa: E402
from tests.service import free_port, wait_for  # noqa: E402

FEW = 10  # shards of the run that the other one is compared with
LOOK_SECONDS, RESTING = 4.0, 0.15  # a server rests that used less of a core than this
TASKS = 4  # of a shard: two members, a judge, pairs
TRIVIAL = """
import sys, time
from pathlib import Path
from pairsmith_flows.service.settings import for_terminal
import os
for name, value in for_terminal(False).items():
    os.environ.setdefault(name, value)
from prefect import flow

@flow
def nothing():
    Path(sys.argv[1]).write_text(str(time.monotonic()))

nothing()
"""
NOTED = """
import sys, time
from pathlib import Path
from pairsmith.llms.echo import Echo

stream, mark = Echo.stream, Path(sys.argv.pop(1))

def noted(self, requests):
    if not mark.exists():
        mark.write_text(str(time.monotonic()))
    return stream(self, requests)

Echo.stream = noted
"""
WITH_PREFECT = f"{NOTED}\nfrom pairsmith_flows.__main__ import main\nmain()\n"
WITHOUT = f"""{NOTED}
from pairsmith.recipes import load_recipe
from tests.runs import run
run(load_recipe(Path(sys.argv[2])))
"""
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Measured:
    """Seconds: to the first call, in all; of the processor, for the run and the server."""

    first_call: float
    whole: float
    client: float
    server: float | None


def recipe_over(folder: Path, shards: int) -> Path:
    folder.mkdir()
    (folder / "prompts.jsonl").write_text(
        "".join(json.dumps({"prompt": f"Question {n}?"}) + "\n" for n in range(shards))
    )
    recipe = {
        "name": "overhead",
        "workspace": str(folder / "data"),
        "shard_size": 1,
        "prompts": {"sources": [{"path": str(folder / "prompts.jsonl")}]},
        "pool": {"members": [{"name": name, "model": name, "backend": "echo"} for name in "ab"]},
        "rating": {"aspects": ["overall"], "judges": [{"name": "judge", "model": "j", "backend": "echo"}]},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder / "recipe.yaml"


@contextlib.contextmanager
def server(folder: Path, batches: bool) -> Iterator[tuple[dict[str, str], int]]:
    """The environment for a client of a server, and its process."""
    port = free_port()
    environment = for_service(clean_environment(), folder, port, "admin:benchmark")
    for name in () if batches else BATCHES:
        del environment[name]
    command = [sys.executable, "-m", "prefect", "server", "start"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=environment, **quiet) as process:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/api/health"), "the server answers", 120)
        try:
            yield environment, process.pid
        finally:
            process.terminate()


def answers(url: str) -> bool:
    with contextlib.suppress(OSError):
        return bool(urllib.request.urlopen(url, timeout=5).status == 200)
    return False


def processor(process: int) -> float:
    """Seconds of processor time that a process has had."""
    words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / TICKS


def settle(process: int) -> None:
    """Wait until a server has worked off what it was told: some of its services look for work every few seconds."""
    early, late = 0.0, processor(process)
    while late - early > RESTING * LOOK_SECONDS:
        time.sleep(LOOK_SECONDS)
        early, late = late, processor(process)


def idle_of(process: int) -> float:
    """How much of a core a server uses when nothing runs."""
    settle(process)
    before = processor(process)
    time.sleep(5 * LOOK_SECONDS)
    return (processor(process) - before) / (5 * LOOK_SECONDS)


def measure(folder: Path, environment: dict[str, str], server: int | None, shards: int, script: str) -> Measured:
    recipe, call = recipe_over(folder, shards), folder / "call"
    idle = idle_of(server) if server else 0.0
    before = processor(server) if server else 0.0
    children = os.times()
    begun = time.monotonic()
    command = [sys.executable, "-c", script, str(call), "run", str(recipe)]
    subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True)
    whole, after = time.monotonic() - begun, os.times()
    client = after.children_user + after.children_system - children.children_user - children.children_system
    used = None
    if server:
        settle(server)
        used = processor(server) - before - idle * (time.monotonic() - begun)
    return Measured(float(call.read_text()) - begun, whole, client, used)


def baseline(folder: Path, environment: dict[str, str]) -> float:
    """Seconds until a flow begins that does nothing."""
    mark, begun = folder / "nothing", time.monotonic()
    command = [sys.executable, "-c", TRIVIAL, str(mark)]
    subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True)
    return float(mark.read_text()) - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", nargs="?", type=int, default=150)
    shards = parser.parse_args().shards
    found: dict[str, tuple[Measured, Measured, float | None]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, batches, script in (
            ("without Prefect", None, WITHOUT),
            ("none", None, WITH_PREFECT),
            ("Prefect's settings", False, WITH_PREFECT),
            ("those of serve", True, WITH_PREFECT),
        ):
            home = Path(scratch) / name.replace(" ", "-").replace("'", "")
            home.mkdir()
            with contextlib.ExitStack() as stack:
                if batches is None:
                    environment, process = clean_environment(PREFECT_HOME=str(home)), None
                else:
                    environment, process = stack.enter_context(server(home, batches))
                nothing = baseline(home, environment) if script is WITH_PREFECT else None
                few, many = (measure(home / str(n), environment, process, n, script) for n in (FEW, shards))
                found[name] = few, many, nothing
    tasks = (shards - FEW) * TASKS
    print(f"{shards} shards of one prompt, {tasks:,} task runs more than of {FEW}")
    print("| server | first model call | a flow that does nothing | a task run: wall | its client | its server |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, (few, many, nothing) in found.items():
        wall, client = (1000 * (getattr(many, what) - getattr(few, what)) / tasks for what in ("whole", "client"))
        used = (
            "" if many.server is None or few.server is None else f"{1000 * (many.server - few.server) / tasks:.1f} ms"
        )
        alone = "" if nothing is None else f"{nothing:.1f} s"
        print(f"| {name} | {few.first_call:.1f} s | {alone} | {wall:.1f} ms | {client:.1f} ms | {used} |")


if __name__ == "__main__":
    main()
