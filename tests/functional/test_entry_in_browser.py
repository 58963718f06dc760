"""Entering many values in a real browser: by keyboard, with marks, and accessible."""

import re
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from medportal.core.categories import Category
from medportal.records import catalogue as catalogues
from medportal.records.content import RecordKind, Sex
from medportal.records.entry import form_fields, parse_field
from medportal.records.errors import InvalidContent
from medportal.records.interpret import Interpretation, interpret

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
FLAGS += ["--disable-sync", "--no-first-run"]
AGE = 46

pytestmark = [
    pytest.mark.browser,
    # What runs in the browser is the same whatever the database.
    pytest.mark.parametrize("portal", ["sqlite"], indirect=True, scope="module"),
]


@pytest.fixture(scope="module")
def chromium(want_present: Any) -> Iterator[Any]:
    """Start the browser."""
    want_present(Path(CHROMIUM).exists(), "chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(portal: Any) -> Iterator[str]:
    """Serve the portal on this machine."""
    from waitress.server import create_server

    server = create_server(portal.app, host="127.0.0.1", port=0, threads=4)
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    yield f"http://laboratory.localhost:{server.effective_port}"
    server.close()


@pytest.fixture(scope="module")
def markup(portal: Any) -> str:
    """Give the laboratory's entry form as the server makes it."""
    browser = portal.signed_in("responsible", "laboratory")
    patient = portal.person("patient", "laboratory")
    page = browser.get(f"/patients/{patient}/records/new")
    return str(page.html.find("main"))


@pytest.fixture
def page(chromium: Any, address: str, markup: str) -> Iterator[Any]:
    """Put the form where nobody has to sign in, under the same policy, with the same scripts."""
    context = chromium.new_context(locale="en", base_url=address)
    page = context.new_page()
    page.problems = []
    page.on("console", lambda message: page.problems.append(message.text))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.goto("/help")
    page.evaluate(
        """async ([script, markup]) => {
          document.querySelector("main").outerHTML = markup;
          window.sent = 0;
          document.querySelector("main form").addEventListener("submit", (event) => {
            event.preventDefault();
            window.sent += 1;
          });
          (await import(script)).easeEntry(document);
        }""",
        [script_of(page), markup],
    )
    yield page
    assert page.problems == []
    context.close()


def script_of(page: Any) -> str:
    address = page.locator("script[type=module]").get_attribute("src")
    return re.sub("portal.js", "values.js", address)


def focused(page: Any) -> str:
    return page.evaluate("document.activeElement.name")


def test_enter_goes_on_and_back_and_never_signs(page: Any) -> None:
    page.locator("#form-kidney-sodium").focus()
    page.keyboard.type("140")
    page.keyboard.press("Enter")
    assert focused(page) == "potassium"
    page.keyboard.type("4,2")
    page.keyboard.press("Shift+Enter")
    assert focused(page) == "sodium"
    page.keyboard.type("141")
    assert page.locator("#form-kidney-sodium").input_value() == "141"
    page.locator("#form-genetics-prothrombin-g20210a").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("window.sent") == 0


def test_notes_keep_their_lines(page: Any) -> None:
    page.locator("#form-notes").focus()
    page.keyboard.type("one")
    page.keyboard.press("Enter")
    page.keyboard.type("two")
    assert page.locator("#form-notes").input_value() == "one\ntwo"
    assert page.evaluate("window.sent") == 0


@pytest.mark.parametrize(
    ("typed", "name"),
    [("pot", "potassium"), ("hba", "hba1c"), ("MAGNESIUM", "magnesium"), ("t4", "free-t4")],
)
def test_a_value_is_found_by_its_name(page: Any, typed: str, name: str) -> None:
    page.locator("#find-input").focus()
    page.keyboard.type(typed)
    page.keyboard.press("Enter")
    assert focused(page) == name
    assert page.locator("#find-input").input_value() == ""


def test_a_name_that_no_value_has_is_said(page: Any) -> None:
    page.locator("#find-input").fill("zyxomorph")
    page.locator("#find-input").press("Enter")
    assert page.locator("[data-find-nothing]").is_visible()
    assert page.evaluate("window.sent") == 0


@pytest.mark.parametrize(
    ("place", "typed", "words"),
    [
        ("kidney-potassium", "4,2", ""),
        ("kidney-potassium", "5.2", "↑ High"),
        ("kidney-potassium", "3,4", "↓ Low"),
        ("kidney-potassium", "6,6", "↑↑ Critically high"),
        ("kidney-potassium", "2.4", "↓↓ Critically low"),
        ("kidney-potassium", "42", "Check this value"),
        ("kidney-potassium", "<4", "Check this value"),
        ("blood-gases-base-excess", "-4.0", "↓ Low"),
        ("urine-urine-specific-gravity", "1.040", "↑ High"),
        ("vital-signs-blood-pressure__systolic", "190", "↑↑ Critically high"),
    ],
)
def test_a_mark_stands_beside_what_is_out_of_range(
    page: Any, place: str, typed: str, words: str
) -> None:
    page.locator(f"#form-{place}").fill(typed)
    assert page.locator(f"output[for='form-{place}']").text_content() == words


@pytest.mark.parametrize(
    ("name", "answer", "words"),
    [
        ("malaria-antigen", "positive", "!! Critical"),
        ("malaria-antigen", "indeterminate", "! Not as usual"),
        ("malaria-antigen", "negative", ""),
    ],
)
def test_answers_are_marked_too(page: Any, name: str, answer: str, words: str) -> None:
    page.locator(f"#form-infection-{name}").select_option(answer)
    assert page.locator(f"output[for='form-infection-{name}']").text_content() == words


def test_marks_say_what_the_server_will_say(page: Any) -> None:
    """Every limit of every value, at it and one step to either side, typed with a comma."""
    asked, told = [], []
    for group in form_fields(RecordKind.CLINICAL, catalogues.load()):
        for field in group.fields:
            definition = field.definition
            if field.options:
                continue
            step = 10**-definition.decimals
            limits = {*definition.plausible}
            for one in definition.ranges:
                if one.covers(Sex.FEMALE, AGE):
                    limits |= {one.low, one.high, one.critical_low, one.critical_high}
            for limit in sorted(limits - {None}):
                for value in (float(limit) - step, float(limit), float(limit) + step):
                    text = f"{value:.{definition.decimals}f}".replace(".", ",")
                    name = f"form-{group.group.key}-{field.key.replace('.', '__')}"
                    asked.append([name, text])
                    told.append(of_server(field, definition, text))
    found = page.evaluate(
        """async ([script, asked]) => {
          const { judge } = await import(script);
          return asked.map(([id, text]) => judge(text, document.getElementById(id).dataset));
        }""",
        [script_of(page), asked],
    )
    differing = [one for one in zip(asked, found, told, strict=True) if one[1] != one[2]]
    assert differing == [] and len(asked) > 1000


def of_server(field: Any, definition: Any, text: str) -> str | None:
    try:
        value = parse_field(field, text)
    except InvalidContent:
        return "implausible"
    found = interpret(definition, value, Sex.FEMALE, AGE)
    quiet = (Interpretation.NORMAL, Interpretation.UNKNOWN)
    return None if found in quiet else found.value


def test_the_form_is_accessible_and_fits(page: Any) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page.locator("#form-kidney-potassium").fill("6,6")
    page.locator("#form-kidney-sodium").fill("150")
    for width in (1280, 360):
        page.set_viewport_size({"width": width, "height": 800})
        results = Axe().run(page)
        assert results.violations_count == 0, results.generate_report()
        wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(wider) <= 0


def test_categories_are_offered_in_words(page: Any) -> None:
    offered = page.locator("#form-category option").all_text_contents()
    assert len(offered) == 1 + len(Category) - 3
    assert "Mental health" in offered
