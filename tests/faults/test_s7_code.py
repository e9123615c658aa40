"""S7: code that comes with a model, a data set or a recipe runs only where the recipe names it.

A model's own code is off unless `trust_remote_code` says otherwise for that model. A recipe is data: tags of YAML,
paths of imports and names of classes in it are refused, or are texts like any other.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pairsmith.config import LocalOptions, ModelSpec, Recipe, Sampling
from pairsmith.config.loading import load_recipe
from pairsmith.errors import ConfigError, DataError, ModelNotFound
from pairsmith.llms.registry import open_llm
from pairsmith.protocol import Request
from pairsmith.session import process_session
from tests.conftest import ROOT
from tests.faults.test_s2_pickle import tiny_model
from tests.runs import generate, read

Build = Callable[..., Recipe]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
TAGS = [
    "!!python/object/apply:os.system ['touch {marker}']",
    "!!python/object/apply:subprocess.check_output [['touch', '{marker}']]",
    "!!python/object/new:os.system ['touch {marker}']",
    "!!python/object/apply:builtins.open ['{marker}', w]",
    "!!python/name:os.system",
    "!!python/module:antigravity",
    "!!python/object:pairsmith.config.Recipe {{}}",
    "!<tag:yaml.org,2002:python/object/apply:os.system> ['touch {marker}']",
    "!include {marker}",
    "!env HOME",
]


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "it-ran"


@pytest.fixture
def recipe_file(echo_recipe: Build, tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(echo_recipe(2).model_dump(mode="json", exclude={"description"})))
    return path


@pytest.mark.parametrize("tag", TAGS)
def test_s7_tags_of_yaml_run_nothing(recipe_file: Path, marker: Path, tag: str) -> None:
    value = tag.format(marker=marker)
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_recipe(recipe_file, [f"description={value}"])
    whole = recipe_file.read_text()
    for text in (f"{whole}description: {value}\n", value, f"{whole}? {value}\n: x\n", f"{whole}---\n{value}\n"):
        recipe_file.write_text(text)
        with pytest.raises(ConfigError, match="not valid YAML|a recipe is a mapping"):
            load_recipe(recipe_file)
    assert not marker.exists()


@pytest.mark.parametrize("path", ["os.system", "os:system", "pairsmith.llms.echo.Echo", "./own.py:Model", "own"])
def test_s7_paths_of_imports_are_not_followed(recipe_file: Path, marker: Path, path: str) -> None:
    code = f"open({str(marker)!r}, 'w')\nclass Model: pass\n"
    (recipe_file.parent / "own.py").write_text(code)
    for place in ("pool.members.0.backend", "rating.judges.0.readout", "rating.judges.0.protocol", "pairing.strategy",
                  "rating.aspects.0", "evolution.methods=[{}]", "prompts.sources.0.format"):  # fmt: skip
        override = place.format(path) if "=" in place else f"{place}={path}"
        with pytest.raises(ConfigError) as error:
            load_recipe(recipe_file, [override])
        assert place.partition("=")[0].split(".")[-1].rstrip("0") or "aspects" in str(error.value)
    for field in ("class", "_target_", "__class__", "py/object", "import", "plugins"):
        with pytest.raises(ConfigError, match="there is no such field"):
            load_recipe(recipe_file, [f"pool.members.0.{field}={path}"])
    assert not marker.exists()


def test_s7_no_recipe_that_ships_trusts_code() -> None:
    assert LocalOptions().trust_remote_code is False
    for path in RECIPES:
        assert not any(spec.local.trust_remote_code for spec in load_recipe(path).specs), path.name


def with_code(folder: Path, marker: Path) -> Path:
    """A model whose configuration names code of its own, which leaves a file behind where it is imported."""
    tiny_model(folder)
    code = (
        f"open({str(marker)!r}, 'a').close()\n"
        "from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class OwnModel(LlamaForCausalLM):\n    config_class = OwnConfig\n"
        "class OwnTokenizer(PreTrainedTokenizerFast): pass\n"
    )
    (folder / "own.py").write_text(code)
    config = json.loads((folder / "config.json").read_text())
    mapped = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "own", "auto_map": mapped}))
    return folder


def ask(folder: Path, **local: Any) -> str:
    from pairsmith.llms.local import weights

    weights.shelf_of(process_session()).clear()
    spec = ModelSpec(model=str(folder), local=LocalOptions(device="cpu", **local))
    (reply,) = generate(
        open_llm(spec, process_session()), [Request(({"role": "user", "content": "a b"},), Sampling(max_tokens=2), 1)]
    )
    return reply.finish_reason or ""


def test_s7_code_of_a_model_runs_only_where_the_recipe_says_so(
    tmp_path: Path, marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # nobody is asked, and nobody answers for the recipe
    folder = with_code(tmp_path / "model", marker)
    for options in ({}, {"trust_remote_code": False}):
        with pytest.raises(ModelNotFound, match="cannot be loaded"):
            ask(folder, **options)
        assert not marker.exists()
    assert ask(folder, trust_remote_code=True) in ("stop", "length")
    assert marker.exists()


def test_s7_the_loaders_are_told_not_to_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    import transformers

    told: list[Any] = []

    def note(*_: Any, **words: Any) -> Any:
        told.append(words.get("trust_remote_code", "nothing"))
        raise OSError("far enough")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", note)
    for options in ({}, {"trust_remote_code": True}):
        with pytest.raises(ModelNotFound):
            ask(tmp_path, **options)
    assert told == [False, True]


def test_s7_a_script_in_the_folder_of_a_data_set_does_not_run(tmp_path: Path, marker: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "set.py").write_text(f"open({str(marker)!r}, 'w')\n")
    (folder / "README.md").write_text("A data set with a script.")
    with pytest.raises(DataError):
        read(folder)
    (folder / "set.py").rename(folder / "other.py")
    (folder / "README.md").write_text("---\nconfigs: [{config_name: default, data_files: '*.jsonl'}]\n---\n")
    (folder / "a.jsonl").write_text('{"prompt": "one"}\n')
    accepted, _ = read(folder)
    assert len(accepted) == 1
    assert not marker.exists()
