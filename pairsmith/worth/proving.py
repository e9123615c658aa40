"""Whether data sets are worth training on: arms planned, trained one by one, kept as they end, and compared.

Each arm's result is a JSON file whose name is the arm's fingerprint, written whole or not at all: a second run trains
nothing that is there, and an interrupted one goes on where it was.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from statistics import median
from typing import Any

import numpy as np

from pairsmith.errors import ConfigError, DataError
from pairsmith.ids import seed_of
from pairsmith.storage.datafiles import File, published_files, rows_of
from pairsmith.storage.local_files import LocalFiles
from pairsmith.worth.arms import Arm, Pair, Settings, arm_fingerprint, arms_of, divided, pair_of
from pairsmith.worth.asking import answers_of, log_probs_of
from pairsmith.worth.bootstrap import Scores, effect, luck_of
from pairsmith.worth.conclusions import CHECKS, MARGIN, UNTRAINED, Comparison, conclusions
from pairsmith.worth.questions import Question, exam_digest, read_questions
from pairsmith.worth.reference import kept_json, reference_of
from pairsmith.worth.training import Lab, Tell

FORMAT = 1
LEAST = 8  # pairs to train on
Measured = dict[tuple[str, str], dict[str, Scores]]  # measure and its set -> kind of arm -> scores, runs x prompts
LOOKED_AT = 20  # times as many pairs as wanted, to find so many that are short enough


@dataclass
class DataSet:
    """A version's pairs: to train on, and held out. `longer`: left out for their length; `lengths`: median tokens."""

    name: str
    pairs: list[Pair]
    held: list[Pair]
    longer: int
    lengths: dict[str, float] = field(default_factory=dict)


@dataclass
class Plan:
    """What is going to be trained and asked. `told`: what was left out, and why."""

    lab: Lab
    settings: Settings
    seeds: int
    sets: list[DataSet]
    questions: list[Question]
    told: list[str]

    @property
    def arms(self) -> list[Arm]:
        return arms_of({one.name: one.pairs for one in self.sets}, self.seeds)

    @property
    def held(self) -> list[Pair]:
        """The held-out pairs of all sets, each once."""
        return list({pair.name: pair for one in self.sets for pair in one.held}.values())

    def files(self) -> dict[str, Arm]:
        """The name of each arm's file, in the order in which they are trained."""
        exam = exam_digest(self.questions, [pair.name for pair in self.held])
        made_by = self.lab.made_by
        return {f"{arm_fingerprint(arm, self.settings, made_by, exam)}.json": arm for arm in self.arms}


