"""Models in this process beside what else there is for them: plain transformers, distilabel, llama.cpp, the processor.

    python benchmarks/local.py [--only generation|rating] [--skip distilabel,llamacpp] [--rounds 3] [--json FILE] ...

Generation: real prompts (MT-bench's first turns, then Vicuna's and IFEval's), greedy, 128 new tokens; how many texts
are those of plain `generate` at batch 1. Rating: real prompts, each with the two answers that UltraFeedback has for it
and the two of the next prompt, their first 400 characters. `text`: all four in one request, with reasons; `logprobs`:
one request each, no reasons.

Each measurement is a process of its own that loads, warms up and then times the work; contestants take turns in each
round. Plain generate and llama.cpp run at the best of the settings tried, of which the first of several is a sweep over
some of the prompts. distilabel answers one prompt at a time, so it gets a few, evenly spread, and its rate is compared.
The ceiling is the rate of the model's matrix products alone, at the batch where it is highest. Share: tokens/s x 2 x
parameters over it; in brackets, with the prompts' own tokens counted too.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from contestants import CLIPPED, ROOT, Job
from drawing import bars

DATA = ROOT.parent / "shared" / "data"
CORES = len(os.sched_getaffinity(0))
CONTESTANTS, DISTILABEL = ROOT / "benchmarks" / "contestants.py", ROOT / "benchmarks" / "local_distilabel.py"
PEER = ("distilabel==1.5.3", "requests", "torch==2.13.0", "transformers==5.23.0", "accelerate==1.15.0")
TRIES = 5  # of a measurement that others disturb
FEW, FEWEST = 8, 2  # rows of a contestant that answers one at a time; distilabel's prompts to rate
Found = dict[str, Any]


@dataclass(frozen=True)
class Contestant:
    name: str
    kind: str
    job: Job
    busy: bool = False  # beside a process that keeps one core busy
    python: str = sys.executable
    results: list[Found] = field(default_factory=list)

    def rate(self, what: str) -> list[float]:
        return [one[what] / one["seconds"] for one in self.results]


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text().split("\n") if line]


def prompts(count: int) -> list[dict[str, Any]]:
    turns = [
        row["turns"][0] for name in ("mt_bench", "vicuna_bench") for row in lines(f"prompts/{name}_question.jsonl")
    ]
    texts = [*turns, *(row["prompt"] for row in lines("prompts/ifeval_en_input.jsonl"))]
    return [{"prompt": text} for text in texts[:count]]


def pairs(count: int) -> list[dict[str, Any]]:
    rows = [row for row in lines("pairs/uf_binarized_train_1000.jsonl") if len(row["prompt"]) <= CLIPPED]
    two = [[row[side][:CLIPPED] for side in ("chosen", "rejected")] for row in rows]
    rows = [{"prompt": row["prompt"], "texts": two[n] + two[n + 1]} for n, row in enumerate(rows[:-1]) if all(two[n])]
    return rows[:count]


class Turn:
    """A file's lock, for a machine on which others measure too: held for a measurement or a few, then let go."""

    longest = 90.0  # seconds after which no further measurement begins

    def __init__(self, path: str | None) -> None:
        self._path, self._file, self._since = path, None, 0.0

    def take(self) -> None:
        if not self._path or (self._file and time.monotonic() - self._since < self.longest):
            return
        if self._file:
            self._file.close()
            time.sleep(1)
        self._file = Path(self._path).open("a")  # noqa: SIM115  anew: it may have been replaced
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._since = time.monotonic()


@contextmanager
def company(busy: bool) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
    try:
        yield
    finally:
        if process:
            process.kill()
            process.wait()


def memory_of(process: int) -> int:
    """Kilobytes of a process and those that it started; memory that several share counts once."""
    try:
        rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except (OSError, ProcessLookupError):
        return 0
    own = sum(int(line.split()[1]) for line in rollup.split("\n") if line.startswith("Pss:"))
    return own + sum(memory_of(int(child)) for child in children)


def others_share(before: tuple[float, ...], after: tuple[float, ...]) -> float:
    """How much of the processor went to programs that are none of ours, between two `clocks`."""
    wall, busy, own = (late - early for early, late in zip(before, after, strict=True))
    return max(0.0, busy - own) / wall / CORES


