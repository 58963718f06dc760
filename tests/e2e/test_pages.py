"""Every page of the demonstration in a real browser: axe finds nothing, nothing runs over."""

import os
import secrets
import time

import pytest
from axe_playwright_python.sync_playwright import Axe
from e2e_helpers import fresh_number, register, sign_in
from playwright.sync_api import expect

WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
# tenant, role, pages; "patient", "record" and "person" stand for the first link of a list,
# "+" for a page below the present one and "-" for one beside it, "~" for one below a record.
MADE_HERE = ("/patients", "patient", "+?origin=hospital", "record")
VISITS = (
    ("hospital", None, ("/sign-in", "/activate", "/help", "/privacy", "/accessibility")),
    ("hospital", None, ("/reset", "/reset/finish?link=gone", "/demonstration/mail")),
    ("hospital", "patient", ("/", "record", "/account", "/account/password", "/no/such/page")),
    ("hospital", "patient", ("/account/email", "/account/second-factor", "/account/sessions")),
    ("hospital", "patient", ("/account/second-factor/app", "/account/language")),
    ("hospital", "patient", ("/account/confirm",)),
    ("hospital", "patient", ("/", "+/rules", "-/rules/new", "-/access-log")),
    ("hospital", "doctor", ("/patients", "patient", "record", "new")),
    ("hospital", "doctor", ("/patients/find", "/patients", "patient", "+/support", "-/glass")),
    ("hospital", "patient", ("/", "+/trends", "trend", "+/records/export", "/", "search")),
    ("hospital", "doctor", ("/results", "/patients", "patient", "search")),
    ("hospital", "doctor", ("/patients", "patient", "+/trends", "trend", "+/records/export")),
    (
        "hospital",
        "doctor",
        ("/patients", "patient", "+?category=laboratory", *MADE_HERE, "~/amend"),
    ),
    ("hospital", "doctor", (*MADE_HERE, "~/retract", "~/move", "~/versions", "~/versions/1")),
    ("hospital", "doctor", (*MADE_HERE, "~/file")),
    ("hospital", "ward_clerk", ("/held",)),
    ("hospital", "ward_clerk", ("/patients/register", "/patients/find", "/patients", "patient")),
    ("hospital", "ward_clerk", ("/patients", "patient", "+/code", "-/care")),
    ("hospital", "ward_clerk", ("/wards", "/patients", "patient", "+/admission", "-/support")),
    ("hospital", "ward_clerk", ("/patients", "patient", "+/details", "-/representatives")),
    ("hospital", "porter", ("/patients", "patient")),
    ("hospital", "clinical_assistant", ("/patients", "patient")),
    ("hospital", "privacy_officer", ("/audit", "/approvals", "/audit/find", "/audit/export")),
    ("hospital", "privacy_officer", ("/erasures",)),
    ("hospital", "privacy_officer", ("/oversight/reviews", "/oversight/complaints")),
    ("hospital", "auditor", ("/audit", "/audit/proofs")),
    ("hospital", "admin", ("/deliveries", "/people/register", "/people/find", "/approvals")),
    ("hospital", "admin", ("/people", "person", "+/roles/add", "-/suspend", "-/email")),
    (
        "hospital",
        "admin",
        ("/settings", "/settings/edit", "/settings/edit?part=colours", "/certificates"),
    ),
    ("hospital", "admin", ("/partners", "/partners/laboratory", "/partners/laboratory/hold")),
    ("laboratory", "admin", ("/partners", "/partners/hospital", "/partners/hospital/hold")),
    ("laboratory", "responsible", ("/patients", "patient", "new", "/deliveries")),
)


def go(page, url, where):
    """Go to an address, or where a person would click next."""
    if where.startswith("/"):
        page.goto(url + where)
    elif where[0] in "+-":
        # From /people/ID to /people/ID/suspend, from there to /people/ID/email.
        base = "/".join(page.url.split("/")[:5])
        page.goto(base + where[1:])
    elif where[0] == "~":
        page.goto("/".join(page.url.split("/")[:7]) + where[1:])
    elif where == "trend":
        page.locator("ul.trends a").first.click()
    elif where == "search":
        page.locator("#search summary").click()
        page.locator("#words").fill("a")
        page.locator("#search button[type=submit]").click()
    elif where == "person":
        page.locator("main table a").first.click()
    elif where == "new":
        if "/records/" in page.url:
            page.locator(".back").click()
        page.get_by_role("link", name=NEW[page.locator("html").get_attribute("lang")]).click()
    else:
        page.locator("ul.cards a").first.click()
    page.wait_for_load_state()


