"""A proof from published versions to words, with a tiny model of random weights: no weights are fetched."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from pairsmith.errors import ConfigError, DataError
from pairsmith.ids import prompt_id
from pairsmith.storage.datafiles import PREFERENCE
from pairsmith.worth import proving
from pairsmith.worth.arms import Arm, Settings
from pairsmith.worth.asking import log_probs_of
from pairsmith.worth.proving import Plan, plan_of, report_of, results_of
from pairsmith_flows.__main__ import main
from tests.tiny import model_at


def nothing(*_: object) -> None:
    """Hears of progress and says nothing."""


THINGS = ("oak", "elm", "ash", "fir", "yew")
SETTINGS = Settings(pairs=48, tokens=96, epochs=2, learning_rate=3e-3, batch=8)


def version_at(folder: Path, chosen: Callable[[str], str], rejected: Callable[[str], str], many: int = 120) -> str:
    """A version's folder with a pair for each of many prompts."""
    rows = []
    for number in range(many):
        messages = [{"role": "user", "content": f"Name tree {number}"}]
        text = " ".join(THINGS[(number + place) % len(THINGS)] for place in range(4))
        answers = [[{"role": "assistant", "content": side(text)}] for side in (chosen, rejected)]
        row: dict[str, Any] = dict.fromkeys(PREFERENCE.names)
        rows.append(row | {"prompt": messages, "chosen": answers[0], "rejected": answers[1],
                           "prompt_id": prompt_id(messages, None)})  # fmt: skip
    (folder / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=PREFERENCE), folder / "data" / "train-00000-of-00001.parquet")
    return str(folder)


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(model_at(tmp_path / "model", head="CausalLM", special={"pad_token": "<pad>"}))


@pytest.fixture
def lower(tmp_path: Path) -> str:
    """A set that prefers lower case, and nothing else."""
    return version_at(tmp_path / "lower", str.lower, str.upper)


@pytest.fixture
def checks(tmp_path: Path) -> str:
    rows = [{"prompt": f"Name fish {number}", "check": {"kind": "regex", "pattern": "[A-Z]", "negate": True}}
            for number in range(6)]  # fmt: skip
    path = tmp_path / "checks.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.model
@pytest.mark.usefixtures("one_thread")
def test_a_planted_preference_is_learnt_and_shuffled_sides_teach_nothing(
    model: str, lower: str, checks: str, tmp_path: Path
) -> None:
    plan = plan_of([lower], model, checks, SETTINGS, 1, 10)
    results = results_of(plan, str(tmp_path / "arms"), lambda *_: None, nothing)
    report = report_of(plan, results)
    control = next(row for row in report["comparisons"] if row["over"] == "lower, sides shuffled" and row["low"] > 0)
    assert control["measure"] == "margin on lower"
    assert any(told.startswith("lower: what it prefers can be learnt.") for told in report["conclusions"])
    untrained = next(row for row in report["arms"] if row["arm"] == "untrained")
    assert untrained["margin on lower"] == 0
    assert all(0 <= row["checks"] <= 1 for row in report["arms"])


@pytest.mark.model
def test_log_probabilities_are_those_that_the_model_gives_text_by_text(model: str, lower: str) -> None:
    import torch

    plan = plan_of([lower], model, None, SETTINGS, 1, 1)
    lab, some = plan.lab, plan.held[:3]
    weights = lab.load()
    together = log_probs_of(lab, weights, some, nothing, "pairs")
    for pair in some:
        tokens = lab.tokens_of(pair)
        for side, rest in enumerate((tokens.chosen, tokens.rejected)):
            ids = torch.tensor([tokens.prompt + rest])
            with torch.inference_mode():
                scores = weights(input_ids=ids).logits[0].log_softmax(-1)
            alone = sum(float(scores[len(tokens.prompt) + n - 1, token]) for n, token in enumerate(rest))
            assert together[pair.name][side] == pytest.approx(alone, abs=1e-3)


