from __future__ import annotations

import base64
import hashlib
import html
import re
import time

import pytest

from pairsmith.config import Recipe
from pairsmith.ids import short_id
from pairsmith.publishing.data_files import SHOWN
from pairsmith.publishing.pair_rows import published_rows
from pairsmith.reporting import charts
from pairsmith.reporting.markdown import markdown_table
from pairsmith.reporting.page import models_table, render_report
from pairsmith.reporting.summary import Summary
from pairsmith.reporting.verdict import Finding
from tests.reporting.shards import RECIPE, counted, page_of, some, tables


def test_the_policy_names_the_script_and_style_of_the_page_and_nothing_else() -> None:
    page = page_of(tables(some(4)))
    (script,), (style,) = (re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL) for tag in ("script", "style"))
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, style)]
    assert html.unescape(policy) == (
        f"default-src 'none'; script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert "style=" not in page


def test_tables_about_judges_usage_and_the_recipe_have_their_places() -> None:
    judging = {"Agreement": [{"judges": "first, second", "kappa": 0.4182}], "Position": []}
    usage = [{"model": "org/x", "tokens": 1234567, "cost": 0.0312}, {"model": "<b>", "tokens": 3, "cost": None}]
    page = page_of(tables(some(4)), judging=judging, usage=usage, recipe_text="name: <report>\n")
    for text in ("<h3>Agreement</h3>", "0.42", "1,234,567", "0.031", "&lt;b&gt;", "name: &lt;report&gt;"):
        assert text in page
    assert "Position" not in page


def test_long_texts_are_cut_and_say_by_how_much() -> None:
    page = page_of(tables([(f"{n}" + "p" * 9_000, "a" * 10_000, "b " * 60_000) for n in range(4)]))
    for left in ("1,001", "2,000", "112,000"):
        assert f"… {left} characters left out" in page
    assert len(page) < 200_000


def test_a_run_without_scores_members_or_pairs_has_a_page() -> None:
    page = render_report(RECIPE, Summary(), [], ["a.jsonl:1: not JSON"])
    assert "There are none to show." in page
    assert "a.jsonl:1: not JSON" in page


def test_two_hundred_pairs_are_rendered_in_bounded_time_and_small() -> None:
    words = [short_id("word", n % 400)[:5] for n in range(3_000)]
    cases = [(f"Question {n}?", " ".join(words[n : n + 350]), " ".join(words[n + 9 : n + 500 : 2])) for n in range(300)]
    shard = tables(cases)
    summary, shown = counted(shard), published_rows(shard)[:SHOWN]
    assert len(shown) == SHOWN
    started = time.process_time()
    page = render_report(RECIPE, summary, shown, [])
    assert time.process_time() - started < 2
    assert len(page.encode()) < 5_000_000


def test_the_head_says_what_it_is_and_the_verdict_comes_before_all_numbers() -> None:
    about = {"version": "v0007", "made_at": "2026-03-04T05:06:59+00:00", "pairsmith": "0.2.0"}
    models = models_table(
        RECIPE, [{"role": "member", "name": "amber", "model": "/tmp/here/amber", "revision": "c" * 40}]
    )
    found = [Finding("longer", "bad", "The <b>chosen</b> is longer in 95%.", "Told from 80% on.", "Mostly: a & b")]
    page = page_of(tables(some(4)), recipe_text="name: report\n", version=about, models=models, findings=found)
    assert "Version <b>v0007</b>, made 2026-03-04 05:06 UTC with pairsmith 0.2.0" in page
    assert '<a href="recipe.yaml">' in page
    assert models == [
        {"role": "member", "name": "amber", "model": "amber", "revision": "c" * 12, "asked at": "this process (echo)"}
    ]
    assert "The &lt;b&gt;chosen&lt;/b&gt; is longer in 95%." in page
    assert page.index("Told from 80% on.") < page.index('<section id="funnel">')


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("https://api.mistral.ai/v1", "openai, api.mistral.ai"),
        ("http://vllm.example.org:8000/v1", "openai, vllm.example.org"),
        ("http://localhost:8000/v1", "openai, a server of one’s own"),
        ("http://10.1.2.3:8000/v1", "openai, a server of one’s own"),
        ("http://gpu-7.internal/v1", "openai, a server of one’s own"),
    ],
)
def test_a_report_names_a_providers_host_and_no_machine_of_ones_own(address: str, told: str) -> None:
    judge = {"name": "j", "backend": "openai", "model": "m", "endpoint": {"base_url": address}}
    recipe = Recipe.model_validate(RECIPE.model_dump(exclude_defaults=True) | {"rating": {"judges": [judge]}})
    models = [{"role": "x", "name": spec.name, "model": spec.model, "revision": None} for spec in recipe.specs]
    assert models_table(recipe, models)[-1]["asked at"] == told


@pytest.mark.parametrize(
    ("value", "shown"),
    [(-0.0, "0.00"), (-1e-9, "0"), (-0.00002, "-0.00002"), (-0.15, "-0.15"), (float("nan"), "–"), (None, "–")],
)
def test_no_number_is_shown_as_minus_zero_or_nan(value: float | None, shown: str) -> None:
    assert charts.number(value) == shown
    assert charts.fixed(-0.004) == "0.00"
    assert "-0" not in markdown_table([{"a": -0.0}, {"a": -1e-9}]).replace("---", "")
    assert "nan" not in markdown_table([{"a": float("nan")}])
