from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairsmith.building import steps
from pairsmith.config import Pairing, Recipe
from pairsmith.config.loading import load_recipe
from pairsmith.errors import ConfigError
from pairsmith.planning.dry_run import plan_run
from pairsmith.reporting.agreement import Trust
from pairsmith.reporting.summary import Summary
from pairsmith.reporting.summary_tables import signal_table
from pairsmith.reporting.verdict import in_short, verdict
from pairsmith.storage.dataset import Dataset
from tests.conftest import ROOT
from tests.runs import run
from tests.tiny import tokenizer_at

Build = Callable[..., Recipe]
MEMBERS = [{"name": name, "backend": "echo", "model": name} for name in ("large", "small", "other")]
DELTA = {"name": "delta", "strategy": "member-order", "member_order": ["large", "small"], "share": 1}
JUDGED = {"name": "judged", "share": 3}
SIGNALS = {"signals": [DELTA, JUDGED]}


def pairing(*signals: dict[str, Any], **common: Any) -> Pairing:
    return Pairing.model_validate({"signals": signals, **common})


def drawn(made: Pairing, ids: list[str], source: str = "web") -> list[str | None]:
    found = [made.signal_of(name, source) for name in ids]
    return [signal.name if signal else None for signal in found]


shares = st.lists(st.floats(0.05, 20), min_size=1, max_size=5)


@settings(max_examples=30)
@given(shares, st.integers(0, 99))
def test_shares_are_reached_within_sampling_error(asked: list[float], seed: int) -> None:
    made = pairing(*({"name": f"s{n}", "share": share} for n, share in enumerate(asked)), seed=seed)
    found = Counter(drawn(made, [f"p{n}" for n in range(2000)]))
    for n, share in enumerate(asked):
        expected = share / sum(asked)
        assert abs(found[f"s{n}"] / 2000 - expected) < 5 * (expected * (1 - expected) / 2000) ** 0.5 + 0.001


@settings(max_examples=30)
@given(shares, st.integers(0, 4), st.floats(0.05, 20))
def test_a_share_that_changes_moves_prompts_between_its_signal_and_others_alone(
    asked: list[float], which: int, to: float
) -> None:
    before = [{"name": f"s{n}", "share": share} for n, share in enumerate(asked)]
    changed = before[which % len(before)]["name"]
    after = [one | {"share": to} if one["name"] == changed else one for one in before]
    ids = [f"p{n}" for n in range(100)]
    for one, other in zip(drawn(pairing(*before), ids), drawn(pairing(*reversed(after)), ids), strict=True):
        assert one == other or changed in (one, other)


def test_prompts_of_a_source_go_to_the_signals_that_name_it() -> None:
    made = pairing({"name": "own", "sources": ["hh"]}, {"name": "rest"}, {"name": "half", "sources": ["hh", "math"]})
    ids = [f"p{n}" for n in range(200)]
    assert set(drawn(made, ids, "hh")) == {"own", "half"}
    assert set(drawn(made, ids, "math")) == {"half"}
    assert set(drawn(made, ids, "web")) == {"rest"}
    assert set(drawn(pairing({"name": "own", "sources": ["hh"]}), ids, "web")) == {None}


