"""Files are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from pairsmith.storage import disk
from pairsmith.storage.disk import replace_file


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    replace_file(path, b"one")
    replace_file(path, b"two")
    assert path.read_bytes() == b"two"

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(disk.os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        replace_file(path, b"three")
    assert path.read_bytes() == b"two"
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]
