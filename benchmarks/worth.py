"""What pairs are worth by how they were chosen: the same answers paired by judges, by a peer, by checks and by nobody.

    python benchmarks/worth.py [generate] [rate] [peer] [train] [report] [--prompts 180] [--minutes 60] [--work FOLDER]

Without a part, all of them. Each goes on where it stopped: answers and ratings are in a ledger, the peer's replies and
trained models' scores in files of the work folder. `--minutes` ends it in time; run it again.

The pool of recipes/demo.yaml answers IFEval's prompts, whose instructions a program checks. Prompts are divided by
their ids: of one half pairs are made, on the other the trained models are asked, and nothing is chosen by that. A
quarter of the first half is gold for `calibrate` alone: pairs of answers of which the checks say which is better.

Agreement: of an arm's pairs, how often the chosen answer keeps to a larger share of its instructions than the rejected.
The peer is distilabel's UltraFeedback (overall rating) with its own choice of chosen and rejected, on the same answers;
its judge is Qwen2.5-Coder-1.5B by llama.cpp, since smaller ones do not keep to its format. Its replies are read again
by pairsmith's parser. Needs PAIRSMITH_MODELS, the extras `train` and `ifeval` with NLTK's data, and IFEval's file.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from worth_arms import (  # noqa: E402
    ARMS,
    CONTROL,
    LARGER,
    SERVED,
    Bench,
    OutOfTime,
    Row,
    answers,
    ask_peer,
    calibrated,
    keep_pairs,
    kept_pairs,
    peer_rows,
    peer_scores,
    place_of,
    served,
)

from pairsmith.errors import DataError, ModelNotFound  # noqa: E402
from pairsmith.llms.local.hub_models import gguf_of  # noqa: E402
from pairsmith.storage.local_files import LocalFiles  # noqa: E402
from pairsmith.worth.accuracy import Share  # noqa: E402
from pairsmith.worth.advice import advice  # noqa: E402
from pairsmith.worth.arms import Arm, Settings  # noqa: E402
from pairsmith.worth.bootstrap import effect, luck_of  # noqa: E402
from pairsmith.worth.proving import Plan, plan_of, results_of  # noqa: E402
from pairsmith.worth.reference import kept_json  # noqa: E402

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"  # to be trained
FEWEST = 20  # pairs, below which an arm is not trained: all are trained on as many as the one that has fewest
SHUFFLED, UNTRAINED = f"{CONTROL}, sides shuffled", "untrained"


def generate(bench: Bench, judge: Path | None) -> None:
    for which in ("gold", "pairs"):
        print(f"{which}: {len(answers(bench, which)):,} answers to {len(bench.half(which)):,} prompts", flush=True)


def rate(bench: Bench, judge: Path | None) -> None:
    for arm in bench.arms:
        if arm not in SERVED:
            make_pairs(bench, arm)


def make_pairs(bench: Bench, arm: str) -> None:
    try:
        with bench.timed(f"pairs of {arm}"):
            keep_pairs(bench, arm, ARMS[arm](bench))
        print(f"{arm}: {len(kept_pairs(bench, arm) or []):,} pairs", flush=True)
    except DataError as error:
        print(f"{arm}: left out: {error}", flush=True)


def peer(bench: Bench, judge: Path | None) -> None:
    """The arms of the larger judge, which llama.cpp's server runs."""
    with served(judge):
        with bench.timed("distilabel's ratings"):
            ask_peer(bench)
        for arm in bench.arms:
            if arm in SERVED:
                make_pairs(bench, arm)


class OneControl(Plan):
    """A plan in which the sides of one set alone are shuffled."""

    @property
    def arms(self) -> list[Arm]:
        return [arm for arm in super().arms if not arm.shuffled or arm.data == CONTROL]


def plan(bench: Bench, seeds: int) -> OneControl:
    """The trainings of all arms that have enough pairs, on as many each, and what the models are asked."""
    exam = bench.work / "held-out.jsonl"
    exam.write_text("".join(json.dumps(row) + "\n" for row in bench.half("held-out")))
    places = [str(place_of(bench, arm)) for arm in bench.arms if len(kept_pairs(bench, arm) or []) >= FEWEST]
    made = plan_of(places, MODEL, str(exam), Settings(pairs=bench.pairs, tokens=bench.tokens), seeds, bench.asked)
    return OneControl(**vars(made))


def train(bench: Bench, judge: Path | None, seeds: int = 1) -> None:
    """Train the arms, the control and the oracle first: they say whether any arm can differ from another."""

    def begin(arm: Arm, is_kept: bool) -> None:
        print(f"{arm.name}{', done before' if is_kept else ''}", flush=True)
        if not is_kept:
            bench.in_time()

    with bench.timed("training"):
        results_of(plan(bench, seeds), str(bench.work / "arms"), begin, lambda *_: None)


def agreement(bench: Bench) -> list[Row]:
    """How far each arm's pairs are those of the checks. `gain`: by how much larger a share of its instructions the
    chosen answer keeps to than the rejected one, in the mean, with a 95% interval over prompts."""
    found = []
    for arm in bench.arms:
        by = []
        for pair in kept_pairs(bench, arm) or []:
            prompt, *texts = (pair[part][-1]["content"] for part in ("prompt", "chosen", "rejected"))
            chosen, rejected = (bench.follows(prompt, text) for text in texts)
            by.append(chosen - rejected)
        if by:
            gains = np.array([by])
            right, wrong = int((gains > 0).sum()), int((gains < 0).sum())
            seen = effect(gains, np.zeros_like(gains), None)
            share = Share(right, right + wrong)
            counts = {"pairs": len(by), "right": right, "wrong": wrong, "tie": len(by) - right - wrong}
            found.append(
                {"arm": arm, **counts, "right of decided": _share(share), "gain": _span(seen.mean, seen.low, seen.high)}
            )
    return found


