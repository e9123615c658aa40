"""What pairs take from the whole data set: the worth of length, and texts that stand at many prompts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairsmith.config import Pairing, Recipe
from pairsmith.errors import ConfigError
from pairsmith.ids import draw, text_id
from pairsmith.judging.scoring import log_length
from pairsmith.llms.echo import Echo
from pairsmith.pairing.candidates import TOTAL
from pairsmith.pairing.survey import Survey, SurveyResult, survey
from pairsmith.pairing.survey_merge import merge, read_result
from pairsmith.protocol import Request
from pairsmith.session import Session
from pairsmith.stages.base import StageResult, open_store
from pairsmith.storage.schemas import Reason, frame
from pairsmith.storage.store import Store
from pairsmith.storage.tables import facts_name, rejections_ref, survey_name
from tests import runs
from tests.runs import completion, rating, run

Build = Callable[..., Recipe]
Row = dict[str, Any]
BOTH = Pairing.model_validate({"length_control": True, "guard": {"repeated": 2}})
REFUSAL = "I cannot say anything about that."


def surveyed(completions: list[Row], ratings: list[Row], pairing: Pairing = BOTH) -> Survey:
    return survey(frame("completions", completions), frame("ratings", ratings), pairing, None)


def made(prompts: int, seed: str = "s") -> tuple[list[Row], list[Row]]:
    """Four texts a prompt, scored by what they are drawn to be worth and 0.8 points for each unit of log length."""
    completions, ratings = [], []
    for p in range(prompts):
        for n in range(4):
            text, name = "x" * (1 + int(900 * draw(seed, p, n))), f"{p}-{n}"
            score = 1 + 2 * draw("level", p) + 0.8 * log_length(text) / 4 + draw("own", p, n)
            completions.append(completion(name, prompt_id=f"p{p}", text=text))
            ratings.append(rating(name, min(score, 5), "overall", prompt_id=f"p{p}"))
    return completions, ratings


def test_the_slope_is_that_of_a_regression_with_an_effect_for_each_prompt() -> None:
    completions, ratings = made(50)
    score_of = {row["completion_id"]: row["score"] for row in ratings}
    lengths = [log_length(row["text"]) for row in completions]
    effects = [[float(row["prompt_id"] == f"p{p}") for p in range(50)] for row in completions]
    columns = np.column_stack([lengths, np.array(effects)])
    expected = np.linalg.lstsq(columns, np.array([score_of[row["completion_id"]] for row in completions]), rcond=None)
    slopes = surveyed(completions, ratings).slopes()
    assert slopes == {TOTAL: slopes["overall"], "overall": pytest.approx(expected[0][0], abs=1e-4)}


def test_only_what_can_be_a_candidate_counts() -> None:
    completions, ratings = made(5)
    others = [
        completion("a", prompt_id="p1", text="y" * 5000, error="failed: 500"),
        completion("b", prompt_id="p1", text="y" * 5000, finish_reason="length"),
        completion("c", prompt_id="p1", text=" \n"),
        completion("d", prompt_id="p1", text="y" * 5000),
    ]
    scored = [rating(name, 5.0, "overall", prompt_id="p1") for name in "abc"] + [rating("d", None, prompt_id="p1")]
    with_others = surveyed(completions + others, ratings + scored)
    assert with_others.slopes() == surveyed(completions, ratings).slopes()
    assert text_id("y" * 5000) in with_others.texts


def test_no_slope_where_texts_are_as_long_as_each_other() -> None:
    completions = [completion(name, text=name * 9) for name in "ab"]
    found = surveyed(completions, [rating("a", 1.0), rating("b", 5.0)])
    assert found.slopes() == {TOTAL: 0.0, "overall": 0.0}
    assert Survey().slopes() == {}


@settings(max_examples=50)
@given(st.lists(st.integers(0, 3), min_size=12, max_size=12), st.randoms())
def test_surveys_add_up_to_the_same_however_prompts_lie_in_shards(homes: list[int], random: Any) -> None:
    completions, ratings = made(12)
    expected = surveyed(completions, ratings)
    random.shuffle(completions)
    random.shuffle(ratings)
    shards = [{f"p{p}" for p in range(12) if homes[p] == home} for home in range(4)]
    parts = [
        surveyed(*([row for row in rows if row["prompt_id"] in shard] for rows in (completions, ratings)))
        for shard in shards
    ]
    random.shuffle(parts)
    whole = Survey()
    for part in parts:
        whole.add_sums(Survey.from_json(json.loads(json.dumps(part.to_json()))))
        whole.texts.update(part.texts)
    assert whole == expected


def test_a_text_counts_once_a_prompt_whoever_wrote_it() -> None:
    rows = [
        completion("a", prompt_id="1", text="No."),
        completion("b", prompt_id="1", text="No.\n", member="other"),
        completion("c", prompt_id="2", text="\r\nNo."),
        completion("d", prompt_id="3", text="no."),
    ]
    assert surveyed(rows, []).texts == {text_id("No."): 2, text_id("no."): 1}


def test_a_result_names_the_repeated_texts_of_their_own_shard(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    texts = {"one": {"x": 1, "y": 1, "z": 3}, "two": {"x": 1, "v": 2}, "three": {"x": 1, "y": 1}}
    for shard, found in texts.items():
        store.write_json(survey_name(shard), Survey(texts=found).to_json())  # type: ignore[arg-type]
    merge(store, texts, 3)
    told = {shard: read_result(store, shard) for shard in texts}
    assert told == {
        "one": SurveyResult({}, frozenset("xz")),
        "two": SurveyResult({}, frozenset("x")),
        "three": SurveyResult({}, frozenset("x")),
    }
    before = {shard: Path(store.path(facts_name(shard))).stat().st_mtime_ns for shard in texts}
    Path(store.path(facts_name("two"))).write_text("{}")
    merge(store, texts, 3)
    assert {shard: read_result(store, shard) for shard in texts} == told
    after = {shard: Path(store.path(facts_name(shard))).stat().st_mtime_ns for shard in texts}
    assert [shard for shard in texts if after[shard] != before[shard]] == ["two"]
    merge(store, texts, None)
    assert read_result(store, "one") == SurveyResult()


@pytest.fixture
def parrots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Members called parrot refuse two questions of five in the same words."""
    real = Echo._text

    def said(self: Echo, request: Request, asked: str, key: str) -> str:
        parrot = self.identity.model == "parrot" and draw(asked) < 0.4
        return REFUSAL if parrot else real(self, request, asked, key)

    monkeypatch.setattr(Echo, "_text", said)


