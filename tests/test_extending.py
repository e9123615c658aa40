"""Code of others: the examples of docs/extending.md as they stand there, and what holds for all such code."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pytest
import yaml
from jsonschema import Draft202012Validator

from pairsmith.config import Recipe, Sampling
from pairsmith.config.loading import load_recipe
from pairsmith.config.models import Backend
from pairsmith.config.modules import PACKAGE
from pairsmith.config.plugins import Reference, code_hash, load_plugin, references
from pairsmith.errors import ConfigError
from pairsmith.judging.scoring import aggregation_of
from pairsmith.llms.endpoint.wire import reply_of
from pairsmith.llms.registry import BACKENDS, open_llm
from pairsmith.protocol import Request
from pairsmith.session import process_session
from tests.conftest import ROOT, clean_environment
from tests.runs import run

DOCUMENT = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
KINDS = ("A strategy", "A check", "An aggregation", "A backend", "A judge prompt")
Folder = Callable[..., Path]


def examples() -> dict[str, list[tuple[str, str]]]:
    """Heading -> the files that stand below it, each with its name in the first line."""
    found: dict[str, list[tuple[str, str]]] = {}
    for section in re.split(r"^## ", DOCUMENT, flags=re.MULTILINE):
        blocks = re.findall(r"^```(?:python|yaml|toml)\n# (\S+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        found[section.partition("\n")[0].strip()] = blocks
    return found


@pytest.fixture
def example(tmp_path: Path) -> Folder:
    """Writes the files of an example, its recipe whole; returns the recipe's path."""

    def write(heading: str, folder: Path = tmp_path) -> Path:
        found = examples()
        recipe: dict[str, Any] = {"workspace": str(folder / "data")}
        folder.mkdir(exist_ok=True)
        for name, text in [*found["# Your own code"], *found[heading]]:
            if name == "recipe.yaml":
                recipe |= yaml.safe_load(text)
            else:
                (folder / name).write_text(text)
        (folder / "prompts.jsonl").write_text("".join(f'{{"prompt": "Question {n}?"}}\n' for n in range(8)))
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        return folder / "recipe.yaml"

    return write


def tables(folder: Path) -> dict[str, tuple[int, int]]:
    """The tables of the shards, by their names, with what changes where one is written again."""
    files = (folder / "data").glob("**/tables/*/*.parquet")
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files if path.parent.name != "load"}


def made_again(folder: Path, before: dict[str, tuple[int, int]]) -> set[str]:
    """The tables that are new, without those that always go with the pairs."""
    changed = {name.removesuffix(".parquet") for name, mark in tables(folder).items() if before.get(name) != mark}
    return {name for name in changed if not name.startswith(("rejections.", "published."))}


# The examples


def test_the_examples_run_again_and_in_another_process_as_they_ran(example: Folder, tmp_path: Path) -> None:
    recipes, digests = [], []
    for heading in KINDS:
        recipe = load_recipe(example(heading, tmp_path / heading))
        assert list(references(recipe))
        published, summary, calls = run(recipe)
        assert published.pairs == summary.paired > 0
        assert calls
        again, _, calls = run(recipe)
        assert (again.digest, again.new) == (published.digest, False)
        assert not calls
        recipes.append(recipe.model_dump(mode="json") | {"workspace": str(tmp_path / "elsewhere" / heading)})
        digests.append(published.digest)
    code = (
        "import json, sys; from pairsmith.config import Recipe; from tests.runs import run\n"
        "for recipe in json.load(sys.stdin): print(run(Recipe.model_validate(recipe))[0].digest)"
    )
    command = [sys.executable, "-c", code]
    other = subprocess.run(
        command, input=json.dumps(recipes), capture_output=True, text=True, env=clean_environment(), cwd="/"
    )
    assert other.stdout.split() == digests, other.stderr


