"""The lock of a folder: one holder, whoever asks, and a note of who it is for as long as it is held."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pairsmith.errors import ConfigError, RunError
from pairsmith.storage.locks import HOLDER, LOCK, hold_folder
from pairsmith.storage.store import Store
from tests.conftest import ROOT

HOLDING = """
import sys
from pathlib import Path
from pairsmith.storage.locks import hold_folder
with hold_folder(Path(sys.argv[1]), "busy"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_stores_of_one_process_exclude_each_other_in_any_thread(tmp_path: Path) -> None:
    one, other = Store(str(tmp_path)), Store(str(tmp_path))
    refused: list[str] = []

    def try_it() -> None:
        try:
            with other.lock():
                pass
        except RunError as error:
            refused.append(str(error))

    with one.lock():
        try_it()
        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
        assert len(refused) == 2
        with pytest.raises(RunError), one.lock():
            pass
    try_it()
    assert len(refused) == 2


def test_who_holds_a_lock_can_be_read_and_the_lock_goes_with_its_process(tmp_path: Path) -> None:
    words = [sys.executable, "-c", HOLDING, str(tmp_path)]
    with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            with (
                pytest.raises(RunError, match=rf"busy \(process {process.pid} since \d"),
                hold_folder(tmp_path, "busy"),
            ):
                pass
        finally:
            os.kill(process.pid, signal.SIGKILL)
    assert f"process {process.pid} " in (tmp_path / HOLDER).read_text()
    with hold_folder(tmp_path, "busy"):
        assert f"process {os.getpid()} since" in (tmp_path / HOLDER).read_text()
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


@pytest.mark.parametrize("name", [LOCK, HOLDER])
def test_a_link_in_the_place_of_a_lock_or_its_note_is_refused(tmp_path: Path, name: str) -> None:
    folder, outside = tmp_path / "data", tmp_path / "outside"
    folder.mkdir()
    outside.write_text("mine")
    (folder / name).symlink_to(outside)
    with pytest.raises((ConfigError, OSError)) as refused, hold_folder(folder, "busy"):
        pass
    assert str(folder) in str(refused.value)
    assert outside.read_text() == "mine"
    with pytest.raises(ConfigError, match="is a link"), Store(str(folder)).lock():
        pass


def test_a_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(KeyError), hold_folder(tmp_path, "busy"):
            raise KeyError
