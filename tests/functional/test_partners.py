"""The page of partners: what an administrator sees of them, and does about them."""

import base64
import json
from datetime import timedelta

import pytest
from admin_helpers import do, employ, events_of, every_event
from exchange_helpers import exchange
from functional_helpers import page_text
from installation import NUMBERS
from sqlalchemy import event, func, select, update

from medportal.audit.events import Action
from medportal.core.clock import utcnow
from medportal.core.ids import new_id
from medportal.delivery import outbox, traffic
from medportal.delivery.models import Inbox, Outbox, PartnerHold, TrafficHour, TrafficMark
from medportal.delivery.states import DeliveryReason, DeliveryState
from medportal.pki import partners as trust
from medportal.pki.profiles import Purpose

ENDED = ("delivered", "held-for-review", "rejected")
HOSTILE = '<script>alert("x")</script> & "Söhne"'


@pytest.fixture
def record(portal):
    """Let the laboratory write a record that goes to the hospital; give its path."""
    browser = portal.signed_in("responsible", "laboratory")
    path = f"/patients/{portal.person('patient', 'laboratory')}/records/new"
    form = browser.get(path).forms["form"]
    form["effective"], form["body-temperature"] = "03/02/2026", "38.4"
    return form.submit(status=303).location


@pytest.fixture(autouse=True)
def afresh(portal):
    """Leave nothing held, and nothing waiting, for the next test."""
    yield
    with portal.session("laboratory") as session, session.begin():
        session.execute(PartnerHold.__table__.delete())
        session.execute(
            update(Outbox)
            .where(Outbox.settled_at.is_(None))
            .values(settled_at=utcnow(), state="withheld", reason="rule-here", lease_owner=None)
        )


def admin(portal, tenant="laboratory"):
    return portal.signed_in("admin", tenant)


def queued(portal):
    with portal.session("laboratory") as session:
        return session.scalars(
            select(Outbox).where(Outbox.settled_at.is_(None)).order_by(Outbox.created_at)
        ).all()


def claimed(portal, now=None):
    with portal.session("laboratory") as session, session.begin():
        return outbox.claim(session, "a worker", "hospital", now or utcnow())


def fail(portal, tid, reason=DeliveryReason.UNREACHABLE):
    """Let a transfer fail as if its partner could not be reached; it waits for an hour then."""
    now = utcnow()
    with portal.session("laboratory") as session, session.begin():
        for claim in outbox.claim(session, "w", "hospital", now):
            outbox.retry(session, claim, reason, now, not_before=now + timedelta(hours=1))
    assert tid in {row.tid for row in queued(portal)}


def said(answer):
    """Return what the next page says once because of this answer, as it stands in the code."""
    cookie = next(c for c in answer.headers.getall("Set-Cookie") if c.startswith("__Host-flash="))
    raw = cookie.split("=", 1)[1].split(";")[0].strip('"')
    (_kind, text, numbers), *_others = json.loads(base64.urlsafe_b64decode(raw))
    for name, number in numbers.items():
        text = text.replace(f"${{{name}}}", str(number))
    return text


def count_all(portal, tenant):
    """Count everything that was carried, as the loop of the jobs does."""
    while True:
        with portal.session(tenant) as session, session.begin():
            if not traffic.count(session, utcnow()):
                return


def hold(portal, browser=None, reason="work-on-systems"):
    browser = browser or admin(portal)
    page = browser.get("/partners/hospital/hold")
    page.forms["form"]["reason"] = reason
    return page.forms["form"].submit(status=303).follow()


# What the pages say


def test_an_admin_sees_partners_and_how_things_stand(portal, record):
    browser = admin(portal)
    page = browser.get("/partners")
    text = page_text(page)
    for words in ("Riverside Hospital", "Trusted", "Waits to be sent", "days"):
        assert words in text
    page = browser.get("/partners/hospital")
    text = page_text(page)
    partner = portal.keys("laboratory").trusted.get("hospital")
    assert partner.fingerprint in text
    assert "Waiting to be sent" in text
    assert "New. It goes out with the next connection." in text
    viewed = events_of(portal, Action.PARTNERS_VIEWED, "laboratory")
    assert [dict(one.details) for one in viewed[-2:]] == [{"count": 1}, {"partner": "hospital"}]


def test_nothing_about_a_patient_is_on_the_pages(portal, record):
    patient = portal.person("patient", "laboratory")
    record_id = record.rsplit("/", 1)[1]
    for path in ("/partners", "/partners/hospital"):
        source = admin(portal).get(path).text
        for word in ("Amanda", NUMBERS["patient"], patient, record_id, "38.4", "1980"):
            assert word not in source
        assert "body" not in page_text(admin(portal).get(path)).lower()