def test_the_examples_decide(example: Folder, tmp_path: Path) -> None:
    run(load_recipe(example("A backend")))
    (table,) = (tmp_path / "data").glob("**/completions.pool-parrot.parquet")
    assert set(pd.read_parquet(table)["text"]) == {f"QUESTION {n}?" for n in range(8)}
    strict = load_recipe(example("An aggregation"))
    assert strict.rating is not None
    assert aggregation_of(strict.rating.aggregation)([1.0, 2.0, 5.0], [1.0, 9.0, 1.0]) == 1.0
    assert {str(reference) for _, reference in references(strict)} == {"strict:lowest"}
    assert load_plugin(strict.rating.aggregation).__module__.startswith(PACKAGE)


def test_the_strategy_takes_the_shortest_of_the_best(example: Folder, tmp_path: Path) -> None:
    recipe = load_recipe(example("A strategy"), ["pairing.max_similarity=1"])
    run(recipe)
    folder = next((tmp_path / "data").glob("**/pairs.all.parquet")).parent
    texts = pd.concat(map(pd.read_parquet, folder.glob("completions.*.parquet"))).set_index("completion_id")["text"]
    ratings = pd.concat(map(pd.read_parquet, folder.glob("ratings.*.parquet")))
    for pair in pd.read_parquet(folder / "pairs.all.parquet").to_dict("records"):
        assert pair["strategy"] == "concise:shortest_of_the_best"
        scores = ratings[ratings["prompt_id"] == pair["prompt_id"]].groupby("completion_id")["score"].mean()
        good = [name for name, score in scores.items() if score >= scores.max() - 0.5]
        assert pair["chosen_id"] == min(good, key=lambda name: (len(texts[name]), name))
        assert pair["rejected_score"] == scores.min()


@pytest.mark.parametrize(
    ("heading", "file", "again", "asked"),
    [
        ("A strategy", "concise.py", {"pairs.all"}, set()),
        ("A check", "polite.py", {"ratings.judge-checks", "pairs.all"}, set()),
        ("A check", "words.py", {"ratings.judge-checks", "pairs.all"}, set()),
        ("An aggregation", "strict.py", {"pairs.all"}, set()),
        ("A judge prompt", "terse.py", {"ratings.judge-one", "pairs.all"}, set()),
        (
            "A backend",
            "parrot.py",
            {"completions.pool-parrot", "ratings.judge-one", "ratings.judge-two", "pairs.all"},
            {"generate"},
        ),
    ],
)
def test_a_change_makes_again_what_the_code_decides_and_nothing_else(
    example: Folder, tmp_path: Path, heading: str, file: str, again: set[str], asked: set[str]
) -> None:
    path = example(heading)
    published, _, _ = run(load_recipe(path))
    before = tables(tmp_path)
    assert len(before) > 6
    run(load_recipe(path))
    assert made_again(tmp_path, before) == set()
    with open(tmp_path / file, "a") as source:
        source.write("\n# a remark\n")
    (tmp_path / "unrelated.py").write_text("THIS = 'is imported by nobody'\n")
    later, _, calls = run(load_recipe(path))
    assert made_again(tmp_path, before) == again
    assert set(calls) == asked
    assert later.digest == published.digest


def test_an_edit_counts_in_the_same_process_also_that_of_a_module_beside(example: Folder, tmp_path: Path) -> None:
    path = example("A check")
    assert run(load_recipe(path))[0].pairs
    (tmp_path / "words.py").write_text('RUDE = {"the"}\n')
    edited = load_recipe(path)
    assert edited.rating is not None
    is_polite = load_plugin(edited.rating.checks[0].callable)  # type: ignore[union-attr]
    assert not is_polite([], "The end", None)
    assert is_polite([], "stupid", None)


