"""S2: nothing that pairsmith keeps or reads is ever unpickled.

Its state is JSON, text and parquet. A pickle in the place of any file of it, within one, or among the prompts and the
weights that it is given is damage or an error like any other: the code in it does not run. The source has no call that
could run any.
"""

from __future__ import annotations

import ast
import base64
import json
import pickle
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairsmith.config import LocalOptions, ModelSpec, Recipe, Sampling
from pairsmith.errors import ConfigError, DataError, PairsmithError
from pairsmith.ledger.ledger import Ledger
from pairsmith.ledger.replies import checksum_of
from pairsmith.llms.registry import open_llm
from pairsmith.protocol import Request
from pairsmith.session import process_session
from pairsmith.stages.base import open_store
from pairsmith.stages.freshness import unfinished
from pairsmith.stages.load import load
from pairsmith.status import datasets_of
from tests.conftest import ROOT
from tests.runs import generate, read, run

Build = Callable[..., Recipe]
SOURCES = sorted(path for package in ("pairsmith", "tasks", "flows") for path in (ROOT / package).rglob("*.py"))
MODULES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
CALLS = {
    "eval", "exec", "compile", "__import__", "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.unsafe_load_all",
    "yaml.full_load", "yaml.full_load_all", "importlib.import_module", "import_module", "os.system", "os.popen",
}  # fmt: skip
METHODS = {"read_pickle", "to_pickle", "UnsafeLoader", "FullLoader"}


class Planted:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return open, (str(self._marker), "w")


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "unpickled"


@pytest.fixture
def planted(marker: Path) -> bytes:
    """A pickle that has just been seen to work."""
    content = pickle.dumps(Planted(marker))
    pickle.loads(content).close()
    assert marker.exists()
    marker.unlink()
    return content


