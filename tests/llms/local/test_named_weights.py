"""Which weights a recipe names: folders by what they hold, hub models by a commit, from the hub or from its cache."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pairsmith.config import ModelSpec
from pairsmith.errors import ModelNotFound
from pairsmith.llms.local import folder_content, named_weights
from pairsmith.llms.local.named_weights import commit_of, load_revision, located
from pairsmith.llms.registry import identity_of
from pairsmith.protocol import Request
from tests.hub import serving
from tests.ledger.helpers import request

FILES = {
    "model.safetensors": b"weights" * 100, "config.json": b"{}", "tokenizer.json": b"[]", "README.md": b"# It",
    "chat_template.jinja": b"{{ messages }}", "optimizer.pt": b"state", ".gitattributes": b"*",
}  # fmt: skip
A, B = "a" * 40, "b" * 40


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's cache and a process of this test's own, and no hub."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PAIRSMITH_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(named_weights, "_commits", named_weights._Commits())
    monkeypatch.setattr(folder_content, "_known", {})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder whose files have not been touched for an hour."""
    made = tmp_path / "model"
    made.mkdir()
    for name, content in FILES.items():
        (made / name).write_bytes(content)
        os.utime(made / name, ns=(10**18, 10**18))
    return made


def key_of(folder: Path) -> str:
    asked: Request = request("Hi")
    return asked.key(identity_of(ModelSpec(model=str(folder))))


def test_the_same_bytes_elsewhere_are_the_same_model(folder: Path, tmp_path: Path) -> None:
    """A copy has another path, other times, another inode, and lacks what describes or trained the model."""
    copy = tmp_path / "elsewhere" / "other-name"
    shutil.copytree(folder, copy, copy_function=shutil.copyfile)
    for name in ("README.md", "optimizer.pt", ".gitattributes"):
        (copy / name).unlink()
    assert key_of(copy) == key_of(folder)
    assert (copy / "config.json").stat().st_mtime_ns != (folder / "config.json").stat().st_mtime_ns
    assert identity_of(ModelSpec(model=str(copy))).model == str(copy)  # tables and cards name the recipe's path


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"])
def test_other_bytes_are_another_model(folder: Path, name: str) -> None:
    """Even where the size is the same, the time is set back, and the file is written in place."""
    before, file = key_of(folder), folder / name
    state = file.stat()
    with open(file, "r+b") as opened:
        opened.write(b"?")
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_ino, file.stat().st_mtime_ns) == (
        state.st_size, state.st_ino, state.st_mtime_ns,
    )  # fmt: skip
    assert key_of(folder) != before


def test_a_template_more_is_another_model(folder: Path) -> None:
    before = key_of(folder)
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tools.jinja").write_text("x")
    assert key_of(folder) != before


def test_weights_are_hashed_once_by_all_processes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless a file was changed a moment ago: another change could leave its times the same."""
    read: list[str] = []
    hash_file = folder_content.file_digest

    def counted(file: Path) -> str:
        read.append(file.name)
        return hash_file(file)

    monkeypatch.setattr(folder_content, "file_digest", counted)
    monkeypatch.setattr(folder_content, "RECENT_NS", -(10**9))  # all are old enough
    first = located(str(folder), None)
    assert len(read) == 4
    monkeypatch.setattr(folder_content, "_known", {})  # as in another process
    assert located(str(folder), None) == first
    assert len(read) == 4
    (folder / "config.json").write_bytes(b'{"b": 2}')
    assert located(str(folder), None) != first
    assert read[4:] == ["config.json"]
    monkeypatch.setattr(folder_content, "RECENT_NS", 10**12)
    located(str(folder), None)
    located(str(folder), None)
    assert read[5:].count("config.json") >= 1


def test_a_cache_that_cannot_be_written_or_read_is_done_without(folder: Path, tmp_path: Path) -> None:
    before = located(str(folder), None)
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    (tmp_path / "cache").write_text("a file where a folder should be")
    assert located(str(folder), None) == before


def cache_of(hub: Path, model: str, **refs: str) -> None:
    folder = hub / f"models--{model.replace('/', '--')}" / "refs"
    folder.mkdir(parents=True)
    for name, commit in refs.items():
        (folder / name).write_text(commit)


def test_without_a_hub_its_cache_says_the_commit(tmp_path: Path) -> None:
    cache_of(tmp_path / "hub", "org/cached", main=A, v1=B)
    assert [located("org/cached", name).revision for name in (None, "main", "v1", B, A)] == [A, A, B, B, A]


def test_a_model_without_a_commit_is_not_loaded() -> None:
    """Its name stays that of the recipe, so replies of it that are known are found; two loads could differ."""
    assert located("org/nowhere", "v1").revision == "v1"
    for revision in ("v1", A):
        with pytest.raises(ModelNotFound) as told:
            load_revision("org/nowhere", revision)
        assert str(told.value) == (
            f"org/nowhere: revision {revision} cannot be loaded: the hub cannot be reached (HF_HUB_OFFLINE is "
            "set), and it is not on this machine: name a model that is, or its folder, or go online to fetch it"
        )
    with pytest.raises(ModelNotFound, match="neither a folder nor the id of a model"):
        load_revision("/no/such/folder/at/all", None)


def test_the_hub_is_asked_once_for_each_revision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    cache_of(tmp_path / "hub", "org/model", main=B)
    with serving(main=A, v1=B) as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        assert [located("org/model", name).revision for name in (None, "v1", None, "v1", A)] == [A, B, A, B, A]
        assert hub.asked == ["/api/models/org/model", "/api/models/org/model/revision/v1"]
        hub.refs["main"] = B
        assert located("org/model", None).revision == A  # the same for the rest of the run
        assert commit_of("org/model", None, anew=True)[0] == located("org/model", None).revision == B
        none, why = commit_of("org/model", "gone")
        assert (none, "the hub has the model, but no such revision" in why) == (None, True)
        assert (tmp_path / "hub" / "models--org--model" / "refs" / "v1").read_text() == B  # for when there is no hub
        hub.refs["main"] = 503
        assert commit_of("org/model", None, anew=True)[0] == B  # the cache's
