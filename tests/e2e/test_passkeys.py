"""Passkeys in Chromium, with its virtual authenticator, in English and Portuguese.

Buttons are found by what they do, so that one test serves both languages; the words are
compared with those that the page brings in its own language.
"""

import json
from contextlib import contextmanager

import pytest
from playwright.sync_api import expect

ADD = "form[data-passkey=create]"
USE = "form[data-passkey=get]"


@contextmanager
def authenticator(page):
    """Give the page an authenticator that knows its user; yield a switch for that."""
    client = page.context.new_cdp_session(page)
    client.send("WebAuthn.enable", {"enableUI": False})
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    made = client.send("WebAuthn.addVirtualAuthenticator", {"options": options})

    def recognise(verified):
        client.send("WebAuthn.setUserVerified", {**made, "isUserVerified": verified})

    yield recognise
    client.detach()


def open_in(page, url, path, language):
    """Open a page in a language, as somebody does who chose it at the foot."""
    page.goto(f"{url}{path}")
    choice = page.locator(f".foot__languages button[value={language}]")
    if choice.count():
        choice.click()
    expect(page.locator("html")).to_have_attribute("lang", language)


def sign_in(page, account):
    page.locator("input[name=number]").fill(account["citizen_number"])
    page.locator("input[name=password]").fill(account["password"])
    page.locator("form#form button[type=submit]").click()


def sign_out(page):
    page.locator(".top__leave").click()
    expect(page.locator("input[name=password]")).to_be_visible()


def says(page, form, words):
    """Expect that the page says what it brought for this case, in its own language."""
    template = page.locator(f'{form} template[data-words="{words}"]')
    expected = template.evaluate("element => element.content.textContent.trim()")
    assert expected
    expect(page.locator(f"{form} [data-passkey-said] .notice")).to_have_text(expected)


@pytest.mark.parametrize(
    ("tenant", "role", "language"),
    [("hospital", "clinical_assistant", "en"), ("laboratory", "auditor", "pt")],
)
def test_a_life_with_a_passkey(demonstration, new_page, shots, tenant, role, language):
    url = demonstration.url(tenant)
    account = demonstration.account(tenant, role)
    page = new_page(width=390 if language == "pt" else 1280)
    with authenticator(page) as recognise:
        open_in(page, url, "/sign-in", language)
        expect(page.locator(f"{USE} button")).to_be_visible()
        page.screenshot(path=shots / f"passkeys-{language}-1-sign-in.png", full_page=True)

        # Nothing of this institution is on the device yet.
        page.locator(f"{USE} button").click()
        says(page, USE, "cancelled")
        sign_in(page, account)
        expect(page.locator(".top__leave")).to_be_visible()

        # Somebody else holds the device: nothing is added.
        open_in(page, url, "/account/second-factor", language)
        recognise(False)
        page.locator("#passkey-name").fill("Blue <b>phone</b>")
        page.locator(f"{ADD} button").click()
        says(page, ADD, "cancelled")
        page.screenshot(path=shots / f"passkeys-{language}-2-cancelled.png", full_page=True)
        recognise(True)

        # Added: the recovery codes are shown, then the list.
        page.locator(f"{ADD} button").click()
        expect(page.locator(".recovery-codes li")).to_have_count(10)
        page.locator("main a.btn-primary").click()
        expect(page.locator(".passkeys h3")).to_have_text("Blue <b>phone</b>")
        page.screenshot(path=shots / f"passkeys-{language}-3-list.png", full_page=True)

        # The same device has one already, and says so.
        page.locator(f"{ADD} button").click()
        says(page, ADD, "known")

        # Another name.
        page.locator(".passkeys .actions a").first.click()
        page.locator("input[name=name]").fill("Grey phone")
        page.locator("form#form button[type=submit]").click()
        expect(page.locator(".passkeys h3")).to_have_text("Grey phone")

        # Signed in with it alone, to the page that was wanted.
        sign_out(page)
        page.goto(f"{url}/account/second-factor")
        page.locator(f"{USE} button").click()
        page.wait_for_url(f"{url}/account/second-factor")
        expect(page.locator(".passkeys h3")).to_have_text("Grey phone")

        # As the second step after the password; first not recognised, then recognised.
        sign_out(page)
        page.goto(f"{url}/sign-in")
        sign_in(page, account)
        page.wait_for_url(lambda address: "/sign-in/second" in address)
        recognise(False)
        page.locator(f"{USE} button").click()
        says(page, USE, "cancelled")
        page.screenshot(path=shots / f"passkeys-{language}-4-second.png", full_page=True)
        recognise(True)
        page.locator(f"{USE} button").click()
        expect(page.locator(".top__leave")).to_be_visible()

        # To show that it is you.
        page.goto(f"{url}/account/confirm?next=/account/second-factor")
        page.locator(f"{USE} button").click()
        page.wait_for_url(f"{url}/account/second-factor")

        # Removed, with the password; from then on it lets nobody in.
        page.locator(".passkeys .actions a").last.click()
        page.screenshot(path=shots / f"passkeys-{language}-5-remove.png", full_page=True)
        page.locator("input[name=password]").fill(account["password"])
        page.locator("form#form button[type=submit]").click()
        page.wait_for_url(f"{url}/account/second-factor")
        expect(page.locator(".passkeys")).to_have_count(0)
        sign_out(page)
        page.goto(f"{url}/sign-in")
        page.locator(f"{USE} button").click()
        expect(page.locator("main > .notice")).to_be_visible()
        expect(page.locator(f"{USE} button")).to_be_visible()
        sign_in(page, account)
        expect(page.locator(".top__leave")).to_be_visible()