def test_what_the_pairing_says_counts_for_each_signal_that_says_nothing_else() -> None:
    made = pairing(
        {"name": "a"}, {"name": "b", "min_margin": 0.0, "max_length_difference": None}, min_margin=1.0,
        max_length_difference=9,
    )  # fmt: skip
    bounds = [(part.min_margin, part.max_length_difference) for _, part in made.parts]
    assert bounds == [(1.0, 9), (0.0, None)]
    for dumped in (made.model_dump(mode="json"), made.model_dump(mode="json", exclude_defaults=True)):
        assert Pairing.model_validate(dumped) == made


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pairing": {"signals": [JUDGED, JUDGED]}}, "pairing.signals: .* more than once"),
        (
            {"pairing": {"signals": [DELTA | {"member_order": ["large"]}]}},
            r"pairing.signals.0.strategy: member-order needs two or more",
        ),
        (
            {"pairing": {"signals": [DELTA | {"member_order": ["large", "nobody"]}]}},
            r"pairing.signals.0.member_order.1: there is no nobody",
        ),
        ({"pairing": SIGNALS, "rating": None}, r"pairing.signals.\d.strategy: best-vs-worst needs a rating"),
        ({"pairing": {"signals": [DELTA | {"agree": ["x"]}]}}, r"pairing.signals.0.agree: there is no x"),
        ({"pairing": SIGNALS | {"min_margin": -1}}, r"pairing.min_margin: must be greater than or equal to 0"),
        ({"pairing": {"signals": [DELTA], "length_control": True}}, "length_control: needs scores"),
    ],
)
def test_signals_that_cannot_be_are_refused(echo_recipe: Build, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        echo_recipe(2, pool={"members": MEMBERS}, evolution=None, **changes)


def recipe(build: Build, count: int, **changes: Any) -> Recipe:
    return build(count, **{"pool": {"members": MEMBERS}, "evolution": None, "pairing": SIGNALS} | changes)


def published(made: Recipe) -> dict[str, tuple[str, ...]]:
    rows = Dataset(f"{made.workspace}/{made.name}").pairs().to_dict("records")
    return {row["prompt_id"]: (row["signal"], row["chosen_id"], row["rejected_id"]) for row in rows}


def test_each_pair_says_its_signal_and_shares_stand_beside_those_asked_for(echo_recipe: Build) -> None:
    made = recipe(echo_recipe, 60)
    planned = {line.who: line.calls for line in plan_run(made).lines}
    _, summary, calls = run(made)
    found = published(made)
    asked = {name: made.pairing.signal_of(name, "prompts").name for name in found}
    assert {name: row[0] for name, row in found.items()} == asked
    counts = summary.signals
    assert {name: round(one["asked"], 6) for name, one in counts.items()} == {"delta": 15, "judged": 45}
    assert counts["delta"]["prompts"] + counts["judged"]["prompts"] == 60
    assert counts["delta"]["pairs"] == Counter(asked.values())["delta"]
    of_delta = int(counts["delta"]["prompts"])
    assert planned == {"large": 60, "small": 60, "other": 60 - of_delta, "judge": planned["judge"]}
    assert calls["generate"] == 180 - of_delta, "who is not in its order answers no prompt of a member-order signal"
    assert calls["rate"] == 2 * (60 - of_delta), "no judge is asked of a prompt whose signal needs none"
    again, _, calls = run(made)
    assert (again.new, calls) == (False, Counter())


def test_shares_are_told_in_report_card_and_verdict(echo_recipe: Build) -> None:
    made = recipe(echo_recipe, 60)
    version, summary, _ = run(made)
    row, judged = signal_table(made, summary)
    assert (row["signal"], row["asked"]) == ("delta", 0.25)
    assert row["reached"] == round(row["pairs"] / summary.pairs, 2)
    assert judged["pairs"] + row["pairs"] == summary.pairs
    told = next(line for line in in_short(verdict(made, summary, Trust())) if "by signal" in line)
    assert f"delta {round(100 * row['reached'])}% (25% asked for)" in told
    card = (Path(version.folder) / "README.md").read_text()
    assert "| signal | of which of the selections that the set is made of the pair comes: delta, judged |" in card
    assert f"| delta | 0.25 | {row['prompts']} | {row['paired']} | {row['pairs']} | {row['reached']} |" in card
    assert 'id="signals"' in (Path(version.folder) / "report.html").read_text()


def test_a_signal_that_loses_its_prompts_is_told_of() -> None:
    made = Recipe.model_validate(
        {"name": "r", "prompts": {"sources": [{"path": "p.jsonl"}]}, "pool": {"members": MEMBERS},
         "pairing": {"signals": [DELTA, DELTA | {"name": "other"}]}}
    )  # fmt: skip
    for pairs, weight in ((45, "note"), (30, "bad")):
        summary = Summary(loaded=100, pairs=50 + pairs)
        summary.signals = {"delta": {"asked": 50, "pairs": 50}, "other": {"asked": 50, "pairs": pairs}}
        (found,) = [one for one in verdict(made, summary, Trust()) if one.about == "signals"]
        assert found.weight == weight


def test_judges_are_asked_where_a_member_order_has_to_agree_with_them(echo_recipe: Build) -> None:
    agreeing = {"signals": [DELTA | {"agree": ["judge"]}, JUDGED]}
    made = recipe(echo_recipe, 30, pairing=agreeing)
    _, summary, calls = run(made)
    assert calls["rate"] == 60
    assert 0 < summary.signals["delta"]["pairs"] < summary.signals["delta"]["prompts"]


def test_answers_that_a_signal_cannot_pair_are_not_rewritten(echo_recipe: Build) -> None:
    made = recipe(echo_recipe, 30, evolution={"of": [], "rounds": 2})
    planned = {line.who: line.calls for line in plan_run(made).lines if line.stage != "rate"}
    _, summary, calls = run(made)
    assert calls["evolve"] == planned["evolver"] == 2 * 3 * summary.signals["judged"]["prompts"]
    assert calls["generate"] == sum(planned.values()) - planned["evolver"]


def test_a_program_gets_the_signal_of_each_pair() -> None:
    rows = [
        {"prompt": f"Question {n}?", "completion": text, "member": member, "score": score}
        for n in range(20)
        for text, member, score in (("A fine answer.", "large", 1.0), ("Nothing like that", "small", 5.0))
    ]
    made = steps.pair(rows, {"pairing": SIGNALS})
    assert {(row["signal"], row["chosen_member"]) for row in made} == {("delta", "large"), ("judged", "small")}


def test_the_recipe_after_olmo_3_makes_delta_pairs_and_judged_pairs(tmp_path: Path) -> None:
    tokenizer_at(tmp_path)
    gap = "pairing.max_length_difference"
    loaded = load_recipe(
        ROOT / "recipes" / "olmo3.yaml", [f"workspace={tmp_path / 'data'}", f"{gap}.tokenizer={tmp_path}"]
    )
    made = Recipe.model_validate(json.loads(loaded.model_dump_json().replace('"transformers"', '"echo"')))
    _, summary, _ = run(made)
    rows = Dataset(f"{made.workspace}/olmo3").pairs().to_dict("records")
    assert {row["signal"] for row in rows} == {"delta", "judged"}
    assert {row["rejected_member"] for row in rows if row["signal"] == "delta"} == {"qwen-1.5b"}
    texts = [[row[side][0]["content"] for side in ("chosen", "rejected")] for row in rows]
    assert all(abs(len(one.encode()) - len(other.encode())) <= 100 for one, other in texts)
    assert summary.loaded == summary.paired + sum(summary.prompt_reasons.values())


def test_recipes_without_signals_have_no_such_column(echo_recipe: Build) -> None:
    made = recipe(echo_recipe, 5, pairing={})
    _, summary, _ = run(made)
    assert "signal" not in Dataset(f"{made.workspace}/{made.name}").pairs().columns
    assert "signals" not in summary.to_json()
    assert not {"signals", "agree", "max_length_difference"} & made.model_dump(mode="json")["pairing"].keys()


def test_more_prompts_change_no_earlier_pair(echo_recipe: Build) -> None:
    run(made := recipe(echo_recipe, 20))
    before = published(made)
    run(made := recipe(echo_recipe, 40))
    after = published(made)
    assert len(after) > len(before)
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize(("before", "after"), [({"share": 9}, {}), ({}, {"agree": ["judge"]})])
def test_what_another_signal_changes_is_made_anew(
    echo_recipe: Build, before: dict[str, Any], after: dict[str, Any]
) -> None:
    run(recipe(echo_recipe, 20, pairing={"signals": [DELTA | before, JUDGED]}))
    changed = {"pairing": {"signals": [DELTA | after, JUDGED]}}
    made = run(recipe(echo_recipe, 20, **changed))[0]
    assert made.digest == run(recipe(echo_recipe, 20, name="fresh", **changed))[0].digest


def test_rows_in_any_order_and_shards_of_any_size_give_one_digest(echo_recipe: Build) -> None:
    rng, digests = random.Random(7), set()
    for number in range(10):
        made = recipe(echo_recipe, 12, name=f"r{number}", shard_size=(3, 5, 256)[number % 3])
        path = Path(made.prompts.sources[0].path)
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(rng.sample(lines, len(lines))))
        digests.add(run(made)[0].digest)
    assert len(digests) == 1


