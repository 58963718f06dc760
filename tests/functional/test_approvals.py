"""What waits for a second person: who sees it, who decides it, and what comes of it."""

import threading
from datetime import timedelta

import pytest
from access_helpers import deliver, fill
from admin_helpers import PASSWORD, do, employ, events_of, every_event, look_after, unused_number
from functional_helpers import page_text
from installation import CAST
from second_factor_helpers import told
from sqlalchemy import select, update

from medportal.admin.approvals import LIFETIME
from medportal.admin.models import Approval
from medportal.admin.views import approvals
from medportal.audit.events import Action, Outcome
from medportal.core.clock import utcnow
from medportal.identity import email_change
from medportal.identity.models import Activation, EmailChange, LoginSession, Person, RoleGrant
from medportal.mail.kinds import MailKind

DECIDERS = ("admin", "privacy_officer")
NOTE = "she told me so in the lift"


@pytest.fixture
def second(portal):
    """Give a second administrator, who decides."""
    return employ(portal, "admin", name="Second Admin").signed_in()


def approval_of(person):
    """Return the path of the one request about somebody that waits."""
    with person.session() as session:
        found = session.scalars(
            select(Approval.id).where(Approval.person_id == person.id, Approval.state == "waiting")
        ).all()
    assert len(found) == 1
    return f"/approvals/{found[0]}"


def ask(portal, person, deed="roles/add", **fields):
    """Ask for something as the first administrator; return the path of the request."""
    usual = {"roles/add": {"role": "doctor", "reason": "new-duty"}}.get(deed, {})
    fields = {"reason": "person-asked", **usual, "note": NOTE, **fields}
    answer = do(portal.signed_in("admin"), f"{person.path}/{deed}", **fields)
    assert answer.status_int == 303, answer.text
    return approval_of(person)


def decide(browser, path, how="approve", **fields):
    form = browser.get(path).forms[how]
    if how == "approve":
        form["checked"] = fields.pop("checked", True)
    for name, value in fields.items():
        form[name].force_value(value)
    return form.submit(expect_errors=True)


def state(person):
    with person.session() as session:
        query = select(Approval.state).where(Approval.person_id == person.id)
        return session.scalars(query.order_by(Approval.requested_at)).all()


def last(person, action):
    return [event for event in person.events() if event.action is action][-1]


# -- who sees it -----------------------------------------------------------------------------------


@pytest.mark.parametrize("role", CAST["hospital"])
def test_who_sees_what_waits(portal, role):
    person = employ(portal, "porter")
    path = ask(portal, person)
    browser = portal.signed_in(role)
    expected = 200 if role in DECIDERS else 404
    for page in ("/approvals", path):
        assert browser.get(page, expect_errors=True).status_int == expected
    if role not in DECIDERS:
        for form in ("approve", "refuse", "withdraw"):
            fields = {"__formid__": form, "checked": "true", "reason": "wrong-data", "note": ""}
            assert browser.post(path, fields, expect_errors=True).status_int == 404
        assert state(person) == ["waiting"] and person.roles() == {"porter"}


def test_privacy_officers_see_approvals_and_no_people(portal):
    person = employ(portal, "porter")
    path = ask(portal, person)
    officer = portal.signed_in("privacy_officer")
    page = officer.get(path)
    assert "See the account" not in page_text(page)
    for closed in ("/people", person.path, "/people/register"):
        officer.get(closed, status=404)
    assert "See the account" in page_text(
        employ(portal, "admin", name="Third").signed_in().get(path)
    )


@pytest.mark.parametrize("approval", ["0" * 32, "0", "x" * 32, "x" * 3000, "%27", "%C3%A9"])
def test_requests_that_are_none(portal, approval):
    officer = portal.signed_in("privacy_officer")
    missing = page_text(officer.get("/no/such/page", status=404))
    answers = [officer.get(f"/approvals/{approval}", expect_errors=True)]
    for form in ("approve", "refuse", "withdraw"):
        fields = {"__formid__": form, "checked": "true", "reason": "wrong-data", "note": ""}
        answers.append(officer.post(f"/approvals/{approval}", fields, expect_errors=True))
    assert {answer.status_int for answer in answers} == {404}
    assert {page_text(answer) for answer in answers} == {missing}


