from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import yaml

from pairsmith.config import Publishing, Recipe
from pairsmith.errors import ConfigError
from pairsmith.ledger.ledger import open_ledger
from pairsmith.publishing.data_files import by_split
from pairsmith.publishing.exports import kto_rows
from pairsmith.reporting.card import recipe_yaml, score_meaning
from pairsmith.reporting.summary_tables import member_table
from pairsmith.session import process_session
from pairsmith.stages.publish import push
from tests.runs import run

Build = Callable[..., Recipe]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def test_load_dataset_opens_the_folder_in_trl_format(echo_recipe: Build) -> None:
    import datasets

    published, summary, _ = run(echo_recipe(30, publishing={"test_fraction": 0.3, "exports": ["kto", "jsonl"]}))
    data = datasets.load_dataset(published.folder)
    assert set(data) == {"train", "test"}
    assert len(data["train"]) + len(data["test"]) == summary.pairs
    row = data["train"][0]
    assert row["prompt"][-1]["role"] == "user"
    assert [message["role"] for message in row["chosen"]] == ["assistant"]
    assert row["chosen"] != row["rejected"]
    assert row["chosen_score"] - row["rejected_score"] == pytest.approx(row["score_margin"])
    assert {rating["aspect"] for rating in row["chosen_ratings"]} == {"helpfulness", "honesty"}
    kto = datasets.load_dataset(published.folder, "kto")["train"]
    assert set(kto.column_names) == {"prompt", "completion", "label", "prompt_id"}
    assert kto["label"].count(True) == kto["label"].count(False) == len(data["train"])
    (jsonl,) = Path(published.folder, "jsonl").glob("train-*.jsonl")
    assert json.loads(jsonl.read_bytes().split(b"\n")[0])["prompt"] == row["prompt"]


def test_latest_leads_to_the_newest_version(echo_recipe: Build) -> None:
    import datasets

    for name, count in (("one", 10), ("one", 12), ("other", 11)):
        published, _, _ = run(echo_recipe(count, name=name))
        latest = Path(published.folder).parent.parent / "latest"
        assert latest.resolve() == Path(published.folder).resolve()
        assert len(datasets.load_dataset(str(latest))["train"]) == count
    assert [path.name for path in sorted(latest.parent.parent.glob("one/versions/*"))] == ["v0001", "v0002"]


def test_the_card_has_front_matter_counts_recipe_and_limits(echo_recipe: Build) -> None:
    published, summary, _ = run(echo_recipe(10, publishing={"license": "apache-2.0", "language": ["en"]}))
    card = Path(published.folder, "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] == "apache-2.0"
    assert front["configs"][0]["data_files"] == [
        {"split": "train", "path": f"data/train-{published.digest[:12]}.parquet"}
    ]
    assert f"| paired | {summary.paired} |" in card
    assert "## Limits" in card
    assert "echo-judge" in card
    recipe = yaml.safe_load(Path(published.folder, "recipe.yaml").read_text())
    assert recipe["prompts"]["sources"][0]["path"] == "prompts.jsonl"


def test_a_version_is_never_replaced_even_where_latest_was_lost(echo_recipe: Build) -> None:
    first, _, _ = run(echo_recipe(5))
    (Path(first.folder).parent.parent / "latest").unlink()
    card = Path(first.folder, "README.md").read_text()
    assert run(echo_recipe(6))[0].version == "v0002"
    assert Path(first.folder, "README.md").read_text() == card


def test_a_split_without_rows_is_left_out(echo_recipe: Build) -> None:
    import datasets

    published, summary, _ = run(echo_recipe(5, publishing={"test_fraction": 0.999, "exports": ["kto", "jsonl"]}))
    assert {split: len(rows) for split, rows in datasets.load_dataset(published.folder).items()} == {
        "test": summary.pairs
    }
    assert set(datasets.load_dataset(published.folder, "kto")) == {"test"}


def test_a_version_that_lost_its_files_is_published_anew(echo_recipe: Build) -> None:
    first, _, _ = run(echo_recipe(5))
    for path in Path(first.folder, "data").iterdir():
        path.unlink()
    second, _, calls = run(echo_recipe(5))
    assert (second.version, second.new, dict(calls)) == ("v0002", True, {})
    for content in ("{", "{}"):
        Path(second.folder, "version.json").write_text(content)
        second, _, _ = run(echo_recipe(5))
        assert second.new
    assert second.version == "v0004"


def test_superseded_rewrites_do_not_count_as_failed(echo_recipe: Build) -> None:
    _, summary, _ = run(echo_recipe(5, evolution={"rounds": 2, "keep": "last"}))
    assert [row["failed"] for row in member_table(summary)] == [0, 0, 0]


def test_long_texts_do_not_stop_a_report(echo_recipe: Build, tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"{n} " * 40_000}) + "\n" for n in range(60)))
    published, summary, _ = run(echo_recipe(1, prompts={"sources": [{"path": str(path)}]}))
    assert summary.loaded == 60
    assert Path(published.folder, "report.html").stat().st_size < 3_000_000


