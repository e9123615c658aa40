"""The report in a browser: Chromium, found on the path, driven by playwright; skipped where one is absent."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from pairsmith.config import Recipe
from pairsmith.judging.guard import KINDS
from pairsmith.publishing.data_files import SHOWN
from pairsmith.publishing.pair_rows import published_rows
from pairsmith.reporting.card import render_card
from pairsmith.reporting.page import render_report
from pairsmith.reporting.reason_words import WORDS
from pairsmith.reporting.summary import Summary
from tests.conftest import shared
from tests.faults.test_s5_markup import HOSTILE
from tests.reporting.shards import RECIPE, counted, some, tables

pytestmark = pytest.mark.browser
WIDTHS = {"desktop": 1280, "phone": 390}
FLAGS = [
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
# A payload that ran would call one of these, or leave a mark.
TRAPS = (
    "window.ran = []; for (const name of ['alert', 'confirm', 'prompt', 'open']) window[name] = () => ran.push(name);"
)
PAYLOADS = [
    "<script>window.ran.push('script')</script>",
    "</script><script>window.ran.push('end')</script>",
    "<img src=x onerror=\"window.ran.push('img')\">",
    '"><svg onload="window.ran.push(\'svg\')">',
    "' autofocus onfocus=\"window.ran.push('focus')\" x='",
    "<a href=\"javascript:window.ran.push('link')\">x</a>",
    "[x](javascript:window.ran.push('markdown'))",
    "<iframe srcdoc=\"<script>parent.ran.push('frame')</script>\"></iframe>",
    "</style></title></textarea></details><body onload=\"window.ran.push('body')\">",
    "<form action=javascript:alert(1)><button autofocus>x</button></form>",
]
ACTIVE = r"""() => [...document.querySelectorAll("*")].filter((element) =>
  /^(script|iframe|object|embed|img|video|audio|form|base|link|textarea|foreignobject|animate|set|math|template)$/i
    .test(element.tagName)
  || [...element.attributes].some((one) => /^on/i.test(one.name)
    || /^(src|action|formaction|srcdoc|style|data)$/i.test(one.name)
    || (/href$/i.test(one.name) && !/^(#[a-z]+|recipe\.yaml)$/.test(one.value)))
).map((element) => element.outerHTML.slice(0, 200))"""
JUDGING = {
    "Agreement of judges": [
        {
            "judges": "first, second",
            "aspect": aspect,
            "answers": 462,
            "kappa": kappa,
            "spearman": rho,
            "same choice": same,
        }
        for aspect, kappa, rho, same in (("helpfulness", 0.412, 0.533, 0.71), ("honesty", 0.387, 0.498, 0.69))
    ],
    "Position": [{"judge": "first", "first": 0.27, "last": 0.24, "pull of the first place": 0.03}],
}
USAGE = [
    {"role": "member", "model": f"org/{name}", "requests": 231, "prompt tokens": 41_210, "tokens": tokens,
     "cost": cost}
    for name, tokens, cost in (("amber", 61_034, 0.0312), ("birch", 83_111, 0.0471), ("cedar", 79_400, 0.0402))
]  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("Chromium is not installed: neither chromium nor google-chrome on the path")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, args=FLAGS, chromium_sandbox=False)
        yield chromium
        chromium.close()


class Visit:
    """A page opened from a file, with everything that it said and asked for."""

    def __init__(self, browser: Any, path: Path, **context: Any) -> None:
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.add_init_script(TRAPS)
        self.url = path.as_uri()
        self.page.goto(self.url)

    def visible(self) -> int:
        return int(self.page.locator("details.case:visible").count())


Open = Callable[..., Visit]


@pytest.fixture
def visit(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Opens a page; at the end it must have said nothing, asked for nothing else, and run nothing of another's."""
    visits: list[Visit] = []

    def open_(page: str, **context: Any) -> Visit:
        path = tmp_path / f"page-{len(visits)}.html"
        path.write_text(page, encoding="utf-8")
        visits.append(Visit(browser, path, **context))
        return visits[-1]

    yield open_
    for one in visits:
        assert one.said == []
        assert {address.partition("#")[0] for address in one.asked} == {one.url}
        assert one.context.pages == [one.page]
        assert one.page.evaluate("() => window.ran") == []
        one.context.close()


def report(count: int = 30, **options: Any) -> str:
    shard = tables(some(count))
    return render_report(RECIPE, counted(shard), published_rows(shard), [], recipe_text="name: report\n", **options)


def test_search_and_filters_choose_among_the_pairs(visit: Open) -> None:
    shard = tables(some(40))
    shown = published_rows(shard)
    shown[0] |= {"margin": None}
    one = visit(render_report(RECIPE, counted(shard), shown, []))
    page, total = one.page, len(shown)
    count = page.locator("#count")
    assert one.visible() == total
    assert count.inner_text() == f"{total} of {total} pairs"
    page.get_by_role("searchbox").fill(f"{shown[3]['prompt'][-1]['content']} FAIR")
    expected = [row for row in shown if matches(row, shown[3]["prompt"][-1]["content"], "fair")]
    assert one.visible() == len(expected) < total
    page.get_by_role("button", name="Reset").click()
    assert one.visible() == total
    page.get_by_role("combobox", name="Member").select_option(label="dune")
    assert one.visible() == sum("dune" in (row["chosen_member"], row["rejected_member"]) for row in shown)
    page.get_by_role("combobox", name="Source").select_option(label="code")
    both = [
        row for row in shown if row["source"] == "code" and "dune" in (row["chosen_member"], row["rejected_member"])
    ]
    assert one.visible() == len(both)
    page.get_by_role("button", name="Reset").click()
    page.get_by_label("Margin from").fill("0.5")
    page.get_by_label("Margin to").fill("1.25")
    assert one.visible() == sum(row["margin"] is not None and 0.5 <= row["margin"] <= 1.25 for row in shown)
    assert count.inner_text() == f"{one.visible()} of {total} pairs"
    page.get_by_role("searchbox").fill("no such word anywhere")
    assert one.visible() == 0
    assert page.get_by_text("No pair fits").is_visible()


def matches(row: dict[str, Any], *phrases: str) -> bool:
    said = [row[side][-1]["content"] for side in ("prompt", "chosen", "rejected")]
    said += [rating["rationale"] for side in ("chosen", "rejected") for rating in row[f"{side}_ratings"]]
    words = " ".join(phrases).lower().split()
    return all(word in "\n".join(said).lower() for word in words)


def test_pairs_open_and_close_together_and_by_keyboard(visit: Open) -> None:
    page = visit(report()).page
    opened = page.locator("details.case[open]")
    assert opened.count() == 1
    page.get_by_role("button", name="Open all").click()
    assert opened.count() == page.locator("details.case").count() > 10
    page.get_by_role("button", name="Close all").click()
    assert opened.count() == 0
    page.locator("details.case > summary").first.focus()
    page.keyboard.press("Enter")
    assert opened.count() == 1


@pytest.mark.parametrize("script", [True, False])
def test_differences_are_marked_and_unmarked(visit: Open, script: bool) -> None:
    page = visit(report(), java_script_enabled=script).page
    colour = "element => getComputedStyle(element).backgroundColor"
    mark = page.locator("details[open] :is(ins, del)").first
    assert mark.evaluate(colour) != "rgba(0, 0, 0, 0)"
    page.get_by_label("Mark differences").uncheck()
    assert mark.evaluate(colour) == "rgba(0, 0, 0, 0)"
    page.get_by_label("Mark differences").check()
    assert mark.evaluate(colour) != "rgba(0, 0, 0, 0)"


def test_without_script_all_can_be_read_and_no_dead_control_is_there(visit: Open) -> None:
    one = visit(report(), java_script_enabled=False)
    assert one.visible() > 10
    assert one.page.get_by_role("button").count() == one.page.get_by_role("searchbox").count() == 0
    one.page.locator("details.case > summary").nth(1).click()
    assert one.page.locator("details.case[open] .side.chosen .turn:visible").count() == 2


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_no_page_scrolls_sideways(visit: Open, width: int) -> None:
    wide = {f"column number {n}": n for n in range(30)}
    long = [("x" * 3_000 + f" {n}", "y" * 3_000, "z" * 2_000 + "\n" + "w " * 900) for n in range(9)]
    shard = tables(long, sources=["s" * 300])
    judging = {"A wide table": [wide], "A long word": [{"name": "n" * 400}]}
    text = "key: " + "v" * 2_000
    page = render_report(RECIPE, counted(shard), published_rows(shard), ["r" * 600], judging, [wide], recipe_text=text)
    one = visit(page, viewport={"width": width, "height": 800})
    one.page.evaluate("() => document.querySelectorAll('details').forEach((part) => part.open = true)")
    assert one.page.evaluate("() => document.documentElement.scrollWidth") <= width
    assert (
        one.page.locator(".wide")
        .filter(has_text="column number 3")
        .first.evaluate("e => e.scrollWidth > e.clientWidth")
    )


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_no_reason_runs_into_its_bar_and_no_link_to_a_section_is_cut(visit: Open, width: int) -> None:
    shard = tables(some(9))
    summary = counted(shard)
    summary.prompt_reasons.update(dict.fromkeys(WORDS, 1))
    page = visit(render_report(RECIPE, summary, [], []), viewport={"width": width, "height": 800}).page
    assert page.get_by_text("fewer than two answers to choose from").is_visible()
    cut = "all => all.filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.textContent)"
    assert page.locator(".ladder th, nav ul").evaluate_all(cut) == []


CONTRAST = """() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => parts(colour).slice(0, 3).map((part) => part / 255)
    .map((part) => part <= .03928 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4)
    .reduce((sum, part, place) => sum + part * [.2126, .7152, .0722][place], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (parts(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  return [...document.querySelectorAll("body *")].filter((element) => element.checkVisibility()
    && [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())).map((element) => {
    const [one, other] = [light(getComputedStyle(element).color), light(ground(element))].sort((a, b) => b - a);
    return [element.tagName, element.className, (one + .05) / (other + .05)];
  }).filter((found) => found[2] < 4.5);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_and_every_control_has_a_name(visit: Open, scheme: str) -> None:
    page = visit(report(judging=JUDGING, usage=USAGE), color_scheme=scheme).page
    page.evaluate("() => document.querySelectorAll('details').forEach((part) => part.open = true)")
    assert page.evaluate(CONTRAST) == []
    unnamed = "() => [...document.querySelectorAll('input, select')].filter((one) => !one.labels.length).length"
    assert page.evaluate(unnamed) == 0
    levels = page.evaluate(
        "() => [...document.querySelectorAll('h1, h2, h3, h4')].map((one) => Number(one.tagName[1]))"
    )
    assert levels[0] == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    identities = page.evaluate("() => [...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(identities) == len(set(identities))


def hostile() -> list[str]:
    return [*PAYLOADS, *HOSTILE, *json.loads(shared("hostile/blns.json").read_text(encoding="utf-8"))]


def hostile_rows(texts: list[str]) -> list[dict[str, Any]]:
    """Rows as they are published, of which every text is hostile: prompts, answers, reasons and all names."""
    shown = []
    for number, text in enumerate(texts):
        other = texts[(number + 1) % len(texts)]
        rating = {"judge": text, "aspect": other, "rating": 3, "score": 3.5, "rationale": text}
        row: dict[str, Any] = {"prompt": [{"role": text, "content": other}, {"role": "user", "content": text}]}
        for side, answer in (("chosen", text), ("rejected", other)):
            row[side] = [{"role": "assistant", "content": f"{answer} {text}"}]
            row |= {f"{side}_score": 2.0, f"{side}_member": answer, f"{side}_ratings": [rating]}
        shown.append(row | {"margin": 0.5, "source": text})
    return shown


@pytest.mark.parametrize("part", range(3))
def test_nothing_that_a_text_says_becomes_active(visit: Open, part: int) -> None:
    texts = hostile()[part * SHOWN : (part + 1) * SHOWN]
    members = {text: {"completions": 1, "failed": 0, "tokens": 1, "n a": 1, "sum a": 1} for text in texts[:60]}
    summary = Summary(rows_read=9, loaded=9, paired=9, pairs=len(texts), members=members)
    summary.aspects = {text: {"ratings": 1, "null": 0, "sum": 1} for text in texts[:60]}
    summary.wins.update((text, texts[0]) for text in texts[:12])
    summary.scores.update((text, text, 3) for text in texts[:12])
    summary.flags.update((kind, "completions") for kind in KINDS)
    summary.examples = [{"kind": text, "completion_id": text, "member": text, "excerpt": text} for text in texts]
    summary.slopes = dict.fromkeys(texts, 0.5)
    recipe = RECIPE.model_copy(update={"name": texts[0], "description": "\n".join(texts)})
    table = [{text: text} for text in texts]
    page = render_report(recipe, summary, hostile_rows(texts), texts, {texts[2]: table}, table, "\n".join(texts))
    one = visit(page)
    (script,) = one.page.evaluate(ACTIVE)
    assert script.startswith('<script>"use strict";\n// Search')
    one.page.get_by_role("button", name="Open all").click()
    one.page.get_by_role("searchbox").fill(texts[0])
    assert one.visible() >= 1
    one.page.get_by_role("combobox", name="Member").select_option(index=1)
    one.page.get_by_role("combobox", name="Source").select_option(index=1)
    one.page.get_by_role("button", name="Reset").click()
    assert one.visible() == len(texts)
    said = one.page.locator(".case .side.chosen .turn").all_text_contents()
    assert [unbroken(text) for text in said] == [unbroken(f"{text} {text}") for text in texts]


def unbroken(text: str) -> str:
    """A text as a browser reads it: line ends are one, and NUL is left out."""
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


def test_the_policy_stops_what_a_slip_of_the_escaping_would_let_in(browser: Any, tmp_path: Path) -> None:
    outside = socket.create_server(("127.0.0.1", 0))
    outside.settimeout(0.5)
    pixel = f"<img src='http://127.0.0.1:{outside.getsockname()[1]}/pixel.png'>"
    slipped = "".join(PAYLOADS) + "<style>body { display: none }</style>" + pixel
    path = tmp_path / "page.html"
    path.write_text(report().replace("<main>", f"<main>{slipped}"), encoding="utf-8")
    one = Visit(browser, path)
    one.page.locator("[href^='javascript:']").first.dispatch_event("click")
    assert one.page.evaluate("() => window.ran") == []
    assert one.page.evaluate("() => getComputedStyle(document.body).display") != "none"
    with outside, pytest.raises(TimeoutError):
        outside.accept()
    assert sum("Content Security Policy" in text for text in one.said) >= 6
    one.context.close()


def test_nothing_of_a_card_becomes_active(visit: Open) -> None:
    texts = hostile()
    cards = []
    for text in texts:
        recipe = Recipe.model_validate(RECIPE.model_dump() | {"description": text})
        names = [{"role": "member", "name": text, "model": text, "revision": text}]
        card = render_card(
            recipe, Summary(rows_read=1, loaded=1, paired=1, pairs=1), "me/pairs", {"data/train": 1}, "0", names
        )
        cards.append(MarkdownIt("commonmark", {"html": True}).enable("table").render(card.split("\n---\n", 1)[1]))
    one = visit("<!doctype html><meta charset=utf-8><title>card</title>" + "<hr>".join(cards))
    assert one.page.evaluate(ACTIVE) == []
    assert one.page.locator("h1").count() == one.page.locator("details").count() == len(texts)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", WIDTHS)
def test_pictures(visit: Open, tmp_path: Path, device: str, scheme: str) -> None:
    found = map(json.loads, shared("pairs/uf_binarized_train_1000.jsonl").read_text(encoding="utf-8").splitlines())
    shard = tables([(row["prompt"], row["chosen"], row["rejected"]) for row in found][:400])
    summary = counted(shard)
    summary.rows_read += 11
    summary.load_reasons.update({"duplicate": 8, "blank": 2, "bad_chat": 1})
    refused = ["prompts.jsonl:17: an assistant message comes first", "prompts.jsonl:90: blank"]
    text = "name: report\npool:\n  members:\n  - name: amber\n"
    page = render_report(RECIPE, summary, published_rows(shard)[:SHOWN], refused, JUDGING, USAGE, text)
    one = visit(page, viewport={"width": WIDTHS[device], "height": 1000}, color_scheme=scheme)
    path = tmp_path / f"report-{device}-{scheme}.png"
    first = one.page.locator("details.case").nth(3).bounding_box()
    bottom = min(first["y"], 5200)
    one.page.screenshot(path=path, full_page=True, clip={"x": 0, "y": 0, "width": WIDTHS[device], "height": bottom})
    assert path.stat().st_size > 20_000