def test_requests_of_the_neighbour_are_not_there(portal):
    path = ask(portal, employ(portal, "porter"))
    portal.signed_in("privacy_officer", "laboratory").get(path, status=404)
    text = page_text(portal.signed_in("privacy_officer", "laboratory").get("/approvals"))
    assert "Nothing waits for a decision." in text and "Benedita" not in text


def test_the_list_says_who_asks_for_whom_and_what(portal):
    person = employ(portal, "porter", name="Zulmira Listed")
    path = ask(portal, person)
    text = page_text(portal.signed_in("privacy_officer").get("/approvals"))
    for words in ("Give a role: Doctor", "Zulmira Listed", "Asked for by Person admin"):
        assert words in text, words
    assert NOTE not in text and person.email not in text
    own = page_text(portal.signed_in("admin").get("/approvals"))
    assert "Your own request: another colleague decides it." in own
    assert decide(portal.signed_in("privacy_officer"), path, "refuse", reason="not-agreed")
    page = portal.signed_in("privacy_officer").get("/approvals")
    rows = [row.get_text(" ", strip=True) for row in page.html.select("tbody tr")]
    first = next(row for row in rows if "Zulmira Listed" in row)
    assert "Refused" in first and "Person privacy_officer" in first


def test_what_waits_is_shown_page_by_page(portal, monkeypatch):
    names = [f"Paged {n:02}" for n in range(5)]
    for name in names:
        ask(portal, employ(portal, "porter", name=name))
    monkeypatch.setattr(approvals, "PAGE", 2)
    officer, seen, address = portal.signed_in("privacy_officer"), [], "/approvals"
    for _turn in range(60):
        page = officer.get(address)
        cards = [card.get_text(" ", strip=True) for card in page.html.select(".card")]
        assert len(cards) <= 2
        seen += [name for name in names for card in cards if name in card]
        following = page.html.find("a", rel="next")
        if following is None:
            break
        address = following["href"]
    assert seen == names
    for after in ("0" * 32, "nonsense", ""):
        officer.get(f"/approvals?after={after}", status=404)


def test_what_there_is_to_check_is_shown_to_whoever_decides_alone(portal, second):
    person = employ(portal, "porter", email="check-me@example.org")
    path = ask(portal, person)
    text = page_text(second.get(path))
    for words in (person.number, "check-me@example.org", "3 February 1980", NOTE, "New duty"):
        assert words.lower() in text.lower(), words
    assert "You get a code to hand over" in text
    own = page_text(portal.signed_in("admin").get(path))
    assert "check-me@example.org" not in own and "1980" not in own
    assert "Another colleague has to decide it." in own
    assert last(person, Action.APPROVALS_VIEWED).details["approval"] == path.split("/")[-1]


# -- deciding --------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", DECIDERS)
def test_a_role_is_given_and_the_code_shown_once_to_whoever_approves(portal, role):
    person = employ(portal, "porter", email="dr@example.org")
    mine = person.signed_in()
    path = ask(portal, person)
    decider = (
        employ(portal, "admin", name="Fourth").signed_in()
        if role == "admin"
        else portal.signed_in(role)
    )
    page = decide(decider, path)
    assert page.status_int == 200
    code = page.html.select_one("#activation-code").get_text()
    assert page.headers["Cache-Control"] == "no-store"
    assert code not in decider.get(path).text
    assert code not in portal.signed_in("admin").get(person.path).text
    assert code not in every_event(portal, "hospital")
    assert person.roles() == {"porter", "doctor"}
    assert "/sign-in" in mine.get("/patients", status=303).location
    assert not person.can_sign_in(), "what opened the account opens it no longer"
    granted = last(person, Action.APPROVAL_GRANTED)
    assert granted.reasons == ("approved-by-second-person", "new-duty")
    assert granted.details["requested-by"] == portal.person("admin")
    assert granted.actor != portal.person("admin")
    changed = last(person, Action.ROLES_CHANGED)
    assert (changed.details["added"], changed.details["anew"]) == ("doctor", 1)
    assert last(person, Action.CODE_ISSUED).actor == granted.actor
    # The link and the code together, and neither alone.
    mails = deliver(portal, "hospital", utcnow(), person.id)
    link = next(link for kind, _to, link in mails if kind is MailKind.ACTIVATION)
    assert {to for _kind, to, _link in mails} == {"dr@example.org"}
    alone = fill(portal.browser().get("/activate"), number=person.number, code=code, new=PASSWORD)
    assert alone.status_int == 422
    assert fill(portal.browser().get(link), code=code, new=PASSWORD).status_int == 303
    doctor, patient = person.signed_in(), portal.person("patient")
    doctor.get(f"/patients/{patient}", status=404)
    look_after(portal, person.id, patient)
    doctor.get(f"/patients/{patient}", status=200)