def test_a_backend_with_a_revision_keeps_its_replies_when_its_source_changes(example: Folder, tmp_path: Path) -> None:
    path = example("A backend")
    with_revision = ["pool.members.1.revision=v1"]
    _, _, calls = run(load_recipe(path, with_revision))
    assert calls["generate"] == 16
    (tmp_path / "parrot.py").write_text((tmp_path / "parrot.py").read_text() + "\n# a remark\n")
    before = tables(tmp_path)
    _, _, calls = run(load_recipe(path, with_revision))
    assert not calls
    assert "completions.pool-parrot" in made_again(tmp_path, before)
    assert run(load_recipe(path, ["pool.members.1.revision=v2"]))[2]["generate"] == 8


def test_every_backend_is_implemented() -> None:
    assert set(get_args(Backend)) == set(BACKENDS)


def test_the_api_and_the_login_are_what_an_endpoint_takes(example: Folder) -> None:
    recipe = load_recipe(example("An API, and credentials"))
    command, inside = (member.endpoint for member in recipe.pool.members)
    assert command
    assert inside
    assert isinstance(inside.credentials, Reference)
    assert inside.credentials.module == "company_login"
    chat = load_plugin(command.api)
    assert chat.request({"model": "c", "top_p": 0.9, "stop": ["END"]}) == {
        "model": "c",
        "p": 0.9,
        "stop_sequences": ["END"],
    }
    content = [{"type": "text", "text": "Yes."}]
    usage = {"tokens": {"input_tokens": 5, "output_tokens": 2}}
    answer = {"message": {"role": "assistant", "content": content}, "finish_reason": "MAX_TOKENS", "usage": usage}
    asked = Request(({"role": "user", "content": "Is it?"},), Sampling(), 0)
    reply = reply_of(chat.response(answer), asked)
    assert (reply.text, reply.finish_reason, reply.cost) == ("Yes.", "length", (5, 2))
    assert chat.response({"message": "invalid api token"}) == {"message": "invalid api token"}


def test_a_backend_cannot_pass_for_another(example: Folder) -> None:
    path = example("A backend")
    source = (path.parent / "parrot.py").read_text()
    (path.parent / "parrot.py").write_text(source.replace('Identity("parrot"', 'Identity("echo"'))
    assert open_llm(load_recipe(path).pool.members[1], process_session()).identity.backend == "parrot:Parrot"


# Entry points


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Path]]:
    """Installs the package of the document, which offers one name more, that of a module that breaks when imported."""

    def install() -> Path:
        site = tmp_path / "site"
        (package := site / "concise-0.1.0.dist-info").mkdir(parents=True)
        ((_, project), _) = examples()["In a package"]
        ((name, strategy),) = [block for block in examples()["A strategy"] if block[0] != "recipe.yaml"]
        (site / name).write_text(strategy)
        (site / "broken.py").write_text("raise RuntimeError('nobody named me')\n")
        groups = tomllib.loads(project)["project"]["entry-points"] | {"pairsmith.checks": {"bad": "broken:f"}}
        lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items()) for group, names in groups.items()]
        (package / "entry_points.txt").write_text("\n".join(lines))
        (package / "METADATA").write_text("Metadata-Version: 2.1\nName: concise\nVersion: 0.1.0\n")
        monkeypatch.syspath_prepend(str(site))
        return site

    yield install
    sys.modules.pop("concise", None)


def test_a_package_offers_names_and_only_those_in_the_recipe_are_loaded(
    example: Folder, installed: Callable[[], Path]
) -> None:
    path = example("In a package")
    with pytest.raises(ConfigError, match="pairing.strategy: must be 'best-vs-worst'"):
        load_recipe(path)
    site = installed()
    recipe = load_recipe(path)
    assert recipe.code_folder is None
    published, _, _ = run(recipe)
    assert published.pairs
    assert "broken" not in sys.modules
    other = load_recipe(path, ["pairing.strategy=concise:shortest_of_the_best"])
    assert load_plugin(other.pairing.strategy) is load_plugin(recipe.pairing.strategy)
    before = code_hash(recipe.pairing.strategy)
    (site / "concise.py").write_text((site / "concise.py").read_text() + "# a remark\n")
    assert code_hash(recipe.pairing.strategy) != before