def plan_of(
    places: Sequence[str], model: str, eval_path: str | None, settings: Settings, seeds: int, prompts: int
) -> Plan:
    """Read the sets and the questions, and choose pairs. Trains nothing.

    Raises ConfigError for an option that is wrong, DataError for a set without enough pairs that are short enough.
    """
    lab = Lab(model)
    if settings.tokens > lab.context:
        raise ConfigError(f"--tokens {settings.tokens}: {model} reads {lab.context} at most")
    questions, told = _questions(lab, eval_path, settings, prompts)
    asked = {question.prompt_id for question in questions}
    found = [published_files(place) for place in places]
    names = _names(places, found)
    sets = [_read(lab, name, files, settings, asked) for name, files in zip(names, found, strict=True)]
    for one in sets:
        if one.longer:
            told.append(
                f"{one.name}: {one.longer:,} pairs left out: a side has more than {settings.tokens} tokens (--tokens)"
            )
    many = min(settings.pairs, *(len(one.pairs) for one in sets))
    for one in sets:
        if len(one.pairs) < LEAST or not one.held:
            raise DataError(
                f"{one.name}: {len(one.pairs)} pairs to train on and {len(one.held)} held out, of those with at most "
                f"{settings.tokens} tokens a side; {LEAST} and 1 are needed: more pairs, or a larger --tokens"
            )
        one.pairs, one.held = one.pairs[:many], one.held[: max(1, settings.pairs // 2)]
        one.lengths = _lengths(lab, one.pairs)
    if many < settings.pairs:
        told.append(f"{many:,} pairs a set, not {settings.pairs:,}: no more are in each of the sets")
    return Plan(lab, settings, seeds, sets, questions, told)


def _questions(lab: Lab, path: str | None, settings: Settings, many: int) -> tuple[list[Question], list[str]]:
    if path is None:
        return [], []
    questions, refused = read_questions(path, many)
    told = [f"--eval: {len(refused):,} rows are no questions; the first: {refused[0]}"] if refused else []
    room = lab.context - settings.tokens
    short = [question for question in questions if len(lab.question_tokens(question)) <= room]
    if len(short) < len(questions):
        told.append(f"--eval: {len(questions) - len(short):,} prompts left out: more than {room} tokens")
    if not short:
        raise DataError(f"--eval {path}: no prompt has at most {room} tokens, which {lab.model} can read and answer")
    return short, told


def _names(places: Sequence[str], found: Sequence[Sequence[File]]) -> list[str]:
    """What each set is called: `demo v0002`, or its folder where it is no version of a data set."""
    folders = [str(files[0]).replace("\\", "/").rsplit("/", 2)[0] for files in found]
    if len(set(folders)) < len(folders):
        raise ConfigError(f"{' and '.join(places)} are one version: a data set cannot be compared with itself")
    parts = [folder.split("/") for folder in folders]
    names = [f"{part[-3]} {part[-1]}" if part[-2:-1] == ["versions"] else part[-1] for part in parts]
    return names if len(set(names)) == len(names) else folders


def _read(lab: Lab, name: str, files: Sequence[File], settings: Settings, asked: set[str]) -> DataSet:
    pairs, held = divided(map(pair_of, rows_of(files)), settings.pairs * LOOKED_AT, asked)
    short = [[pair for pair in some if lab.tokens_of(pair).longest <= settings.tokens] for some in (pairs, held)]
    return DataSet(name, short[0], short[1], len(pairs) + len(held) - len(short[0]) - len(short[1]))


def _lengths(lab: Lab, pairs: Sequence[Pair]) -> dict[str, float]:
    tokens = [lab.tokens_of(pair) for pair in pairs]
    return {
        "prompt_tokens": median(len(one.prompt) for one in tokens),
        "chosen_tokens": median(len(one.chosen) for one in tokens),
        "rejected_tokens": median(len(one.rejected) for one in tokens),
    }


def results_of(plan: Plan, folder: str, begin: Callable[[Arm, bool], None], tell: Tell) -> dict[str, dict[str, Any]]:
    """The result of each arm by the arm's name: read where it is there already, otherwise trained and kept.

    `begin` is told of each arm, and whether its result was there.
    """
    files, found = LocalFiles(folder), {}
    for name, arm in plan.files().items():
        kept = kept_json(files, name)
        begin(arm, kept is not None)
        if kept is None:
            kept = _result(plan, arm, files, tell)
            files.write(name, json.dumps(kept, ensure_ascii=False, indent=1).encode("utf-8"))
        found[arm.name] = kept
    return found


def _result(plan: Plan, arm: Arm, files: LocalFiles, tell: Tell) -> dict[str, Any]:
    lab, start = plan.lab, time.monotonic()
    if arm.pairs:
        model = lab.trained(arm, plan.settings, reference_of(lab, arm.pairs, files, tell), tell)
    else:
        model = lab.load()
    log_probs = log_probs_of(lab, model, plan.held, tell, "held-out pairs")
    answers = answers_of(lab, model, plan.questions, plan.settings.tokens, tell)
    scores = {question.prompt_id: question.score(answers[question.prompt_id]) for question in plan.questions}
    return {
        "format": FORMAT,
        "arm": arm.name,
        "pairs": len(arm.pairs),
        "made_by": lab.made_by,
        "seconds": round(time.monotonic() - start, 1),
        "log_probs": log_probs,
        "scores": scores,
        "answers": answers,
    }


def report_of(plan: Plan, results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What came of all arms: a row for each kind of arm, comparisons with intervals, and what follows in words."""
    judged = _judged(plan, results)
    measured = _matrices(plan, results, judged)
    compared = _comparisons(plan, measured)
    no_verdict = len(plan.questions) - len(judged)
    told = [*plan.told, *([f"{no_verdict:,} check prompts without a verdict are left out"] if no_verdict else [])]
    return {
        "format": FORMAT,
        "made_by": plan.lab.made_by,
        "settings": asdict(plan.settings),
        "seeds": plan.seeds,
        "check_prompts": len(plan.questions),
        "sets": [
            {"name": one.name, "pairs": len(one.pairs), "held_out": len(one.held), "longer": one.longer, **one.lengths}
            for one in plan.sets
        ],
        "arms": _arm_rows(plan, results, measured),
        "comparisons": [comparison.row for comparison in compared],
        "told": told,
        "conclusions": conclusions(compared, len(plan.sets[0].pairs), plan.seeds),
    }


def _kinds(plan: Plan) -> dict[str, list[str]]:
    """Each kind of arm, and the names of its arms: one a seed."""
    kinds: dict[str, list[str]] = {}
    for arm in plan.arms:
        kinds.setdefault(arm.name.rpartition(", seed ")[0] or UNTRAINED, []).append(arm.name)
    return kinds


def _judged(plan: Plan, results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The prompts of checks on which every arm has a verdict."""
    asked = [question.prompt_id for question in plan.questions]
    return [name for name in asked if all(one["scores"][name] is not None for one in results.values())]


def _margins(pairs: Sequence[Pair], result: Mapping[str, Any], untrained: Mapping[str, Any]) -> dict[str, list[float]]:
    """For each prompt, the margins of its held-out pairs: how much further than the untrained model this one leans to
    the chosen answer, in nats (DPO's implicit reward difference, divided by beta)."""
    found: dict[str, list[float]] = {}
    for pair in pairs:
        (chosen, rejected), (was_chosen, was_rejected) = (one["log_probs"][pair.name] for one in (result, untrained))
        found.setdefault(pair.prompt_id, []).append((chosen - was_chosen) - (rejected - was_rejected))
    return found


def _matrices(plan: Plan, results: Mapping[str, Mapping[str, Any]], judged: Sequence[str]) -> Measured:
    """The scores of all arms. `judged`: the prompts of checks on which every arm has a verdict."""
    kinds = _kinds(plan)
    found: Measured = {}
    if judged:
        found[CHECKS, ""] = {
            kind: np.array([[results[arm]["scores"][name] for name in judged] for arm in arms], dtype=float)
            for kind, arms in kinds.items()
        }
    for one in plan.sets:
        found[MARGIN, one.name] = {
            kind: np.array(
                [
                    [np.mean(values) for values in _margins(one.held, results[arm], results[UNTRAINED]).values()]
                    for arm in arms
                ]
            )
            for kind, arms in kinds.items()
        }
    return found


def _comparisons(plan: Plan, measured: Measured) -> list[Comparison]:
    names = [one.name for one in plan.sets]
    found = []
    for (measure, on), scores in measured.items():
        luck = luck_of([rows for kind, rows in scores.items() if kind != UNTRAINED])
        own = [on] if on else names
        pairs = [(name, other) for name in own for other in (UNTRAINED, f"{name}, sides shuffled")]
        for one, other in [*pairs, *combinations(names, 2)]:
            seed = seed_of("proof", measure, on, one, other)
            seen = effect(scores[one], scores[other], luck, seed, other_is_trained=other != UNTRAINED)
            found.append(Comparison(measure, on, one, other, seen))
    return found


def _arm_rows(plan: Plan, results: Mapping[str, Mapping[str, Any]], measured: Measured) -> list[dict[str, Any]]:
    rows = []
    for kind, arms in _kinds(plan).items():
        row: dict[str, Any] = {"arm": kind, "trainings": len(arms) if kind != UNTRAINED else None}
        for (measure, on), scores in measured.items():
            row[f"{measure}{f' on {on}' if on else ''}"] = round(float(scores[kind].mean()), 4)
        row["seconds"] = round(sum(results[arm]["seconds"] for arm in arms))
        rows.append(row)
    return rows
