"""F37: with a ledger on PostgreSQL, a data set is locked by its own id, and only by that.

Two machines with different data sets under one path do not exclude each other; one data set under two paths is one.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pairsmith.errors import DataError, NoConditionalWrites, RunError
from pairsmith.ledger.ledger import Ledger
from pairsmith.storage import workspace_id as module
from pairsmith.storage.local_files import LocalFiles
from pairsmith.storage.opening import files_at
from pairsmith.storage.workspace_id import workspace_id

Tally = Callable[..., None]
on_postgres = pytest.mark.parametrize("new_ledger", ["postgres"], indirect=True)


@pytest.mark.postgres
@on_postgres
def test_f37_two_machines_with_one_path_do_not_exclude_each_other(
    ledger_url: str, tmp_path: Path, tally: Tally
) -> None:
    path = tmp_path / "data"
    path.mkdir()
    with Ledger(ledger_url).lock(files_at(str(path))) as one:
        path.rename(tmp_path / "the first machine's")  # under this path, the second machine has another disk
        with Ledger(ledger_url).lock(files_at(str(path))) as other:
            one.check()
            other.check()
    tally(1, 0, 0)


@pytest.fixture(params=["link", "mount"])
def second_path(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A second path of the folder `data`."""
    first, second = tmp_path / "data", tmp_path / "elsewhere"
    first.mkdir()
    if request.param == "link":
        second.symlink_to(first)
        yield second
        return
    second.mkdir()
    try:
        subprocess.run(["mount", "--bind", str(first), str(second)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a folder cannot be mounted here: {error}")
    yield second
    subprocess.run(["umount", "--lazy", str(second)], check=True)


@pytest.mark.postgres
@on_postgres
def test_f37_one_data_set_under_two_paths_has_one_run_at_a_time(
    ledger_url: str, second_path: Path, tmp_path: Path, tally: Tally
) -> None:
    one, other = (Ledger(ledger_url).lock(files_at(str(path))) for path in (tmp_path / "data", second_path))
    with one, pytest.raises(RunError, match="elsewhere: another run works on this data set"):
        other.__enter__()
    tally(1, 0, 0)


def test_f37_of_many_that_make_the_id_all_have_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        ids = set(threads.map(lambda _: workspace_id(files_at(str(tmp_path / "data"))), range(16)))
    assert len(ids) == 1
    assert ids == {json.loads((tmp_path / "data" / module.FILE).read_text())["id"]}


def test_f37_where_an_id_cannot_be_made_safely_the_address_is_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bool:
        raise NoConditionalWrites("no hard links")

    monkeypatch.setattr(LocalFiles, "put_if_absent", refuse)
    files = files_at(str(tmp_path / "data"))
    assert workspace_id(files) == files.url("")
    assert not files.exists(module.FILE)


def test_f37_a_damaged_id_is_named_with_the_way_out(tmp_path: Path) -> None:
    files = files_at(str(tmp_path))
    files.write(module.FILE, b"{}")
    with pytest.raises(DataError, match=r"id\.json: damaged .*delete it while no run works"):
        workspace_id(files)