def test_a_form_offers_what_is_built_in_and_installed_and_takes_any_function(installed: Callable[[], Path]) -> None:
    def accepts(value: str) -> bool:
        schema = Recipe.model_json_schema()
        Draft202012Validator.check_schema(schema)
        field = schema["$defs"]["Pairing"]["properties"]["strategy"]
        return bool(Draft202012Validator(field).is_valid(value))

    assert accepts("best-vs-worst")
    assert accepts("concise:shortest_of_the_best")
    assert not accepts("best-vs-wurst")
    assert not accepts("shortest-of-the-best")
    installed()
    assert accepts("shortest-of-the-best")


# What a recipe may say


FINE = """
def strategy(candidates, pairing): return []
def narrow(candidates): return []
def aggregation(scores, weights): return None
def make(spec): ...
class Prompt:
    messages = staticmethod(lambda sheet: [])
    read = staticmethod(lambda reply, sheet: {})
class Half:
    messages = staticmethod(lambda sheet: [])
class Unmade:
    def messages(self, sheet): return []
    def read(self, reply, sheet): return {}
import os
THING = 3
"""


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("pairing.strategy=absent:f", "pairing.strategy: absent:f: there is no module absent in"),
        ("pairing.strategy=fine:absent", "there is no absent in"),
        ("pairing.strategy=fine:THING", "a int is no function"),
        ("pairing.strategy=fine:narrow", "cannot be called as (candidates, pairing): too many positional arguments"),
        ("pairing.strategy=fine:os.system", "os is another module; name it in front of the colon"),
        ("pairing.strategy=os:system", "cannot be called as (candidates, pairing)"),
        ("pairing.strategy=broken:f", "broken:f: importing broken failed: ZeroDivisionError"),
        ("pairing.strategy=leaves:f", "leaves:f: importing leaves failed: SystemExit: 3"),
        ("pairing.strategy=needs:f", "importing needs failed: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("pairing.strategy=spelt:f", "importing spelt failed: SyntaxError"),
        ("pairing.strategy=./fine.py:strategy", "write it as module:function"),
        ("pairing.strategy=best-vs-wurst", "did you mean best-vs-worst?"),
        ("rating.aggregation=averge", "rating.aggregation: must be 'mean', 'median', "),
        ("pool.members.0.backend=ecco", "pool.members.0.backend: must be 'transformers', "),
        ("pool.members.0.backend=os:system", "it is not written in Python"),
        ("pool.members.0.backend=fine:strategy", "cannot be called as (spec)"),
        ("rating.aggregation=fine:narrow", "rating.aggregation: fine:narrow: cannot be called as (scores, weights)"),
        ("rating.judges.0.prompt=fine:Half", "rating.judges.0.prompt: fine:Half: it has no function read"),
        ("rating.judges.0.prompt=fine:Unmade", "fine:Unmade.messages: cannot be called as (sheet)"),
        ("rating.judges.0.prompt=terse", "rating.judges.0.prompt: write a judge prompt of your own as module:function"),
        ("rating.checks=[{name: c, kind: python, callable: 'fine:narrow'}]", "with keywords as (messages, text, refer"),
    ],
)
def test_what_cannot_be_had_is_an_error_when_a_recipe_is_read(example: Folder, override: str, told: str) -> None:
    path = example("A strategy")
    files = {"fine": FINE, "broken": "1 / 0", "leaves": "exit(3)", "needs": "import nowhere_at_all", "spelt": "def"}
    for name, text in files.items():
        (path.parent / f"{name}.py").write_text(text)
    with pytest.raises(ConfigError) as error:
        load_recipe(path, [override])
    assert str(path) in str(error.value)
    assert told in str(error.value)