class FakeTraining:
    """Counts trainings, and gives each model scores by its arm alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stop_at: int | None = None) -> None:
        self.trained: list[str] = []
        self.stop_at = stop_at
        monkeypatch.setattr(proving, "_result", self.result)

    def result(self, plan: Plan, arm: Arm, files: Any, tell: Any) -> dict[str, Any]:
        if len(self.trained) == self.stop_at:
            raise KeyboardInterrupt
        self.trained.append(arm.name)
        good = float(bool(arm.pairs) and not arm.shuffled)
        log_probs = {pair.name: [good + n % 3, n % 3] for n, pair in enumerate(plan.held)}
        scores = {question.prompt_id: good for question in plan.questions}
        return {"arm": arm.name, "seconds": 1.0, "log_probs": log_probs, "scores": scores}


def test_a_second_run_trains_nothing_and_an_interrupted_one_goes_on(
    model: str, lower: str, checks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upper = version_at(tmp_path / "upper", str.upper, str.lower)
    folder = str(tmp_path / "arms")
    plan = plan_of([lower, upper], model, checks, SETTINGS, 1, 10)
    fake = FakeTraining(monkeypatch, stop_at=2)
    with pytest.raises(KeyboardInterrupt):
        results_of(plan, folder, lambda *_: None, nothing)
    kept: list[bool] = []
    fake = FakeTraining(monkeypatch)
    first = results_of(plan, folder, lambda _, is_kept: kept.append(is_kept), nothing)
    assert kept == [True, True, False, False, False]
    assert fake.trained == [arm.name for arm in plan.arms[2:]]
    fake = FakeTraining(monkeypatch)
    again = results_of(plan_of([upper, lower], model, checks, SETTINGS, 1, 10), folder, lambda *_: None, nothing)
    assert again == first
    assert not fake.trained
    results_of(plan_of([lower, upper], model, checks, SETTINGS, 2, 10), folder, lambda *_: None, nothing)
    assert len(fake.trained) == 4
    assert all(name.endswith("seed 1") for name in fake.trained)


def test_half_a_result_is_made_again(model: str, lower: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, fake = plan_of([lower], model, None, SETTINGS, 1, 10), FakeTraining(monkeypatch)
    results_of(plan, str(tmp_path), lambda *_: None, nothing)
    (tmp_path / next(iter(plan.files()))).write_text('{"arm": ')
    results_of(plan, str(tmp_path), lambda *_: None, nothing)
    assert fake.trained[3:] == ["untrained"]


def test_pairs_that_are_too_long_are_left_out_and_told_and_too_few_are_an_error(model: str, tmp_path: Path) -> None:
    place = version_at(tmp_path / "long", lambda text: text * (1 + 9 * text.startswith("oak")), str.upper)
    plan = plan_of([place], model, None, SETTINGS, 1, 1)
    assert plan.sets[0].longer == 24
    assert any("long: 24 pairs left out: a side has more than 96 tokens" in told for told in plan.told)
    assert any("no more are in each of the sets" in told for told in plan.told) == (len(plan.sets[0].pairs) < 48)
    with pytest.raises(DataError, match="8 and 1 are needed: more pairs, or a larger --tokens"):
        plan_of([place], model, None, Settings(tokens=20), 1, 1)
    with pytest.raises(ConfigError, match="--tokens 300: .* reads 256 at most"):
        plan_of([place], model, None, Settings(tokens=300), 1, 1)


def test_prove_shows_its_plan_and_writes_what_it_found(
    model: str, lower: str, checks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeTraining(monkeypatch)
    arms, out = str(tmp_path / "arms"), tmp_path / "prove.json"
    call = ["prove", lower, "--model", model, "--eval", checks, "--tokens", "96", "--arms", arms, "--out", str(out)]
    dry = CliRunner().invoke(main, [*call, "--dry-run"])
    assert dry.exit_code == 0, dry.output
    assert "lower, sides shuffled, seed 0" in dry.output
    assert not fake.trained
    done = CliRunner().invoke(main, call)
    assert done.exit_code == 0, done.output
    assert "arm 3 of 3: lower, sides shuffled, seed 0" in done.output
    assert "One training an arm" in done.output
    report = json.loads(out.read_text())
    assert {row["measure"] for row in report["comparisons"]} == {"checks", "margin on lower"}
    same = CliRunner().invoke(main, ["prove", lower, lower, "--model", model, "--tokens", "96"])
    assert same.exit_code == 2
    assert "one version" in same.output


def test_a_missing_extra_is_told_with_the_command_that_installs_it(lower: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trl", None)
    told = CliRunner().invoke(main, ["prove", lower])
    assert told.exit_code == 2
    assert "pip install 'pairsmith[train]'" in told.output