NEW = {"en": "New record", "pt": "Novo registo"}
#: Texts that are broken after every few letters: many lines, in hardly any width.
SQUEEZED = """
Array.from(document.querySelectorAll("main *")).filter(it => {
  const words = Array.from(it.childNodes).filter(n => n.nodeType === Node.TEXT_NODE)
    .map(n => n.data.trim()).join("");
  if (words.length < 8) return false;
  const box = it.getBoundingClientRect(), letter = parseFloat(getComputedStyle(it).fontSize);
  return box.width > 2 && box.width < 3 * letter && box.height > 4 * letter;
}).map(it => it.textContent.trim().slice(0, 40))
"""
NARROWEST = 320
#: Seconds; some pages ask again who it is ten minutes after somebody signed in.
STILL_FRESH = 240


@pytest.fixture(scope="module")
def profiles(demonstration, chromium):
    """Return a giver of browser profiles: who signed in, in a language, a short while ago.

    Signing in is what other tests are about, and takes longer than a page.
    """
    made = {}

    def profile(tenant, role, language):
        known = made.get((tenant, role, language))
        if known is not None and time.monotonic() < known[1]:
            return known[0]
        context = chromium.new_context(locale="en-GB")
        made[tenant, role, language] = context, time.monotonic() + STILL_FRESH
        contexts.append(context)
        url, page = demonstration.url(tenant), context.new_page()
        if role:
            sign_in(page, url, demonstration.account(tenant, role))
        if language == "pt":
            page.goto(url + "/help")
            page.locator("button[name=language][value=pt]").click()
            page.wait_for_load_state()
        page.close()
        return context

    contexts = []
    yield profile
    for context in contexts:
        context.close()


@pytest.mark.parametrize(("language", "width"), [("en", 1280), ("pt", 390)], ids=str)
@pytest.mark.parametrize(("tenant", "role", "pages"), VISITS, ids=lambda v: str(v)[:20])
def test_a_page_is_accessible_and_fits(
    demonstration, new_page, profiles, shots, tenant, role, pages, language, width
):
    """Axe looks at each page at a desk and on a phone; on the narrowest phone it fits too."""
    page = new_page(width, context=profiles(tenant, role, language))
    url = demonstration.url(tenant)
    for number, where in enumerate(pages):
        go(page, url, where)
        found = Axe().run(page)
        assert found.violations_count == 0, (page.url, found.generate_report())
        assert page.evaluate(WIDER) <= 0, f"{where} runs over at {width}"
        assert page.evaluate(SQUEEZED) == [], f"{where} has columns too narrow to read"
        if "MEDPORTAL_SHOTS" in os.environ:
            name = f"page-{tenant}-{role or 'anybody'}-{number}-{language}-{width}.png"
            page.screenshot(path=shots / name, full_page=True)
        # No script of ours asks for the width, so that a page that is narrowed is a narrow page.
        page.set_viewport_size({"width": NARROWEST, "height": page.viewport_size["height"]})
        assert page.evaluate(WIDER) <= 0, f"{where} runs over at {NARROWEST}"
        page.set_viewport_size({"width": width, "height": page.viewport_size["height"]})


