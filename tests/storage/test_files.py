"""Places of a data set, a folder and object storage: both keep the same promises, races included."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest

from pairsmith.errors import NoConditionalWrites
from pairsmith.storage import disk
from pairsmith.storage.files import Files
from pairsmith.storage.local_swaps import SWAP
from pairsmith.storage.object_files import ObjectFiles
from pairsmith.storage.opening import files_at
from tests.conftest import ROOT

RACERS, ROUNDS = 4, 25
# Writes on a condition until told to stop, by its standard input; says how often it won.
RACER = """
import sys
from pairsmith.storage.opening import files_at
files, me, what = files_at(sys.argv[1]), sys.argv[2], sys.argv[3]
print("ready", flush=True)
for line in sys.stdin:
    number = line.strip()
    if what == "absent":
        won = files.put_if_absent(f"leases/{number}", me.encode())
    else:
        _, etag = files.read_with_etag("counter")
        won = files.compare_and_swap("counter", f"{number} {me}".encode(), etag)
    print("won" if won else "lost", flush=True)
"""


@pytest.fixture(params=["folder", "object storage"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Files]:
    if request.param == "folder":
        yield files_at(str(tmp_path / "data"))
        return
    yield files_at(f"memory://{tmp_path.name}/data")
    fsspec.filesystem("memory").rm(f"/{tmp_path.name}", recursive=True)


@pytest.fixture
def racers(tmp_path: Path) -> Iterator[Callable[[str], list[subprocess.Popen[str]]]]:
    """Processes that write on a condition, once for each number that they are sent."""
    started: list[subprocess.Popen[str]] = []

    def start(what: str) -> list[subprocess.Popen[str]]:
        for number in range(RACERS):
            words = [sys.executable, "-c", RACER, str(tmp_path), f"racer {number}", what]
            process = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            started.append(process)
        assert [answer_of(process) for process in started] == ["ready"] * RACERS
        return started

    yield start
    for process in started:
        process.kill()
        process.wait()


def answer_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def race(processes: list[subprocess.Popen[str]], number: int) -> list[str]:
    """The answers of all processes to a number that they got at once."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(f"{number}\n")
        process.stdin.flush()
    return [answer_of(process) for process in processes]


def test_of_processes_that_put_a_file_where_none_is_exactly_one_wins(
    tmp_path: Path, racers: Callable[[str], list[subprocess.Popen[str]]]
) -> None:
    processes, files = racers("absent"), files_at(str(tmp_path))
    for number in range(ROUNDS):
        answers = race(processes, number)
        assert answers.count("won") == 1, number
        assert files.read(f"leases/{number}") == f"racer {answers.index('won')}".encode()
    assert len(files.listing("leases")) == ROUNDS


def test_of_processes_that_swap_one_file_one_wins_or_each_saw_what_the_other_wrote(
    tmp_path: Path, racers: Callable[[str], list[subprocess.Popen[str]]]
) -> None:
    files = files_at(str(tmp_path))
    assert files.put_if_absent("counter", b"start")
    processes = racers("swap")
    for number in range(ROUNDS):
        answers = race(processes, number)
        winners = [f"{number} racer {at}" for at, answer in enumerate(answers) if answer == "won"]
        assert winners
        assert files.read("counter").decode() in winners