def test_a_workspace_on_object_storage(echo_recipe: Build, tmp_path: Path) -> None:
    recipe = echo_recipe(5, workspace="memory://bucket/ws", ledger=f"sqlite:///{tmp_path}/ledger.sqlite")
    first, again = run(recipe)[0], run(recipe)[0]
    assert first.folder == "memory:///bucket/ws/echo/versions/v0001"
    assert (first.new, again.new, again.folder) == (True, False, first.folder)


def test_splits_keep_prompts_together_and_never_move_them() -> None:
    table = pa.table({"prompt_id": [str(n // 2) for n in range(200)]})
    publishing = Publishing(test_fraction=0.2)
    splits = by_split(table, publishing)
    train, test = (set(splits[name]["prompt_id"].to_pylist()) for name in ("train", "test"))
    assert not train & test
    assert 5 <= len(test) <= 35
    assert set(by_split(table.slice(0, 50), publishing)["train"]["prompt_id"].to_pylist()) <= train


def test_kto_leaves_out_what_is_both_chosen_and_rejected() -> None:
    def row(chosen: str, rejected: str) -> dict[str, Any]:
        return {
            "prompt": [],
            "chosen": [],
            "rejected": [],
            "chosen_id": chosen,
            "rejected_id": rejected,
            "prompt_id": "p",
        }

    rows = kto_rows([row("a", "b"), row("b", "c"), row("a", "c")])
    assert [row["label"] for row in rows] == [True, False]


def test_pushing_is_private_needs_a_token_and_uploads_the_version(
    echo_recipe: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = echo_recipe(5, publishing={"hub": {"repo_id": "me/pairs", "token_env": "PAIRSMITH_TEST_TOKEN"}})
    published, _, _ = run(recipe)
    with pytest.raises(ConfigError, match="PAIRSMITH_TEST_TOKEN holds no token"):
        push(recipe, published, process_session())
    seen: dict[str, Any] = {"private": False}

    class Api:
        endpoint = "https://hub"

        def __init__(self, token: str) -> None:
            seen["token"] = token

        def create_repo(self, repo_id: str, **options: Any) -> None:
            seen["create"] = (repo_id, options)

        def dataset_info(self, repo_id: str) -> Any:
            return SimpleNamespace(private=seen["private"])

        def upload_folder(self, **options: Any) -> None:
            assert "upload" not in seen
            seen["upload"] = options

    monkeypatch.setenv("PAIRSMITH_TEST_TOKEN", "canary")
    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    with pytest.raises(ConfigError, match="me/pairs is public"):
        push(recipe, published, process_session())
    seen["private"] = True
    assert push(recipe, published, process_session()) == "https://hub/datasets/me/pairs"
    assert push(recipe, published, process_session()) is None  # it is there already
    assert seen["token"] == "canary"
    assert seen["create"][1]["private"] is True
    assert seen["upload"]["folder_path"] == published.folder
    assert not any("canary" in path.read_text(errors="ignore") for path in Path(published.folder).rglob("*.*"))


PRICE = {"prompt": 100.0, "completion": 200.0}
REWARD = {"name": "rm", "backend": "reward", "model": "m"}


def costs(folder: str) -> list[list[str]]:
    """The rows of the table of costs in a card, which the report has too."""
    lines = Path(folder, "README.md").read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| asked by"))
    table = lines[start + 2 : lines.index("", start)]
    cells = [[cell.strip().replace("\\", "") for cell in line.strip("|").split("|")] for line in table]
    page = Path(folder, "report.html").read_text()
    section = page[page.index('<section id="usage">') : page.index('<section id="pairs">')]
    assert all(f">{row[0]}<" in section for row in cells)
    return cells


def test_card_and_report_tell_what_a_data_set_has_cost_in_all_its_runs(echo_recipe: Build) -> None:
    recipe = echo_recipe(6).model_dump()
    for spec in [*recipe["pool"]["members"], *recipe["rating"]["judges"]]:
        spec["price"] = PRICE
    first, _, calls = run(Recipe.model_validate(recipe))
    table = costs(first.folder)
    assert [row[0].split()[0] for row in table] == ["member", "member", "evolver", "judge", "all"]
    assert int(table[-1][2]) == sum(int(row[2]) for row in table[:-1]) == sum(calls.values())
    ledger = open_ledger(Recipe.model_validate(recipe).ledger_url, process_session())
    tokens, cost = ledger.spending.spent(recipe["name"])
    assert int(table[-1][3]) + int(table[-1][4]) == tokens
    assert float(table[-1][5]) == pytest.approx(cost)

    recipe["pairing"]["strategy"] = "best-vs-second"  # nothing is asked, and nothing was free
    again, _, asked = run(Recipe.model_validate(recipe))
    assert (again.new, sum(asked.values())) == (True, 0)
    assert costs(again.folder) == table

    recipe["rating"]["judges"][0]["name"] = "another"
    later, _, asked = run(Recipe.model_validate(recipe))
    rows = {row[0]: row for row in costs(later.folder)}
    gone = next(row for row in table if row[0].startswith("judge"))
    assert rows[gone[0]][-1] == "no"
    assert int(rows["all"][2]) == int(table[-1][2]) + sum(asked.values())


def test_where_another_data_set_paid_nothing_is_told(echo_recipe: Build) -> None:
    run(echo_recipe(6, name="one"))
    other, _, calls = run(echo_recipe(6, name="other"))
    assert not calls
    assert "asked by" not in Path(other.folder, "README.md").read_text()
    assert 'id="usage"' not in Path(other.folder, "report.html").read_text()


def test_the_recipe_of_the_card_names_no_folder_of_this_machine(echo_recipe: Build, tmp_path: Path) -> None:
    benchmark, weights = tmp_path / "benchmark.jsonl", tmp_path / "encoder"
    recipe = echo_recipe(6).model_dump()
    recipe["prompts"]["decontaminate"] = {"against": [{"path": str(benchmark)}]}
    recipe["pairing"]["similarity"] = {"model": str(weights)}
    told = recipe_yaml(Recipe.model_validate(recipe))
    assert str(tmp_path) not in told
    assert "path: benchmark.jsonl" in told
    assert "model: encoder" in told


@pytest.mark.parametrize(
    ("rating", "pairing", "told"),
    [
        ({}, {}, "a weighted mean over aspects (those not applicable left out); in each, the mean over judges"),
        ({"aggregation": "median"}, {}, "median over judges, put on the scale 1 to 5"),
        ({"aspects": ["overall"], "judges": [REWARD]}, {}, "in the reward model's own units"),
        ({"aggregation": "trimmed"}, {}, "of three or more without the lowest and the highest"),
        ({"aggregation": "z-scored"}, {}, "less the judge's mean for the prompt, in its standard deviations"),
        ({"aspects": ["overall", "honesty"]}, {"conflicts": "prefer-overall"}, "the aspect overall (those"),
        ({"aspects": ["overall", "honesty"]}, {"conflicts": "prefer-aspects"}, "aspects without overall"),
        ({}, {"strategy": "per-aspect"}, "in the aspect that `strategy` names: mean over judges"),
    ],
)
def test_the_card_says_how_scores_were_made(echo_recipe: Build, rating: Any, pairing: Any, told: str) -> None:
    assert told in score_meaning(echo_recipe(6, rating=rating, pairing=pairing))
