"""Judges are held to gold through the ledger; what comes of it decides scores, and the report says how old it is."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pairsmith.config import Calibration, Judge, Recipe
from pairsmith.config.loading import parse_recipe
from pairsmith.errors import ConfigError, DataError
from pairsmith.judging.scoring import scores
from pairsmith.planning.calibrated import judge_mark
from pairsmith.stages.plan import plan_fingerprint
from pairsmith.storage.versions import State
from pairsmith.worth.advice import advice
from pairsmith.worth.calibration import as_calibration, calibrate
from pairsmith.worth.forms import forms_of
from pairsmith.worth.gold import write_gold
from pairsmith.worth.gold_rows import pair_in
from pairsmith.worth.planned import plan_calibration
from tests.runs import rating, run

HERE = Path(__file__).parent
GRADER = HERE.parent / "stages"
PAIRS = 120


def judge(name: str, model: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "backend": "knower:Knower", "model": model, "rationale": False, "reasks": 0} | more


def recipe(folder: Path, *judges: dict[str, Any], **more: Any) -> Recipe:
    (folder / "prompts.jsonl").write_text("".join(f'{{"prompt": "Say {n}"}}\n' for n in range(4)))
    members = [
        {"name": "good", "backend": "knower:Writer", "model": "good"},
        {"name": "bad", "backend": "knower:Writer", "model": "bad"},
    ]
    data = {
        "name": "held",
        "workspace": str(folder / "ws"),
        "code_folder": str(HERE),
        "prompts": {"sources": [{"path": str(folder / "prompts.jsonl")}]},
        "pool": {"members": members},
        "rating": {"judges": list(judges)} | more.pop("rating", {}),
    }
    return parse_recipe(data | more, base=folder)


def write_cases(folder: Path) -> Path:
    rows = [{"prompt": f"Say {n}", "a": f"good, case {n}", "b": f"bad, case {n}", "better": "a"} for n in range(PAIRS)]
    write_gold(folder / "gold.jsonl", [*map(pair_in, rows), pair_in(rows[0] | {"prompt": "Tie", "better": "tie"})])
    return folder / "gold.jsonl"


THREE = (judge("one", "0.7 a"), judge("two", "0.7 d"), judge("three", "0.7 e"))


@pytest.fixture
def gold(tmp_path: Path) -> Path:
    return write_cases(tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    """A calibration of three judges that are right in 70% each."""
    folder = tmp_path_factory.mktemp("made")
    return as_calibration(calibrate(recipe(folder, *THREE), write_cases(folder), as_is=True))


def test_judges_are_held_to_gold_through_the_ledger(tmp_path: Path, gold: Path) -> None:
    settings = recipe(tmp_path, *THREE, judge("coin", "0.5 e"))
    plan = plan_calibration(settings, gold, as_is=True)
    assert [(one.calls, one.known) for one in plan.forms] == [(PAIRS, 0)] * 4
    found = calibrate(settings, gold, as_is=True)
    assert [one.calls for one in found.tested] == [PAIRS] * 4
    assert len(found.pairs) == PAIRS  # the tie is left out
    for one in found.tested:
        low, high = one.accuracy.right.interval
        assert low <= float(one.form.model.split()[0]) <= high
    assert found.held is not None
    assert found.held.panel.right.value > found.held.single.right.value  # type: ignore[operator]
    again = calibrate(settings, gold, as_is=True)
    assert [one.calls for one in again.tested] == [0] * 4
    assert [one.accuracy for one in again.tested] == [one.accuracy for one in found.tested]
    assert [one.known for one in plan_calibration(settings, gold, as_is=True).forms] == [PAIRS] * 4
    told = "\n".join(advice(found))
    assert "Judge coin (listwise, text) is a coin" in told
    assert "Judge one" not in told
    assert "Into the recipe: one (listwise, text), weight" in told


def test_a_dead_judge_is_told_and_others_go_on(tmp_path: Path, gold: Path) -> None:
    found = calibrate(recipe(tmp_path, judge("dead", "dead"), judge("sound", "0.9 s")), gold, n=50, as_is=True)
    told = "\n".join(advice(found))
    assert "Judge dead (listwise, text) gave no rating at all; the commonest reason: failed: nobody is there" in told
    assert "Leave out dead" in told
    assert [(one.tested.own.name, one.weight > 0) for one in found.counted] == [("sound", True)]


def test_a_calibration_decides_scores_and_asks_nobody_again(tmp_path: Path, made: Calibration) -> None:
    plain = recipe(tmp_path, *THREE)
    assert run(plain)[2]["rate"] == 12
    (tmp_path / "cal.json").write_text(made.model_dump_json())
    used = recipe(tmp_path, *THREE, rating={"calibration": "cal.json"})
    published, _, calls = run(used)
    assert not calls["rate"]
    assert plan_fingerprint(used) != plan_fingerprint(plain)
    later = made.model_copy(update={"made_at": datetime.now(UTC) + timedelta(days=1)})
    same = used.model_copy(update={"rating": used.rating.model_copy(update={"calibration": later})})  # type: ignore[union-attr]
    assert plan_fingerprint(same) == plan_fingerprint(used)  # only what decides is in it
    page = (Path(published.folder) / "report.html").read_text()
    assert f"of {PAIRS} pairs of gold.jsonl that they were not fitted to" in page
    assert "0 days before this version" in page
    assert made.gold.digest[:12] in page
    assert published.state is State.RELEASED


def test_a_gate_on_gold_makes_a_version_wait(tmp_path: Path, made: Calibration) -> None:
    (tmp_path / "cal.json").write_text(made.model_dump_json())
    with pytest.raises(ConfigError, match="gates.min_gold_accuracy: needs rating.calibration"):
        recipe(tmp_path, *THREE, gates={"min_gold_accuracy": 0.5})
    strict = recipe(tmp_path, *THREE, rating={"calibration": "cal.json"}, gates={"min_gold_accuracy": 0.99})
    published, *_ = run(strict)
    assert published.state is State.CANDIDATE
    assert "the lower end must be 99% (gates.min_gold_accuracy)" in published.reasons[0]
    lenient = recipe(tmp_path, *THREE, rating={"calibration": "cal.json"}, gates={"min_gold_accuracy": 0.5})
    assert not run(lenient)[0].reasons


def test_a_calibration_of_other_judges_is_refused(tmp_path: Path, made: Calibration) -> None:
    (tmp_path / "cal.json").write_text(made.model_dump_json())
    wanted: dict[str, Any] = {"rating": {"calibration": "cal.json"}}
    with pytest.raises(ConfigError, match=r"it knows nothing of \['four'\]"):
        recipe(tmp_path, *THREE, judge("four", "0.7 w"), **wanted)
    with pytest.raises(ConfigError, match=r"it counts \['three'\], which are no judges"):
        recipe(tmp_path, *THREE[:2], rating={"calibration": "cal.json"})
    with pytest.raises(ConfigError, match=r"leave weight of \['one'\] out"):
        recipe(tmp_path, THREE[0] | {"weight": 2}, *THREE[1:], rating={"calibration": "cal.json"})
    with pytest.raises(ConfigError, match="leave aggregation out"):
        recipe(tmp_path, *THREE, rating={"calibration": "cal.json", "aggregation": "median"})
    with pytest.raises(ConfigError, match=r"rating.calibration: .*absent.json"):
        recipe(tmp_path, *THREE, rating={"calibration": "absent.json"})
    other = recipe(tmp_path, THREE[0] | {"revision": "new"}, *THREE[1:], rating={"calibration": "cal.json"})
    with pytest.raises(ConfigError, match="judge one was 0.7 a, revision .* and is 0.7 a, revision new"):
        run(other)


def test_too_few_pairs_make_no_calibration(tmp_path: Path, gold: Path) -> None:
    found = calibrate(recipe(tmp_path, *THREE), gold, n=30, as_is=True)
    assert found.held is None
    assert any("30 pairs are too few" in one for one in advice(found))
    with pytest.raises(DataError, match="30 pairs are too few: 40 are needed"):
        as_calibration(found)


def test_who_cannot_be_asked(tmp_path: Path, gold: Path) -> None:
    given = {"name": "given", "backend": "given"}
    rows = [{"prompt": "Say", "good": "x", "bad": "y", "score": 1}]
    (tmp_path / "given.jsonl").write_text(json.dumps(rows[0]))
    columns = {"columns": {"good": {"text": "good", "scores": {"overall": "score"}}, "bad": "bad"}}
    source = {"path": str(tmp_path / "given.jsonl"), "completions": columns}
    members = [{"name": "given", "backend": "given"}]
    changes = {"prompts": {"sources": [source]}, "pool": {"members": members}}
    with pytest.raises(ConfigError, match="no judge that can be asked about gold; judge given: its ratings come with"):
        calibrate(recipe(tmp_path, given, **changes), gold)


def test_the_forms_of_a_judge_are_those_that_a_recipe_could_have(tmp_path: Path) -> None:
    long = {"rubrics": {"depth": {"criterion": "How deep?", "low": 0, "high": 20}}, "aspects": ["depth"]}

    def forms(settings: Recipe) -> list[str]:
        assert settings.rating is not None
        return [form.form for form in forms_of(settings.rating, settings.rating.judges[0])]

    found = forms(recipe(tmp_path, judge("one", "0.7", orders=3, critique=True)))
    assert found[0] == "listwise, text, 3 orders"
    assert {"listwise, text", "listwise, json, 2 orders", "pointwise, text", "pointwise, logprobs"} < {*found}
    assert len(found) == len(set(found))
    assert not any(
        "logprobs" in form and "pointwise" in form for form in forms(recipe(tmp_path, THREE[0], rating=long))
    )
    reward = Judge.model_validate({"name": "r", "backend": "reward", "model": "m"})
    settings = recipe(tmp_path, THREE[0]).rating
    assert settings is not None
    assert [form.form for form in forms_of(settings, reward)] == ["reward"]


def test_scores_by_a_calibration_are_log_odds(tmp_path: Path, made: Calibration) -> None:
    judges = {
        "one": made.judges["one"].model_copy(update={"weight": 0.5, "offset": 3.0}),
        "two": made.judges["two"].model_copy(update={"weight": 2.0, "offset": 1.0}),
        "three": made.judges["three"].model_copy(update={"weight": 0.0}),
    }
    made = made.model_copy(update={"judges": judges})
    used = recipe(tmp_path, *THREE, rating={"calibration": made.model_dump(mode="json")})
    rows = [
        rating("x", 5, judge="one"), rating("x", 2, judge="two"), rating("x", None, judge="three", error="unreadable"),
        rating("y", 5, judge="one"), rating("y", None, judge="two", error="not_applicable"),
        rating("z", None, judge="one", error="unreadable"), rating("z", 2, judge="two"),
    ]  # fmt: skip
    found = scores(rows, used.pairing, used.rating)  # type: ignore[arg-type]
    assert found["x"].total == 0.5 * 2 + 2.0 * 1
    assert found["y"].total == 0.5 * 2  # a judge that says nothing counts as if it had called the text average
    assert found["z"].total is None
    with pytest.raises(ConfigError, match=r"it knows nothing of \['stranger'\], of whom there are ratings"):
        scores([rating("x", 5, judge="stranger")], used.pairing, used.rating)  # type: ignore[list-item]


def test_criteria_are_held_to_gold_beside_a_plain_rating(tmp_path: Path) -> None:
    rows = [{"prompt": f"Say {n}", "a": f"good, case {n}", "b": f"bad, case {n}", "better": "a"} for n in range(12)]
    write_gold(tmp_path / "gold.jsonl", [*map(pair_in, rows)])
    reader = {"name": "reader", "backend": "grader:Judge", "model": "j", "readout": "logprobs", "protocol": "pointwise"}
    reader["aspects"] = ["criteria"]  # type: ignore[assignment]
    written = {"author": {"backend": "grader:Author", "model": "w", "price": {"prompt": 1, "completion": 1}}}
    price = {"price": {"prompt": 0, "completion": 0}}
    settings = recipe(
        tmp_path,
        reader | price,
        rating={"aspects": ["criteria"], "criteria": written},
        code_folder=str(GRADER),
        pool={"members": [{"name": name, "backend": "echo", "model": name} for name in "ab"]},
    )
    forms = [form.form for form in forms_of(settings.rating, settings.rating.judges[0])]  # type: ignore[union-attr, arg-type]
    assert forms[0] == "criteria, logprobs"
    assert {"criteria, text", "criteria, json", "listwise, text", "pointwise, logprobs"} < {*forms}
    assert len(forms) == len({*forms})
    plan = plan_calibration(settings, tmp_path / "gold.jsonl", as_is=True)
    assert [(one.form.form, one.calls) for one in plan.forms] == [
        ("to write criteria", 12), ("criteria, logprobs", 12 * 2 * 6),
    ]  # fmt: skip
    found = calibrate(settings, tmp_path / "gold.jsonl", as_is=True)
    (one,) = found.tested
    assert (one.accuracy.right.value, one.calls) == (1.0, 12 + 12 * 2 * 3)
    assert one.cost == pytest.approx(39 / 1e6)  # what the author's call costs is in it
    other = settings.rating.model_copy(  # type: ignore[union-attr]
        update={"criteria": settings.rating.criteria.model_copy(update={"min_spread": 0.5})}  # type: ignore[union-attr]
    )
    judge_of = settings.rating.judges[0]  # type: ignore[union-attr]
    assert judge_mark(settings.rating, judge_of) != judge_mark(other, judge_of)  # type: ignore[arg-type]
