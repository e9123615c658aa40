"""Take the pictures of reports that the docs show.

    python docs/pictures.py

It writes docs/images/report-*.png: the numbers, the judges and an open pair of the set of pictured_sets.py with all
parts, and the verdicts on the others; on a desk and a phone, in light and dark.
Needs Chromium and playwright.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pictured_sets import SETS

FOLDER = Path(__file__).parent / "images"
WIDTHS = {"desktop": 1280, "phone": 390}
VERDICT = ("body", "#models")
PARTS = {"numbers": ("#funnel", "#members"), "judges": ("#judges", "#usage"), "pairs": ("#pairs", "details.case[open]")}
# Open the shortest pair that has something to show, and leave the others closed.
OPEN = """() => {
  const cases = [...document.querySelectorAll(".case")].sort((a, b) => a.textContent.length - b.textContent.length);
  const one = cases.find((each) => each.textContent.length > 1000) ?? cases.at(-1);
  for (const each of cases) each.open = each === one;
  one.parentNode.insertBefore(one, document.querySelector(".case"));
}"""
MARGIN = 12  # pixels around a part
MOST = 200_000  # bytes of a picture


def take(browser: Any, report: Path, parts: dict[str, tuple[str, str]], device: str, scheme: str) -> list[Path]:
    """Parts of the page, each from one place to another, with one pair open."""
    width = WIDTHS[device]
    context = browser.new_context(viewport={"width": width, "height": 1000}, color_scheme=scheme)
    page = context.new_page()
    page.goto(report.resolve().as_uri())
    page.evaluate(OPEN)
    made = []
    for name, (first, last) in parts.items():
        top, bottom = (page.locator(place).first.bounding_box() for place in (first, last))
        start = max(0, top["y"] - MARGIN)
        clip = {"x": 0, "y": start, "width": width, "height": bottom["y"] + bottom["height"] + MARGIN - start}
        path = FOLDER / f"report-{name}-{device}-{scheme}.png"
        page.screenshot(path=path, full_page=True, clip=clip)
        made.append(path)
    context.close()
    return made


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser; ends the script where there is none."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        sys.exit("Chromium is not installed: neither chromium nor google-chrome is on the path")
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--disable-gpu"], chromium_sandbox=False)
        yield browser
        browser.close()


def tell(made: Iterable[Path]) -> None:
    """Say how large the pictures are; ends the script where one is too large."""
    for path in made:
        print(f"{path}: {path.stat().st_size:,} bytes")
        if path.stat().st_size > MOST:
            sys.exit(f"{path} is larger than {MOST:,} bytes; choose fewer pairs to open, or shorter ones")


def main() -> None:
    with chromium() as browser, tempfile.TemporaryDirectory() as folder:
        wanted = [
            (make(Path(folder)), PARTS if name == "whole" else {f"verdict-{name}": VERDICT})
            for name, make in SETS.items()
        ]
        made = [
            path
            for report, parts in wanted
            for device in WIDTHS
            for scheme in ("light", "dark")
            for path in take(browser, report, parts, device, scheme)
        ]
    tell(made)


if __name__ == "__main__":
    main()
