"""Take the pictures of labelling that the docs show.

    python docs/pictured_labels.py

writes docs/images/label-*.png: a pair on a desk and a phone, in light and dark. Needs Chromium and playwright. The
questions and answers are made up here, so that they are ours to show.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from pictures import FOLDER, WIDTHS, chromium, tell

from pairsmith.labelling.desk import Desk
from pairsmith.labelling.journal import open_journal
from pairsmith.labelling.pairs import Draw, pair_of
from pairsmith.labelling.serving import serving

HEIGHTS = {"desktop": 720, "phone": 780}
ANSWERS = (
    (
        "My basil wilts on the window sill, though I water it every day. What am I doing wrong?",
        "Probably the daily water. Basil wilts when its roots stand wet:\n\n1. Pour off what collects in the saucer.\n"
        "2. Water again only when the top of the soil is dry.\n3. Give it six hours of light, but no midday glass.",
        "Basil is a very popular herb that is used in many dishes, such as **pesto**. It needs water and sun. Please "
        "make sure that you always water it enough, since plants need water to live.",
    ),
    ("How long do I boil an egg?", "Six minutes for a soft yolk, nine for a firm one.", "It depends on the egg."),
    ("What is 17 plus 25?", "42", "17 + 25 = 43"),
    ("Name a tree that grows in water.", "The bald cypress.", "An oak."),
    ("Put this in one word: not at all warm", "Cold", "It is quite cold"),
)


def row(number: int) -> dict[str, Any]:
    """A published row of one question, rated by nobody."""
    question, good, bad = ANSWERS[number]
    found: dict[str, Any] = {"prompt": [{"role": "user", "content": question}]}
    for side, text in (("chosen", good), ("rejected", bad)):
        found[side] = [{"role": "assistant", "content": text}]
        found |= {f"{side}_id": f"{side} {number}", f"{side}_ratings": []}
    return found


def take(browser: Any, address: str, device: str, scheme: str) -> Path:
    size = {"width": WIDTHS[device], "height": HEIGHTS[device]}
    context = browser.new_context(viewport=size, color_scheme=scheme, has_touch=device == "phone")
    page = context.new_page()
    page.goto(address)
    page.get_by_text(f"of {len(ANSWERS)} pairs").wait_for()
    path = FOLDER / f"label-{device}-{scheme}.png"
    page.screenshot(path=path)
    context.close()
    return path


def main() -> None:
    pairs = [pair_of(row(number), "random") for number in range(len(ANSWERS))]
    with tempfile.TemporaryDirectory() as folder, open_journal(Path(folder), "ann") as journal:
        desk = Desk(Draw("v0001", len(pairs), 0, {pair.key: pair for pair in pairs}), journal, "ann")
        others = [key for key in desk.order if key != pairs[0].key]
        desk.order = [*others[:2], pairs[0].key, *others[2:]]
        for key in others[:2]:
            desk.label(key, "tie")
        with serving(desk) as (address, _), chromium() as browser:
            tell([take(browser, address, device, scheme) for device in WIDTHS for scheme in ("light", "dark")])


if __name__ == "__main__":
    main()
