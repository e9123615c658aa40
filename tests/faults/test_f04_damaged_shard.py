"""F4: a table that was cut short, has a flipped bit, is empty or is another's is never taken for what it was.

The damage is seen, told with the file's name, and repaired by the next run: only the shard that has it is built anew,
from the ledger and without a call, and the data set is the same to the last row.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from pairsmith.config import Recipe
from pairsmith.errors import TableError
from pairsmith.session import process_session
from pairsmith.stages.base import open_store
from pairsmith.stages.freshness import unfinished
from pairsmith.stages.load import load
from pairsmith.storage.schemas import frame, rows
from pairsmith.storage.store import Store, TableRef
from pairsmith.storage.tables import made_refs, rated_refs, record_name
from tests.faults.harness import digest_of_latest
from tests.runs import run

Build = Callable[..., Recipe]
Tally = Callable[..., None]
DAMAGES = ("truncated", "flipped", "empty", "foreign", "another table", "another shard")
FLIPPED = 40  # the place of a byte of the first column
REF = TableRef("rejections", "abc")
TABLE = frame(
    "rejections",
    [{"prompt_id": str(n), "stage": "load", "reason": "blank", "detail": f"line {n}\u2028é"} for n in range(50)],
)


def damage(path: Path, how: str, others: dict[str, bytes]) -> None:
    """Damage a file; `others` are the files that can be put in its place."""
    content = path.read_bytes()
    if how == "foreign":
        pd.DataFrame({"x": [1]}).to_parquet(path)
        return
    flipped = content[:FLIPPED] + bytes([content[FLIPPED] ^ 0x10]) + content[FLIPPED + 1 :]
    path.write_bytes({"truncated": content[:-20], "flipped": flipped, "empty": b"", **others}[how])


def states(root: Path, but: str) -> dict[Path, tuple[int, int]]:
    """What changes when a file is written anew, for the tables of all shards but one."""
    found = [path for path in root.glob("tables/*/*") if path.parent.name not in (but, "load")]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


@pytest.mark.parametrize("how", DAMAGES)
def test_f4_a_damaged_shard_is_built_anew_and_no_other(echo_recipe: Build, tally: Tally, how: str) -> None:
    recipe = echo_recipe(20, shard_size=7)
    expected, summary, _ = run(recipe)
    store, loaded = open_store(recipe), load(recipe, process_session())
    shard, other, _ = loaded.shards
    refs = [*rated_refs(recipe, shard), *made_refs(recipe, shard)]
    for place, name in enumerate([*(ref.path for ref in refs), record_name(shard)]):
        path = Path(store.path(name))
        content = path.read_bytes()
        another = Path(store.path(refs[place - 1].path)).read_bytes()
        same_elsewhere = Path(store.path(name.replace(shard, other))).read_bytes()
        before = states(Path(store.root), shard)
        damage(path, how, {"another table": another, "another shard": same_elsewhere})
        if path.read_bytes() == content:  # both are empty
            continue
        found = unfinished(recipe, load(recipe, process_session()).shards, process_session())
        assert found == ([] if name == refs[0].path else [shard]), name  # prompts are repaired by the load
        published, again, calls = run(recipe)
        tally(1, again.loaded - again.paired - sum(again.prompt_reasons.values()), calls.total())
        assert not calls, name
        assert (published.digest, published.new, again) == (expected.digest, False, summary), name
        assert path.read_bytes() == content, name
        assert states(Path(store.root), shard) == before, name


def test_f4_rejections_of_the_load_are_written_anew(echo_recipe: Build) -> None:
    recipe = echo_recipe(5)
    run(recipe)
    path = Path(open_store(recipe).path("tables/load/rejections.all.parquet"))
    content = path.read_bytes()
    for how in DAMAGES[:4]:
        damage(path, how, {})
        assert not run(recipe)[2]
        assert path.read_bytes() == content


@pytest.mark.parametrize("how", DAMAGES[:4])
def test_f4_a_damaged_version_is_published_anew(echo_recipe: Build, how: str) -> None:
    recipe = echo_recipe(20)
    expected = run(recipe)[0]
    (path,) = Path(expected.folder, "data").iterdir()
    damage(path, how, {})
    published, _, calls = run(recipe)
    assert not calls
    assert (published.new, published.digest) == (True, expected.digest)
    assert digest_of_latest(Path(open_store(recipe).root)) == expected.digest


@pytest.mark.parametrize("how", DAMAGES[:5])
def test_f4_damage_is_told_with_the_file(tmp_path: Path, how: str) -> None:
    store = Store(str(tmp_path))
    store.write(REF, TABLE, "mark")
    other = TableRef("pairs", "abc")
    store.write(other, frame("pairs", []), "mark")
    damage(Path(store.path(REF.path)), how, {"another table": Path(store.path(other.path)).read_bytes()})
    with pytest.raises(TableError, match="rejections.all.parquet"):
        store.read(REF)
    assert store.fresh(REF, "mark") is None


def test_f4_no_flipped_byte_goes_unseen(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write(REF, TABLE, "mark")
    path = Path(store.path(REF.path))
    content = path.read_bytes()
    for place in range(0, len(content), 17):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        stored = store.fresh(REF, "mark")
        assert stored is None or rows(stored.data) == rows(TABLE), f"byte {place}"
