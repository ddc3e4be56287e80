"""report.html in a real browser, from the file and without a network: Debian's chromium."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from report_history import History, example, seed

from archsearch.arch import Architecture
from archsearch.report import write_html

pytestmark = pytest.mark.timeout(900)  # the first run on a bare machine installs the browser

HOSTILE = "</script><script>window.broken=1</script><img src=x onerror=window.broken=2>"
DESKTOP, PHONE = (1200, 900), (390, 844)
PRESENT = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str | None:
    """A browser that is there, or Debian's, installed now if this may be done."""
    found = next(filter(None, map(shutil.which, PRESENT)), None)
    if found or os.geteuid() != 0 or not shutil.which("apt-get"):
        return found
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(["apt-get", "-q", *command], env=environment, capture_output=True, timeout=420)
    return shutil.which("chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = chromium()
    if path is None:
        pytest.skip("no chromium here, and it could not be installed: that takes apt-get, its package index and root")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings: dict[str, Any] = {"eps": 0.1, "band_standard_errors": 1.0}
    environment = {"seed": 7, "versions": {"torch": "2.x"}}
    return write_html(
        tmp_path_factory.mktemp("html"),
        example(),
        name="tiny run",
        config="run:\n  seed: 7\n",
        environment=environment,
        **settings,
    )


@pytest.fixture
def opened(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a file without a network; at the end nothing may have been asked of one, and no error been logged."""
    contexts, asked, errors = [], [], []

    def open_page(file: Path, size: tuple[int, int] = DESKTOP, *, at: str = "", **more: Any) -> Page:
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, offline=True, **more)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(file.as_uri() + at)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []
    assert {url.split("#")[0].rsplit("/", 1)[1] for url in asked} == {"report.html"} and all(
        u.startswith("file:") for u in asked
    )


def until(page: Page, expression: str) -> None:
    """Wait for it to hold. (Playwright's own wait compiles text in the page, which the page's policy refuses.)"""
    for _ in range(200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"this did not come true: {expression}")


def chain(page: Page) -> list[str]:
    return [text.split("\n")[0] for text in page.locator("#chain button").all_inner_texts()]


def test_the_best_point_is_shown_first_with_cells_lineage_curves_and_costs(report: Path, opened: Callable[..., Page]) -> None:
    page = opened(report)
    assert page.title() == "tiny run · archsearch report" and page.locator("h1").inner_text() == "tiny run"
    assert page.locator("#h-detail").inner_text().startswith("Point 6 · 5.00 %")
    assert chain(page) == ["#1", "#4", "#6"]
    assert page.locator(".cell svg").count() == 2
    # two edges of the seed's node, two of each grown one; those of the last step are marked as new
    assert page.locator(".cell svg").first.locator(".edge").count() == 6
    assert page.locator(".cell svg").first.locator(".edge.fresh").all_text_contents() == [
        "dil conv 5\N{MULTIPLICATION SIGN}5dil_conv_5x5 of s0 into n2 (new)",
        "dil conv 5\N{MULTIPLICATION SIGN}5dil_conv_5x5 of s1 into n2 (new)",
    ]
    assert page.locator("#curves path.curve").count() == 2
    assert "5.00 % ± 1.00" in page.locator("#costs").inner_text()
    assert page.locator("#volume path.curve").count() == 1 and page.locator("#slots .job").count() == 8
    assert page.locator("#frontier .point.faded").count() == 2 and page.locator(".bandfill").count() == 2  # one in the legend
    assert "torch 2.x" in page.locator("#environment").inner_text()
    page.locator("summary", has_text="Configuration").click()
    assert page.locator("#config").inner_text() == "run:\n  seed: 7\n"


def test_a_click_a_key_and_a_link_choose_a_point(report: Path, opened: Callable[..., Page]) -> None:
    page = opened(report)
    page.locator('.point[data-id="4"]').click()
    assert chain(page) == ["#1", "#4"] and page.locator(".cell svg").first.locator(".edge").count() == 4
    assert page.locator('.point[data-id="4"]').get_attribute("aria-pressed") == "true"
    assert page.url.endswith("#4") and page.locator("tr.chosen").get_attribute("data-row") == "4"
    page.locator('.point[data-id="4"]').focus()
    page.keyboard.press("ArrowLeft")
    assert "Point 1," in page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert chain(page) == ["#1", "#4"], "walking does not choose yet"
    page.keyboard.press("Enter")
    assert chain(page) == ["#1"] and page.locator("#live").inner_text().startswith("Point 1, seed, on the frontier")
    page.locator("#table button", has_text="#6").click()
    assert chain(page) == ["#1", "#4", "#6"]
    page.locator("#chain button").nth(1).press("Enter")
    assert chain(page) == ["#1", "#4"]
    page.locator('.job[data-job="2"]').click()
    assert chain(page) == ["#2"]
    assert chain(opened(report, at="#4")) == ["#1", "#4"]


def test_an_operation_that_was_exchanged_is_marked_as_new(opened: Callable[..., Page], tmp_path: Path) -> None:
    history = History()
    first = seed(2)
    history.train(first, 0.4, 0.0, 1.0)
    text = json.dumps(first.to_json()).replace("sep_conv_3x3", "max_pool_3x3")
    history.train(Architecture.from_json(json.loads(text)), 0.3, 1.0, 2.0, parent=1)
    page = opened(write_html(tmp_path, history.state, name="run", config="", environment={}), at="#2")
    assert page.locator(".edge").count() == 4
    assert [title.split()[0] for title in page.locator(".edge.fresh title").all_text_contents()] == ["max_pool_3x3"] * 2


def test_a_strangers_run_is_text_and_nothing_else(browser: Browser, opened: Callable[..., Page], tmp_path: Path) -> None:
    file = write_html(tmp_path, example(HOSTILE), name=HOSTILE, config=HOSTILE, environment={HOSTILE: HOSTILE})
    page = opened(file)
    assert page.locator("h1").inner_text() == HOSTILE and HOSTILE in page.locator("#environment").inner_text()
    for point in (1, 7):  # one with a hostile metric, one of a family that cannot be drawn
        page.evaluate(f"choose({point}, true)")
        assert page.locator("#h-detail").inner_text().startswith(f"Point {point} ·")
    assert "onerror" in page.locator("#detail pre").inner_text()
    page.locator(".job").first.hover()
    assert "onerror" in page.locator("#tip").inner_text()
    assert page.evaluate("window.broken") is None and page.locator("img").count() == 0 and page.locator("script").count() == 2


def test_the_pages_policy_refuses_any_other_script(report: Path, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(report.as_uri())
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.broken = 1'}))")
    assert page.evaluate("window.broken") is None
    page.close()


def test_a_phone_needs_no_sideways_scrolling_and_has_room_for_fingers(report: Path, opened: Callable[..., Page]) -> None:
    page = opened(report, PHONE, has_touch=True, is_mobile=True, device_scale_factor=2)
    for width, height in (PHONE, (320, 600), PHONE):
        page.set_viewport_size({"width": width, "height": height})
        until(page, "document.querySelector('#frontier svg').viewBox.baseVal.width <= innerWidth")
        assert page.evaluate("document.documentElement.scrollWidth") == width
    small = page.eval_on_selector_all("button, summary", "all => all.filter(e => e.offsetHeight < 44).map(e => e.innerText)")
    assert small == []
    page.locator('.point[data-id="4"]').tap()
    assert chain(page) == ["#1", "#4"]
    until(page, "document.getElementById('detail').getBoundingClientRect().top < innerHeight / 2")


def luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_schemes_can_be_read(report: Path, opened: Callable[..., Page], scheme: str) -> None:
    page = opened(report, color_scheme=scheme)

    def style(selector: str, name: str) -> str:
        return str(page.eval_on_selector(selector, f"e => getComputedStyle(e).{name}"))

    card = style("#detail", "backgroundColor")
    assert (luminance(card) < 0.2) == (scheme == "dark")
    for selector in ("h2", "p.soft", "#costs th", ".tag"):
        assert contrast(style(selector, "color"), card) >= 4.5, selector
    assert contrast(style("#frontier svg text", "fill"), card) >= 4.5
    assert contrast(style(".cell .fresh .optext", "fill"), style(".cell .fresh .op", "fill")) >= 4.5
    for selector in ("#frontier .point.seed .mark", "#frontier .point.grown .mark", ".job.SEARCH", ".job.bad"):
        assert contrast(style(selector, "fill"), card) >= 3, selector


def test_the_schemes_differ_on_screen(report: Path, opened: Callable[..., Page]) -> None:
    light, dark = (opened(report, color_scheme=scheme).screenshot() for scheme in ("light", "dark"))
    assert light != dark and min(len(light), len(dark)) > 20_000
