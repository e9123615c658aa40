"""The page in Chromium, at a desk and on a phone: by keyboard and by touch, and whatever the texts hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pairsmith.labelling.desk import Desk
from pairsmith.labelling.journal import open_journal
from pairsmith.labelling.pairs import Draw, pair_of
from pairsmith.labelling.serving import serving
from tests.labelling.made import a_draw, published
from tests.reporting.test_page_browser import CONTRAST, PAYLOADS, TRAPS, WIDTHS, browser  # noqa: F401 - a fixture

pytestmark = pytest.mark.browser
TOUCH = {"viewport": {"width": WIDTHS["phone"], "height": 800}, "has_touch": True, "is_mobile": True}
DESK = {"viewport": {"width": WIDTHS["desktop"], "height": 800}}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with open_journal(tmp_path, "ann") as journal:
        yield Desk(a_draw(4), journal, "ann")


def opened(browser: Any, address: str, **context: Any) -> Any:  # noqa: F811
    page = browser.new_context(**context).new_page()
    page.set_default_timeout(10_000)
    page.said = []
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.add_init_script(TRAPS)
    page.goto(address)
    page.get_by_text("of 4 pairs").wait_for()
    return page


def count(page: Any, done: int) -> None:
    page.get_by_text(f"{done} of 4 pairs").wait_for()


def verdicts(desk: Desk) -> list[str]:
    """What was said, in the order of the person, as left or right, tie or skip."""
    found = [desk.journal.now[key] for key in desk.order]
    return [
        one.better if one.better in ("tie", "skip") else "left" if one.better == one.left else "right" for one in found
    ]


def test_four_pairs_by_keyboard_at_a_desk(browser: Any, desk: Desk) -> None:  # noqa: F811
    with serving(desk) as (address, done):
        page = opened(browser, address, **DESK)
        boxes = [page.locator(f"#{side}").bounding_box() for side in ("left", "right")]
        assert boxes[0]["y"] == boxes[1]["y"]  # side by side
        page.keyboard.press("n")
        page.keyboard.type("3 of them are wrong")  # what is typed there is no choice
        page.keyboard.press("Escape")
        page.keyboard.press("ArrowLeft")
        count(page, 1)
        assert page.locator("#note").input_value() == ""
        page.keyboard.press("2")
        count(page, 2)
        page.keyboard.press("u")
        count(page, 1)
        page.keyboard.press("ArrowRight")
        count(page, 2)
        page.keyboard.press("3")
        count(page, 3)
        page.keyboard.press("4")
        page.get_by_text("All pairs are labelled").wait_for()
        page.keyboard.press("Enter")  # Finish has the focus
        page.get_by_text("This page can be closed").wait_for()
        assert done.wait(5)
        assert page.said == []
    assert verdicts(desk) == ["left", "right", "tie", "skip"]
    assert desk.journal.now[desk.order[0]].note == "3 of them are wrong"


def test_four_pairs_by_touch_on_a_phone(browser: Any, desk: Desk) -> None:  # noqa: F811
    with serving(desk) as (address, _):
        page = opened(browser, address, **TOUCH)
        one, two = (page.locator(f"#{side}").bounding_box() for side in ("left", "right"))
        assert one["y"] < two["y"]  # one below the other
        for number, name in enumerate(("1 is better", "Tie", "2 is better"), start=1):
            page.get_by_role("button", name=name).tap()
            count(page, number)
        page.get_by_role("button", name="Undo").tap()
        count(page, 2)
        page.get_by_label("Note, if").fill("by thumb")
        page.get_by_role("button", name="2 is better").tap()
        count(page, 3)
        page.get_by_role("button", name="Skip").tap()
        page.get_by_text("All pairs are labelled").wait_for()
        assert page.evaluate("() => document.documentElement.scrollWidth") <= WIDTHS["phone"]
        assert page.said == []
    assert verdicts(desk) == ["left", "tie", "right", "skip"]
    assert desk.journal.now[desk.order[2]].note == "by thumb"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_run_nothing_and_stand_out_and_a_lost_server_is_told(browser: Any, tmp_path: Path, scheme: str) -> None:  # noqa: F811
    text = "\n".join([*PAYLOADS, "**bold** <b>bold</b>", "x" * 3_000])
    chat = [{"role": "system", "content": text}, {"role": "user", "content": text}]
    answers = {side: [{"role": "assistant", "content": f"{side} {text}"}] for side in ("chosen", "rejected")}
    found = [pair_of(published(number, prompt=chat, **answers), "random") for number in range(4)]
    with open_journal(tmp_path, "ann") as journal:
        desk = Desk(Draw("v0001", 4, 0, {pair.key: pair for pair in found}), journal, "ann")
        with serving(desk) as (address, _):
            page = opened(browser, address, color_scheme=scheme, **TOUCH)
            shown = page.locator(".text").all_text_contents()
            assert sorted(shown) == sorted([text, text, f"chosen {text}", f"rejected {text}"])
            assert page.evaluate("() => window.ran") == []
            assert page.locator("main :is(script, img, iframe, svg, a, form, b)").count() == 0
            assert page.evaluate("() => document.documentElement.scrollWidth") <= WIDTHS["phone"]
            assert page.evaluate(CONTRAST) == []
        page.get_by_role("button", name="Tie").tap()
        page.get_by_text("What was labelled is kept").wait_for()
    assert journal.now == {}
