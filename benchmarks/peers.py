"""The same prompts and the same endpoint for pairsmith and its peers: four answers and one judgement a prompt.

    python benchmarks/peers.py [prompts] [rounds] [--json FILE]

Installs each peer at a fixed version into an environment of its own under .cache/peers, at the first time. The endpoint
is `pairsmith.testing`, without latency, in a process of its own. All three are whole runs in a process of their own,
timed from the first prompt to the last result, in turns; imports are not timed. Prints the medians, the spread and the
ratios. A peer that does not install or does not end well is named and left out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from endpoint import CALLS, ROOT, endpoint, measure, stats

PEERS = {  # distilabel needs requests, and does not say so
    "distilabel": ("distilabel[openai]==1.5.3", "requests"),
    "curator": ("bespokelabs-curator==0.1.31",),
}
SECONDS = 900

DISTILABEL = """
import json, sys, time
from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import GroupColumns, LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration, UltraFeedback

def main():
    url, count = sys.argv[1], int(sys.argv[2])
    rows = [{"instruction": f"Question {n}: what follows from it, and why?"} for n in range(count)]
    def model(seed):
        kwargs = {"max_new_tokens": 200, "temperature": 0.7 + seed / 100}
        return OpenAILLM(model="fake", base_url=url, api_key="none", generation_kwargs=kwargs)
    with Pipeline(name="bench") as pipeline:
        load = LoadDataFromDicts(data=rows, batch_size=64)
        members = [TextGeneration(name=f"member_{n}", llm=model(n), input_batch_size=64) for n in range(4)]
        columns = {"columns": ["generation", "model_name"], "output_columns": ["generations", "models"]}
        group = GroupColumns(**columns)
        judge = UltraFeedback(llm=model(9), aspect="overall-rating", input_batch_size=64)
        load >> members >> group >> judge
    begun = time.perf_counter()
    made = pipeline.run(use_cache=False)
    print(json.dumps({"seconds": time.perf_counter() - begun, "rows": len(made["default"]["train"])}))

if __name__ == "__main__":
    main()
"""

CURATOR = """
import json, sys, time
import tiktoken

class Characters:  # the real table comes from the network; all that is done with it here is to count
    def encode(self, text, **options):
        return list(range(len(text) // 4))

tiktoken.get_encoding = tiktoken.encoding_for_model = lambda name: Characters()
from bespokelabs import curator

def main():
    url, count = sys.argv[1], int(sys.argv[2])
    options = {"base_url": url, "api_key": "none", "max_requests_per_minute": 10**7, "max_tokens_per_minute": 10**10,
               "max_concurrent_requests": 64}
    def asking(seed, make):
        class Asking(curator.LLM):
            def prompt(self, row):
                return make(row)
            def parse(self, row, response):
                return row | {f"answer_{seed}": response}
        params = {"max_tokens": 200, "temperature": 0.7 + seed / 100}
        return Asking(model_name="fake", backend="openai", backend_params=options, generation_params=params)
    rows = [{"instruction": f"Question {n}: what follows from it, and why?"} for n in range(count)]
    begun = time.perf_counter()
    for seed in range(4):
        rows = asking(seed, lambda row: row["instruction"])(rows).dataset.to_list()
    texts = lambda row: "\\n\\n".join(row[f"answer_{n}"] for n in range(4))
    rows = asking(9, lambda row: "Rate each text from 1 to 5.\\n\\n" + texts(row))(rows).dataset.to_list()
    print(json.dumps({"seconds": time.perf_counter() - begun, "rows": len(rows)}))

if __name__ == "__main__":
    main()
"""
SCRIPTS = {"distilabel": DISTILABEL, "curator": CURATOR}


def environment(peer: str) -> Path | None:
    """The Python of a peer's environment; None where it cannot be installed."""
    folder = ROOT / ".cache" / "peers" / peer
    python = folder / "bin" / "python"
    if not (folder / ".ready").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        told = subprocess.run([python, "-m", "pip", "install", "--quiet", *PEERS[peer]], capture_output=True, text=True)
        if told.returncode:
            print(f"{peer} does not install here: {told.stderr.strip().splitlines()[-1]}")
            return None
        (folder / ".ready").touch()
    return python


def run_peer(peer: str, python: Path, url: str, prompts: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, f"bench_{peer}.py")
        script.write_text(SCRIPTS[peer])
        quiet = {"CURATOR_CACHE_DIR": folder, "TELEMETRY_ENABLED": "0", "HF_HUB_OFFLINE": "1", "CURATOR_VIEWER": "0"}
        env = {**os.environ, **quiet, "OPENAI_API_KEY": "none", "OPENAI_BASE_URL": url}
        command = [python, script, url, str(prompts)]
        told = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=SECONDS)
        lines = [line for line in told.stdout.splitlines() if line.startswith('{"seconds"')]
        if not lines:
            raise RuntimeError((told.stderr or told.stdout).strip()[-2000:])
        return dict(json.loads(lines[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompts", nargs="?", type=int, default=1024)
    parser.add_argument("rounds", nargs="?", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    prompts, rounds = options.prompts, options.rounds
    pythons = {peer: environment(peer) for peer in PEERS}
    rates: dict[str, list[float]] = {"pairsmith": [], "pairsmith, as a Prefect flow": []}
    for _ in range(rounds):
        for name in rates:
            if name.startswith("pairsmith"):
                with endpoint() as url, tempfile.TemporaryDirectory() as folder:
                    took = measure(url, Path(folder), prompts, 64, "flow" in name)
                    rates[name].append(prompts / took["seconds"])
        for peer, python in pythons.items():
            if python is None:
                continue
            with endpoint() as url:
                try:
                    took = run_peer(peer, python, url, prompts)
                except (RuntimeError, subprocess.TimeoutExpired) as error:
                    print(f"{peer} did not end well: {error}")
                    pythons[peer] = None
                    continue
                calls = stats(url)["calls"]
                if took["rows"] != prompts or calls < CALLS * prompts:
                    print(f"{peer} gave {took['rows']} rows with {calls} calls, not {prompts} with {CALLS * prompts}")
                rates.setdefault(peer, []).append(prompts / took["seconds"])
    ours = statistics.median(rates["pairsmith"])
    print(f"{prompts} prompts, {CALLS} calls each, median of {rounds}")
    for name, values in rates.items():
        middle = statistics.median(values)
        spread = (max(values) - min(values)) / middle
        print(f"{name:<30} {middle:8,.1f} prompts/s   spread {spread:4.0%}   pairsmith is {ours / middle:.1f} times it")
    if options.json:
        options.json.write_text(json.dumps(rates, indent=1))


if __name__ == "__main__":
    main()