def test_whoever_was_vouched_for_is_only_signed_out(portal, second):
    person = employ(portal, "nurse")
    mine = person.signed_in()
    path = ask(portal, person)
    assert "keeps the account as it is" in page_text(second.get(path))
    answer = decide(second, path)
    assert answer.status_int == 303 and answer.location.endswith("/approvals")
    assert told(second)[0][1] == "Approved."
    assert "/sign-in" in mine.get("/patients", status=303).location
    assert person.can_sign_in() and person.roles() == {"nurse", "doctor"}
    assert person.mails() == [MailKind.ROLES_CHANGED]


def test_a_look_is_asked_for_not_only_a_click(portal, second):
    person = employ(portal, "porter")
    path = ask(portal, person)
    answer = decide(second, path, checked=False)
    assert answer.status_int == 422 and "Check it first" in page_text(answer)
    assert state(person) == ["waiting"]


def test_whoever_asked_does_not_decide(portal):
    person = employ(portal, "porter")
    path = ask(portal, person)
    admin = portal.signed_in("admin")
    assert set(admin.get(path).forms) & {"approve", "refuse"} == set()
    for form in ("approve", "refuse"):
        fields = {"__formid__": form, "checked": "true", "reason": "wrong-data", "note": ""}
        answer = admin.post(path, fields, expect_errors=True)
        assert answer.status_int == 422
        assert "Another colleague has to decide it." in page_text(answer)
    assert state(person) == ["waiting"] and person.roles() == {"porter"}
    denied = [e for e in person.events() if e.outcome is Outcome.DENIED]
    assert {e.reasons for e in denied} == {("second-person-needed",)}


def test_nobody_decides_about_themselves(portal):
    person = employ(portal, "privacy_officer", name="Self Server")
    path = ask(portal, person)
    mine = person.signed_in()
    page = mine.get(path)
    assert set(page.forms) & {"approve", "refuse", "withdraw"} == set()
    assert "This concerns your own account." in page_text(page)
    fields = {"__formid__": "approve", "checked": "true"}
    answer = mine.post(path, fields, expect_errors=True)
    assert answer.status_int == 422 and "own account" in page_text(answer)
    assert person.roles() == {"privacy_officer"} and state(person) == ["waiting"]
    assert "About you: a colleague decides it." in page_text(mine.get("/approvals"))


def test_whoever_lost_the_role_decides_nothing_any_more(portal):
    """Also in a request that had begun before: the role is looked at where it is decided."""
    person, officer = employ(portal, "porter"), employ(portal, "privacy_officer", name="Former")
    path = ask(portal, person)
    browser = officer.signed_in()
    form = browser.get(path).forms["approve"]
    form["checked"] = True
    do(
        portal.signed_in("admin"),
        f"{officer.path}/roles/remove",
        role="privacy_officer",
        reason="left",
    )
    assert "/sign-in" in form.submit(expect_errors=True).location
    assert state(person) == ["waiting"] and person.roles() == {"porter"}


@pytest.mark.parametrize("what", ["suspended", "requester", "held"])
def test_what_no_longer_makes_sense(portal, second, what):
    asker = employ(portal, "admin", name="Asker who leaves")
    person = employ(portal, "porter")
    do(asker.signed_in(), f"{person.path}/roles/add", role="doctor", reason="new-duty")
    path = approval_of(person)
    form = second.get(path).forms["approve"]
    form["checked"] = True
    admin = portal.signed_in("admin")
    if what == "suspended":
        do(admin, f"{person.path}/suspend", reason="left")
    elif what == "requester":
        do(admin, f"{asker.path}/suspend", reason="left")
    else:
        with portal.session("hospital") as session, session.begin():
            session.execute(update(Approval).values(value="gone").where(Approval.id == path[11:]))
    answer = form.submit(expect_errors=True)
    assert answer.status_int == 422, answer.text
    # What waits about somebody who is suspended is withdrawn at once.
    withdrawn = what == "suspended"
    assert "doctor" not in person.roles()
    assert state(person) == ["withdrawn" if withdrawn else "waiting"]
    with portal.session("hospital") as session:
        assert session.get(Activation, person.id) is None
    assert last(person, Action.APPROVAL_GRANTED).outcome is Outcome.DENIED
    if withdrawn:
        assert last(person, Action.APPROVAL_WITHDRAWN).actor == portal.person("admin")
        assert "refuse" not in second.get(path).forms
        return
    assert decide(second, path, "refuse", reason="not-agreed").status_int == 303
    assert state(person) == ["refused"]


