"""The arms of `worth.py`: answers, ratings and pairs of each, by the library and by the peer, and where they are kept.

All that a model says is in the ledger of the work folder, so what is asked for again is known.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from peers import environment  # noqa: E402

import pairsmith  # noqa: E402
from pairsmith.config.check_kinds import IfEval  # noqa: E402
from pairsmith.errors import ModelNotFound  # noqa: E402
from pairsmith.ids import draw, prompt_id  # noqa: E402
from pairsmith.judging.readout_text import read_text  # noqa: E402
from pairsmith.judging.readouts import Scale, Sheet, Text  # noqa: E402
from pairsmith.storage.datafiles import PREFERENCE  # noqa: E402
from pairsmith.worth.calibration import Calibrated, as_calibration, calibrate  # noqa: E402
from pairsmith.worth.gold import Gold, Vote, gold_pair, united  # noqa: E402
from pairsmith.worth.questions import Question, read_questions  # noqa: E402

PROMPTS = ROOT.parent / "shared" / "data" / "prompts" / "ifeval_en_input.jsonl"
LARGER = "Qwen/Qwen2.5-Coder-1.5B-Instruct"  # the peer's judge
ASPECTS = ["helpfulness", "instruction-following"]
PAIRING = {"strategy": "best-vs-worst", "max_similarity": 0.9, "allow_truncated": True}
STRONG, WEAK = "qwen-coder", "smollm2"
GOLD = 0.25  # of the half of which pairs are made
AT_ONCE = 32  # prompts between two looks at the clock: as many as the local backend answers at once
PORT = 8817  # of llama.cpp's server: an address that stays, so that the ledger knows its replies again
CONTROL = "judge"  # the arm whose sides are shuffled, too
ORACLE = IfEval(kind="ifeval", name="follows")
Row = dict[str, Any]


class OutOfTime(Exception):
    """The minutes are over; what is done is kept."""


@dataclass
class Bench:
    """One run: where things are kept, how much there is, and when it ends."""

    work: Path
    arms: Sequence[str]
    prompts: int
    pairs: int
    tokens: int
    asked: int
    ends: float

    def in_time(self) -> None:
        if time.monotonic() > self.ends:
            raise OutOfTime

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Keep how long a part took: by the clock, and of all cores together, other processes of ours included."""
        begun = os.times()
        try:
            yield
        finally:
            now = os.times()
            cpu = sum(now[:4]) - sum(begun[:4])
            line = {"part": part, "seconds": round(now.elapsed - begun.elapsed, 1), "cpu_seconds": round(cpu, 1)}
            with (self.work / "times.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")

    def recipe(self, **sections: Any) -> Row:
        """The demo's pool, evolution and judge, without its checks, with a workspace here; some sections replaced."""
        demo = yaml.safe_load((ROOT / "recipes" / "demo.yaml").read_text())
        ours = {
            "workspace": str(self.work),
            "prompts": {"sources": [{"path": str(PROMPTS)}]},
            "rating": {"aspects": ASPECTS, "judges": demo["rating"]["judges"]},
            "pairing": PAIRING,
        }
        return demo | ours | sections

    def drawn(self) -> list[Row]:
        """The prompts in the order in which they are taken; `key` would be taken for a row's id."""
        found = [json.loads(line) for line in PROMPTS.read_text().split("\n") if line]
        rows = [{name: value for name, value in row.items() if name != "key"} for row in found]
        return sorted(rows, key=lambda row: draw("worth", _id(row)))

    @cached_property
    def _asked(self) -> dict[str, Question]:
        """The prompts as questions whose answers can be checked, by their texts."""
        return {one.messages[-1]["content"]: one for one in read_questions(str(PROMPTS), 10**6)[0]}

    def follows(self, prompt: str, text: str) -> float:
        """The share of a prompt's instructions that a text keeps to: the oracle."""
        return self._asked[prompt].score(text) or 0.0

    def half(self, which: str) -> list[Row]:
        """So many prompts of one part: gold and pairs share a half of all, held-out is the other."""
        parts: dict[str, list[Row]] = {"gold": [], "pairs": [], "held-out": []}
        for row in self.drawn():
            is_gold = draw("worth gold", _id(row)) < GOLD
            parts["held-out" if draw("worth half", _id(row)) < 0.5 else "gold" if is_gold else "pairs"].append(row)
        share = {"gold": GOLD, "pairs": 1 - GOLD, "held-out": 1.0}[which]
        return parts[which][: round(self.prompts / 2 * share)]


def _id(row: Row) -> str:
    return prompt_id([{"role": "user", "content": row["prompt"]}], None)


