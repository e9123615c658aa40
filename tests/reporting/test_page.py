from __future__ import annotations

import base64
import hashlib
import html
import re
import time

from pairsmith.ids import short_id
from pairsmith.publishing.pair_rows import published_rows
from pairsmith.publishing.publish import SHOWN
from pairsmith.reporting.page import render_report
from pairsmith.reporting.summary import Summary
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