def test_an_existing_preference_set_is_a_signal_of_its_own(echo_recipe: Build, tmp_path: Path) -> None:
    rows = [{"prompt": f"Old {n}?", "chosen": f"Yes, {n} it is.", "rejected": "None of it."} for n in range(9)]
    (tmp_path / "old.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "new.jsonl").write_text("".join(json.dumps({"prompt": f"New {n}?"}) + "\n" for n in range(30)))
    old = {"path": str(tmp_path / "old.jsonl"), "completions": {"of_layout": True}}
    given = {
        "name": "old",
        "strategy": "member-order",
        "member_order": ["chosen", "rejected"],
        "sources": ["old.jsonl"],
    }
    made = recipe(
        echo_recipe, 1, pairing={"signals": [DELTA, JUDGED, given]},
        prompts={"sources": [old, {"path": str(tmp_path / "new.jsonl")}]},
        pool={"members": [*MEMBERS, {"name": "given", "backend": "given"}]},
    )  # fmt: skip
    _, summary, calls = run(made)
    pairs = Dataset(f"{made.workspace}/{made.name}").pairs().to_dict("records")
    of_old = [row for row in pairs if row["signal"] == "old"]
    assert len(of_old) == 9
    assert all(row["chosen"][0]["content"].startswith("Yes") for row in of_old)
    assert summary.signals["old"] == {"asked": 9, "prompts": 9, "paired": 9, "pairs": 9}
    assert calls["generate"] == 90 - summary.signals["delta"]["prompts"], "nobody is asked for an answer to the old set"
