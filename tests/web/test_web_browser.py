"""The parts of a page in a real browser: what axe finds, what scripts and headers do."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
PAGES = ("/gallery", "/form", "/section", "/help", "/privacy", "/accessibility", "/nowhere")

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def chromium(want_present: Any) -> Iterator[Any]:
    """Start the browser."""
    want_present(Path(CHROMIUM).exists(), "chromium is not installed")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def visit(browser: Any, address: str, *, width: int = 1280, language: str = "en", **kw: Any) -> Any:
    """Return a page of somebody who is signed in."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, locale=language, base_url=address, **kw
    )
    context.add_cookies([{"name": "person", "value": "Ana", "url": address}])
    return context.new_page()


@pytest.mark.parametrize(("width", "language"), [(1280, "en"), (390, "pt"), (320, "en")])
def test_pages_are_accessible_and_fit(
    chromium: Any, gallery_address: str, width: int, language: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = visit(chromium, gallery_address, width=width, language=language)
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.on("pageerror", lambda error: refused.append(str(error)))
    for path in PAGES:
        page.goto(path)
        found = Axe().run(page)
        assert found.violations_count == 0, (path, found.generate_report())
        wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(wider) == 0, path
    assert [text for text in refused if "404" not in text] == []


def test_a_form_with_errors_is_accessible_and_leads_to_its_fields(
    chromium: Any, gallery_address: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import expect

    page = visit(chromium, gallery_address)
    page.goto("/form")
    page.get_by_role("button", name="Sign in").click()
    summary = page.get_by_role("alert")
    expect(summary).to_be_focused()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    summary.get_by_role("link", name="Password").click()
    expect(page.locator("#form-secret")).to_be_focused()


def test_labels_are_exactly_the_words(chromium: Any, gallery_address: str) -> None:
    page = visit(chromium, gallery_address)
    page.goto("/form")
    page.get_by_label("Citizen card number", exact=True).fill("12345678")
    page.get_by_label("Password", exact=True).fill("x")
    page.get_by_label("Day", exact=True).fill("7")
    page.get_by_label("Month", exact=True).fill("3")
    page.get_by_label("Year", exact=True).fill("1949")
    page.get_by_label("Female", exact=True).check()
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url("**/gallery")
    assert page.locator(".notice[data-kind=ok]").inner_text() == "Save"


def test_a_state_changes_in_place_and_says_so(chromium: Any, gallery_address: str) -> None:
    from playwright.sync_api import expect

    page = visit(chromium, gallery_address)
    page.goto("/gallery")
    live = page.locator("[data-poll-url]")
    below = page.get_by_role("heading", name="Who this is")
    before = below.bounding_box()
    assert live.inner_text() == "Waiting"
    expect(live).to_have_text("Delivered, receipt 12")
    assert live.get_attribute("data-kind") == "ok"
    assert live.get_attribute("data-state") == "delivered"
    assert page.locator("[role=status]", has=live).count() == 1
    assert below.bounding_box() == before


def test_polling_slows_down_and_has_a_ceiling(chromium: Any, gallery_address: str) -> None:
    page = visit(chromium, gallery_address)
    page.goto("/help")
    module = page.locator("script").get_attribute("src").replace("portal.js", "delivery.js")
    pauses = page.evaluate(
        "async (address) => { const m = await import(address);"
        " return [1, 10, 11, 12, 100].map(m.pause); }",
        module,
    )
    assert pauses == [1000, 1000, 1500, 2250, 30000]


def test_everything_works_without_scripts(chromium: Any, gallery_address: str) -> None:
    page = visit(chromium, gallery_address, java_script_enabled=False)
    page.goto("/help")
    page.get_by_role("button", name="Português").click()
    assert page.locator("h1").inner_text() == "Ajuda"
    page.get_by_role("link", name="Privacidade").click()
    assert page.locator("h1").inner_text() == "Privacidade"


def test_injected_script_and_style_do_not_run(chromium: Any, gallery_address: str) -> None:
    page = visit(chromium, gallery_address)
    page.goto("/help")
    page.evaluate(
        "document.body.insertAdjacentHTML('beforeend',"
        " '<img src=x onerror=\"window.ran = 1\"><style>body { opacity: 0 }</style>')"
    )
    page.wait_for_timeout(300)
    assert page.evaluate("window.ran") is None
    assert page.evaluate("getComputedStyle(document.body).opacity") == "1"


def test_the_skip_link_is_first_and_visible_when_reached(
    chromium: Any, gallery_address: str
) -> None:
    from playwright.sync_api import expect

    page = visit(chromium, gallery_address)
    page.goto("/gallery")
    page.keyboard.press("Tab")
    box = page.locator(".skip").bounding_box()
    assert page.evaluate("document.activeElement.className") == "skip"
    assert box["y"] >= 0
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()


def test_paper_shows_the_content_and_nothing_to_press(chromium: Any, gallery_address: str) -> None:
    page = visit(chromium, gallery_address)
    page.goto("/gallery")
    page.emulate_media(media="print")
    assert page.get_by_role("heading", name="Who this is").is_visible()
    assert page.locator(".top__name").is_visible()
    for hidden in (".nav-bar", ".foot", ".actions", ".top__person"):
        assert not page.locator(hidden).is_visible()


def test_the_first_visit_is_light(chromium: Any, gallery_address: str) -> None:
    page = visit(chromium, gallery_address)
    page.goto("/form", wait_until="networkidle")
    sizes = page.evaluate(
        "performance.getEntriesByType('resource').concat("
        "performance.getEntriesByType('navigation')).map((e) => e.transferSize)"
    )
    assert len(sizes) >= 5
    assert sum(sizes) < 100_000