@pytest.mark.parametrize("what", ["address", "roles", "nothing-sent"])
def test_what_is_approved_is_what_was_looked_at(portal, second, what):
    person = employ(portal, "porter", email="shown@example.org")
    path = ask(portal, person)
    form = second.get(path).forms["approve"]
    form["checked"] = True
    with portal.session("hospital") as session, session.begin():
        if what == "address":
            session.get(Person, person.id).email = "other@example.org"
        elif what == "roles":
            session.add(RoleGrant(person_id=person.id, role="volunteer", granted_at=utcnow()))
    if what == "nothing-sent":
        form["seen"].force_value("")
    answer = form.submit(expect_errors=True)
    assert answer.status_int == 422
    text = page_text(answer)
    assert "What you see now is how they are: check it again." in text
    assert ("other@example.org" in text) is (what == "address")
    assert state(person) == ["waiting"] and "doctor" not in person.roles()
    assert last(person, Action.APPROVAL_GRANTED).reasons == ("changed-meanwhile",)
    again = answer.forms["approve"]
    assert again["checked"].checked is False
    again["checked"] = True
    assert again.submit().status_int == 200 and "doctor" in person.roles()


def test_what_a_page_seals_tells_nothing_by_itself(portal, second):
    """Two alike, two requests: nobody compares, and nobody tries roles one after the other."""
    seals = set()
    for _turn in range(2):
        person = employ(portal, "porter", email="same@example.org")
        seals.add(second.get(ask(portal, person)).forms["approve"]["seen"].value)
    assert len(seals) == 2 and all(len(seal) == 64 for seal in seals)


def test_an_approved_change_of_address_is_called_off_by_one(portal, second):
    person = employ(portal, "doctor", email="old@example.org")
    admin = portal.signed_in("admin")
    page = f"{person.path}/email/cancel"
    assert "No change of the address is waited for." in page_text(admin.get(page))
    assert page not in admin.get(person.path).text
    decide(second, ask(portal, person, "email", email="new@example.org"))
    shown = admin.get(person.path)
    assert "A change of the email address was approved." in page_text(shown)
    assert page in shown.text and "new@example.org" not in shown.text
    fields = {"__formid__": "form", "reason": "person-asked", "note": ""}
    own = f"/people/{portal.person('admin')}/email/cancel"
    assert admin.post(own, fields, expect_errors=True).status_int == 422
    assert do(admin, page, reason="suspected-misuse", note=NOTE).status_int == 303
    event = last(person, Action.EMAIL_CHANGE_CANCELLED)
    assert event.reasons == ("suspected-misuse",) and event.details["by-staff"] == 1
    assert len(event.details["commitment"]) == 64 and event.details["change"]
    with portal.session("hospital") as session, session.begin():
        assert email_change.apply_due(session, utcnow() + timedelta(days=4)) == []
        assert session.get(Person, person.id).email == "old@example.org"
    twice = admin.post(page, fields, expect_errors=True)
    assert twice.status_int == 422


@pytest.mark.parametrize(
    "wrong", [{"reason": ""}, {"reason": "left"}, {"note": "x" * 501, "reason": "not-agreed"}]
)
def test_a_refusal_has_a_reason(portal, second, wrong):
    person = employ(portal, "porter")
    path = ask(portal, person)
    assert decide(second, path, "refuse", **wrong).status_int == 422
    assert state(person) == ["waiting"]