def test_own_code_has_the_rules_of_its_field(example: Folder) -> None:
    path = example("A judge prompt")
    with pytest.raises(ConfigError, match="leave readout out"):
        load_recipe(path, ["rating.judges.0.readout=json"])
    path = example("A backend")
    assert load_recipe(path, ["pool.members.1.sampling.extra_body={colour: grey}"])
    with pytest.raises(ConfigError, match="endpoint: goes with backend openai"):
        load_recipe(path, ["pool.members.1.endpoint={base_url: 'http://x/v1'}"])
    path = example("A strategy")
    assert load_recipe(path, ["rating=null"]).needs_scores is False
    assert load_recipe(path, ["pairing.checked=false"]).needs_scores is False


# Where code is found


def test_a_module_beside_a_recipe_stands_in_for_no_library(example: Folder, tmp_path: Path) -> None:
    path = example("A strategy")
    (tmp_path / "random.py").write_text("MINE = True\n")
    (tmp_path / "json.py").write_text("raise RuntimeError('a library was asked for')\n")
    own = tmp_path / "concise.py"
    own.write_text("import random, statistics\nfrom helpers.deep import NAME\n" + own.read_text())
    (tmp_path / "helpers").mkdir()
    (tmp_path / "helpers" / "__init__.py").write_text("")
    (tmp_path / "helpers" / "deep.py").write_text("from .other import NAME\n")
    (tmp_path / "helpers" / "other.py").write_text("NAME = 'other'\n")
    searched = list(sys.path)
    recipe = load_recipe(path)
    names = load_plugin(recipe.pairing.strategy).__globals__
    assert names["random"].MINE
    assert names["NAME"] == "other"
    assert names["statistics"] is sys.modules["statistics"]
    assert sys.modules["random"] is random
    assert not {"concise", "helpers", "helpers.deep"} & set(sys.modules)
    assert sys.path == searched
    before = code_hash(recipe.pairing.strategy)
    (tmp_path / "helpers" / "other.py").write_text("NAME = 'changed'\n")
    assert code_hash(recipe.pairing.strategy) != before
    assert load_plugin(recipe.pairing.strategy).__globals__["NAME"] == "changed"


def test_two_recipes_may_have_modules_of_the_same_name(example: Folder, tmp_path: Path) -> None:
    path = example("An aggregation")
    (other := tmp_path / "other").mkdir()
    (other / "recipe.yaml").write_text(path.read_text())
    (other / "prompts.jsonl").write_text((tmp_path / "prompts.jsonl").read_text())
    (other / "strict.py").write_text("def lowest(scores, weights): return max(scores)\n")
    found = [load_recipe(one).rating for one in (path, other / "recipe.yaml")]
    assert [load_plugin(one.aggregation)([1, 5], [1, 1]) for one in found if one] == [1, 5]
    shared = load_recipe(other / "recipe.yaml", ["code_folder=.."])
    assert shared.code_folder == str(tmp_path)
    assert shared.rating is not None
    assert load_plugin(shared.rating.aggregation)([1, 5], [1, 1]) == 1


def test_neither_keys_nor_data_nor_the_shown_recipe_hold_the_folder(example: Folder, tmp_path: Path) -> None:
    path = example("A judge prompt")
    first, _, _ = run(load_recipe(path))
    (other := tmp_path / "moved").mkdir()
    for file in (*tmp_path.glob("*.py"), path, tmp_path / "prompts.jsonl"):
        (other / file.name).write_bytes(file.read_bytes())
    again, _, calls = run(load_recipe(other / "recipe.yaml"))
    assert not calls
    assert (again.digest, again.new) == (first.digest, False)
    shown = Path(first.folder, "recipe.yaml").read_text()
    assert "terse:Terse" in shown
    assert str(tmp_path) not in shown


def test_nothing_is_imported_but_what_a_recipe_names(example: Folder, tmp_path: Path) -> None:
    path = example("A strategy")
    for name in ("sitecustomize", "conftest", "plugins", "unnamed", "brief"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'it-ran')!r}, 'w')\n")
    run(load_recipe(path))
    recipe = load_recipe(path).model_dump(mode="json")
    Recipe.model_validate(recipe | {"pairing": {"strategy": "unnamed:f"}})  # a server's form: read, not imported
    assert not (tmp_path / "it-ran").exists()