def _share(share: Share) -> str:
    return "" if share.value is None else f"{share.value:.0%} ({share.interval[0]:.0%} to {share.interval[1]:.0%})"


def _span(mean: float, low: float, high: float) -> str:
    return f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"


def trained(bench: Bench, seeds: int) -> list[Row]:
    """How each trained model does on the held-out prompts, beside the untrained one and that of shuffled sides."""
    made, files = plan(bench, seeds), LocalFiles(str(bench.work / "arms"))
    results = {arm.name: result for name, arm in made.files().items() if (result := kept_json(files, name))}
    kinds: dict[str, list[Row]] = {}
    for name, result in results.items():
        kinds.setdefault(name.rpartition(", seed ")[0] or UNTRAINED, []).append(result["scores"])
    asked = [one.prompt_id for one in made.questions if all(result["scores"][one.prompt_id] is not None
                                                            for result in results.values())]  # fmt: skip
    scores = {kind: np.array([[one[name] for name in asked] for one in runs]) for kind, runs in kinds.items()}
    luck = luck_of([runs for kind, runs in scores.items() if kind != UNTRAINED])
    found = []
    for kind, runs in scores.items():
        row = {"arm": kind, "trainings": len(runs), "pairs": trained_on(made, kind), "checks": f"{runs.mean():.3f}"}
        for other in (UNTRAINED, SHUFFLED):
            if kind not in (UNTRAINED, other) and other in scores:
                seen = effect(runs, scores[other], luck, other_is_trained=other != UNTRAINED)
                row[f"over {other}"] = _span(seen.mean, seen.low, seen.high)
        found.append(row | {"seconds": round(sum(result["seconds"] for result in _of(results, kind)))})
    return found


def trained_on(made: Plan, kind: str) -> int:
    return next((len(arm.pairs) for arm in made.arms if arm.name.startswith(kind)), 0)


def _of(results: Mapping[str, Row], kind: str) -> list[Row]:
    return [result for name, result in results.items() if (name.rpartition(", seed ")[0] or UNTRAINED) == kind]


def readable(bench: Bench) -> list[Row]:
    """Of the peer's ratings, how many could be read: by the peer, and by pairsmith in the same replies."""
    rows = list(peer_rows(bench).values())
    many = sum(len(row["generations"]) for row in rows)
    by = {
        "distilabel": sum(rating is not None for row in rows for rating in row["ratings"]),
        "pairsmith": sum(rating is not None for row in rows for rating in peer_scores(row)),
    }
    return [
        {"read by": name, "ratings": many, "read": read, "share": f"{read / many:.0%}"} for name, read in by.items()
    ]


def table(title: str, rows: Sequence[Row]) -> None:
    """Print rows as a table of markdown."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    print(f"\n{title}\n\n| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(str(row.get(name, '')) for name in columns)} |")


def report(bench: Bench, judge: Path | None, seeds: int = 1) -> None:
    many = {which: len(bench.half(which)) for which in ("gold", "pairs", "held-out")}
    print(f"prompts: {many}")
    table("Pairs beside the checks", agreement(bench))
    if peer_rows(bench):
        table("The peer's ratings", readable(bench))
    if kept_pairs(bench, "calibrated") is not None:
        print("\nCalibration:", *advice(calibrated(bench)), sep="\n- ")
    try:
        if rows := trained(bench, seeds):
            table(f"{MODEL} trained, asked the held-out prompts", rows)
    except DataError as error:
        print(f"\nnot trained: {error}")
    table("Time", [json.loads(line) for line in (bench.work / "times.jsonl").read_text().split("\n") if line])


PARTS = {"generate": generate, "rate": rate, "peer": peer, "train": train, "report": report}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument(
        "--arm", action="append", choices=ARMS, help="only this one, and others named so; all if absent"
    )
    parser.add_argument("--prompts", type=int, default=180, help="of IFEval: a half for pairs, a half held out")
    parser.add_argument("--pairs", type=int, default=200, help="that an arm is trained on, at most")
    parser.add_argument("--tokens", type=int, default=256, help="of a side, and of a held-out answer, at most")
    parser.add_argument("--asked", type=int, default=90, help="held-out prompts, at most")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each arm")
    parser.add_argument("--minutes", type=float, default=120, help="after which it stops, to be run again")
    parser.add_argument("--work", type=Path, default=ROOT / ".cache" / "worth", help="where all is kept")
    parser.add_argument("--judge", type=Path, help=f"GGUF file of {LARGER}; that of the model store when absent")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part {unknown.pop()}: there are {', '.join(PARTS)}")
    options.work.mkdir(parents=True, exist_ok=True)
    ends = time.monotonic() + 60 * options.minutes
    arms = options.arm or list(ARMS)
    bench = Bench(options.work, arms, options.prompts, options.pairs, options.tokens, options.asked, ends)
    for part in options.parts or PARTS:
        try:
            more = {"seeds": options.seeds} if part in ("train", "report") else {}
            with bench.timed(part):
                PARTS[part](bench, options.judge or store_file(), **more)
        except OutOfTime:
            sys.exit(f"{part}: the {options.minutes:g} minutes are over; run it again to go on")
        except ModelNotFound as error:
            print(f"{part}: left out: {error}")


def store_file() -> Path | None:
    """The peer's judge in the model store, where it is there."""
    try:
        return gguf_of(LARGER)
    except ModelNotFound:
        return None


if __name__ == "__main__":
    main()
