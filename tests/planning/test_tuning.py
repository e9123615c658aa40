"""Tuning: what is tried, when it ends, what is chosen; with triers that only say how fast they are."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pairsmith.config import Judge, LocalOptions, Member, ModelSpec, Recipe
from pairsmith.config.loading import parse_recipe
from pairsmith.errors import ConfigError
from pairsmith.llms.local import trial
from pairsmith.llms.local.trial import Device, Ended, Took, TrialProcess
from pairsmith.planning.tuning import LARGEST, NEW_TOKENS, PROMPTS, Trial, Work, best, lines, tune, works
from pairsmith.protocol import Request
from tests.command_line import cli
from tests.conftest import model_id

Speed = Callable[[ModelSpec], float]  # tokens a second; 0 where it ends


@dataclass
class Fake:
    """Takes the time that it says, but only on paper."""

    speed: Speed
    device: Device = field(default_factory=lambda: Device(("float32",), 2))
    seen: list[tuple[ModelSpec, int]] = field(default_factory=list)
    opened: int = 0

    def __call__(self) -> Fake:
        self.opened += 1
        return self

    def look_at(self, device: str) -> Device:
        return self.device

    def tried(self, spec: ModelSpec, requests: Sequence[Request]) -> Took:
        self.seen.append((spec, len(requests)))
        rate = self.speed(spec)
        if not rate:
            raise Ended("no memory")
        return Took(10 * len(requests) / rate, 10 * len(requests), 1.0)

    def close(self) -> None:
        self.opened -= 1


def size(spec: ModelSpec) -> int:
    return spec.local.batch_size


@pytest.fixture
def recipe(echo_recipe: Callable[..., Recipe]) -> Callable[..., Recipe]:
    def build(count: int = 12, **changes: Any) -> Recipe:
        members: list[dict[str, Any]] = [
            {"name": "one", "model": "org/small", "sampling": {"max_tokens": 200}},
            {"name": "two", "model": "org/small", "sampling": {"max_tokens": 300, "seed": 1}},
            {"name": "echo", "backend": "echo", "model": "echo"},
        ]
        judge = {"name": "judge", "model": "org/small", "protocol": "pointwise", "readout": "logprobs"}
        parts: dict[str, Any] = {
            "pool": {"members": members, "draw": None},
            "rating": {"judges": [judge], "aspects": ["overall"]},
            "evolution": {"evolver": {"backend": "transformers", "model": "org/large"}, "of": ["one"]},
        }
        return echo_recipe(count, **(parts | changes))

    return build


def test_works_are_what_local_models_do(recipe: Callable[..., Recipe]) -> None:
    found = works(recipe())
    assert [(work.names, work.spec.model, len(work.requests)) for work in found] == [
        (("one", "two"), "org/small", 12),  # alike but for seed and length, which a trial cuts
        (("evolver",), "org/large", 12),
        (("judge",), "org/small", 36),  # one for each text that the pool would give
    ]
    assert {work.weights[1] for work in found} == {"org/small", "org/large"}
    assert all(request.sampling.max_tokens <= NEW_TOKENS for work in found for request in work.requests)
    assert all(request.choices for request in found[2].requests)
    assert "Question 3?" in found[0].requests[3].messages[-1]["content"]
    assert "Question 3?" in found[1].requests[3].messages[-1]["content"]
    assert len(works(recipe(PROMPTS + 9))[0].requests) == PROMPTS


def test_different_settings_are_different_work(recipe: Callable[..., Recipe]) -> None:
    members = [
        {"name": "one", "model": "org/small"},
        {"name": "two", "model": "org/small", "local": {"device": "cuda:1"}, "sampling": {"seed": 1}},
    ]
    found = works(recipe(pool={"members": members, "draw": None}, evolution=None))
    assert [work.names for work in found] == [("one",), ("two",), ("judge",)]


def test_nothing_to_tune(echo_recipe: Callable[..., Recipe], recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no model of it runs in this process"):
        works(echo_recipe())
    (tmp_path / "blank.jsonl").write_text('{"prompt": " "}\n')
    with pytest.raises(ConfigError, match="no prompt among the first"):
        works(recipe(prompts={"sources": [{"path": str(tmp_path / "blank.jsonl")}]}))


def test_batches_grow_while_that_pays(recipe: Callable[..., Recipe]) -> None:
    fake = Fake(lambda spec: 1e6 * min(size(spec), 16))
    work = works(
        recipe(evolution=None, rating=None, pairing={"strategy": "member-order", "member_order": ["one", "two"]})
    )
    trials = list(tune(work, 60, fake))
    assert [trial.batch_size for trial in trials] == [4, 8, 16, 32]  # the last shows that 16 is enough
    assert [count for _, count in fake.seen] == [1, 8, 16, 32, 64]  # one to load it, then a batch for each of two
    assert fake.opened == 0
    (chosen,) = best(trials)
    assert (chosen.batch_size, chosen.dtype) == (16, "float32")
    assert lines([chosen]) == [
        "local: {dtype: float32, batch_size: 16}  # one",
        "local: {dtype: float32, batch_size: 16}  # two",
    ]
    endless = list(tune(work, math.inf, Fake(lambda spec: 1e6 * size(spec))))
    assert endless[-1].batch_size == LARGEST


def test_time_that_is_short_still_gives_an_answer_for_each(recipe: Callable[..., Recipe]) -> None:
    trials = list(tune(works(recipe()), 0.0, Fake(lambda spec: 1e6 * size(spec))))
    assert [(trial.work.names[0], trial.batch_size) for trial in trials] == [("one", 4), ("judge", 4), ("evolver", 4)]
    slow = list(tune(works(recipe()), 15, Fake(lambda spec: 2 * size(spec))))  # 10 s a trial
    assert [trial.batch_size for trial in slow] == [4, 4, 4]


def test_a_model_that_ends_leaves_the_others_their_trials(recipe: Callable[..., Recipe]) -> None:
    def speed(spec: ModelSpec) -> float:
        if spec.model == "org/large":
            return 0
        return 0 if size(spec) > 8 else 1e6 * size(spec)

    trials = list(tune(works(recipe()), 60, Fake(speed)))
    assert [(trial.work.names[0], trial.batch_size, trial.error) for trial in trials] == [
        ("one", 4, None),
        ("one", 8, None),
        ("one", 16, "no memory"),
        ("judge", 4, None),
        ("judge", 8, None),
        ("judge", 16, "no memory"),
        ("evolver", 1, "no memory"),
    ]
    assert {trial.work.names: trial.batch_size for trial in best(trials)} == {("one", "two"): 8, ("judge",): 8}


def test_weights_get_the_dtype_that_is_best_for_all_their_work(recipe: Callable[..., Recipe]) -> None:
    """Two dtypes of the same weights would be in memory twice."""

    def speed(spec: ModelSpec) -> float:
        halves = spec.local.dtype == "bfloat16"
        return 1e6 * (1.5 if halves else 1.0) if isinstance(spec, Judge) else 1e6 * (1.0 if halves else 1.2)

    fake = Fake(speed, Device(("float32", "bfloat16"), 1))
    chosen = best(list(tune(works(recipe(evolution=None)), 60, fake)))
    assert {trial.dtype for trial in chosen} == {"bfloat16"}
    assert len(chosen) == 2


def test_settings_that_a_recipe_has_are_kept(recipe: Callable[..., Recipe]) -> None:
    members = [{"name": "one", "model": "org/small", "local": {"device": "cuda:1", "trust_remote_code": True}}]
    (work, *_) = works(recipe(pool={"members": members, "draw": None}, evolution=None))
    (line,) = lines([Trial(work, "bfloat16", 64, took=Took(1, 1, 1))])
    local = yaml.safe_load(line)["local"]
    assert LocalOptions(**local) == LocalOptions(
        device="cuda:1", dtype="bfloat16", batch_size=64, trust_remote_code=True
    )


@settings(max_examples=30)
@given(data=st.data())
def test_what_is_recommended_was_tried_and_worked(data: st.DataObject) -> None:
    """And is the fastest batch size of its work and dtype, in one dtype for the same weights."""
    specs = [Member(name=name, model=f"org/{name[0]}") for name in ("a1", "a2", "b1")]
    every_work = [Work((spec.name, f"{spec.name}-too"), spec, ()) for spec in specs]
    tried = st.builds(
        Trial, st.sampled_from(every_work), st.sampled_from(["float32", "bfloat16"]), st.sampled_from([4, 8, 16]),
        took=st.builds(Took, st.floats(0.1, 9), st.integers(1, 99), st.floats(1, 9)),
    )  # fmt: skip
    failed = st.builds(Trial, st.sampled_from(every_work), st.just("float32"), st.just(4), error=st.just("no memory"))
    trials = data.draw(st.lists(tried | failed, max_size=12))
    worked = [trial for trial in trials if trial.error is None]
    chosen = best(trials)
    assert all(any(one is trial for trial in worked) for one in chosen)
    assert all(
        one.rate >= other.rate for one in chosen for other in worked
        if (one.work, one.dtype) == (other.work, other.dtype)
    )  # fmt: skip
    assert bool(chosen) == bool(worked)
    assert len({id(one.work) for one in chosen}) == len(chosen)
    assert len({(one.work.weights, one.dtype) for one in chosen}) == len({one.work.weights for one in chosen})
    for line in lines(chosen):
        told, name = yaml.safe_load(line)["local"], line.rpartition("# ")[2]
        assert any(
            (trial.dtype, trial.batch_size) == (told["dtype"], told["batch_size"]) and name in trial.work.names
            for trial in worked
        )


def end(*_: Any) -> Took:
    os._exit(9)


@pytest.mark.model
def test_a_process_that_is_killed_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    trier = TrialProcess()
    try:
        with monkeypatch.context() as patched:
            patched.setattr(trial, "time_answers", end)
            with pytest.raises(Ended, match="memory"):
                trier.tried(ModelSpec(model="m"), [])
        assert {*trier.look_at("cpu").dtypes} & {"float32", "bfloat16"}
    finally:
        trier.close()


@pytest.mark.model
def test_the_command_says_what_to_put_into_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text("".join(f'{{"prompt": "Name {n} rivers."}}\n' for n in range(8)))
    data = {
        "name": "tuned",
        "prompts": {"sources": [{"path": "prompts.jsonl"}]},
        "pool": {
            "members": [
                {"name": "one", "model": model_id("smollm2")},
                {"name": "given", "backend": "echo", "model": "e"},
            ]
        },
        "pairing": {"strategy": "member-order", "member_order": ["one", "given"]},
    }
    parse_recipe(data, base=tmp_path)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(data))
    told = cli(
        "bench",
        str(tmp_path / "recipe.yaml"),
        "--seconds",
        "1",
        PAIRSMITH_MODELS=os.environ.get("PAIRSMITH_MODELS", ""),
    )
    assert told.returncode == 0, told.stderr
    assert "tokens/s" in told.stdout
    assert re.search(r"local: \{dtype: (float32|bfloat16), batch_size: 4\}  # one\n", told.stdout)
    assert cli("bench", str(tmp_path / "no.yaml")).returncode == 2
