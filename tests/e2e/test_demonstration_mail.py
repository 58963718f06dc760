"""The demonstration's mails: sent by its jobs through its post office, read on its page."""

import json
import time

import pytest
from axe_playwright_python.sync_playwright import Axe
from e2e_running import ROOT
from e2e_wire import TENANTS, client
from sqlalchemy.orm import Session

from medportal.core.clock import utcnow
from medportal.core.ids import new_id
from medportal.mail.compose import compose
from medportal.mail.kinds import WITH_TOKEN, Letter, MailKind
from medportal.mail.outbox import post
from medportal.tenancy.engines import make_engine
from medportal.tenancy.loader import load_tenants

SECONDS = 60
#: Landmarks are for the page of the mail program, in which a mail stands.
LANDMARKS = {name: {"enabled": False} for name in ("landmark-one-main", "region")}
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def tenant(demonstration):
    """Give the hospital as the demonstration has it."""
    variables = {
        "state": str(demonstration.state),
        "hospital_port": str(demonstration.ports[0]),
        "exchange_port": str(demonstration.ports[2]),
        "mail_port": str(demonstration.ports[3]),
    }
    return load_tenants(ROOT / "tenants", ["hospital"], variables)["hospital"]


def put_into_the_outbox(demonstration, tenant, to):
    engine = make_engine(f"sqlite:///{demonstration.state / tenant / 'portal.sqlite'}")
    with Session(engine) as session, session.begin():
        post(session, MailKind.PASSWORD_CHANGED, to=to, language="pt", now=utcnow())
    engine.dispose()


@pytest.mark.parametrize("tenant", TENANTS)
def test_a_mail_is_sent_and_read(demonstration, tenant):
    to = f"josefa-{tenant}@mail.example"
    put_into_the_outbox(demonstration, tenant, to)
    browser = client(demonstration, tenant)
    deadline = time.monotonic() + SECONDS
    while to not in (page := browser.ask("GET", "/demonstration/mail").check()).text:
        assert time.monotonic() < deadline, demonstration.log.read_text()[-3000:]
        time.sleep(0.2)
    assert page.status == 200
    status = demonstration.command("--json", "mail", "status", tenant)
    assert status.returncode == 0
    (row,) = [json.loads(line) for line in status.stdout.splitlines()]
    assert row["sent"] >= 1
    assert row["failed"] == 0
    assert row["problem"] == ""


@pytest.mark.parametrize(("language", "width"), [("en", 1280), ("pt", 320)], ids=str)
def test_the_pages_are_accessible_and_fit(demonstration, new_page, shots, language, width):
    put_into_the_outbox(demonstration, "hospital", "josefa-in-a-browser@mail.example")
    page = new_page(width=width, locale=language)
    page.goto(demonstration.url("hospital") + "/demonstration/mail")
    while not page.locator(".mails a").count():
        page.reload()
    for name in ("list", "mail"):
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate(WIDER) <= 0
        page.screenshot(path=shots / f"mail-{name}-{language}-{width}.png", full_page=True)
        page.locator(".mails a").first.click() if name == "list" else None


@pytest.mark.parametrize("kind", [MailKind.ACTIVATION, MailKind.SECOND_FACTOR_REMOVED], ids=str)
@pytest.mark.parametrize("language", ["en", "pt"])
def test_the_html_part_of_a_mail_is_accessible_and_fits_a_phone(
    chromium, tenant, shots, kind, language
):
    """As a mail program shows it: without scripts, and without a network."""
    letter = Letter(new_id(), kind, "josefa@mail.example", language, {}, utcnow())
    message = compose(letter, tenant, "t" * 43 if kind in WITH_TOKEN else None, utcnow())
    context = chromium.new_context(viewport={"width": 320, "height": 700}, offline=True)
    page = context.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    try:
        page.set_content(message.get_body(("html",)).get_content())
        found = Axe().run(page, options={"rules": LANDMARKS})
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate(WIDER) <= 0
        assert asked == []
        page.screenshot(path=shots / f"mail-{kind}-{language}.png", full_page=True)
    finally:
        context.close()


def test_the_report_says_where_mails_are_read_and_logs_say_no_address(demonstration):
    log = demonstration.log.read_text()
    for tenant in TENANTS:
        assert f"mails that it sends: {demonstration.url(tenant)}/demonstration/mail" in log
    assert '"mail sent"' in log
    assert "@" not in "".join(line for line in log.splitlines() if '"mail' in line)


def test_the_status_of_mail_as_a_table(demonstration):
    said = demonstration.command("mail", "status", "hospital")
    assert said.returncode == 0
    for column in ("waiting", "sending", "sent", "failed", "oldest", "problem"):
        assert column in said.stdout
    unknown = demonstration.command("mail", "status", "elsewhere")
    assert unknown.returncode == 2
    assert "no tenant of that name" in unknown.stderr
