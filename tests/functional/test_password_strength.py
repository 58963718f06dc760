"""What a script adds to password fields, in a real browser: strength while typing, and a look."""

import re
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from medportal.identity.blocklist import LOOKALIKES, common, fold
from medportal.identity.guessing import bits, bits_wanted

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "medportal" / "web" / "static" / "strength.js"
INSTITUTION = "Riverside Hospital Hospital da Ribeira"
GOOD = "quiet rivers carry small boats"
WEAK = "Password123456!!"

PASSWORDS = [
    *(GOOD, WEAK, "o gato dorme na varanda", "ação é reação, não é?", "kX9#vL2pQz!m4Rt7"),
    *(
        "qwertyuiopasdfghjk",
        "aaaaabbbbbccccc",
        "palavra-passe palavra-passe",
        "Hospital da Ribeira",
    ),
    *("123456789012345", "iloveyouiloveyou", "p a s s w o r d", "P4$$w0rdP4$$w0rd", "drowssap"),
    *(
        "1qaz2wsx3edc4rfv",
        "zyxwvutsrqponm987",
        "correct horse battery staple",
        "Benfica1904Benfica",
    ),
    *(
        "Passwоrd12345678",
        "deus é fiel 2024",
        "Maria1980Maria1980",
        "AdminAdminAdmin1",
        "x1y2z" * 30,
    ),
    *(
        "the cat is in the house",
        "mesa gato sol mar",
        "janelas verdes 1987",
        "sopa",
        "",
        " ",
        "é" * 256,
    ),
    *(
        "Straße ſtraße",
        "İstanbul İzmir",
        "🐘🐘elefante",
        "\ufdfa" * 90,
        "가나다라마바사",
        "\u200bpass\u00adword",
    ),
    *("e\u0301" * 8, "RIVERSIDE hospital RIVERSIDE", "cAmElCaSe wOrDs", "4@" * 120, "q1w2e3" * 40),
    *("2024-2023-1999", "qazwsxedcrfvtgb", "пароль слово дерево", "ﬁne ﬂowers", "ABCABCABC"),
]

pytestmark = [
    pytest.mark.browser,
    # What runs in the browser is the same whatever the database.
    pytest.mark.parametrize("portal", ["sqlite"], indirect=True, scope="module"),
]


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


@pytest.fixture(scope="module")
def address(portal: Any) -> Iterator[str]:
    """Serve the portal on this machine."""
    from waitress.server import create_server

    server = create_server(portal.app, host="127.0.0.1", port=0, threads=4)
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    yield f"http://hospital.localhost:{server.effective_port}"
    server.close()


@pytest.fixture
def visit(chromium: Any, address: str) -> Any:
    """Give a function that opens the page on which somebody chooses a password."""
    contexts = []

    def opened(path: str = "/activate", **kw: Any) -> Any:
        context = chromium.new_context(locale="en", base_url=address, **kw)
        contexts.append(context)
        page = context.new_page()
        page.problems = []
        page.on("console", lambda message: page.problems.append(message.text))
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.goto(path)
        return page

    yield opened
    for context in contexts:
        context.close()


def asked(page: Any, call: str, *given: Any) -> Any:
    """Return what a function of the script answers."""
    portal = page.locator("script[type=module]").get_attribute("src")
    return page.evaluate(
        f"async ([address, given]) => {{ const m = await import(address); return {call}; }}",
        [re.sub("portal.js", "strength.js", portal), list(given)],
    )


def test_the_script_never_finds_less_than_the_server(visit: Any) -> None:
    """So that nobody is told here that a password is weak which would be taken there."""
    page = visit()
    found = asked(
        page, "given[0].map((password) => m.bits(password, given[1]))", PASSWORDS, INSTITUTION
    )
    for password, here in zip(PASSWORDS, found, strict=True):
        there = bits(password, ["Riverside Hospital", "Hospital da Ribeira"])
        assert here >= there - 1e-9, password
    differ = [
        password
        for password, here in zip(PASSWORDS, found, strict=True)
        if (here >= 30) != (bits(password, INSTITUTION.split()) >= 30)
    ]
    # What only the long lists know. Everything else is judged alike.
    assert set(differ) == {
        "correct horse battery staple",
        "Benfica1904Benfica",
        "qazwsxedcrfvtgb",
        "🐘🐘elefante",
    }


