"""The picture of a run's report.html that the README shows.

    python experiments/demo/screenshot.py runs/petridish_digits

Writes report.png beside this file, with the frontier's point of the longest lineage opened. Needs Debian's chromium.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from playwright.sync_api import sync_playwright

from archsearch import load_run

TARGET = Path(__file__).with_name("report.png")
CHROMIUM = "/usr/bin/chromium"


def most_grown(folder: Path) -> int:
    """The point of the frontier with the most forebears, then with the lowest error."""
    run = load_run(folder)
    parents = {point.id: point.parent for point in run.points()}

    def steps(point: int) -> int:
        parent = parents[point]
        return 0 if parent is None else 1 + steps(parent)

    return int(max(run.frontier(), key=lambda entry: (steps(entry["id"]), -entry["error"]))["id"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    folder = parser.parse_args().run.resolve()
    load_run(folder).report()
    page_file = folder / "report.html"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True)
        page = browser.new_page(viewport={"width": 1200, "height": 1130}, color_scheme="light")
        page.goto(f"{page_file.as_uri()}#{most_grown(folder)}")
        page.screenshot(path=str(TARGET))
        browser.close()
    print(TARGET)


if __name__ == "__main__":
    main()