def test_without_passkeys_nothing_is_offered(demonstration, new_page):
    page = new_page()
    page.add_init_script("delete window.PublicKeyCredential")
    page.goto(f"{demonstration.url('hospital')}/sign-in")
    expect(page.locator("form#form button[type=submit]")).to_be_visible()
    expect(page.locator(USE)).to_be_hidden()


def test_a_connection_that_fails_is_said(demonstration, new_page):
    page = new_page()
    page.goto(f"{demonstration.url('hospital')}/sign-in")
    page.route("**/sign-in/passkey/options", lambda route: route.abort())
    page.locator(f"{USE} button").click()
    says(page, USE, "failed")
    page.unroute("**/sign-in/passkey/options")
    with authenticator(page):
        page.locator(f"{USE} button").click()
        says(page, USE, "cancelled")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        # The time that the browser had is over when it gives up.
        ({"timeout": 1}, "timeout"),
        # An institution moved, or somebody shows our page under another name.
        ({"rpId": "evil.example"}, "site"),
    ],
)
def test_why_the_browser_gave_up_is_said(demonstration, new_page, changes, words):
    page = new_page()
    page.add_init_script(
        f"""
        const ask = navigator.credentials.get.bind(navigator.credentials);
        navigator.credentials.get = (options) => {{
          Object.assign(options.publicKey, {json.dumps(changes)});
          return ask(options);
        }};
        """
    )
    page.goto(f"{demonstration.url('hospital')}/sign-in")
    with authenticator(page) as recognise:
        recognise(False)
        page.locator(f"{USE} button").click()
        says(page, USE, words)


def test_what_the_portal_refuses_is_said_in_its_words(demonstration, new_page):
    page = new_page()
    page.goto(f"{demonstration.url('hospital')}/sign-in")
    said = {"text": "Too many tries. Please wait 7 seconds and try again."}
    page.route("**/sign-in/passkey/options", lambda route: route.fulfill(status=429, json=said))
    page.locator(f"{USE} button").click()
    expect(page.locator(f"{USE} [data-passkey-said] .notice")).to_have_text(said["text"])