def test_neither_page_shows_anything_of_the_other_institution(portal, record):
    """The hospital's queue to the laboratory is empty, whatever waits in the other direction."""
    text = page_text(admin(portal, "hospital").get("/partners/laboratory"))
    assert "Nothing waits: everything has been delivered." in text
    tid = queued(portal)[0].tid
    assert tid not in admin(portal, "hospital").get("/partners/laboratory").text
    assert tid[:8] not in admin(portal, "hospital").get("/partners").text
    admin(portal, "hospital").get("/partners/hospital", status=404)
    admin(portal).get("/partners/laboratory", status=404)


@pytest.mark.parametrize("name", ["nobody", "..%2Fhospital", "hospital%00", "HOSPITAL", "x" * 300])
@pytest.mark.parametrize("page", ["", "/hold", "/let-go"])
def test_nobody_is_a_partner_who_was_not_trusted(portal, name, page):
    admin(portal).get(f"/partners/{name}{page}", status=(400, 404))


@pytest.mark.parametrize(
    ("role", "tenant"),
    [
        ("responsible", "laboratory"),
        ("auditor", "laboratory"),
        ("privacy_officer", "laboratory"),
        ("patient", "laboratory"),
        ("doctor", "hospital"),
        ("ward_clerk", "hospital"),
    ],
)
def test_everybody_else_gets_the_one_404(portal, record, role, tenant):
    browser = portal.signed_in(role, tenant)
    partner = "hospital" if tenant == "laboratory" else "laboratory"
    missing = browser.get("/no-such-page", status=404)
    for path in ("/partners", f"/partners/{partner}", f"/partners/{partner}/hold"):
        assert page_text(browser.get(path, status=404)) == page_text(missing)
    transfer = queued(portal)[0]
    for deed in ("hold", "let-go", "again"):
        browser.post(
            f"/partners/{partner}/{deed}",
            {"reason": "other", "transfer": transfer.tid},
            status=404,
        )
    with portal.session(tenant) as session:
        assert session.scalar(select(func.count()).select_from(PartnerHold)) == 0
    assert queued(portal)[0].next_at == transfer.next_at


def test_a_hostile_name_of_a_partner_is_shown_as_it_is_written(portal):
    """A partner chooses its own name: whatever it is, it is text."""
    giving, taking = portal.keys("hospital"), portal.keys("laboratory")
    now = utcnow()
    told = trust.export_descriptor(
        giving.signer(Purpose.EXCHANGE),
        kind="hospital",
        names={"en": HOSTILE, "pt": HOSTILE},
        ca=giving.keystore.ca,
        endpoint="127.0.0.1:4000",
        share=giving.keystore.share_public(),
        now=now,
    )
    before = taking.trusted.get("hospital").names
    trust.trust(taking.places.pki, trust.read_descriptor(told, now), now, replace=True)
    try:
        for path in ("/partners", "/partners/hospital", "/partners/hospital/hold", "/deliveries"):
            page = admin(portal).get(path)
            assert HOSTILE in page_text(page)
            assert "<script>alert" not in page.text
    finally:
        again = trust.export_descriptor(
            giving.signer(Purpose.EXCHANGE),
            kind="hospital",
            names=before,
            ca=giving.keystore.ca,
            endpoint="127.0.0.1:4000",
            share=giving.keystore.share_public(),
            now=utcnow(),
        )
        read = trust.read_descriptor(again, utcnow())
        trust.trust(taking.places.pki, read, utcnow(), replace=True)


def test_failures_are_told_in_words(portal, record):
    fail(portal, queued(portal)[0].tid)
    text = page_text(admin(portal).get("/partners/hospital"))
    assert "The partner cannot be reached. We keep trying." in text
    assert "unreachable" not in text


def test_what_was_refused_for_good_says_what_helps(portal, record):
    tid = queued(portal)[0].tid
    with portal.session("laboratory") as session, session.begin():
        session.execute(
            update(Outbox)
            .where(Outbox.tid == tid)
            .values(
                state=DeliveryState.REJECTED.value,
                reason=DeliveryReason.CONTENT_INVALID.value,
                settled_at=utcnow(),
            )
        )
    for path in ("/partners/hospital", "/deliveries"):
        assert "The partner could not read the content." in page_text(admin(portal).get(path))
    text = page_text(admin(portal).get("/partners/hospital"))
    assert "a new version" in text
    answer = admin(portal).post("/partners/hospital/again", {"transfer": tid}, status=303)
    assert "does not wait any more" in said(answer)