def in_parts(rows: Sequence[Row], bench: Bench, work: Callable[[list[Row]], list[Row]]) -> list[Row]:
    """What `work` makes of all rows, some prompts at a time, in the order in which the prompts come."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["prompt"], []).append(row)
    found, names = [], list(groups)
    for start in range(0, len(names), AT_ONCE):
        bench.in_time()
        found += work([row for name in names[start : start + AT_ONCE] for row in groups[name]])
    return found


def answers(bench: Bench, which: str) -> list[Row]:
    """The pool's answers and their rewrites, a row each."""
    recipe = bench.recipe()
    return in_parts(bench.half(which), bench, lambda rows: pairsmith.evolve(pairsmith.generate(rows, recipe), recipe))


def usable(bench: Bench, which: str) -> list[Row]:
    """The answers without an error; a rewrite that failed is none."""
    return [row for row in answers(bench, which) if not row["error"]]


def gold_of(bench: Bench) -> Gold:
    """Pairs of answers to the gold prompts, of which the checks say which is better."""
    groups: dict[str, list[Row]] = {}
    for row in usable(bench, "gold"):
        groups.setdefault(row["prompt"], []).append(row)
    pairs = []
    for prompt, rows in groups.items():
        for place, one in enumerate(rows):
            for other in rows[place + 1 :]:
                by = bench.follows(prompt, one["completion"]) - bench.follows(prompt, other["completion"])
                if by and one["completion"].strip() != other["completion"].strip():
                    chat = [{"role": "user", "content": prompt}]
                    votes = [Vote("a" if by > 0 else "b")]
                    pairs.append(gold_pair(chat, one["completion"], other["completion"], votes))
    return Gold("checks", united(pairs)[0])


def calibrated(bench: Bench) -> Calibrated:
    """The demo's judge in the forms that read probabilities, held to the gold."""
    rating = bench.recipe()["rating"]
    (judge,) = rating["judges"]
    forms = [judge, judge | {"name": f"{judge['name']}-pairwise", "protocol": "pairwise", "rationale": False}]
    bench.in_time()
    return calibrate(bench.recipe(rating=rating | {"judges": forms}), gold_of(bench), as_is=True)


def advised(bench: Bench) -> Row:
    """The rating section that calibrating advises: a panel with its weights, or the best judge alone."""
    found = calibrated(bench)
    counted = [one.tested.form.model_dump(exclude_unset=True) for one in found.counted if one.weight > 0]
    rating = bench.recipe()["rating"] | {"judges": counted}
    return rating | ({"calibration": as_calibration(found).model_dump(mode="json")} if found.held else {})


def larger(bench: Bench) -> Row:
    """The rating section of the peer's judge, asked as pairsmith asks."""
    where = {"base_url": f"http://127.0.0.1:{PORT}/v1", "api_key_env": None, "concurrency": 2}
    judge = {"name": "larger", "backend": "openai", "model": LARGER, "endpoint": where, "protocol": "listwise"}
    return {"aspects": ["overall"], "judges": [judge | {"sampling": {"temperature": 0, "max_tokens": 512}}]}


@contextmanager
def served(file: Path | None) -> Iterator[None]:
    """llama.cpp's server with the peer's judge."""
    if file is None:
        raise ModelNotFound(f"{LARGER} is not there: name its GGUF file by --judge")
    import xllamacpp

    server = xllamacpp.CommonParams()
    server.model.path = str(file)
    server.hostnames, server.port = ["127.0.0.1"], PORT
    server.n_parallel, server.n_ctx = 2, 2 * 4096
    server.cpuparams.n_threads = server.cpuparams_batch.n_threads = len(os.sched_getaffinity(0))
    running = xllamacpp.Server(server)
    yield
    del running


def judged(bench: Bench, rating: Row) -> list[Row]:
    """The answers with their ratings."""
    recipe = bench.recipe(rating=rating)
    return in_parts(answers(bench, "pairs"), bench, lambda rows: pairsmith.rate(rows, recipe))


def paired(bench: Bench, rows: list[Row], rating: Row | None, **pairing: Any) -> list[Row]:
    """The pairs of the best against the worst, or of a pairing with some fields changed."""
    sections = {"rating": rating} if rating else {}
    recipe = bench.recipe(**sections)
    return list(pairsmith.pair(rows, recipe | {"pairing": recipe["pairing"] | pairing}))


def by_judge(bench: Bench, of: Callable[[Bench], Row], **pairing: Any) -> list[Row]:
    rating = of(bench)
    return paired(bench, judged(bench, rating), rating, **pairing)


def demo_rating(bench: Bench) -> Row:
    return dict(bench.recipe()["rating"])


def checks_alone(bench: Bench) -> Row:
    return {"checks": [ORACLE.model_dump()]}


def delta(bench: Bench) -> list[Row]:
    return paired(bench, answers(bench, "pairs"), None, strategy="member-order", member_order=[STRONG, WEAK])


def peer_file(bench: Bench) -> Path:
    return bench.work / "peer.jsonl"