def violations(source: str) -> Iterator[str]:
    """What a module's source has that could run code from data."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            modules = names if isinstance(node, ast.Import) else [node.module or ""]
            yield from (name for name in modules if name.split(".")[0] in MODULES)
            yield from (name for name in names if name in METHODS)
        elif isinstance(node, ast.Attribute) and node.attr in METHODS:
            yield node.attr
        elif isinstance(node, ast.Call):
            called, words = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
            if called in CALLS:
                yield called
            if called == "torch.load" and words.get("weights_only") != "True":
                yield "torch.load"
            if words.get("allow_pickle", "False") != "False" or words.get("shell", "False") != "False":
                yield called


def test_s2_the_source_has_no_call_that_runs_code_from_data() -> None:
    assert len(SOURCES) > 40
    found = {f"{path.relative_to(ROOT)}: {what}" for path in SOURCES for what in violations(path.read_text())}
    assert found == {
        "pairsmith/config/modules.py: __import__",  # of modules beside one that a recipe names explicitly
        "pairsmith/config/modules.py: importlib.import_module",
        "pairsmith/config/plugins.py: import_module",
        "pairsmith/judging/checks.py: importlib.import_module",  # of the package that IFEval's checks stand in
    }


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from pickle import loads", "import a, dill as d", "from joblib.memory import x", "eval(a)",
     "x = exec(a)", "yaml.load(a, Loader=b)", "yaml.safe_load(yaml.unsafe_load(a))", "torch.load(a)",
     "torch.load(a, weights_only=False)", "np.load(a, allow_pickle=True)", "pd.read_pickle(a)",
     "from pandas import read_pickle", "importlib.import_module(a)", "def f():\n    import marshal",
     "subprocess.run(a, shell=True)"],
)  # fmt: skip
def test_s2_the_look_at_the_source_sees_such_a_call(source: str) -> None:
    assert list(violations(source))
    assert not list(violations("import json\njson.loads(a)\ntorch.load(a, weights_only=True)\nyaml.safe_load(a)"))


def state(recipe: Recipe) -> list[Path]:
    """Every file that a run leaves and a later one may read, the ledger apart."""
    root = Path(open_store(recipe).root)
    found = [path for path in root.rglob("*") if path.is_file() and "latest" not in path.parts]
    kinds = {path.suffix for path in found}
    assert {".parquet", ".json"} <= kinds, kinds
    return sorted(found)


def test_s2_a_pickle_in_the_place_of_any_file_is_not_loaded(
    echo_recipe: Build, marker: Path, planted: bytes, tmp_path: Path
) -> None:
    recipe = echo_recipe(8, shard_size=4, publishing={"exports": ["kto", "jsonl"]})
    expected = run(recipe)[0]
    open_store(recipe).write_json("pushed.json", {"repo_id": "me/pairs", "digest": "d"})
    saved = tmp_path / "saved"
    root = Path(open_store(recipe).root)
    shutil.copytree(root, saved, symlinks=True)
    files = state(recipe)
    for path in files:
        path.write_bytes(planted)
        published, _, calls = run(recipe)
        datasets_of(root.parent)
        assert not marker.exists(), path
        assert (published.digest, calls.total()) == (expected.digest, 0), path
        shutil.rmtree(root)
        shutil.copytree(saved, root, symlinks=True)
    for path in files:
        path.write_bytes(planted)
    assert run(recipe)[0].digest == expected.digest
    assert not marker.exists()


def extended(table: pa.Table, planted: bytes) -> pa.Table:
    """The table with its first column as an Arrow extension type that is described by a pickle."""
    first = table.schema.field(0)
    told = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": planted}
    schema = table.schema.set(0, first.with_metadata(told))
    return table.cast(schema).replace_schema_metadata(table.schema.metadata)


def test_s2_a_pickle_within_a_table_is_not_loaded(echo_recipe: Build, marker: Path, planted: bytes) -> None:
    recipe = echo_recipe(8)
    expected = run(recipe)[0]
    for path in (path for path in state(recipe) if path.suffix == ".parquet"):
        table = pq.read_table(path)
        if not isinstance(table.schema.field(0).type, pa.DataType) or pa.types.is_nested(table.schema.field(0).type):
            table = table.select(list(reversed(table.column_names)))
        pq.write_table(extended(table, planted), path)
        published, _, calls = run(recipe)
        assert not marker.exists(), path
        assert (published.digest, calls.total()) == (expected.digest, 0), path


@pytest.mark.parametrize("name", ["tables/{shard}/shard.json", "versions/v0001/version.json", "pushed.json"])
def test_s2_a_pickle_as_a_value_of_json_is_not_loaded(
    echo_recipe: Build, marker: Path, planted: bytes, name: str
) -> None:
    recipe = echo_recipe(5)
    expected = run(recipe)[0]
    store, (shard,) = open_store(recipe), load(recipe, process_session()).shards
    place = name.format(shard=shard)
    text = base64.b64encode(planted).decode()
    record = store.read_json(place) if store.exists(place) else {"repo_id": text, "digest": text}
    for value in (text, {"py/reduce": [text]}, [planted.decode("latin-1")]):
        store.write_json(place, dict.fromkeys(record, value))
        unfinished(recipe, load(recipe, process_session()).shards, process_session())
        published, _, calls = run(recipe)
        assert not marker.exists()
        assert (published.digest, calls.total()) == (expected.digest, 0)


@pytest.mark.parametrize("sound", [True, False], ids=["its checksum", "another checksum"])
def test_s2_a_pickle_in_the_ledger_is_not_loaded(
    echo_recipe: Build, marker: Path, planted: bytes, tmp_path: Path, sound: bool
) -> None:
    recipe = echo_recipe(3, ledger=f"sqlite:///{tmp_path}/own.sqlite")
    run(recipe)
    process_session().close()
    text = base64.b64encode(planted).decode()
    with sqlite3.connect(tmp_path / "own.sqlite") as database:
        for (key,) in database.execute("SELECT key FROM replies").fetchall():
            checksum = checksum_of(key, text) if sound else "0" * 64
            database.execute("UPDATE replies SET reply = ?, checksum = ? WHERE key = ?", (text, checksum, key))
    database.close()
    shutil.rmtree(open_store(recipe).root)
    if sound:  # whoever can write such a row is told that it is none
        with pytest.raises((PairsmithError, ValueError)):
            run(recipe)
    else:
        assert run(recipe)[2].total() == 12 + 6
    assert not marker.exists()


def test_s2_a_pickle_in_the_place_of_the_ledger_is_not_loaded(tmp_path: Path, marker: Path, planted: bytes) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(planted * 50)
    with pytest.raises(DataError, match="cannot be opened"):
        Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    assert not marker.exists()


@pytest.mark.parametrize("name", ["p.pkl", "p.pickle", "p.jsonl", "p.json", "p.csv", "p.parquet"])
def test_s2_a_pickle_among_the_prompts_is_not_loaded(
    echo_recipe: Build, marker: Path, planted: bytes, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(planted)
    with pytest.raises((ConfigError, DataError), match=name):
        run(echo_recipe(1, prompts={"sources": [{"path": str(tmp_path / name)}]}))
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(tmp_path / name, folder / name)
    try:
        accepted, rejected = read(folder)
    except DataError as error:
        assert name in str(error)
    else:
        assert not [row for row in accepted if "unpickled" not in row["messages"]]
        assert all(name in row["detail"] for row in rejected)
    assert not marker.exists()


def test_s2_a_pickle_within_a_parquet_file_of_prompts_is_not_loaded(
    marker: Path, planted: bytes, tmp_path: Path
) -> None:
    table = pa.table({"prompt": ["one", "two"], "extra": [planted, planted]})
    pq.write_table(extended(table, planted), tmp_path / "p.parquet")
    accepted, rejected = read(tmp_path / "p.parquet")
    assert len(accepted) + len(rejected) == 2
    assert not marker.exists()


@pytest.mark.parametrize("saved", [True, False], ids=["saved to disk", "folder of files"])
def test_s2_a_pickle_in_a_data_set_or_its_cache_is_not_loaded(
    marker: Path, planted: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved: bool
) -> None:
    import datasets

    datasets.disable_progress_bars()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "set"
    if saved:
        datasets.Dataset.from_dict({"prompt": ["one", "two"]}).save_to_disk(folder)
    else:
        folder.mkdir()
        (folder / "README.md").write_text("---\nconfigs: [{config_name: default, data_files: '*.jsonl'}]\n---\n")
        (folder / "a.jsonl").write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    datasets.load_dataset("json", data_files=str(tmp_path / "set" / "*.json*"))  # leaves a cache
    for path in [*(tmp_path / "cache").rglob("*"), *([] if saved else [folder / "dataset.pkl"])]:
        if path.is_file() or not path.exists():
            path.write_bytes(planted)
    accepted, _ = read(folder)
    assert len(accepted) == 2
    for path in folder.iterdir():
        path.write_bytes(planted)
    with pytest.raises(DataError):
        read(folder)
    assert not marker.exists()


def test_s2_weights_that_are_a_pickle_are_not_loaded(marker: Path, planted: bytes, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    folder = tiny_model(tmp_path / "model")
    ask(folder)  # as it is, it answers
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(planted)
    with pytest.raises(Exception, match=r"(?i)weight|pickle|load"):
        ask(folder)
    assert not marker.exists()


def ask(folder: Path) -> None:
    from pairsmith.llms.local import weights

    weights.shelf_of(process_session()).clear()
    spec = ModelSpec(model=str(folder), local=LocalOptions(device="cpu"))
    generate(
        open_llm(spec, process_session()), [Request(({"role": "user", "content": "a b"},), Sampling(max_tokens=2), 1)]
    )


def tiny_model(folder: Path) -> Path:
    """A model of a few weights, made here, with a tokenizer of a few words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<e>": 0, "a": 1, "b": 2}, unk_token="<e>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<e>", pad_token="<e>").save_pretrained(folder)
    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    LlamaForCausalLM(LlamaConfig(vocab_size=3, eos_token_id=0, pad_token_id=0, **size)).save_pretrained(folder)
    return folder


@pytest.mark.prefect
def test_s2_prefect_keeps_no_result_of_ours_and_of_a_failed_run_its_error_as_json(
    echo_recipe: Build, prefect_server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pairsmith_flows.preferences import build_preference_dataset

    def fail(*_: Any) -> None:
        raise ConfigError("no such judge")

    before = set(prefect_server.iterdir())
    result = build_preference_dataset(echo_recipe(3, name="small"))
    assert set(prefect_server.iterdir()) == before
    assert json.loads(json.dumps(result)) == result  # nothing that JSON could not hold
    monkeypatch.setattr("pairsmith_tasks.rate.rate_shard", fail)
    with pytest.raises(ConfigError, match="no such judge"):
        build_preference_dataset(echo_recipe(4, name="small"))
    (kept,) = set(prefect_server.iterdir()) - before
    error = json.loads(kept.read_text())
    assert error["__exc_type__"] == "pairsmith.errors.ConfigError"
    assert "no such judge" in error["message"]
