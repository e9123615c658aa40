from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

from pairsmith.errors import ConfigError, RunError, TableError
from pairsmith.storage.lock_wait import patient
from pairsmith.storage.schemas import frame, rows
from pairsmith.storage.store import RecentTables, Store, TableRef, digest_of

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


def test_a_table_is_read_once_while_its_file_is_untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recent = RecentTables()
    one, other = Store(str(tmp_path), recent), Store(str(tmp_path), recent)
    one.write(REF, TABLE, "mark")
    read: list[TableRef] = []
    real = Store._load
    monkeypatch.setattr(Store, "_load", lambda self, ref: (read.append(ref), real(self, ref))[1])
    assert other.load(REF).data is one.load(REF).data
    assert not read
    Store(str(tmp_path)).write(REF, TABLE.head(1), "by another process")
    assert [len(other.read(REF)), len(one.read(REF))] == [1, 1]
    assert len(read) == 1
    Path(one.path(REF.path)).write_bytes(b"PAR1")
    with pytest.raises(TableError):
        other.load(REF)
    Path(one.path(REF.path)).unlink()
    with pytest.raises(TableError):
        other.load(REF)


def test_without_tables_to_remember_each_is_read_anew(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write(REF, TABLE, "mark")
    assert store.load(REF).data is not store.load(REF).data


def test_no_more_tables_are_remembered_than_was_said(tmp_path: Path) -> None:
    recent = RecentTables(most=2)
    store = Store(str(tmp_path), recent)
    refs = [TableRef("rejections", name) for name in "abc"]
    for ref in refs:
        store.write(ref, TABLE, "mark")
    known = [recent.get(store.path(ref.path), store.files.state(ref.path)) for ref in refs]
    assert [stored is not None for stored in known] == [False, True, True]


def test_object_storage_by_url() -> None:
    store = Store("memory://bucket/data")
    store.write(REF, TABLE, "mark")
    assert rows(store.read(REF)) == rows(TABLE)


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
    for before, version in ((None, "v1"), ("versions/v1", "v2")):
        made = tmp_path / "made"
        made.mkdir()
        (made / "file").write_text(version)
        store.install(made, f"versions/{version}")
        assert store.point("latest", f"versions/{version}", before)
        assert store.points_to("latest") == f"versions/{version}"
        assert (tmp_path / "store" / "latest" / "file").read_text() == version
    assert (tmp_path / "store" / "versions" / "v1" / "file").read_text() == "v1"


def test_a_workspace_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file is a file, not a folder"), Store(str(tmp_path / "file" / "x")).lock():
        pass


def test_a_lock_is_waited_for_as_long_as_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(str(tmp_path / "store"))
    with store.lock():
        for wait in (None, 0.2):
            began = time.monotonic()
            with pytest.raises(RunError, match=rf"another run works on this data set \(process {os.getpid()} since"):
                store.lock(wait).__enter__()
            assert time.monotonic() - began >= (wait or 0)
        with patient(0.2), pytest.raises(RunError), store.lock():
            pass
        assert f"waiting for up to 0.2 s for process {os.getpid()} since" in caplog.text
    held, wanted = store.lock(), threading.Event()
    held.__enter__()

    def give_back() -> None:
        wanted.wait(10)
        held.__exit__(None, None, None)

    other = threading.Thread(target=give_back)
    other.start()
    threading.Timer(0.1, wanted.set).start()
    with patient(10), store.lock():
        assert wanted.is_set()
    other.join()