def test_many_partners_cost_no_more_queries_than_one(portal, monkeypatch):
    """Of two hundred, a page shows a part, and asks as often as for a single one."""
    keys = portal.keys("laboratory")
    one = keys.trusted.get("hospital")
    store = type(keys.trusted)
    names = [f"partner-{number:03}" for number in range(200)]

    def ask(ids):
        monkeypatch.setattr(store, "institutions", lambda _self: ids)
        monkeypatch.setattr(store, "get", lambda _self, _name: one)
        statements = []
        engine = portal.app.registry["tenants"].database("laboratory").engine

        def note(_connection, _cursor, statement, *_rest):
            statements.append(statement)

        browser = admin(portal)
        # Once a minute a session notes that it is in use; here before anything is counted.
        browser.get("/partners")
        event.listen(engine, "before_cursor_execute", note)
        try:
            page = browser.get("/partners")
        finally:
            event.remove(engine, "before_cursor_execute", note)
        return page, len(statements)

    _page, few = ask(["hospital"])
    page, many = ask(names)
    assert many == few
    assert len(page.html.select("main tbody")[0].select("tr")) == 25
    assert page.html.find("a", rel="next")["href"].endswith("after=partner-024")
    last = admin(portal).get("/partners?after=partner-199")
    assert "There are no further partners." in page_text(last)


def test_no_partner_yet(portal, monkeypatch):
    monkeypatch.setattr(type(portal.keys("laboratory").trusted), "institutions", lambda _self: [])
    text = page_text(admin(portal).get("/partners"))
    assert "There is no partner yet." in text
    assert "Nothing was carried in this time." in text


def test_a_long_queue_is_paged_by_key(portal, record):
    row = queued(portal)[0]
    with portal.session("laboratory") as session, session.begin():
        for number in range(30):
            values = {c.name: getattr(row, c.name) for c in Outbox.__table__.columns}
            values |= {"tid": new_id(), "chain": new_id(), "record_id": new_id()}
            values |= {"next_at": row.next_at + timedelta(hours=1 + number)}
            session.execute(Outbox.__table__.insert().values(**values))
    browser, seen = admin(portal), []
    page = browser.get("/partners/hospital")
    while True:
        seen += [button["value"] for button in page.html.select("input[name=transfer]")]
        further = page.html.find("a", rel="next")
        if further is None:
            break
        page = browser.get(further["href"])
    assert len(seen) == len(set(seen)) == len(queued(portal)) == 31
    browser.get(f"/partners/hospital?after={new_id()}", status=404)
    browser.get("/partners/hospital?after=%27--", status=404)


# Holding and letting go


def test_nothing_is_sent_while_it_is_held(portal, record):
    text = page_text(hold(portal))
    assert "What goes to this partner is held" in text
    assert "Work on the systems, here or there" in text and "Person admin" in text
    assert claimed(portal) == []
    assert "An administrator holds" in page_text(
        portal.signed_in("responsible", "laboratory").get("/deliveries")
    )
    assert "Held here" in page_text(admin(portal).get("/partners"))
    before = len(events_of(portal, Action.RECORD_RECEIVED))
    answer = do(admin(portal), "/partners/hospital/let-go")
    assert "What waits is sent from now on." in said(answer)
    exchange(portal)
    assert len(events_of(portal, Action.RECORD_RECEIVED)) == before + 1
    held = events_of(portal, Action.PARTNER_HELD, "laboratory")[-1]
    gone = events_of(portal, Action.PARTNER_LET_GO, "laboratory")[-1]
    for one in (held, gone):
        assert one.actor == portal.person("admin", "laboratory")
        assert one.details["partner"] == "hospital"
        assert one.reasons == ("work-on-systems",)


def test_what_a_sender_has_claimed_is_given_back_unsent(portal, record):
    """Between the claim and the content the sender asks once more."""
    from medportal.transfer.stores import SqlSenderStore

    engine = portal.registry.database("laboratory").engine
    store = SqlSenderStore(engine, portal.keys("laboratory"), "a worker")
    assert store.due(utcnow()) == ["hospital"]
    records = store.claim("hospital", 10, utcnow())
    assert store.stopped(records, utcnow()) == frozenset()
    hold(portal)
    assert store.stopped(records, utcnow()) == {record.tid for record in records} != frozenset()
    assert store.due(utcnow() + timedelta(hours=1)) == []


