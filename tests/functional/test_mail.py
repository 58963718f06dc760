"""Jobs drain the outbox through a real server, and the demonstration shows what came."""

import ssl
import threading
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from functional_helpers import page_text
from mail_servers import BadServer, Running
from sqlalchemy import func, select
from webtest import TestApp

from medportal.audit.models import AuditEvent
from medportal.config import make_app
from medportal.core.clock import utcnow
from medportal.demo.mail_store import mail_home, store_of
from medportal.demo.post_office import PostOffice, make_server, prepare_post_office
from medportal.identity.links import send_link
from medportal.identity.models import Person
from medportal.identity.notices import notify
from medportal.identity.people import Profile, register_person
from medportal.jobs import Jobs
from medportal.mail.kinds import PATHS, MailKind
from medportal.mail.models import MailState, OutgoingMail
from medportal.mail.outbox import queue

ADDRESS = "josefa@mail.example"


@pytest.fixture(scope="module")
def post_office(portal):
    """Run the demonstration's post office on a free port."""
    prepare_post_office(portal.settings, utcnow())
    home = mail_home(portal.settings)
    stores = {name: store_of(portal.settings, name) for name in portal.settings.tenants}
    office = PostOffice(stores, (home / "password").read_bytes().strip(), utcnow)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    passphrase = (home / "passphrase").read_bytes().strip()
    context.load_cert_chain(home / "certificate.pem", home / "key.pem", passphrase)
    with Running(lambda: make_server(office, context)) as server:
        yield server


def jobs_of(portal, tenant, port):
    """Return the jobs of an institution whose mails go to a port."""
    file = portal.settings.tenant(tenant)
    file = replace(file, mail=replace(file.mail, server=f"127.0.0.1:{port}"))
    return Jobs(portal.settings, file, portal.registry.database(tenant))


def drain(portal, tenant, port):
    jobs = jobs_of(portal, tenant, port)
    while jobs.turn(utcnow()):
        pass


@pytest.fixture
def newcomer(portal):
    """Register somebody with an email address; return the person's id."""
    numbers = iter(range(10_000_000, 99_999_999))

    def register(tenant="hospital", language="en", role="porter", email=ADDRESS):
        with portal.session(tenant) as session, session.begin():
            taken = session.scalar(select(func.count()).select_from(Person)) or 0
            for _skip in range(taken):
                next(numbers)
            profile = Profile(
                "Josefa Lima", date(1944, 3, 9), "female", email=email, language=language
            )
            return register_person(
                session,
                scheme="citizen-card",
                number=str(next(numbers)),
                profile=profile,
                role=role,
                by=None,
                now=utcnow(),
            ).person_id

    return register


def test_an_activation_mail_is_read_on_the_page_and_its_link_works(portal, post_office, newcomer):
    person_id = newcomer()
    with portal.session("hospital") as session, session.begin():
        assert send_link(session, person_id, utcnow())
    drain(portal, "hospital", post_office.port)
    listing = portal.browser().get("/demonstration/mail")
    assert ADDRESS in listing.text
    page = listing.click("Activate your account", index=0)
    assert "Riverside Hospital" in page_text(page)
    (link,) = page.html.select(".mail-text a")
    address = portal.settings.tenant("hospital").address
    assert link["href"].startswith(f"{address}{PATHS[MailKind.ACTIVATION]}?link=")
    assert link.text == link["href"]
    opened = portal.browser().get(link["href"].removeprefix(address))
    assert opened.status_int == 200
    with portal.session("hospital") as session:
        row = session.scalars(select(OutgoingMail).where(OutgoingMail.person_id == person_id)).one()
        assert (row.state, row.address, row.attempts) == (MailState.SENT, "", 1)


@pytest.mark.parametrize(("kind", "path"), sorted(PATHS.items()))
def test_the_links_of_mails_lead_to_pages(portal, kind, path):
    browser = portal.signed_in("porter")
    page = browser.get(f"{path}?link=nothing", expect_errors=True)
    assert page.status_int in {200, 303, 410}
    missing = browser.get(f"{path}-x?link=nothing", expect_errors=True)
    assert missing.status_int == 404


def test_each_institution_sends_and_shows_its_own(portal, post_office, newcomer):
    for tenant, language in (("hospital", "pt"), ("laboratory", "en")):
        person_id = newcomer(tenant, language, email=f"only-{tenant}@mail.example")
        with portal.session(tenant) as session, session.begin():
            notify(session, person_id, MailKind.PASSWORD_CHANGED, utcnow())
        drain(portal, tenant, post_office.port)
    hospital, laboratory = (
        portal.browser(tenant).get("/demonstration/mail") for tenant in ("hospital", "laboratory")
    )
    assert "only-hospital@" in hospital.text and "only-laboratory@" not in hospital.text
    assert "only-laboratory@" in laboratory.text and "only-hospital@" not in laboratory.text
    assert hospital.html.find("a", string="A sua palavra-passe foi alterada")["lang"] == "pt-PT"
    # The address of one institution's mail is nothing at the other's.
    path = hospital.html.select_one(".mails a")["href"]
    elsewhere = portal.signed_in("admin", "laboratory")
    assert elsewhere.get(path, expect_errors=True).status_int == 404