def clocks() -> tuple[float, float, float]:
    """Seconds: on the wall, of all cores that were busy, and of processes that we started and that have ended."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    busy = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
    times = os.times()
    return time.monotonic(), busy, times.children_user + times.children_system


def measure(one: Contestant, turn: Turn) -> Found:
    script = DISTILABEL if one.kind == "distilabel" else CONTESTANTS
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    turn.take()
    before = clocks()
    with company(one.busy):
        process = subprocess.Popen([one.python, script, one.kind], env=environment, text=True, **streams)
        peak, ended = [0], threading.Event()

        def watch() -> None:
            while not ended.wait(0.5):
                peak[0] = max(peak[0], memory_of(process.pid))

        threading.Thread(target=watch, daemon=True).start()
        try:
            told, errors = process.communicate(json.dumps(vars(one.job)))
        finally:
            process.kill()  # where this one was ended first
            ended.set()
    found = [line for line in told.split("\n") if line.startswith("{")]
    if process.returncode or not found:
        raise SystemExit(f"{one.name} did not end well:\n{errors[-3000:]}")
    return {**json.loads(found[-1]), "peak_mb": peak[0] / 1024, "others": others_share(before, clocks())}


def best(tried: Sequence[Contestant], what: str, turn: Turn) -> tuple[Contestant, dict[str, float]]:
    """The fastest of several settings by one measurement each over a part of the rows."""
    if len(tried) == 1:
        return tried[0], {}
    rates = {}
    for one in tried:
        few = max(FEW, 2 * one.job.batch) if one.kind == "plain" else max(2 * FEW, 4 * one.job.batch)
        found = measure(replace(one, job=replace(one.job, rows=one.job.rows[:few])), turn)
        rates[one.name] = found[what] / found["seconds"]
        print(f"  {one.name}: {rates[one.name]:.1f} {what}/s on {min(few, len(one.job.rows))} rows", flush=True)
    return max(tried, key=lambda one: rates[one.name]), rates


def take_turns(contestants: Sequence[Contestant], what: str, options: argparse.Namespace) -> None:
    for number in range(options.rounds):
        for one in contestants:
            for _ in range(TRIES):
                found = measure(one, options.turn)
                if found["others"] <= options.quiet:
                    break
                print(f"  {one.name}: others took {found['others']:.0%} of the processor", flush=True)
            one.results.append(found)
            print(f"  round {number + 1}, {one.name}: {one.rate(what)[-1]:.1f} {what}/s", flush=True)


def plain_texts(job: Job, most: int, turn: Turn) -> list[str]:
    """Greedy texts of plain `generate` at batch 1, kept for other runs with the same prompts and limit."""
    sys.path.insert(0, str(ROOT))
    from pairsmith.ids import fingerprint

    rows = job.rows[:most]
    name = fingerprint(job.model, rows, job.max_tokens, job.device, job.dtype)[:16]
    path = ROOT / ".cache" / "benchmarks" / f"plain-{name}.json"
    if not path.exists():
        texts: list[str] = []
        for start in range(0, len(rows), FEW):
            part = replace(job, rows=rows[start : start + FEW], batch=1, threads=CORES)
            texts += measure(Contestant("plain", "plain", part), turn)["texts"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(texts))
    return list(json.loads(path.read_text()))


def settings(words: str, job: Job, kind: str, name: str) -> list[Contestant]:
    """`8x1,32x2`: contestants by batch and threads."""
    made = []
    for word in words.split(","):
        batch, threads = (int(number) for number in word.split("x"))
        told = f"{name}, {batch} at a time, {threads} threads"
        made.append(Contestant(told, kind, replace(job, batch=batch, threads=threads)))
    return made


def distilabel(job: Job, few: int) -> Contestant:
    """With `few` of the rows, evenly spread: those at the beginning are of one source, their prompts half as long."""
    from peers import PEERS, environment

    PEERS["distilabel-local"] = PEER
    python = environment("distilabel-local")
    if python is None:
        raise SystemExit("distilabel does not install here; --skip distilabel")
    sys.path.insert(0, str(ROOT))
    from pairsmith.llms.local.named_weights import located

    rows = job.rows[:: -(-len(job.rows) // few)]
    job = replace(job, model=located(job.model, None).path, rows=rows, threads=CORES)
    return Contestant(f"distilabel, {len(rows)} of the prompts", "distilabel", job, python=str(python))


def generation(options: argparse.Namespace) -> Found:
    shared = {"device": options.device, "dtype": options.dtype}
    job = Job("generation", options.model, prompts(options.count), options.max_tokens, **shared)
    ours = Contestant("pairsmith", "pairsmith", replace(job, options=options.local))
    others, sweeps = [ours], {}
    plain, sweeps["plain"] = best(settings(options.plain, job, "plain", "plain generate"), "tokens", options.turn)
    others.append(plain)
    if options.on_gpu:
        others.append(Contestant("transformers' continuous batching", "continuous", job))
    if "llamacpp" not in options.skip:
        tried = settings(options.llamacpp, job, "llamacpp", "llama.cpp, 4-bit")
        llama, sweeps["llama.cpp"] = best(tried, "tokens", options.turn)
        others.append(llama)
    if "distilabel" not in options.skip:
        others.append(distilabel(job, FEW))
    if options.busy:
        fewer = replace(plain, job=replace(plain.job, rows=job.rows[: plain.job.batch]))  # it may collapse
        others += [replace(one, name=f"{one.name}, busy", busy=True, results=[]) for one in (ours, fewer)]
    take_turns(others, "tokens", options)
    expected = plain_texts(job, options.reference, options.turn)
    limit = measure(Contestant("ceiling", "ceiling", job), options.turn)
    show("Generation", others, "tokens", expected)
    peak = max(limit["gflops"].values())
    work = 2 * limit["parameters"] / 1e9
    told = ", ".join(f"{rows}: {rate:,.0f}" for rows, rate in limit["gflops"].items())
    print(f"  matrix products, GFLOP/s by rows, {limit['cores']} at once: {told}")
    for one in others:
        if one.kind in ("pairsmith", "plain", "continuous"):
            all_tokens = [(run["tokens"] + run["prompt_tokens"]) / run["seconds"] for run in one.results]
            shares = [statistics.median(rates) * work / peak for rates in (one.rate("tokens"), all_tokens)]
            print(f"  {one.name}: {shares[0]:.0%} of the ceiling ({shares[1]:.0%})")
    return {"contestants": recorded(others, "tokens", expected), "sweeps": sweeps, "ceiling": limit}


def rating(options: argparse.Namespace) -> Found:
    made: Found = {}
    shared = {"device": options.device, "dtype": options.dtype}
    reasoned = Job("text", options.judge, pairs(options.rated), options.rationale_tokens, **shared)
    peers = [] if "distilabel" in options.skip else [distilabel(reasoned, FEWEST)]
    for what, most in (("text", options.rationale_tokens), ("logprobs", 1)):
        job = Job(what, options.judge, pairs(options.rated), most, **shared)
        ours = Contestant("pairsmith", "pairsmith", replace(job, options=options.local))
        others = [ours]
        if what == "logprobs":
            unlike = replace(ours.job, alike=False)
            others.append(Contestant("pairsmith, nothing to share", "pairsmith", unlike))
        others += settings(options.plain_judge, job, "plain", "plain")
        if "llamacpp" not in options.skip:
            others += settings(options.llamacpp_judge, job, "llamacpp", "llama.cpp, 4-bit")
        others += [one for one in peers if not one.results]
        take_turns(others, "rated", options)
        others += [one for one in peers if one not in others]
        show(f"Rating by {what}", others, "rated", [])
        made[what] = recorded(others, "rated", [])
    return made


def same(one: Contestant, expected: Sequence[str]) -> float | None:
    """The share of texts that are as expected, in the worst round."""
    if not expected or one.kind == "distilabel":
        return None
    shares = []
    for run in one.results:
        both = list(zip(run["texts"], expected, strict=False))
        shares.append(sum(text.strip() == other.strip() for text, other in both) / len(both))
    return min(shares)


def recorded(those: Sequence[Contestant], what: str, expected: Sequence[str]) -> list[Found]:
    """What the tables, the JSON file and the picture are made of."""
    ours, rows = statistics.median(those[0].rate(what)), []
    for one in those:
        rates, first = one.rate(what), one.results[0]
        middle = statistics.median(rates)
        row = {
            "name": one.name,
            f"{what}/s": rates,
            "median": middle,
            "spread": (max(rates) - min(rates)) / middle,
            "pairsmith is": ours / middle,
            "prompts/s": statistics.median(len(one.job.rows) / run["seconds"] for run in one.results),
            "same text": same(one, expected),
            "read": first["read"] / first["rated"] if first.get("read") is not None and first.get("rated") else None,
            "first": statistics.median(run.get("first", 0) for run in one.results) or None,
            "peak_mb": max(run["peak_mb"] for run in one.results),
            "gpu_mb": max(run.get("gpu_mb", 0) for run in one.results) or None,
            "others": max(run["others"] for run in one.results),
            "errors": [error for run in one.results for error in run.get("errors", ())][:3],
            "settings": first["settings"],
        }
        rows.append(row)
    return rows


def show(title: str, those: Sequence[Contestant], what: str, expected: Sequence[str]) -> None:
    print(f"\n{title}: median of {len(those[0].results)}")
    for row in recorded(those, what, expected):
        told = f"{row['median']:9,.1f} {what}/s {row['prompts/s']:7.2f} prompts/s   spread {row['spread']:4.0%}"
        told += f"   pairsmith is {row['pairsmith is']:5.2f} times it   {row['peak_mb']:6,.0f} MB"
        told += f"   GPU {row['gpu_mb']:,.0f} MB" if row["gpu_mb"] else ""
        told += f"   same text {row['same text']:.0%}" if row["same text"] is not None else ""
        told += f"   read {row['read']:.0%}" if row["read"] is not None else ""
        told += f"   first after {row['first']:.1f} s" if row["first"] else ""
        print(f"  {row['name']:<46} {told}", *row["errors"])


def machine() -> Found:
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().split("\n") if "model name" in line
    ]
    versions = subprocess.run(
        [sys.executable, "-c", "import torch, transformers; print(torch.__version__, transformers.__version__)"],
        capture_output=True,
        text=True,
    ).stdout.split()
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": CORES,
        "torch, transformers": versions,
        "time": time.strftime("%Y-%m-%d %H:%M"),
    }


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["generation", "rating"])
    parser.add_argument("--skip", default="", help="distilabel,llamacpp")
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct")
    parser.add_argument("--judge", default="HuggingFaceTB/SmolLM2-135M-Instruct")
    parser.add_argument("--made-up", nargs=2, metavar=("CONFIG", "TOKENIZER"), help="for both, with random weights")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto", help="of all but llama.cpp: float32 on a CPU, bfloat16 elsewhere")
    parser.add_argument(
        "--local", type=json.loads, default={}, help='fields of a recipe\'s `local`: {"batch_size": 64}'
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=64, help="prompts to answer")
    parser.add_argument("--reference", type=int, default=64, help="of which so many are compared with plain generate's")
    parser.add_argument("--rated", type=int, default=16, help="prompts with four texts to rate")
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--rationale-tokens", type=int, default=256)
    parser.add_argument("--plain", help="batch x threads: 1x1,32x1")
    parser.add_argument("--plain-judge", help="the same for ratings")
    parser.add_argument("--llamacpp", default=",".join(f"{n}x{CORES}" for n in (1, 4, 8, 16)))
    parser.add_argument("--llamacpp-judge", default=f"8x{CORES}")
    parser.add_argument("--busy", action="store_true", help="also beside one busy process")
    parser.add_argument(
        "--quiet", type=float, default=1.0, help="measure again while others take more of the processor"
    )
    parser.add_argument("--lock", help="a file whose lock is held while something is measured")
    parser.add_argument("--json", default=str(ROOT / "benchmarks" / "results" / "local.json"))
    options = parser.parse_args()
    probe = "import torch; print(torch.cuda.is_available())"
    told = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True).stdout
    options.on_gpu = options.device.startswith("cuda") or (options.device == "auto" and told.strip() == "True")
    on_cpu = ",".join(f"{batch}x{threads}" for batch in (1, 8, 32) for threads in sorted({1, CORES}))
    options.plain = options.plain or ("8x1,32x1,64x1,128x1" if options.on_gpu else on_cpu)
    options.plain_judge = options.plain_judge or ("32x1" if options.on_gpu else f"8x{CORES}")
    return options


def main() -> None:
    options = parsed()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))  # with what is being measured
    with tempfile.TemporaryDirectory() as folder:
        if options.made_up:
            subprocess.run([sys.executable, CONTESTANTS, "make_up", *options.made_up, folder], check=True)
            options.model = options.judge = folder
            options.skip += ",llamacpp"
        found: Found = {"machine": machine(), "options": dict(vars(options))}
        options.turn = Turn(options.lock)
        parts = {"generation": generation, "rating": rating}
        for name in [options.only] if options.only else list(parts):
            found[name] = parts[name](options)
    path = Path(options.json)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1))
    panels = {"tokens/s": found.get("generation", {}).get("contestants", [])}
    panels |= {f"ratings/s by {what}": rows for what, rows in found.get("rating", {}).items()}
    path.with_suffix(".svg").write_text(bars({title: rows for title, rows in panels.items() if rows}))
    print(f"\n{path} and {path.with_suffix('.svg').name} written")


if __name__ == "__main__":
    main()