def test_a_form_with_nothing_filled_in_says_so_accessibly(demonstration, new_page):
    page = new_page(width=390)
    url = demonstration.url("hospital")
    sign_in(page, url, demonstration.account("hospital", "ward_clerk"))
    page.goto(url + "/patients/register")
    page.locator("form#form button[type=submit]").click()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_what_somebody_changed_meanwhile_is_shown_accessibly(demonstration, new_page, shots):
    """A second save of one form's version: what the record says now stands above the form."""
    page = new_page(width=390)
    url = demonstration.url("hospital")
    sign_in(page, url, demonstration.account("hospital", "doctor"))
    for where in (*MADE_HERE, "~/amend"):
        go(page, url, where)
    other = page.context.new_page()
    other.goto(page.url)
    for each, words in ((other, "Measured again"), (page, "Measured a third time")):
        each.locator("[name=notes]").fill(f"{words}, {secrets.token_hex(4)}")
        each.locator("input[name=status]").first.check()
        each.locator("[name=change_reason]").fill(words)
        each.locator("#form button[type=submit]").click()
        each.wait_for_load_state()
    expect(page.locator("#now")).to_be_visible()
    for where in ("", "~", "~/versions"):
        if where:
            go(page, url, where)
        found = Axe().run(page)
        assert found.violations_count == 0, (page.url, found.generate_report())
        assert page.evaluate(WIDER) <= 0, f"{page.url} runs over"
        page.screenshot(path=shots / f"changed-meanwhile-{where[2:]}.png", full_page=True)


def at_erasure(demonstration, page, number):
    """Open the page on which the erasure of somebody's records is asked for."""
    url = demonstration.url("hospital")
    page.goto(url + "/erasures")
    page.locator("[name=number]").fill(number)
    page.locator("#form button[type=submit]").click()
    page.wait_for_url("**/erasure")


def test_an_erasure_is_asked_for_accessibly(demonstration, new_page, shots):
    url = demonstration.url("hospital")
    desk, newcomer = new_page(), fresh_number()
    sign_in(desk, url, demonstration.account("hospital", "ward_clerk"))
    register(desk, url, newcomer, "Vera Salgado", shots, "erasure")
    page = new_page()
    sign_in(page, url, demonstration.account("hospital", "privacy_officer"))
    at_erasure(demonstration, page, newcomer)
    looked_at(page, 1280, shots / "erasure-ask.png")
    page.locator("[name=reason]").first.check()
    for name in ("on_paper", "checked"):
        page.locator(f"[name={name}]").check()
    page.locator("#form button[type=submit]").click()
    expect(page.locator("main .tag").first).to_be_visible()
    looked_at(page, 1280, shots / "erasure-asked.png")


def test_that_records_have_to_be_kept_is_said_accessibly(demonstration, new_page, shots):
    page = new_page(width=390)
    url = demonstration.url("hospital")
    sign_in(page, url, demonstration.account("hospital", "privacy_officer"))
    page.goto(url + "/help")
    page.locator("button[name=language][value=pt]").click()
    kept = demonstration.account("hospital", "patient")["citizen_number"]
    at_erasure(demonstration, page, kept)
    assert page.locator("[name=reason]").count() == 0
    looked_at(page, 390, shots / "erasure-kept.png")


def looked_at(page, width, shot):
    """Let axe look at a page, and see that it fits."""
    found = Axe().run(page)
    assert found.violations_count == 0, (page.url, found.generate_report())
    assert page.evaluate(WIDER) <= 0, f"{page.url} runs over at {width}"
    page.screenshot(path=shot, full_page=True)


def test_the_first_visit_and_the_next_are_small(demonstration, new_page):
    """Under 100 KB transferred for a page after the first visit: static files are kept."""
    page = new_page()
    url = demonstration.url("hospital")
    sign_in(page, url, demonstration.account("hospital", "doctor"))
    page.goto(url + "/patients")
    sizes = []
    page.on("response", lambda answer: sizes.append(answer.request.sizes()["responseBodySize"]))
    page.goto(url + "/account")
    page.wait_for_load_state("networkidle")
    assert sum(sizes) < 100_000


def test_without_scripts_the_essential_works(demonstration, chromium):
    """Sign in, read, sign out: no JavaScript."""
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    url = demonstration.url("hospital")
    try:
        sign_in(page, url, demonstration.account("hospital", "patient"))
        page.locator("ul.cards a").first.click()
        assert "The signature is right." in page.locator("main").inner_text()
        page.get_by_role("button", name="Sign out").click()
        assert "/sign-in" in page.url
    finally:
        context.close()
