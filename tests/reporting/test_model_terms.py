"""What a card says of the licences and terms of the models that wrote the texts: what is known, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pairsmith.config import Recipe
from pairsmith.config.loading import parse_recipe
from pairsmith.config.providers import TERMS, terms_at
from pairsmith.llms.local.licences import Licence, licence_of
from pairsmith.reporting.model_terms import with_terms
from pairsmith.stages.plan import plan_fingerprint
from pairsmith.stages.wiring import models_of
from tests.runs import run

OPENAI = "https://openai.com/policies/services-agreement/"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"README.md": "---\nlicense: apache-2.0\n---\n# It"}, Licence("apache-2.0")),
        (
            {
                "README.md": "---\nlicense: other\nlicense_name: gemma\nlicense_link: https://ai.google.dev/gemma/terms\n---"
            },
            Licence("gemma", "https://ai.google.dev/gemma/terms"),
        ),
        ({"README.md": "---\nlicense: other\nlicense_link: LICENSE\n---\n"}, Licence("other")),
        ({"README.md": "---\nlicense: [mit, cc-by-4.0]\n---\n"}, Licence("mit, cc-by-4.0")),
        (
            {"README.md": "---\nlicense: [\n---\n", "LICENSE": "\n MIT License\n\nCopyright"},
            Licence("its file LICENSE: MIT License"),
        ),
        ({"README.md": "# license: mit"}, Licence()),
        (
            {"README.md": "---\ntags: [a]\n---", "pairsmith-source.json": '{"licence": "Apache-2.0"}'},
            Licence("Apache-2.0"),
        ),
        ({"LICENSE": ""}, Licence()),
        ({}, Licence()),
    ],
)
def test_a_folder_says_its_licence_or_nothing(tmp_path: Path, files: dict[str, str], expected: Licence) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert licence_of(str(tmp_path), None) == expected


def test_a_model_of_the_hub_says_it_in_its_cache_or_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    asked: list[str] = []

    class Hub:
        def model_info(self, model: str, revision: str | None, timeout: float) -> Any:
            asked.append(model)
            if model == "me/gone":
                raise OSError("no network")
            card = huggingface_hub.ModelCardData(license="llama3.1") if model == "me/there" else None
            return type("Info", (), {"card_data": card})()

    held = {"me/cached": str(tmp_path / "README.md")}
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda model, *_, **__: held.get(model))
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    found = {model: licence_of(model, "main").name for model in ("me/cached", "me/there", "me/bare", "me/gone")}
    assert found == {"me/cached": "mit", "me/there": "llama3.1", "me/bare": None, "me/gone": None}
    assert asked == ["me/there", "me/bare", "me/gone"]


@pytest.mark.parametrize(
    ("url", "known"),
    [
        ("https://api.openai.com/v1", OPENAI),
        ("https://me.openai.azure.com/openai", "https://www.microsoft.com/licensing/terms"),
        ("https://us-central1-aiplatform.googleapis.com/v1", "https://cloud.google.com/terms"),
        ("https://bedrock-runtime.us-east-1.amazonaws.com", "https://aws.amazon.com/service-terms/"),
        ("http://ec2-1-2-3-4.compute.amazonaws.com:8000/v1", None),  # a server of one's own
        ("https://api.openai.com.evil.io/v1", None),
        ("http://localhost:8000/v1", None),
    ],
)
def test_terms_of_known_providers(url: str, known: str | None) -> None:
    assert terms_at(url) == known
    assert all(terms.startswith("https://") for terms in TERMS.values())


def test_what_a_recipe_states_comes_first_and_unknown_is_said(tmp_path: Path) -> None:
    at_openai = {"backend": "openai", "endpoint": {"base_url": "https://api.openai.com/v1"}}
    at_home = {"backend": "openai", "endpoint": {"base_url": "http://localhost:8000/v1", "api_key_env": None}}
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "README.md").write_text("---\nlicense: mit\n---\n")
    recipe = Recipe.model_validate({
        "name": "set", "workspace": str(tmp_path), "prompts": {"sources": [{"path": "rows.jsonl"}]},
        "pool": {"members": [
            {"name": "far", "model": "gpt-4o", **at_openai},
            {"name": "near", "model": "m", **at_home},
            {"name": "stated", "model": "m2", "license": "mine", "terms": "https://me.io/terms", **at_openai},
            {"name": "local", "model": str(tmp_path / "weights")},
            {"name": "echo", "backend": "echo", "model": "e"},
        ]},
        "rating": {"judges": [{"name": "far", "model": "m", **at_home}]},
    })  # fmt: skip
    rows = with_terms(recipe, models_of(recipe))
    assert [(row["role"], row["name"], row["licence"], row["terms"]) for row in rows] == [
        ("member", "far", "unknown", f"see {OPENAI}"),
        ("member", "near", "unknown", "unknown"),
        ("member", "stated", "mine (so the recipe says)", "see https://me.io/terms"),
        ("member", "local", "mit", "unknown"),
        ("member", "echo", "none: its texts are made up", "none"),
        ("judge", "far", "unknown", "unknown"),
    ]


def test_a_source_that_brings_answers_may_state_them_and_its_own_columns_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"{n}?", "yes": "So it is.", "no": "Never.", "license": "cc-by-4.0"} for n in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"yes": {"text": "yes"}, "no": {"text": "no"}}
    source = {"path": str(path), "keep": ["license"], "completions": {"columns": columns}}
    recipe = {
        "name": "set", "workspace": str(tmp_path / "data"), "prompts": {"sources": [source]},
        "pool": {"members": [{"name": "given", "backend": "given"}]},
        "pairing": {"strategy": "member-order", "member_order": ["yes", "no"]},
    }  # fmt: skip
    unstated = Path(run(parse_recipe(recipe, base=tmp_path))[0].folder, "README.md").read_text()
    assert "| member | given |  |  | unknown | unknown |" in unstated
    assert "cc-by-4.0" not in unstated
    recipe |= {"name": "told", "pool": {"members": [{"name": "given", "backend": "given", "license": "odc-by"}]}}
    stated = Path(run(parse_recipe(recipe, base=tmp_path))[0].folder, "README.md").read_text()
    assert "| odc-by (so the recipe says) | unknown |" in stated


def test_stating_a_licence_makes_nothing_again(echo_recipe: Callable[..., Recipe]) -> None:
    """Neither a key of the ledger nor a table's fingerprint holds it."""
    first = run(echo_recipe())[0]
    members = [
        one.model_dump(exclude_unset=True) | {"license": "mine", "terms": "https://me.io"}
        for one in echo_recipe().pool.members
    ]
    stated = echo_recipe(pool={"members": members})
    assert plan_fingerprint(stated) == plan_fingerprint(echo_recipe())
    again, _, calls = run(stated)
    assert (again.digest, again.new, calls) == (first.digest, False, {})


def test_a_run_that_publishes_nothing_new_looks_nothing_up(
    monkeypatch: pytest.MonkeyPatch, echo_recipe: Callable[..., Recipe]
) -> None:
    run(echo_recipe())
    monkeypatch.setattr("pairsmith.reporting.card.with_terms", lambda *_: pytest.fail("looked up"))
    assert not run(echo_recipe())[0].new