@pytest.fixture
def build(echo_recipe: Build, parrots: None) -> Build:
    def make(count: int = 30, *, pairing: Row | None = None, **changes: Any) -> Recipe:
        members = [{"name": name, "backend": "echo", "model": name} for name in ("parrot", "second", "third")]
        whole = {"pool": {"members": members}, "evolution": None, "pairing": pairing or BOTH.model_dump(), **changes}
        return echo_recipe(count, **whole)

    return make


@pytest.fixture
def paired(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The shards that were paired, in their order."""
    names: list[str] = []
    real = runs.pair_shard

    def noted(recipe: Recipe, shard: str, session: Session) -> StageResult:
        names.append(shard)
        return real(recipe, shard, session)

    monkeypatch.setattr(runs, "pair_shard", noted)
    yield names
    names.clear()


def published(folder: str) -> list[Row]:
    return [row for file in sorted(Path(folder).glob("data/*.parquet")) for row in pq.read_table(file).to_pylist()]


@pytest.mark.parametrize("on_flag", ["report", "not-chosen", "drop"])
def test_any_size_of_shards_and_order_of_prompts_gives_the_same(build: Build, tmp_path: Path, on_flag: str) -> None:
    pairing = {"length_control": True, "guard": {"on_flag": on_flag, "repeated": 3}}
    found = []
    for size in (1, 5, 64):
        made, summary, _ = run(build(12, name=f"size-{size}", shard_size=size, pairing=pairing))
        found.append((made.digest, summary))
    (tmp_path / "turned").mkdir()
    turned = tmp_path / "turned" / "prompts.jsonl"
    turned.write_text("".join(f'{{"prompt": "Question {n}?"}}\n' for n in reversed(range(12))))
    sources = {"sources": [{"path": str(turned)}]}
    made, summary, _ = run(build(12, name="turned", shard_size=5, prompts=sources, pairing=pairing))
    found.append((made.digest, summary))
    assert len({digest for digest, _ in found}) == 1
    first = found[0][1]
    assert all((s.flags, s.examples, s.slopes) == (first.flags, first.examples, first.slopes) for _, s in found)
    assert first.slopes[TOTAL] != 0
    assert first.flags["repeated", "completions"] > 3
    chosen = [row for row in published(made.folder) if row["chosen"][0]["content"] == REFUSAL]
    assert (first.flags["repeated", "chosen"], bool(chosen)) == (len(chosen), on_flag == "report")


def test_the_flagged_have_rows_of_their_own(build: Build) -> None:
    for on_flag, detail in (("not-chosen", "repeated; not to be chosen"), ("drop", "repeated")):
        recipe = build(pairing={"guard": {"on_flag": on_flag, "repeated": 3}}, name=on_flag)
        _, summary, _ = run(recipe)
        store = open_store(recipe)
        (shard,) = store.shards()
        table = store.read(rejections_ref(shard))
        flagged = table[(table["reason"] == Reason.FLAGGED) & table["completion_id"].notna()]
        assert set(flagged["detail"]) == {detail}
        assert flagged["completion_id"].is_unique
        assert len(flagged) == summary.flags["repeated", "completions"] == summary.completion_reasons[Reason.FLAGGED]


def test_a_margin_is_less_what_the_lengths_are_worth_and_scores_are_as_given(build: Build) -> None:
    made, summary, _ = run(build(60, shard_size=16))
    slope, rows = summary.slopes[TOTAL], published(made.folder)
    for row in rows:
        longer = log_length(row["chosen"][0]["content"]) - log_length(row["rejected"][0]["content"])
        raw = row["chosen_score"] - row["rejected_score"]
        assert row["score_margin"] == pytest.approx(raw - slope * longer)
        assert row["score_margin"] > 0 != raw
        given = [one["score"] for one in row["chosen_ratings"]]
        assert row["chosen_score"] == pytest.approx(sum(given) / len(given))
    report = Path(made.folder, "report.html").read_text()
    assert "points for twice the length" in report
    assert f"<td>{slope:.4f}</td>" in report
    card = Path(made.folder, "README.md").read_text()
    assert "## Length control" in card
    assert "in the margin less what the difference in length is worth" in card


def test_a_rerun_with_nothing_new_pairs_nothing(build: Build, paired: list[str]) -> None:
    recipe = build(shard_size=7)
    first = run(recipe)[0]
    assert len(paired) == 5
    again, _, calls = run(recipe)
    assert (len(paired), calls.total(), again.new, again.digest) == (5, 0, False, first.digest)


def test_a_new_slope_concerns_all_shards(build: Build, paired: list[str]) -> None:
    pairing = {"length_control": True}
    run(build(35, shard_size=7, pairing=pairing))
    paired.clear()
    made, _, calls = run(build(40, shard_size=7, pairing=pairing))
    assert (len(paired), calls["rate"]) == (6, 10)
    assert run(build(40, name="at-once", shard_size=7, pairing=pairing))[0].digest == made.digest


def test_a_newly_repeated_text_concerns_the_shards_that_hold_it(build: Build, paired: list[str]) -> None:
    refused = [n for n in range(200) if draw(f"Question {n}?") < 0.4]
    kept = [n for n in range(200) if n not in refused]
    order = [*kept[:4], refused[0], *kept[4:7], *kept[7:11], refused[1]]
    pairing = {"guard": {"on_flag": "drop", "repeated": 2}}

    def recipe(name: str, numbers: list[int]) -> Recipe:
        base = build(1, name=name, shard_size=4, pairing=pairing)
        file = Path(base.workspace).parent / "questions.jsonl"
        file.write_text("".join(f'{{"prompt": "Question {n}?"}}\n' for n in numbers))
        sources = {"sources": [{"path": str(file)}]}
        return build(1, name=name, shard_size=4, pairing=pairing, prompts=sources)

    run(recipe("grows", order[:12]))
    shards = list(paired)
    paired.clear()
    made, summary, _ = run(recipe("grows", order))
    assert len(shards) == 3
    assert len(paired) == 2  # the new one, and the one that holds the first refusal
    assert len(set(paired) & set(shards)) == 1
    assert summary.flags["repeated", "completions"] == 2
    assert run(recipe("at-once", order))[0].digest == made.digest


def test_a_run_that_stopped_among_the_pairs_goes_on_there(
    build: Build, paired: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(build(name="undisturbed", shard_size=7))[0].digest
    paired.clear()
    watched = runs.pair_shard

    def stops(recipe: Recipe, shard: str, session: Session) -> StageResult:
        if len(paired) == 3:
            raise OSError("no space left")
        return watched(recipe, shard, session)

    monkeypatch.setattr(runs, "pair_shard", stops)
    with pytest.raises(OSError, match="no space"):
        run(build(shard_size=7))
    monkeypatch.setattr(runs, "pair_shard", watched)
    published, _, calls = run(build(shard_size=7))
    assert (len(paired), len(set(paired)), calls.total()) == (5, 5, 0)
    assert published.digest == expected


@pytest.mark.parametrize("harm", ["gone", "damaged", "foreign"])
@pytest.mark.parametrize("name_of", [survey_name, facts_name])
def test_a_file_that_was_harmed_is_made_again(build: Build, name_of: Callable[[str], str], harm: str) -> None:
    recipe = build(shard_size=16)
    expected = run(recipe)[0].digest
    store = open_store(recipe)
    for shard in store.shards():
        path = Path(store.path(name_of(shard)))
        before = path.read_text()
        path.unlink() if harm == "gone" else path.write_text({"damaged": "{", "foreign": "[1]"}[harm])
        made, _, calls = run(recipe)
        assert (made.digest, calls.total()) == (expected, 0)
        assert path.read_text() == before


def test_a_recipe_without_a_survey_writes_none(build: Build) -> None:
    recipe = build(pairing={"guard": {"on_flag": "drop"}})
    run(recipe)
    store = open_store(recipe)
    (shard,) = store.shards()
    assert not store.exists(survey_name(shard))
    assert not store.exists(facts_name(shard))


def test_length_control_needs_scores(echo_recipe: Build) -> None:
    pairing = {"strategy": "member-order", "member_order": ["long", "brief"], "length_control": True}
    with pytest.raises(ConfigError, match="length_control: needs scores"):
        echo_recipe(2, pairing=pairing)
    with pytest.raises(ConfigError, match="repeated"):
        echo_recipe(2, pairing={"guard": {"repeated": 1}})
