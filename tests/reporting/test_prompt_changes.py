"""Which prompts two versions do not share, and what a version's changelog says of it."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pairsmith.config import Recipe
from pairsmith.errors import DataError
from pairsmith.publishing.pair_rows import to_table
from pairsmith.reporting import prompt_changes as module
from pairsmith.reporting.prompt_changes import changes
from pairsmith.stages.base import open_store
from pairsmith.storage import versions
from pairsmith.storage.datafiles import published_files
from tests.command_line import cli
from tests.reporting.test_comparison import row
from tests.runs import run

Build = Callable[..., Recipe]
Pairs = dict[str, list[tuple[str, str]]]  # prompt -> chosen and rejected of its pairs


def write(folder: Path, pairs: Pairs, order: int = 0) -> list[Path]:
    """A version's data files, its rows in an order of their own."""
    rows = [row(prompt, *pair) for prompt, found in pairs.items() for pair in found]
    random.Random(order).shuffle(rows)
    (folder / "data").mkdir(parents=True, exist_ok=True)
    pq.write_table(to_table(rows), folder / "data" / "train-0.parquet", row_group_size=2)
    return published_files(folder)


texts = st.sampled_from("xyz")
versions_of_pairs = st.dictionaries(
    st.sampled_from("pqrstu"), st.lists(st.tuples(texts, texts), min_size=1, max_size=3)
)