def test_the_short_list_is_the_beginning_of_the_long_one(visit: Any) -> None:
    listed = asked(visit(), "m.COMMON")
    assert len(listed) > 50
    cost = float(re.search(r"COMMON_BITS = ([0-9.]+)", SCRIPT.read_text("utf-8"))[1])
    for word in listed:
        assert common()[fold(word).translate(LOOKALIKES)] <= cost, word


@pytest.mark.parametrize(
    ("password", "level"),
    [("", 0), ("short", 1), ("e\u0301" * 8, 1), (WEAK, 2), ("horse lamp river", 3), (GOOD, 4)],
)
def test_levels(visit: Any, password: str, level: int) -> None:
    wanted = {"minimum": 15, "bits": bits_wanted(15), "words": INSTITUTION}
    assert asked(visit(), "m.level(given[0], given[1])", password, wanted) == level


def test_the_words_follow_what_is_typed_and_are_said_once(visit: Any) -> None:
    from playwright.sync_api import expect

    page = visit()
    field = page.get_by_label("New password", exact=True)
    says = page.locator(".strength [role=status]")
    expect(says).to_have_text("")
    page.evaluate(
        "() => { window.said = []; new MutationObserver(() =>"
        " window.said.push(document.querySelector('.strength [role=status]').textContent))"
        ".observe(document.querySelector('.strength [role=status]'), {childList: true}); }"
    )
    wanted = {"short": "Too short", WEAK: "Easily guessed", GOOD: "very good"}
    for typed, said in wanted.items():
        field.fill("")
        field.press_sequentially(typed, delay=10)
        expect(says).to_contain_text(said)
    assert page.evaluate("document.querySelector('.strength meter').value") == 4
    # A sentence for each pause, and none for the sixty keys between.
    assert len(page.evaluate("window.said")) <= 2 * len(wanted)
    assert page.problems == []


def test_a_password_may_be_pasted_and_shown(visit: Any) -> None:
    from playwright.sync_api import expect

    page = visit()
    field = page.get_by_label("New password", exact=True)
    field.focus()
    page.keyboard.insert_text(GOOD)
    expect(field).to_have_value(GOOD)
    expect(page.locator(".strength [role=status]")).to_contain_text("very good")
    shown = page.locator(".password", has=field).get_by_role("button")
    expect(shown).to_have_accessible_name("Show password")
    shown.click()
    expect(field).to_have_attribute("type", "text")
    expect(shown).to_have_accessible_name("Hide password")
    expect(field).to_have_value(GOOD)
    again = page.get_by_label("New password, once more", exact=True)
    expect(again).to_have_attribute("type", "password")
    shown.click()
    expect(field).to_have_attribute("type", "password")


def test_a_shown_password_is_sent_as_a_password_and_comes_back_empty(visit: Any) -> None:
    from playwright.sync_api import expect

    page = visit()
    field = page.get_by_label("New password", exact=True)
    field.fill("nine oars")
    page.locator(".password", has=field).get_by_role("button").click()
    page.evaluate(
        "document.querySelector('form#form').addEventListener('submit',"
        " () => sessionStorage.setItem('type', document.getElementById('form-new').type))"
    )
    page.locator("form#form button[type=submit]").click()
    page.wait_for_load_state()
    assert page.evaluate("sessionStorage.getItem('type')") == "password"
    expect(page.get_by_label("New password", exact=True)).to_have_value("")


def test_the_page_stays_accessible(visit: Any) -> None:
    from axe_playwright_python.sync_playwright import Axe

    for width in (1280, 320):
        page = visit(viewport={"width": width, "height": 900})
        field = page.get_by_label("New password", exact=True)
        for typed in ("short", WEAK, GOOD):
            field.fill(typed)
            page.wait_for_timeout(800)
            found = Axe().run(page)
            assert found.violations_count == 0, found.generate_report()
        wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(wider) == 0


def test_sign_in_has_the_button_and_no_strength(visit: Any) -> None:
    page = visit(path="/sign-in")
    assert page.get_by_role("button", name="Show password").count() == 1
    assert page.locator(".strength").count() == 0


def test_without_scripts_there_is_just_the_field(visit: Any) -> None:
    page = visit(java_script_enabled=False)
    assert page.get_by_label("New password", exact=True).is_visible()
    assert page.get_by_role("button", name="Show password").count() == 0
    assert not page.locator("meter").is_visible()


def test_nothing_typed_leaves_the_page(visit: Any) -> None:
    page = visit()
    page.wait_for_load_state("networkidle")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    page.get_by_label("New password", exact=True).press_sequentially(GOOD)
    page.wait_for_timeout(900)
    assert sent == []
