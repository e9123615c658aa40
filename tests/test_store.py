from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from pairsmith.errors import ConfigError, RunError, TableError
from pairsmith.schemas import frame, rows
from pairsmith.store import Store, TableRef, digest_of
from tests.conftest import ROOT

REF = TableRef("rejections", "abc")
TABLE = frame(
    "rejections",
    [{"prompt_id": str(n), "stage": "load", "reason": "blank", "detail": f"line {n}\u2028é"} for n in range(50)],
)


def test_a_table_comes_back_as_it_went_in(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write(REF, TABLE, "mark")
    pd.testing.assert_frame_equal(store.read(REF), TABLE)
    assert store.fresh(REF, "mark") is not None
    assert store.fresh(REF, "other") is None
    assert store.fresh(TableRef("rejections", "xyz"), "mark") is None


def test_object_storage_by_url() -> None:
    store = Store("memory://bucket/data")
    store.write(REF, TABLE, "mark")
    assert rows(store.read(REF)) == rows(TABLE)


@pytest.mark.parametrize("damage", ["truncate", "empty", "foreign", "other table"])
def test_f4_damage_is_detected(tmp_path: Path, damage: str) -> None:
    store = Store(str(tmp_path))
    store.write(REF, TABLE, "mark")
    path = Path(store.path(REF.path))
    content = path.read_bytes()
    if damage == "other table":
        store.write(TableRef("pairs", "abc"), frame("pairs", []), "mark")
        path.write_bytes(Path(store.path(TableRef("pairs", "abc").path)).read_bytes())
    elif damage == "foreign":
        pd.DataFrame({"x": [1]}).to_parquet(path)
    else:
        path.write_bytes({"truncate": content[:-20], "empty": b""}[damage])
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


def test_a_table_that_breaks_its_schema_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="reason"):
        Store(str(tmp_path)).write(REF, TABLE.assign(reason="no such reason"), "mark")
    assert not (tmp_path / "tables").exists()


def test_a_failed_write_leaves_the_old_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))
    store.write(REF, TABLE, "mark")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        store.write(REF, TABLE.head(1), "mark 2")
    monkeypatch.undo()
    assert rows(store.read(REF)) == rows(TABLE)
    assert len(list(Path(store.path(REF.path)).parent.iterdir())) == 1


def test_digests_depend_on_content_and_order() -> None:
    assert digest_of(TABLE) == digest_of(TABLE.copy())
    assert digest_of(TABLE) != digest_of(TABLE.iloc[::-1])
    assert digest_of(TABLE) != digest_of(TABLE.assign(detail="x"))


def test_installing_moves_the_pointer(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    assert store.points_to("latest") is None
    for version in ("v1", "v2"):
        made = tmp_path / "made"
        made.mkdir()
        (made / "file").write_text(version)
        store.install(made, f"versions/{version}", "latest")
        assert store.points_to("latest") == f"versions/{version}"
        assert (tmp_path / "store" / "latest" / "file").read_text() == version
    assert (tmp_path / "store" / "versions" / "v1" / "file").read_text() == "v1"


def test_a_workspace_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"), Store(str(tmp_path / "file" / "x")).lock():
        pass


HOLD = """
import sys, time
from pairsmith.store import Store
with Store(sys.argv[1]).lock():
    print("held", flush=True)
    time.sleep(60)
"""


def test_f5_a_second_run_says_who_holds_the_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(RunError, match=f"process {process.pid}"), Store(str(tmp_path)).lock():
            pass
        process.kill()
        process.wait()
        with Store(str(tmp_path)).lock():
            pass
