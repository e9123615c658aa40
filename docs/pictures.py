"""Take the pictures of a report that the docs show.

    pairsmith run recipes/demo.yaml
    python docs/pictures.py pairsmith-data/demo/latest/report.html

Writes docs/images/report-*.png: the numbers, the judges and an open pair, on a desk and a phone, in light and dark.
Needs Chromium and playwright. Show no data that is not ours to show: the prompts of recipes/ are.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "images"
WIDTHS = {"desktop": 1280, "phone": 390}
PARTS = {"numbers": ("body", "#members"), "judges": ("#judges", "#usage"), "pairs": ("#pairs", "details.case[open]")}
# Open the shortest pair that has something to show, and leave the others closed.
OPEN = """() => {
  const cases = [...document.querySelectorAll(".case")].sort((a, b) => a.textContent.length - b.textContent.length);
  const one = cases.find((each) => each.textContent.length > 1000) ?? cases.at(-1);
  for (const each of cases) each.open = each === one;
  one.parentNode.insertBefore(one, document.querySelector(".case"));
}"""
MARGIN = 12  # pixels around a part
MOST = 200_000  # bytes of a picture


def take(browser: Any, report: Path, device: str, scheme: str) -> list[Path]:
    """The page from its head to the members, from the judges to the costs, and the pair that is open."""
    width = WIDTHS[device]
    context = browser.new_context(viewport={"width": width, "height": 1000}, color_scheme=scheme)
    page = context.new_page()
    page.goto(report.resolve().as_uri())
    page.evaluate(OPEN)
    made = []
    for name, (first, last) in PARTS.items():
        top, bottom = (page.locator(place).first.bounding_box() for place in (first, last))
        start = max(0, top["y"] - MARGIN)
        clip = {"x": 0, "y": start, "width": width, "height": bottom["y"] + bottom["height"] + MARGIN - start}
        path = FOLDER / f"report-{name}-{device}-{scheme}.png"
        page.screenshot(path=path, full_page=True, clip=clip)
        made.append(path)
    context.close()
    return made


def main() -> None:
    from playwright.sync_api import sync_playwright

    (report,) = map(Path, sys.argv[1:])
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        sys.exit("Chromium is not installed: neither chromium nor google-chrome is on the path")
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--disable-gpu"], chromium_sandbox=False)
        made = [
            path for device in WIDTHS for scheme in ("light", "dark") for path in take(browser, report, device, scheme)
        ]
        browser.close()
    for path in made:
        print(f"{path}: {path.stat().st_size:,} bytes")
        if path.stat().st_size > MOST:
            sys.exit(f"{path} is larger than {MOST:,} bytes; choose fewer pairs to open, or shorter ones")


if __name__ == "__main__":
    main()