def test_a_refusal_changes_nothing_and_is_kept(portal, second):
    person = employ(portal, "porter")
    path = ask(portal, person)
    answer = decide(second, path, "refuse", reason="not-asked-for", note="asked her: no")
    assert answer.status_int == 303
    assert person.roles() == {"porter"} and person.can_sign_in() and person.mails() == []
    event = last(person, Action.APPROVAL_REFUSED)
    assert event.reasons == ("not-asked-for",) and len(event.details["commitment"]) == 64
    log = every_event(portal, "hospital")
    assert "asked her" not in log and NOTE not in log
    text = page_text(portal.signed_in("admin").get(person.path))
    assert "asked her: no" in text and "Waiting for approval" not in text
    again = second.get(path)
    assert set(again.forms) & {"approve", "refuse"} == set() and "Refused" in page_text(again)


@pytest.mark.parametrize("then", ["approve", "refuse"])
def test_a_decision_that_is_sent_twice(portal, second, then):
    person = employ(portal, "porter")
    path = ask(portal, person)
    form = second.get(path).forms[then]
    fields = dict(form.submit_fields())
    fields.update({"checked": "true"} if then == "approve" else {"reason": "not-agreed"})
    fields.pop("submit", None)
    first = second.app.post(path, fields, expect_errors=True)
    assert first.status_int in (200, 303)
    twice = second.app.post(path, fields, expect_errors=True)
    assert twice.status_int == 422 and "Nothing was changed" in page_text(twice)
    assert twice.html.select_one("#activation-code") is None
    assert state(person) == ["granted" if then == "approve" else "refused"]


def test_two_who_approve_at_one_moment(portal):
    person = employ(portal, "porter")
    path = ask(portal, person)
    forms = []
    for browser in (
        portal.signed_in("privacy_officer"),
        employ(portal, "admin", name="At once").signed_in(),
    ):
        form = browser.get(path).forms["approve"]
        form["checked"] = True
        forms.append(form)
    answers, barrier = [], threading.Barrier(2)

    def send(form):
        barrier.wait(10)
        answers.append(form.submit(expect_errors=True))

    threads = [threading.Thread(target=send, args=(form,)) for form in forms]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(answer.status_int for answer in answers) == [200, 422]
    shown = [a.html.select_one("#activation-code") for a in answers]
    assert sum(code is not None for code in shown) == 1, "one code, for one of them"
    granted = [e for e in person.events() if e.action is Action.APPROVAL_GRANTED]
    assert sorted(e.outcome for e in granted) == [Outcome.ALLOWED, Outcome.DENIED]
    assert person.roles() == {"porter", "doctor"}


def test_withdrawing_ones_own_request(portal, second):
    person = employ(portal, "porter")
    path = ask(portal, person)
    assert "withdraw" not in second.get(path).forms
    stranger = second.post(path, {"__formid__": "withdraw"}, expect_errors=True)
    assert stranger.status_int == 422 and state(person) == ["waiting"]
    assert last(person, Action.APPROVAL_WITHDRAWN).outcome is Outcome.DENIED
    admin = portal.signed_in("admin")
    assert decide(admin, path, "withdraw").status_int == 303
    assert state(person) == ["withdrawn"]
    assert last(person, Action.APPROVAL_WITHDRAWN).actor == portal.person("admin")
    assert "Withdrawn" in page_text(second.get(path))
    assert "approve" not in second.get(path).forms


def test_a_request_that_is_too_old(portal, second):
    person = employ(portal, "porter")
    path = ask(portal, person)
    form = second.get(path).forms["approve"]
    form["checked"] = True
    past = utcnow() - LIFETIME
    with portal.session("hospital") as session, session.begin():
        session.execute(
            update(Approval)
            .where(Approval.person_id == person.id)
            .values(requested_at=past, expires_at=past + LIFETIME)
        )
    answer = form.submit(expect_errors=True)
    assert answer.status_int == 422 and person.roles() == {"porter"}
    assert "Expired" in page_text(second.get(path))
    ask_again = do(
        portal.signed_in("admin"), f"{person.path}/roles/add", role="doctor", reason="new-duty"
    )
    assert ask_again.status_int == 303


def test_the_jobs_close_what_nobody_decided(portal):
    person = employ(portal, "porter")
    ask(portal, person)
    portal.jobs("hospital").turn(utcnow())
    assert state(person) == ["waiting"]
    portal.jobs("hospital").turn(utcnow() + LIFETIME)
    assert state(person) == ["expired"]
    event = last(person, Action.APPROVAL_EXPIRED)
    assert (event.actor, event.reasons) == ("process:jobs", ("expired",))


