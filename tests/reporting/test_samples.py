"""Some pairs as markdown: the first of a version, cut, and nothing of a text is markup."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from markdown_it import MarkdownIt

from pairsmith.config import Recipe
from pairsmith.reporting.samples import SHOWN_CHARACTERS, render_samples, some_pairs
from pairsmith.stages.base import open_store
from pairsmith.storage import versions
from tests.runs import run


def pair(text: str, score: float | None = 4.0, member: str = "a") -> dict[str, Any]:
    sides = {side: [{"role": "assistant", "content": text}] for side in ("chosen", "rejected")}
    told = {f"{side}_{name}": value for side in sides for name, value in (("score", score), ("member", member))}
    return {"prompt": [{"role": "user", "content": text}], **sides, **told}


def test_the_first_pairs_of_a_version_train_before_test(echo_recipe: Callable[..., Recipe]) -> None:
    recipe = echo_recipe(20, publishing={"test_fraction": 0.3}, pairing={"max_similarity": 1.0})
    published = run(recipe)[0]
    store = open_store(recipe)
    version = versions.version_at(store, published.version)
    assert version is not None
    three, all_of_them = some_pairs(store, version, 3), some_pairs(store, version, 1000)
    assert len(three) == 3
    assert len(all_of_them) == published.pairs
    assert all_of_them[:3] == three


def test_texts_are_cut_and_scores_told_where_there_are_any() -> None:
    shown = render_samples([pair("a" * (SHOWN_CHARACTERS + 1)), pair("b", None)])
    assert "a" * SHOWN_CHARACTERS + "…" in shown
    assert "a" * (SHOWN_CHARACTERS + 1) not in shown
    assert shown.count("4.00") == 2
    assert "None" not in shown
    assert render_samples([]) == "No pairs."


@pytest.mark.parametrize("text", ["<b>x</b>", "# x", "[x](javascript:alert(1))", "`x`", "| a |\n| - |", "***x***"])
def test_a_text_is_text(text: str) -> None:
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(render_samples([pair(text, member=text)]))
    kinds = {child.type for token in tokens for child in [token, *(token.children or [])]}
    strong = {"strong_open", "strong_close"}
    assert kinds <= {
        "heading_open",
        "heading_close",
        "paragraph_open",
        "paragraph_close",
        "inline",
        "text",
    } | strong | {"text_special"}