@given(versions_of_pairs, versions_of_pairs, st.integers(1, 12))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_the_counts_are_those_of_sets_whatever_the_order_and_the_passes(
    tmp_path: Path, a: Pairs, b: Pairs, pass_rows: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PASS_ROWS", pass_rows)
        found = changes(write(tmp_path / "a", a, 1), write(tmp_path / "b", b, 2), show=10)
    added, removed = set(b) - set(a), set(a) - set(b)
    changed = {prompt for prompt in set(a) & set(b) if sorted(a[prompt]) != sorted(b[prompt])}
    shown = {kind: {prompt.beginning for prompt in prompts} for kind, prompts in found.shown.items()}
    assert shown == {"added": added, "removed": removed, "changed": changed}
    assert (found.added, found.removed, found.changed) == (len(added), len(removed), len(changed))
    assert found.kept == len(set(a) & set(b)) - len(changed)


def test_no_more_are_shown_than_asked_for_in_the_order_of_the_version(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", {}), write(tmp_path / "b", {name: [("x", "y")] for name in "pqrstu"})
    found = changes(a, b, show=2)
    order = [chat[0]["content"] for chat in pq.read_table(b[0])["prompt"].to_pylist()]
    assert [prompt.beginning for prompt in found.shown["added"]] == order[:2]
    assert found.shown["added"][0].prompt_id == f"p-{order[0]}"
    assert found.added == 6


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    good = write(tmp_path / "a", {"p": [("x", "y")]})
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"bad\.parquet: cannot be read"):
        changes([tmp_path / "bad.parquet"], good)


def rows_file(tmp_path: Path, texts: list[str]) -> dict[str, Any]:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    return {"sources": [{"path": str(path)}]}


def test_a_version_tells_what_it_changed_and_what_that_cost(echo_recipe: Build, tmp_path: Path) -> None:
    def publish(texts: list[str], **changed: Any) -> dict[str, Any]:
        few = {"publishing": {"max_shrink": None}}  # a prompt less of four is a quarter
        recipe = echo_recipe(1, prompts=rows_file(tmp_path, texts), **few, **changed).model_dump()
        for spec in [*recipe["pool"]["members"], *recipe["rating"]["judges"]]:
            spec["price"] = {"prompt": 100.0, "completion": 200.0}
        published = run(Recipe.model_validate(recipe))[0]
        about: dict[str, Any] = json.loads(Path(published.folder, "version.json").read_text())
        return about | {"card": Path(published.folder, "README.md").read_text()}

    first = publish(["one", "two", "three"])
    assert first["changelog"] == {"against": None} | dict.fromkeys(("added", "removed", "changed", "calls", "cost"))
    assert "## What changed\n\nThis is the first version.\n" in first["card"]
    second = publish(["one", "two", "three", "four"])
    told = second["changelog"]
    assert (told["against"], told["added"], told["removed"], told["changed"], told["calls"]) == ("v0001", 1, 0, 0, 6)
    assert told["cost"] == pytest.approx(second["paid"]["cost"] - first["paid"]["cost"], abs=1e-6)
    assert "Against v0001: 1 prompts added, 0 removed, 0 with other pairs." in second["card"]
    assert "| prompts | 3 | 4 | 1 |" in second["card"]
    assert second["measured"]["mean margin"] == pytest.approx(
        float(second["card"].split("| mean margin | ")[1].split(" | ")[1])
    )
    third = publish(["one", "TWO", "three", "four"])["changelog"]
    assert (third["added"], third["removed"], third["changed"], third["calls"]) == (1, 1, 0, 6)
    fourth = publish(["one", "TWO", "three"])["changelog"]
    assert (fourth["added"], fourth["removed"], fourth["changed"], fourth["calls"]) == (0, 1, 0, 0)
    assert fourth["cost"] == 0
    other = publish(["one", "TWO", "three"], pairing={"strategy": "best-vs-second"})["changelog"]
    assert (other["added"], other["removed"], other["changed"], other["calls"]) == (0, 0, 3, 0)


def test_a_candidate_is_told_apart_from_the_version_that_is_released(echo_recipe: Build) -> None:
    for count, against in ((4, None), (5, "v0001"), (6, "v0001")):
        approval = "none" if count == 4 else "required"
        published = run(echo_recipe(count, publishing={"approval": approval}))[0]
        told = json.loads(Path(published.folder, "version.json").read_text())["changelog"]
        assert (told["against"], told["added"]) == (against, None if against is None else count - 4)


def test_on_object_storage_versions_are_compared_too(echo_recipe: Build, tmp_path: Path) -> None:
    place = {"workspace": f"memory://{tmp_path.name}", "ledger": f"sqlite:///{tmp_path}/ledger.sqlite"}
    for count in (4, 6):
        run(echo_recipe(count, **place))
    told = open_store(echo_recipe(1, **place)).read_json("versions/v0002.json")["changelog"]
    assert (told["against"], told["added"], told["removed"], told["changed"]) == ("v0001", 2, 0, 0)


def test_a_version_that_cannot_be_compared_with_says_so(echo_recipe: Build) -> None:
    first, _, _ = run(echo_recipe(4))
    shutil.rmtree(Path(first.folder, "data"))
    second, _, _ = run(echo_recipe(5))
    about = json.loads(Path(second.folder, "version.json").read_text())
    assert (about["changelog"]["against"], about["changelog"]["added"]) == ("v0001", None)
    assert "Against v0001, of which the data files cannot be read" in Path(second.folder, "README.md").read_text()


def test_versions_of_before_changelogs_are_listed_and_compared(echo_recipe: Build) -> None:
    recipe = echo_recipe(4)
    run(recipe)
    store = open_store(recipe)
    about = store.read_json("versions/v0001/version.json")
    kept = ("version", "pairs", "digest", "pairsmith", "files")
    store.write_json("versions/v0001/version.json", {name: about[name] for name in kept})
    run(echo_recipe(5))
    told = store.read_json("versions/v0002/version.json")["changelog"]
    assert (told["added"], told["calls"], told["cost"]) == (1, None, None)
    assert "v0001" in cli("versions", store.root).stdout


def test_the_command_line_lists_versions_and_their_differences(echo_recipe: Build, tmp_path: Path) -> None:
    folder = str(tmp_path / "data" / "echo")
    for texts in (["one", "two"], ["one", "[bold]three", "four"]):
        run(echo_recipe(1, prompts=rows_file(tmp_path, texts)))
    versions.rollback(open_store(echo_recipe(1)), "v0001", by="ann", reason="too many")
    listed = cli("versions", folder).stdout
    first, second = (next(line for line in listed.splitlines() if name in line) for name in ("v0001", "v0002"))
    assert "released, latest" in first
    assert [cell.strip() for cell in second.split("│")[3:-1]] == ["3", "2", "1", "0", "withdrawn", "ann", "too many"]
    told = cli("diff", folder, "v0001", "v0002").stdout
    assert "added: 2" in told
    assert "removed: 1" in told
    assert "[bold]three" in told
    assert "From latest to v0002: 1 prompts with the same pairs" in cli("diff", folder, "latest", "v0002").stdout
    few = cli("diff", folder, "v0001", "v0002", "--show", "1").stdout
    assert "added: 2, of which 1 are shown" in few
    wrong = cli("diff", folder, "v0001", "v0009")
    assert (wrong.returncode, "no version v0009; there are v0001, v0002" in wrong.stderr) == (3, True)
    assert cli("versions", str(tmp_path)).returncode == 3