def test_deciding_asks_who_one_is(portal):
    officer, person = employ(portal, "privacy_officer", name="Stale"), employ(portal, "porter")
    path, browser = ask(portal, person), officer.signed_in()
    with portal.session("hospital") as session, session.begin():
        session.execute(
            update(LoginSession)
            .where(LoginSession.person_id == officer.id)
            .values(confirmed_at=utcnow() - timedelta(hours=1))
        )
    fields = {"__formid__": "approve", "checked": "true"}
    for answer in (browser.get(path), browser.post(path, fields)):
        assert "/account/confirm" in answer.location
    assert state(person) == ["waiting"]


# -- the other kinds -------------------------------------------------------------------------------


def test_a_second_proof_is_removed(portal, second):
    person = employ(portal, "doctor")
    person.add_app()
    path = ask(portal, person, "second-factor", reason="lost-device")
    assert "the password stop working" in page_text(second.get(path))
    shown = decide(second, path)
    assert shown.status_int == 200 and shown.html.find(class_="code")
    # A password that a thief may know opens nothing any more.
    assert portal.browser().sign_in(person.number).status_int == 401
    assert MailKind.SECOND_FACTOR_REMOVED in person.mails()
    event = last(person, Action.SECOND_FACTOR_REMOVED)
    assert event.reasons == ("lost-device", "approved-by-second-person")


def test_an_address_changes_after_a_delay_and_the_holder_may_object(portal, second):
    person = employ(portal, "doctor", email="old@example.org")
    path = ask(portal, person, "email", email="new@example.org")
    text = page_text(second.get(path))
    assert "new@example.org" in text and "72 hours" in text and "old@example.org" not in text
    assert decide(second, path).status_int == 303
    with portal.session("hospital") as session:
        (change,) = session.scalars(
            select(EmailChange).where(EmailChange.person_id == person.id)
        ).all()
        assert change.approved_by and change.effective_at > utcnow() + timedelta(hours=71)
        assert session.get(Person, person.id).email == "old@example.org"
    mails = deliver(portal, "hospital", utcnow(), person.id)
    assert [(kind, to) for kind, to, _link in mails] == [
        (MailKind.EMAIL_BY_STAFF, "old@example.org")
    ]
    assert "new@example.org" in person.signed_in().get("/account/email").text
    log = every_event(portal, "hospital")
    assert "new@example.org" not in log and "old@example.org" not in log


def test_a_code_for_somebody_without_an_address(portal, second):
    person = employ(portal, "patient", email="")
    path = ask(portal, person, "code")
    page = decide(second, path)
    code = page.html.select_one("#activation-code").get_text()
    answer = fill(
        portal.browser().get("/activate"),
        number=person.number,
        code=code,
        new="another good long one 77",
    )
    assert answer.status_int == 303
    assert last(person, Action.CODE_ISSUED).patient == person.id


def test_registered_by_one_and_let_in_by_another(portal, second):
    admin, number = portal.signed_in("admin"), unused_number()
    form = admin.get("/people/register").forms["form"]
    form["number"], form["name"], form["sex"] = number, "Vasco <b>Novo</b>", "male"
    form["day"], form["month"], form["year"] = "3", "2", "1980"
    form["email"], form["note"] = "vasco@example.org", NOTE
    for box in form.fields["checkbox"]:
        box.checked = box._value in ("doctor", "nurse")
    assert form.submit().status_int == 200
    with portal.session("hospital") as session:
        rows = session.execute(
            select(Approval.id, Approval.value)
            .join(Person, Person.id == Approval.person_id)
            .where(Person.email == "vasco@example.org")
            .order_by(Approval.value)
        ).all()
    assert [row.value for row in rows] == ["doctor", "nurse"]
    page = decide(second, f"/approvals/{rows[0].id}")
    assert page.html.select_one("#activation-code") and "<b>Novo" not in page.text
    other = decide(second, f"/approvals/{rows[1].id}")
    assert other.status_int == 303, "the code that was handed over stays good"
    event = events_of(portal, Action.CODE_ISSUED)[-1]
    assert event.reasons == ("new-duty", "approved-by-second-person")