def test_a_hold_takes_a_reason(portal):
    answer = do(admin(portal), "/partners/hospital/hold")
    assert answer.status_int == 422
    assert "There is a problem" in page_text(answer)
    answer = do(admin(portal), "/partners/hospital/hold", reason="because")
    assert "There is a problem" in page_text(answer)
    with portal.session("laboratory") as session:
        assert session.scalar(select(func.count()).select_from(PartnerHold)) == 0


def test_two_admins_hold_at_once(portal):
    first, second = admin(portal), admin(portal)
    pages = [browser.get("/partners/hospital/hold") for browser in (first, second)]
    for page, reason in zip(pages, ("partner-asked", "other"), strict=True):
        page.forms["form"]["reason"] = reason
    pages[0].forms["form"].submit(status=303)
    answer = pages[1].forms["form"].submit(status=303)
    assert "is held already" in said(answer)
    assert "The partner asked for it" in page_text(answer.follow())
    assert events_of(portal, Action.PARTNER_HELD, "laboratory")[-1].outcome == "denied"


def test_a_stale_form_does_not_let_go_what_was_held_anew(portal):
    """The other hold has another reason, which whoever sends this form has not seen."""
    hold(portal, reason="other")
    first, second = admin(portal), admin(portal)
    stale = first.get("/partners/hospital/let-go").forms["form"]
    do(second, "/partners/hospital/let-go")
    hold(portal, second, reason="something-wrong")
    answer = stale.submit(status=422)
    assert "held it anew meanwhile" in page_text(answer)
    assert "Something looks wrong there" in page_text(answer)
    assert claimed(portal) == []
    assert events_of(portal, Action.PARTNER_LET_GO, "laboratory")[-1].outcome == "denied"
    answer = answer.forms["form"].submit(status=303)
    assert "sent from now on" in said(answer)
    answer = stale.submit(status=303)
    assert "not held any more" in said(answer)


@pytest.mark.parametrize("seen", ["", "x", "9" * 400, "2026-01-01T00:00:00+00:00"])
def test_a_forged_form_lets_nothing_go(portal, seen):
    hold(portal)
    form = admin(portal).get("/partners/hospital/let-go").forms["form"]
    form["seen"].force_value(seen)
    form.submit(expect_errors=True)
    with portal.session("laboratory") as session:
        assert session.scalar(select(func.count()).select_from(PartnerHold)) == 1


@pytest.mark.parametrize("deed", ["hold", "let-go", "again"])
def test_a_post_without_the_token_does_nothing(portal, record, deed):
    browser = admin(portal)
    if deed == "let-go":
        hold(portal, browser)
    browser.app.post(f"/partners/hospital/{deed}", {"reason": "other"}, status=403)
    with portal.session("laboratory") as session:
        count = session.scalar(select(func.count()).select_from(PartnerHold))
    assert count == (1 if deed == "let-go" else 0)


def test_trying_again_takes_a_post(portal):
    admin(portal).get("/partners/hospital/again", status=404)


def test_who_has_not_confirmed_lately_proves_it_before_holding(portal, clock):
    browser = admin(portal)
    clock.forward(minutes=11)
    for deed in ("hold", "let-go"):
        answer = browser.get(f"/partners/hospital/{deed}", status=303)
        assert "/account/confirm" in answer.location
    assert browser.get("/partners/hospital", status=200)


# Trying again


def test_a_transfer_that_waits_is_tried_again_at_once(portal, record):
    tid = queued(portal)[0].tid
    fail(portal, tid)
    assert claimed(portal) == []
    page = admin(portal).get("/partners/hospital")
    form = next(f for f in page.forms.values() if "transfer" in f.fields)
    assert "tried again now" in said(form.submit(status=303))
    event_ = events_of(portal, Action.DELIVERY_HURRIED, "laboratory")[-1]
    assert (event_.object, event_.patient, event_.outcome) == (tid, None, "allowed")
    assert [claim.tid for claim in claimed(portal)] == [tid]
    # It is being sent now: the button pressed once more says so, and changes nothing.
    answer = form.submit(status=303)
    assert "is being sent" in said(answer)


def test_everything_that_waits_is_tried_again_at_once(portal, record):
    fail(portal, queued(portal)[0].tid)
    browser = admin(portal)
    page = browser.get("/partners/hospital")
    form = next(f for f in page.forms.values() if f.action.endswith("/again"))
    assert "tried again now: 1" in said(form.submit(status=303))
    assert len(claimed(portal)) == 1
    answer = browser.post("/partners/hospital/again", {}, status=303)
    assert "Nothing waits for a later time." in said(answer)