# A recipe that came to a deployment


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "a-deployment")
    monkeypatch.delenv("PAIRSMITH_ALLOW_CODE", raising=False)


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize("heading", KINDS)
def test_a_run_of_a_deployment_is_refused_code_that_is_not_listed(
    example: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heading: str
) -> None:
    from pairsmith_flows.preferences import run_recipe
    from pairsmith_flows.service.allowed_code import check_code

    load_recipe(example(heading))
    ((_, reference),) = references(recipe := load_recipe(tmp_path / "recipe.yaml"))
    file = tmp_path / f"{reference.module}.py"
    file.write_text(f"open({str(tmp_path / 'it-ran')!r}, 'w')\n")
    told = f"{reference} is code of {file}, which this service does not allow.*serve --allow-code {file}"
    with pytest.raises(ConfigError, match=told):
        run_recipe(Recipe.model_validate(recipe.model_dump(mode="json")))
    assert not (tmp_path / "it-ran").exists()
    for listed in (str(file), str(tmp_path), f"other,{file}"):
        monkeypatch.setenv("PAIRSMITH_ALLOW_CODE", listed)
        check_code(recipe)
    for listed in (reference.module, f"{file}x", str(tmp_path / "data"), f"{reference.module}.py", "*", "/x"):
        monkeypatch.setenv("PAIRSMITH_ALLOW_CODE", listed)
        with pytest.raises(ConfigError, match="does not allow"):
            check_code(recipe)


@pytest.mark.usefixtures("deployed")
def test_a_form_cannot_put_its_own_file_in_place_of_what_is_listed(
    example: Folder, installed: Callable[[], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pairsmith_flows.service.allowed_code import check_code

    installed()
    monkeypatch.setenv("PAIRSMITH_ALLOW_CODE", f"concise,{tmp_path / 'site'}")
    recipe = load_recipe(example("In a package")).model_dump(mode="json")
    check_code(Recipe.model_validate(recipe))
    (evil := tmp_path / "evil").mkdir()
    (evil / "concise.py").write_text("")
    named = recipe | {"pairing": {"strategy": "concise:f"}}
    check_code(Recipe.model_validate(named))
    with pytest.raises(ConfigError, match=r"evil/concise\.py, which this service does not allow"):
        check_code(Recipe.model_validate(named | {"code_folder": str(evil)}))
    (evil / "concise.py").unlink()
    (evil / "concise.py").symlink_to(tmp_path / "site" / "concise.py")  # beside it, the form's own modules
    with pytest.raises(ConfigError, match="does not allow"):
        check_code(Recipe.model_validate(named | {"code_folder": str(evil)}))
    with pytest.raises(ConfigError, match="does not allow"):
        check_code(Recipe.model_validate(named | {"code_folder": f"{tmp_path}/site/../evil"}))


def test_the_operators_list_reaches_all_that_serve_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from pairsmith_flows.__main__ import main
    from pairsmith_flows.service import serving
    from pairsmith_flows.service.settings import for_service

    seen: list[str] = []

    def served(*_: Any) -> int:
        import os

        seen.append(for_service(os.environ, tmp_path, 4200, "a:b")["PAIRSMITH_ALLOW_CODE"])
        return 0

    monkeypatch.setattr(serving, "serve_until_stopped", served)
    monkeypatch.setenv("PAIRSMITH_ALLOW_CODE", "from_outside")
    monkeypatch.chdir(tmp_path)
    for words in (["--allow-code", " concise, recipes/own.py,own.py "], []):
        assert CliRunner().invoke(main, ["serve", *words], catch_exceptions=False).exit_code == 0
        monkeypatch.setenv("PAIRSMITH_ALLOW_CODE", "from_outside")
    assert seen == [f"concise,{tmp_path}/recipes/own.py,{tmp_path}/own.py", "from_outside"]