@pytest.mark.parametrize("how", ["absent", "swap"])
def test_of_threads_that_saw_the_same_exactly_one_wins(files: Files, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = type(fsspec.filesystem("memory"))
    exists = memory.exists
    monkeypatch.setattr(memory, "exists", lambda *words: (exists(*words), time.sleep(0.002))[0])
    for number in range(ROUNDS):
        name, etag, start = f"file {number}", None, threading.Barrier(RACERS)
        if how == "swap":
            files.write(name, b"before")
            _, etag = files.read_with_etag(name)

        def write(racer: int, name: str = name, etag: str | None = etag, start: threading.Barrier = start) -> bool:
            start.wait(10)
            return files.compare_and_swap(name, str(racer).encode(), etag)

        with ThreadPoolExecutor(RACERS) as pool:
            won = list(pool.map(write, range(RACERS)))
        assert won.count(True) == 1
        assert files.read(name) == str(won.index(True)).encode()


def test_a_file_is_swapped_only_while_it_is_as_it_was_seen(files: Files) -> None:
    assert files.listing("leases") == {}
    assert not files.compare_and_swap("leases/a", b"0", "an etag")
    assert files.compare_and_swap("leases/a", b"1", None)
    assert not files.compare_and_swap("leases/a", b"2", None)
    content, etag = files.read_with_etag("leases/a")
    assert (content, files.listing("leases")) == (b"1", {"a": etag})
    files.write("leases/b", b"1")
    files.write("leases/deep/c", b"1")
    assert list(files.listing("leases")) == ["a", "b"]
    assert files.compare_and_swap("leases/a", b"3", etag)
    assert not files.compare_and_swap("leases/a", b"4", etag)
    assert files.read("leases/a") == b"3"
    assert files.listing("leases")["a"] != etag
    files.remove("leases/a")
    with pytest.raises(FileNotFoundError):
        files.read_with_etag("leases/a")
    assert files.put_if_absent("leases/a", b"5")


def test_a_write_on_a_condition_leaves_nothing_beside_it(tmp_path: Path) -> None:
    files = files_at(str(tmp_path))
    assert files.put_if_absent("a", b"1")
    assert not files.put_if_absent("a", b"2")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{SWAP}.lock", "a"]


def test_a_crash_between_the_link_and_the_end_costs_no_file(tmp_path: Path) -> None:
    """The file that was written is then another name of the one that counts, so it must not be written to again."""
    files = files_at(str(tmp_path))
    assert files.put_if_absent("a", b"first")
    os.link(tmp_path / "a", tmp_path / SWAP)
    assert files.put_if_absent("b", b"second")
    assert files.read("a") == b"first"


def test_a_link_in_the_place_of_a_file_is_not_written_through(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").symlink_to(outside)
    assert not files_at(str(tmp_path / "data")).put_if_absent("a", b"1")
    assert not outside.exists()


def test_a_file_system_without_hard_links_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(NoConditionalWrites, match="no hard links"):
        files_at(str(tmp_path)).put_if_absent("a", b"1")
    assert not (tmp_path / "a").exists()


class Bucket(type(fsspec.filesystem("memory"))):  # type: ignore[misc]
    """A storage that answers as s3fs does: with the error of the system that it makes of a 412."""

    protocol = "s3"

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", IfMatch: str | None = None) -> None:
        if mode == "create" and self.exists(path):
            raise FileExistsError(path)
        if IfMatch and not self.exists(path):
            raise FileNotFoundError(path) from Answer("NoSuchKey")
        if IfMatch and self.info(path)["ETag"] != IfMatch:
            raise OSError(22, "a condition did not hold") from Answer("PreconditionFailed")
        super().pipe_file(path, value)

    def info(self, path: str, **words: object) -> dict[str, object]:
        return super().info(path, **words) | {"ETag": f'"{hash(self.cat_file(path))}"'}


class Answer(Exception):
    """What botocore raises, of which s3fs makes an error of the system."""

    def __init__(self, code: str) -> None:
        self.response = {"Error": {"Code": code}}


def test_s3_is_asked_to_write_on_a_condition(tmp_path: Path) -> None:
    files: Files = ObjectFiles(Bucket(skip_instance_cache=True), f"/{tmp_path.name}")
    assert [files.put_if_absent("a", content) for content in (b"1", b"2")] == [True, False]
    _, etag = files.read_with_etag("a")
    assert [files.compare_and_swap("a", content, etag) for content in (b"3", b"4")] == [True, False]
    assert files.read("a") == b"3"
    assert not files.compare_and_swap("absent", b"1", etag)


def test_a_storage_that_is_not_known_to_write_on_a_condition_is_not_asked_to(tmp_path: Path) -> None:
    class Other(Bucket):
        protocol = "other"

    files: Files = ObjectFiles(Other(skip_instance_cache=True), f"/{tmp_path.name}")
    for write in (files.put_if_absent, lambda name, content: files.compare_and_swap(name, content, "an etag")):
        with pytest.raises(NoConditionalWrites, match="not known to write on a condition"):
            write("a", b"1")
    assert not files.exists("a")


def test_a_pointer_on_object_storage_moves_only_from_where_it_was_seen(tmp_path: Path) -> None:
    for files in (
        files_at(f"memory://{tmp_path.name}"),
        ObjectFiles(Bucket(skip_instance_cache=True), f"/{tmp_path.name}/b"),
    ):
        assert [files.point("latest", name, None) for name in ("v1", "v2")] == [True, False]
        assert [files.point("latest", name, "v1") for name in ("v3", "v4")] == [True, False]
        assert files.points_to("latest") == "v3"


def test_a_place_tells_where_its_files_are(files: Files, tmp_path: Path) -> None:
    files.write("versions/v1/data/a", b"1")
    local = files.local_path("versions")
    if local:
        assert (files.url("a"), files.link("a")) == (str(tmp_path / "data" / "a"), (tmp_path / "data" / "a").as_uri())
        assert files.url_through("latest", "versions/v1") == str(tmp_path / "data" / "latest")
    else:
        assert files.url("a") == files.link("a") == f"memory:///{tmp_path.name}/data/a"
        assert files.url_through("latest", "versions/v1") == files.url("versions/v1")
    files.fetch("versions/v1/data/a", tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == b"1"
    assert files.tree("versions") == {"v1/data/a": 1}
    with files.scratch_folder() as folder:
        (folder / "made").mkdir()
        (folder / "made" / "b").write_bytes(b"2")
        files.install(folder / "made", "versions/v2")
    assert not folder.exists()
    assert files.names_in("versions") == ["v1", "v2"]
    assert (files.read("versions/v2/b"), files.names_in("absent")) == (b"2", [])
    assert files.digest("absent") == files.digest("also absent") != files.digest("versions/v2/b")


def test_windows_has_no_folders_to_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "O_DIRECTORY")
    monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("a folder was synced"))
    disk.sync_folder(tmp_path)


def test_the_wing_is_imported_where_the_system_has_no_fcntl() -> None:
    modules = [f"pairsmith.storage.{path.stem}" for path in (ROOT / "pairsmith" / "storage").glob("[a-z]*.py")]
    code = f"""
import os, sys
sys.modules["fcntl"] = sys.modules["pwd"] = None
for name in ("O_NOFOLLOW", "O_DIRECTORY", "getuid"):
    delattr(os, name)
import importlib
for name in {modules!r}:
    importlib.import_module(name)
from pairsmith.storage.decisions import this_user
assert this_user()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