@pytest.mark.parametrize("tid", ["x", "0" * 32, "'; drop table outbox", "é" * 40])
def test_no_other_transfer_is_tried_again(portal, record, tid):
    before = [(row.tid, row.next_at) for row in queued(portal)]
    admin(portal).post("/partners/hospital/again", {"transfer": tid}, status=404)
    assert [(row.tid, row.next_at) for row in queued(portal)] == before


def test_a_transfer_of_another_institution_is_nobodys_here(portal, record):
    tid = queued(portal)[0].tid
    fail(portal, tid)
    browser = admin(portal, "hospital")
    browser.post("/partners/laboratory/again", {"transfer": tid}, status=404)
    assert claimed(portal) == []


# What was carried


def test_what_was_carried_is_drawn_and_told_on_both_sides(portal, record):
    exchange(portal)
    for tenant in ("laboratory", "hospital"):
        count_all(portal, tenant)
    page = admin(portal).get("/partners/hospital")
    assert "Sent: " in page_text(page)
    assert page.html.find("svg", class_="trend")["role"] == "img"
    assert "Last receipt from them Never" not in page_text(page)
    page = admin(portal, "hospital").get("/partners/laboratory")
    assert "Last receipt to them Never" not in page_text(page)
    assert "Received: " in page_text(page)
    assert "<style" not in page.text and " style=" not in page.text
    assert "<script>" not in page.text


def test_the_table_has_the_numbers_of_the_picture(portal, record):
    exchange(portal)
    count_all(portal, "laboratory")
    page = admin(portal).get("/partners/hospital")
    tables = page.html.select("details table")
    assert [len(table.select("tbody tr")) for table in tables] == [24, 30]
    with portal.session("laboratory") as session:
        sent = session.scalar(select(func.count()).where(Outbox.state == "delivered"))
    for table in tables:
        numbers = [int(row.select("td")[1].text) for row in table.select("tbody tr")]
        assert sum(numbers) == sent > 0


def test_each_transfer_is_counted_once_however_often_the_jobs_look(portal, record):
    exchange(portal)
    later = utcnow() + timedelta(minutes=10)
    with portal.session("laboratory") as session:
        sent = session.scalar(select(func.count()).where(Outbox.state.in_(ENDED)))
    with portal.session("hospital") as session:
        received = session.scalar(select(func.count()).select_from(Inbox))
    for tenant, partner, direction, expected in (
        ("laboratory", "hospital", "sent", sent),
        ("hospital", "laboratory", "received", received),
    ):
        for _again in range(3):
            while True:
                with portal.session(tenant) as session, session.begin():
                    if not traffic.count(session, later):
                        break
        with portal.session(tenant) as session:
            for name in (partner, traffic.EVERYBODY):
                rows = select(func.sum(TrafficHour.count)).where(
                    TrafficHour.partner == name, TrafficHour.direction == direction
                )
                assert session.scalar(rows) == expected
            found = traffic.traffic(session, later - timedelta(days=2), later, partner)
            assert sum(one.count for one in found.hours) == expected
            assert not found.is_behind


def test_a_page_says_that_counting_fell_behind(portal):
    with portal.session("laboratory") as session, session.begin():
        session.execute(
            update(TrafficMark)
            .where(TrafficMark.direction == "sent")
            .values(until=utcnow() - timedelta(days=2))
        )
    assert "Counting has fallen behind" in page_text(admin(portal).get("/partners"))
    while True:
        with portal.session("laboratory") as session, session.begin():
            if not traffic.count(session, utcnow() + timedelta(minutes=20)):
                break


def test_an_audit_log_says_nothing_of_a_patient_by_these_deeds(portal, record):
    hold(portal)
    do(admin(portal), "/partners/hospital/let-go")
    for one in (
        *events_of(portal, Action.PARTNER_HELD, "laboratory"),
        *events_of(portal, Action.PARTNER_LET_GO, "laboratory"),
        *events_of(portal, Action.PARTNERS_VIEWED, "laboratory"),
    ):
        assert one.patient is None
    assert "Amanda" not in every_event(portal, "laboratory")


def test_an_employee_with_the_role_alone_sees_it(portal):
    browser = employ(portal, "admin", tenant="laboratory").signed_in()
    assert "Partners" in page_text(browser.get("/partners"))
