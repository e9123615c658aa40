"""A published data set as a program sees it, in a folder and on object storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from pairsmith import Dataset
from pairsmith.config import Recipe
from pairsmith.errors import DataError, RunError
from pairsmith.storage.datafiles import PREFERENCE
from pairsmith.storage.decisions import Verdict, this_user
from pairsmith.storage.versions import State
from tests.runs import run

Make = Callable[[int], Dataset]


@pytest.fixture(params=["folder", "object storage"])
def made(request: pytest.FixtureRequest, echo_recipe: Callable[..., Recipe], tmp_path: Path) -> Iterator[Make]:
    """Publishes so many prompts as a version that needs approval, and opens the data set."""
    place = {"workspace": str(tmp_path / "data")}
    if request.param == "object storage":
        place = {"workspace": f"memory://{tmp_path.name}", "ledger": f"sqlite:///{tmp_path}/ledger.sqlite"}

    def make(count: int) -> Dataset:
        run(echo_recipe(count, publishing={"approval": "required", "test_fraction": 0.3}, **place))
        return Dataset(f"{place['workspace']}/echo")

    yield make
    if request.param == "object storage":
        fsspec.filesystem("memory").rm(f"/{tmp_path.name}", recursive=True)


def test_a_version_waits_is_released_and_followed_by_another(made: Make) -> None:
    found = made(3)
    assert (found.latest, found.candidates, found.state("v0001")) == (None, ["v0001"], State.CANDIDATE)
    decision = found.release(reason="looked at it")
    assert (decision.verdict, decision.version, decision.by) == (Verdict.RELEASED, "v0001", this_user())
    assert (found.latest, found.candidates, found.state("latest")) == ("v0001", [], State.RELEASED)
    again = made(5)
    assert [version.name for version in again.versions] == ["v0001", "v0002"]
    assert (again.latest, again.candidates) == ("v0001", ["v0002"])
    assert [len(again.pairs(version.name)) for version in again.versions] == [v.pairs for v in again.versions]


def test_a_version_is_rejected_or_taken_back(made: Make) -> None:
    made(3).release("v0001", reason="good", by="ann")
    found = made(4)
    decision = found.reject(reason="worse", by="bob")
    assert (decision.by, decision.reason, found.state("v0002"), found.latest) == (
        "bob", "worse", State.REJECTED, "v0001"
    )  # fmt: skip
    found = made(5)
    found.release("v0003", reason="better")
    assert found.latest == "v0003"
    found.rollback("v0001", reason="not so")
    assert (found.latest, found.state("v0003"), found.candidates) == ("v0001", State.WITHDRAWN, [])


def test_pairs_are_whole_with_train_before_test(made: Make) -> None:
    found = made(12)
    found.release(reason="good")
    pairs = found.pairs()
    assert list(pairs.columns) == PREFERENCE.names
    (version,) = found.versions
    assert len(pairs) == version.pairs == len(found.pairs("v0001"))
    assert sum(name.startswith("data/") for name in version.files) == 2
    train = next(name for name in sorted(version.files) if name.startswith("data/train"))
    with found.store.files.open(version.place(train)) as file:
        import pandas as pd

        first = pd.read_parquet(file)
    assert 0 < len(first) < len(pairs)
    assert list(pairs["prompt_id"])[: len(first)] == list(first["prompt_id"])
    assert pairs["prompt"][0][-1] == {"role": "user", "content": pairs["prompt"][0][-1]["content"]}


def test_an_unknown_version_is_named_with_those_that_are_there(made: Make) -> None:
    found = made(3)
    for look in (found.state, found.pairs):
        with pytest.raises(DataError, match="no version v0009; there are v0001"):
            look("v0009")
    with pytest.raises(RunError, match="no version v0009; there are v0001"):
        found.release("v0009", reason="good")
    with pytest.raises(DataError, match="nothing was released yet; name a version"):
        found.pairs()
    with pytest.raises(RunError, match="v0001 was never released"):
        found.rollback("v0001", reason="good")
    found.reject(reason="bad")
    with pytest.raises(RunError, match="no version waits"):
        found.release(reason="good")


def test_a_version_that_cannot_be_read_is_left_out_and_its_pairs_are_an_error(made: Make) -> None:
    found = made(3)
    places = ("versions/v0001.json", "versions/v0001/version.json")
    (record,) = (place for place in places if found.store.exists(place))
    found.store.write_json(record, {"version": "v0001"})
    assert found.versions == []
    with pytest.raises(DataError, match="v0001: its version.json cannot be read"):
        found.pairs("v0001")


@pytest.mark.parametrize("place", ["{}/none", "{}", "memory://none/at/all"])
def test_a_place_without_a_version_is_an_error(place: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no version of a dataset there; name the folder that has `versions` in it"):
        Dataset(place.format(tmp_path))


def test_a_path_is_taken_as_a_place(echo_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    run(echo_recipe(3))
    found = Dataset(tmp_path / "data" / "echo")
    assert (found.latest, found.state("v0001"), len(found.pairs()) > 0) == ("v0001", State.RELEASED, True)