def peer_rows(bench: Bench) -> dict[str, Row]:
    """What the peer made of each prompt so far, by its id."""
    lines = peer_file(bench).read_text().split("\n") if peer_file(bench).exists() else []
    wanted = {_id(row) for row in bench.half("pairs")}
    return {row["prompt_id"]: row for row in map(json.loads, filter(None, lines)) if row["prompt_id"] in wanted}


def ask_peer(bench: Bench) -> None:
    """Let distilabel rate all answers that it has not yet rated."""
    python = environment("distilabel")
    if python is None:
        return
    known, groups = peer_rows(bench), dict[str, Row]()
    for row in usable(bench, "pairs"):
        group = groups.setdefault(row["prompt_id"], {"prompt_id": row["prompt_id"], "instruction": row["prompt"]})
        group.setdefault("generations", []).append(row["completion"])
    todo = [group for name, group in groups.items() if name not in known]
    command = [str(python), str(ROOT / "benchmarks" / "worth_distilabel.py"), f"http://127.0.0.1:{PORT}/v1"]
    quiet = os.environ | {"OPENAI_API_KEY": "none", "HF_HUB_OFFLINE": "1", "TELEMETRY_ENABLED": "0", "PYTHONPATH": ""}
    with (
        (bench.work / "peer.log").open("w") as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=quiet
        ) as peer,
        peer_file(bench).open("a") as kept,
    ):
        assert peer.stdin is not None
        assert peer.stdout is not None
        try:
            for group in todo:
                bench.in_time()
                peer.stdin.write(json.dumps(group) + "\n")
                peer.stdin.flush()
                if not (line := peer.stdout.readline()):
                    raise RuntimeError(f"distilabel ended: see {errors.name}")
                kept.write(line)
                kept.flush()
        finally:
            peer.kill()


def peer_pairs(bench: Bench) -> list[Row]:
    """The peer's own pairs. Of a prompt whose ratings are all the same it makes one text both; that is no pair."""
    return [
        pair_row(row["instruction"], row["chosen"], row["rejected"])
        for row in peer_rows(bench).values()
        if row["chosen"] != row["rejected"]
    ]


def peer_scores(row: Row) -> list[int | None]:
    """The ratings in the peer's reply, read by pairsmith's parser once its numbers of texts are marks."""
    marks = [f"{place:06}" for place in range(1, len(row["generations"]) + 1)]
    reply = re.sub(r"(?:Output for )?Text (\d)\b", lambda found: f"Text {int(found[1]):06}", row["reply"] or "")
    texts = tuple(Text(mark, mark, text) for mark, text in zip(marks, row["generations"], strict=True))
    found = read_text(reply, Sheet(texts, Scale(1, 5), may_be_na=False))
    return [found[mark].rating for mark in marks]


def reread_pairs(bench: Bench) -> list[Row]:
    """Pairs by the peer's replies as pairsmith reads them, the best against the worst."""
    read = {name: peer_scores(row) for name, row in peer_rows(bench).items()}
    rows, seen = [], dict.fromkeys(read, 0)
    for row in usable(bench, "pairs"):
        if (name := row["prompt_id"]) in read:
            rows.append(row | {"score": read[name][seen[name]]})
            seen[name] += 1
    return paired(bench, rows, None)


def pair_row(prompt: str, chosen: str, rejected: str) -> Row:
    """A pair as a published row."""
    chats = {
        "prompt": [{"role": "user", "content": prompt}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }
    return dict.fromkeys(PREFERENCE.names) | chats | {"prompt_id": prompt_id(chats["prompt"], None)}


DELTA = {"name": "delta", "strategy": "member-order", "member_order": [STRONG, WEAK]}
ARMS: Mapping[str, Callable[[Bench], list[Row]]] = {
    CONTROL: partial(by_judge, of=demo_rating),
    "calibrated": partial(by_judge, of=advised),
    "checks": partial(by_judge, of=checks_alone),
    "delta": delta,
    "delta and judged": partial(by_judge, of=demo_rating, signals=[DELTA, {"name": "judged"}]),
    "larger judge": partial(by_judge, of=larger),
    "distilabel": peer_pairs,
    "distilabel read by pairsmith": reread_pairs,
}
SERVED = ("larger judge", "distilabel", "distilabel read by pairsmith")  # by llama.cpp's server


def place_of(bench: Bench, arm: str) -> Path:
    return bench.work / f"{bench.prompts} prompts" / arm


def keep_pairs(bench: Bench, arm: str, pairs: Sequence[Row]) -> None:
    """Keep an arm's pairs as a data set's folder, which `prove` reads."""
    folder = place_of(bench, arm) / "data"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    known = [{name: row.get(name) for name in PREFERENCE.names} for row in pairs]
    pq.write_table(pa.Table.from_pylist(known, schema=PREFERENCE), folder / "train-00000-of-00001.parquet")


def kept_pairs(bench: Bench, arm: str) -> list[Row] | None:
    file = place_of(bench, arm) / "data" / "train-00000-of-00001.parquet"
    return pq.read_table(file).to_pylist() if file.exists() else None