def test_two_jobs_processes_send_each_mail_once(portal, post_office, newcomer):
    tenant, people = "hospital", []
    for number in range(12):
        people.append(newcomer(tenant, email=f"once{number}@mail.example"))
    with portal.session(tenant) as session, session.begin():
        for person_id in people:
            notify(session, person_id, MailKind.ACCOUNT_REINSTATED, utcnow())
    threads = [
        threading.Thread(target=drain, args=(portal, tenant, post_office.port)) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [mail.to for mail in store_of(portal.settings, tenant).newest(50)]
    assert sorted(to for to in found if to.startswith("once")) == sorted(
        f"once{number}@mail.example" for number in range(12)
    )


def test_a_server_that_is_down_stops_no_other_job(portal, post_office, newcomer):
    """What cannot be sent stays, the log is signed all the same, and later all is sent."""
    with BadServer(lambda talk: None) as gone:
        port = gone.port
    person_id = newcomer(email="patient-one@mail.example")
    with portal.session("hospital") as session, session.begin():
        notify(session, person_id, MailKind.ACCOUNT_SUSPENDED, utcnow())
    portal.signed_in("auditor")
    jobs = jobs_of(portal, "hospital", port)
    while jobs.turn(utcnow()):
        pass
    with portal.session("hospital") as session:
        assert unsequenced(session) == 0
        found = queue(session)
    assert (found.waiting, found.problem) == (1, "cannot-connect")
    drain(portal, "hospital", post_office.port)
    with portal.session("hospital") as session:
        assert queue(session).waiting == 0
    sent = [mail.to for mail in store_of(portal.settings, "hospital").newest(50)]
    assert sent.count("patient-one@mail.example") == 1


def unsequenced(session):
    return session.scalar(
        select(func.count()).select_from(AuditEvent).where(AuditEvent.sequence.is_(None))
    )


def test_a_server_that_never_answers_does_not_keep_the_log_waiting(portal, newcomer):
    person_id = newcomer(email="slow@mail.example")
    with portal.session("hospital") as session, session.begin():
        notify(session, person_id, MailKind.ACCOUNT_SUSPENDED, utcnow())
    connected, stop = threading.Event(), threading.Event()

    def behave(talk):
        connected.set()
        talk.server.stopping.wait(60)

    with BadServer(behave) as server:
        running = threading.Thread(
            target=jobs_of(portal, "hospital", server.port).run, args=(stop,)
        )
        running.start()
        assert connected.wait(30)
        portal.signed_in("nurse")
        for _time in range(600):
            with portal.session("hospital") as session:
                if unsequenced(session) == 0:
                    break
            threading.Event().wait(0.05)
        else:
            pytest.fail("the log was not signed while a mail waited")
        stop.set()
    running.join(60)
    assert not running.is_alive()


def test_mails_are_forgotten_in_time(portal, post_office, newcomer):
    person_id = newcomer(email="old@mail.example")
    with portal.session("hospital") as session, session.begin():
        notify(session, person_id, MailKind.ROLES_CHANGED, utcnow(), added="nurse")
    drain(portal, "hospital", post_office.port)
    jobs_of(portal, "hospital", post_office.port).turn(utcnow() + timedelta(days=91))
    with portal.session("hospital") as session:
        assert queue(session).sent == 0


# The page


def test_the_page_says_what_it_is_and_is_empty_at_first(portal):
    page = portal.browser("laboratory").get("/demonstration/mail")
    assert "demonstration only" in page_text(page)
    assert page.headers["Cache-Control"].startswith("no-store")


def test_the_page_is_found_from_where_one_signs_in(portal):
    page = portal.browser("laboratory").get("/sign-in").click("Emails of the demonstration")
    assert page.request.path == "/demonstration/mail"


@pytest.mark.parametrize(
    "name", ["x", "..%2Fpassword", "0" * 18, f"{'0' * 18}-{'0' * 32}", "%00", "a" * 5000]
)
def test_a_mail_that_is_not_there(portal, name):
    answer = portal.signed_in("porter").get(f"/demonstration/mail/{name}", expect_errors=True)
    assert answer.status_int in {400, 404}


def test_a_mail_is_text_whatever_it_says(portal):
    """Somebody who can send to the post office cannot put a script into the portal."""
    data = (
        b"From: <script>alert(1)</script> <a@mail.example>\r\nSubject: <img src=x onerror=y>\r\n"
        b'Content-Language: "><script>\r\n\r\n<script>alert(2)</script>\r\n'
        b"https://elsewhere.example/ javascript:alert(3)\r\n"
        b"https://hospital.localhost:8443.evil.example/\r\n"
        b"https://hospital.localhost:8443/help\r\n"
    )
    name = store_of(portal.settings, "hospital").put(data, utcnow())
    for path in ("/demonstration/mail", f"/demonstration/mail/{name}"):
        page = portal.browser().get(path)
        assert "<script>alert" not in page.text
        assert not page.html.select("main img, main script")
    assert [a["href"] for a in page.html.select(".mail-text a")] == [
        "https://hospital.localhost:8443/help"
    ]


def test_an_institution_that_is_no_demonstration_has_no_such_page(portal, tmp_path):
    directory = tmp_path / "tenants"
    directory.mkdir()
    for name in portal.settings.tenants:
        text = (Path(portal.raw["medportal.tenants_dir"]) / f"{name}.toml").read_text("utf-8")
        text = text.replace("demonstration = true", "demonstration = false")
        (directory / f"{name}.toml").write_text(text, "utf-8")
    app = TestApp(
        make_app({**portal.raw, "medportal.tenants_dir": str(directory)}),
        extra_environ=portal.browser().app.extra_environ,
    )
    name = store_of(portal.settings, "hospital").put(b"Subject: x\r\n\r\nx", utcnow())
    for path in ("/demonstration/mail", f"/demonstration/mail/{name}", "/nothing-here"):
        answer = app.get(path, expect_errors=True)
        # As for any page that is not there.
        assert answer.status_int == 303
        assert answer.headers["Location"].endswith(f"/sign-in?next={quote(path, safe='')}")
    assert "/demonstration/mail" not in app.get("/sign-in").text
    app.app.registry["tenants"].dispose()
