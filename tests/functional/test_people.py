"""People and their accounts, as administrators see and change them."""

import unicodedata
from datetime import timedelta

import pytest
from admin_helpers import (
    do,
    employ,
    events_of,
    every_event,
    look_after,
    unused_number,
)
from functional_helpers import page_text, without_ids
from installation import CAST, NUMBERS
from second_factor_helpers import told
from sqlalchemy import select, update

from medportal.admin.models import Approval
from medportal.audit.events import Action, Outcome
from medportal.core.clock import utcnow
from medportal.core.reasons import Reason
from medportal.identity import people as identity
from medportal.identity import throttle
from medportal.identity.directory import PAGE
from medportal.identity.models import Account, Activation, LoginSession, Person, SignInThrottle
from medportal.mail.kinds import MailKind

DEEDS = (
    "roles/add",
    "roles/remove",
    "suspend",
    "reinstate",
    "sessions/end",
    "link",
    "code",
    "email",
    "second-factor",
)
#: Text of a note that must stand on the person's page and in no audit event.
SECRET_NOTE = "she told me so in the lift"


def deed_fields(deed):
    """Return what a deed's form needs, besides the note."""
    return {
        "roles/add": {"role": "volunteer", "reason": "new-duty"},
        "roles/remove": {"role": "porter", "reason": "duty-ended"},
        "suspend": {"reason": "left"},
        "reinstate": {"reason": "new-duty"},
        "sessions/end": {"reason": "lost-device"},
        "link": {"reason": "person-asked"},
        "code": {"reason": "person-asked"},
        "email": {"reason": "person-asked", "email": "new@example.org"},
        "second-factor": {"reason": "lost-device"},
    }[deed]


def post(browser, path, **fields):
    return browser.post(path, {"__formid__": "form", "note": "", **fields}, expect_errors=True)


def last(person, action):
    """Return the last event about somebody with an action."""
    return [event for event in person.events() if event.action is action][-1]


# -- who sees these pages -------------------------------------------------------------------------


@pytest.mark.parametrize("role", [name for name in CAST["hospital"] if name != "admin"])
def test_only_administrators_see_people(portal, role):
    browser = portal.signed_in(role)
    person = portal.person("porter")
    for page in ("", "/find", "/register", f"/{person}", *(f"/{person}/{deed}" for deed in DEEDS)):
        assert browser.get(f"/people{page}", expect_errors=True).status_int == 404, page
    for deed in DEEDS:
        answer = post(browser, f"/people/{person}/{deed}", **deed_fields(deed))
        assert answer.status_int == 404, deed


@pytest.mark.parametrize("path", ["/people", "/people/register", "/people/find", "/approvals"])
def test_strangers_are_asked_to_sign_in(portal, path):
    assert "/sign-in" in portal.browser().get(path, status=303).location


@pytest.mark.parametrize(
    "person",
    ["0" * 32, "0", "x" * 32, "A" * 32, "0" * 33, "x" * 3000, "%27", "..%2f..", "%C3%A9"],
)
def test_nobody_and_nonsense_are_one_404(portal, person):
    admin = portal.signed_in("admin")
    missing = page_text(admin.get("/no/such/page", status=404))
    answers = [admin.get(f"/people/{person}", expect_errors=True)]
    for deed in DEEDS:
        path = f"/people/{person}/{deed}"
        answers += [admin.get(path, expect_errors=True), post(admin, path, **deed_fields(deed))]
    assert {answer.status_int for answer in answers} == {404}
    assert {page_text(answer) for answer in answers} == {missing}


def test_people_of_the_neighbour_are_not_there(portal):
    admin = portal.signed_in("admin")
    admin.get(f"/people/{portal.person('responsible', 'laboratory')}", status=404)
    theirs = portal.signed_in("admin", "laboratory")
    theirs.get(f"/people/{portal.person('doctor')}", status=404)
    assert "Person responsible" in page_text(theirs.get("/people"))


# -- the list --------------------------------------------------------------------------------------


def test_the_list_names_staff_and_no_patients(portal):
    text = page_text(portal.signed_in("admin").get("/people"))
    for role in ("doctor", "porter", "auditor"):
        assert f"Person {role}" in text
    assert "Amanda Júlio" not in text, "who is a patient and nothing else is on no list"


def test_searching_by_name_puts_no_name_into_an_address(portal):
    for number in range(PAGE + 3):
        employ(portal, "volunteer", name=f"Zacarias Múrias {number:02}")
    admin = portal.signed_in("admin")
    answer = do(admin, "/people", name="MURIAS")
    assert answer.status_int == 200
    assert answer.request.path_qs == "/people"
    assert answer.text.count("Zacarias Múrias") == PAGE
    further = next(f for f in answer.forms.values() if "after" in f.fields)
    page = further.submit()
    assert page.request.path_qs == "/people"
    assert page.text.count("Zacarias Múrias") == 3
    for shown in (answer, page):
        assert not any("urias" in (a.get("href") or "").lower() for a in shown.html.find_all("a"))


def test_filters_without_a_name_are_an_address_to_come_back_to(portal):
    admin = portal.signed_in("admin")
    closed = employ(portal, "auditor", name="Quitéria Closed")
    assert do(admin, f"{closed.path}/suspend", reason="left").status_int == 303
    answer = do(admin, "/people", role="auditor", standing="suspended")
    assert answer.status_int == 303 and answer.location.endswith(
        "/people?role=auditor&standing=suspended"
    )
    text = page_text(answer.follow())
    assert "Quitéria Closed" in text and "Person auditor" not in text


@pytest.mark.parametrize(
    "query",
    [
        "role=patient",
        "role=nonsense",
        "standing=asleep",
        "after=",
        "after=nonsense",
        f"after={'0' * 32}",
        "role=%00",
    ],
)
def test_addresses_that_no_link_of_ours_has(portal, query):
    answer = portal.signed_in("admin").get(f"/people?{query}", expect_errors=True)
    assert answer.status_int == (400 if "%00" in query else 404)


def test_a_patient_is_no_place_on_the_list(portal):
    """Where a patient's name would stand among the others must not be told."""
    patient = portal.person("patient")
    portal.signed_in("admin").get(f"/people?after={patient}", status=404)


def test_pages_stay_in_place_while_people_are_registered(portal):
    expected = {employ(portal, "porter", name=f"Mmm {n:03}").name for n in range(2 * PAGE)}
    admin = portal.signed_in("admin")
    seen, address = [], "/people?role=porter"
    for turn in range(20):
        page = admin.get(address)
        names = [cell.get_text() for cell in page.html.select("tbody td:first-child a")]
        assert len(names) <= PAGE
        seen += names
        employ(portal, "porter", name=f"Aaa {turn}")
        employ(portal, "porter", name=f"Zzz {turn}")
        following = page.html.find("a", rel="next")
        if following is None or len([n for n in seen if n.startswith("Mmm")]) == len(expected):
            break
        address = following["href"]
        assert "Mmm" not in address
    assert len(seen) == len(set(seen))
    assert expected <= set(seen)


@pytest.mark.parametrize("typed", ["%", "_", "' OR 1=1 --", "<script>alert(1)</script>", "\u202e"])
def test_searches_that_find_nobody(portal, typed):
    answer = do(portal.signed_in("admin"), "/people", name=typed)
    assert answer.status_int == 200
    assert "Nobody fits." in page_text(answer)
    assert "<script>alert" not in answer.text


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"name": "x" * 101}, 422),
        ({"name": "x" * 30_000}, 400),
        ({"name": "x" * 10_000_000}, 413),
        ({"name": "a\x00b"}, 400),
        ({"name": "x", "role": "patient"}, 422),
        ({"name": "x", "standing": "asleep"}, 422),
        ({"name": "Person", "after": "nonsense"}, 404),
        ({"name": "Person", "after": "0" * 32}, 404),
    ],
)
def test_hostile_searches(portal, fields, status):
    answer = post(portal.signed_in("admin"), "/people", **fields)
    assert answer.status_int == status


# -- finding by number -----------------------------------------------------------------------------


@pytest.mark.parametrize("typed", ["17645234", " 17645234 ", "1764 5234", "１７６４５２３４"])
def test_a_patient_is_found_by_the_exact_number(portal, typed):
    admin, patient = portal.signed_in("admin"), portal.person("patient")
    answer = do(admin, "/people/find", number=typed)
    assert answer.location.endswith(f"/people/{patient}")
    event = [e for e in events_of(portal, Action.PERSON_SOUGHT) if e.object == patient][-1]
    assert event.details == {"found": 1}


def test_a_miss_says_so_and_is_audited_too(portal):
    number = unused_number()
    answer = do(portal.signed_in("admin"), "/people/find", number=number)
    assert answer.status_int == 422
    assert "Nobody with this number is known here." in page_text(answer)
    event = events_of(portal, Action.PERSON_SOUGHT)[-1]
    assert (event.object, event.details) == (None, {"found": 0})
    assert number not in every_event(portal, "hospital")


def test_trying_numbers_on_and_on_is_slowed_down(portal):
    """Nobody learns who is known here by trying numbers; hits do not make up for misses."""
    admin = portal.signed_in("admin")
    forget_failures(portal)
    try:
        for _ in range(throttle.FREE_TRIES_PAIR + 1):
            assert do(admin, "/people/find", number=unused_number()).status_int == 422
            last = do(admin, "/people/find", number="17645234")
        assert last.status_int == 429
        assert "Please wait" in page_text(last) and int(last.headers["Retry-After"]) > 0
    finally:
        forget_failures(portal)
    assert do(admin, "/people/find", number="17645234").status_int == 303


def forget_failures(portal):
    with portal.session("hospital") as session, session.begin():
        session.query(SignInThrottle).delete()


@pytest.mark.parametrize(
    "typed", ["", "1764523", "176452345", "1764523X", "00000000", "٠١٢", "x" * 41]
)
def test_numbers_that_nobody_can_have(portal, typed):
    before = len(events_of(portal, Action.PERSON_SOUGHT))
    assert do(portal.signed_in("admin"), "/people/find", number=typed).status_int == 422
    assert len(events_of(portal, Action.PERSON_SOUGHT)) == before


# -- one person ------------------------------------------------------------------------------------


def test_a_page_says_how_an_account_stands(portal):
    admin = portal.signed_in("admin")
    person = employ(portal, "porter", "volunteer", phone="+351 912 000 000")
    person.signed_in()
    person.add_app()
    text = page_text(admin.get(person.path))
    for words in (
        person.name,
        person.number,
        "Active",
        "Set up",
        "Open sessions 1",
        "Porter",
        "Volunteer",
        "benedita@example.org",
        "+351 912 000 000",
        "3 February 1980",
    ):
        assert words in text, words
    assert "Never" not in text, "there was a sign-in"
    assert last(person, Action.PERSON_VIEWED).reasons == ("role-any",)


def test_an_account_that_waits_for_its_person(portal):
    person = employ(portal, "porter", active=False)
    text = page_text(portal.signed_in("admin").get(person.path))
    assert "Not activated yet" in text and "Send the activation email again" in text
    assert "Never" in text


def test_no_contact_data_of_patients(portal):
    """Neither on a page, nor after a harmless role was added, nor in a request for approval."""
    admin = portal.signed_in("admin")
    patient = employ(portal, "patient", email="hers@example.org", phone="+351 999 888 777")
    look = ("hers@example.org", "999 888 777", "1980")
    patient.add_app()

    def pages():
        yield admin.get(patient.path)
        for deed in DEEDS:
            yield admin.get(f"{patient.path}/{deed}")

    for page in pages():
        assert not any(words in without_ids(page) for words in look), page.request.path
    assert (
        do(admin, f"{patient.path}/roles/add", role="porter", reason="new-duty").status_int == 303
    )
    for page in pages():
        assert not any(words in without_ids(page) for words in look), page.request.path
    for deed in ("code", "second-factor", "email"):
        assert do(admin, f"{patient.path}/{deed}", **deed_fields(deed)).status_int == 303
    with portal.session("hospital") as session:
        own = session.scalars(select(Approval.id).where(Approval.person_id == patient.id)).all()
    assert len(own) == 3
    for approval in own:
        page = admin.get(f"/approvals/{approval}")
        assert not any(words in without_ids(page) for words in look)
    assert not any(words in without_ids(admin.get("/approvals")) for words in look)


def test_that_a_colleague_is_a_patient_here_is_not_shown(portal):
    admin = portal.signed_in("admin")
    person = employ(portal, "doctor", "patient", name="Xisto Both")
    assert "Patient" not in page_text(admin.get(person.path)).replace("Patients", "")
    row = do(admin, "/people", name="xisto").html.select("tbody tr")[0].get_text(" ", strip=True)
    assert row == "Xisto Both Doctor Active"


def test_ones_own_page_offers_nothing_and_no_deed_works(portal):
    admin, me = portal.signed_in("admin"), portal.person("admin")
    page = admin.get(f"/people/{me}")
    assert "This is you." in page_text(page)
    assert not page.html.select(".places a")
    for deed in DEEDS:
        path = f"/people/{me}/{deed}"
        shown = admin.get(path)
        assert "Nobody changes their own here" in page_text(shown) and "form" not in shown.forms
        fields = {**deed_fields(deed), **({"role": "admin"} if deed == "roles/remove" else {})}
        answer = post(admin, path, **fields)
        assert answer.status_int == 422, deed
        assert "Nobody changes their own here" in page_text(answer)
    admin.get("/people", status=200)
    with portal.session("hospital") as session:
        assert identity.roles_of(session, me) == {"admin"}
        assert (
            session.scalar(select(Activation.person_id).where(Activation.person_id == me)) is None
        )
    denied = [e for e in events_of(portal, Action.ROLES_CHANGED) if e.object == me]
    assert {(e.outcome, e.reasons) for e in denied} == {(Outcome.DENIED, ("own-account",))}


# -- deeds -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("deed", DEEDS)
def test_every_deed_asks_who_one_is(portal, deed):
    """A form that was open for long changes nothing: first the proof, then the deed."""
    admin = employ(portal, "admin", name="Admin of a while ago")
    browser, person = admin.signed_in(), employ(portal, "porter")
    with portal.session("hospital") as session, session.begin():
        session.execute(
            update(LoginSession)
            .where(LoginSession.person_id == admin.id)
            .values(confirmed_at=utcnow() - timedelta(hours=1))
        )
    path = f"{person.path}/{deed}"
    for answer in (browser.get(path), post(browser, path, **deed_fields(deed))):
        assert answer.status_int == 303 and "/account/confirm" in answer.location
    assert person.roles() == {"porter"} and person.notes() == [] and person.can_sign_in()
    for page in ("/people/register", f"/approvals/{'0' * 32}"):
        assert "/account/confirm" in browser.get(page, status=303).location
    browser.get(person.path, status=200)


@pytest.mark.parametrize("deed", DEEDS)
def test_every_deed_leaves_its_reason_and_no_word_of_its_note(portal, deed):
    admin = portal.signed_in("admin")
    person = employ(portal, "porter", active=deed != "link")
    if deed == "second-factor":
        person.add_app()
    if deed == "sessions/end":
        person.signed_in()
    if deed == "reinstate":
        assert do(admin, f"{person.path}/suspend", reason="left").status_int == 303
    fields = deed_fields(deed)
    answer = do(admin, f"{person.path}/{deed}", note=SECRET_NOTE, **fields)
    assert answer.status_int in (200, 303), answer.text
    assert (SECRET_NOTE in page_text(admin.get(person.path))) is True
    (note,) = [note for note in person.notes() if note[2]]
    assert note[1] == fields["reason"]
    event = [e for e in person.events() if fields["reason"] in e.reasons][-1]
    assert event.actor == portal.person("admin") and event.outcome is Outcome.ALLOWED
    assert len(event.details["note"]) == 32 and len(event.details["commitment"]) == 64
    log = every_event(portal, "hospital")
    for words in (SECRET_NOTE, "lift", person.name, person.number, person.email, "new@example.org"):
        assert words not in log, words


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"reason": ""}, 422),
        ({"reason": "because"}, 422),
        ({"reason": "wrong-credentials"}, 422),
        ({"note": "x" * 501}, 422),
        ({"note": "bell\x07"}, 422),
        ({"note": "\u202eturned"}, 422),
        ({"note": "x" * 30_000}, 400),
        ({"note": "a\x00b"}, 400),
        ({"note": "x" * 10_000_000}, 413),
    ],
)
def test_deeds_without_a_good_reason(portal, wrong, status):
    admin, person = portal.signed_in("admin"), employ(portal, "porter")
    for deed in DEEDS:
        answer = post(admin, f"{person.path}/{deed}", **{**deed_fields(deed), **wrong})
        assert answer.status_int == status, deed
    assert person.roles() == {"porter"} and person.notes() == [] and person.can_sign_in()


def test_notes_of_several_lines_and_of_script_are_shown_as_they_are(portal):
    admin, person = portal.signed_in("admin"), employ(portal, "porter")
    note = "first line\r\n<script>alert('x')</script> & more"
    assert do(admin, f"{person.path}/roles/add", role="volunteer", reason="new-duty", note=note)
    page = admin.get(person.path)
    assert "<script>alert('x')" not in page.text
    assert "<script>alert('x')</script> & more" in page.html.find("main").get_text()
    assert person.notes()[0][2] == "first line\n<script>alert('x')</script> & more"


@pytest.mark.parametrize("role", ["patient", "nonsense", "", "doctor\n", "ＤＯＣＴＯＲ"])
def test_roles_that_nobody_is_given(portal, role):
    admin, person = portal.signed_in("admin"), employ(portal, "porter")
    for deed, reason in (("add", "new-duty"), ("remove", "left")):
        answer = post(admin, f"{person.path}/roles/{deed}", role=role, reason=reason)
        assert answer.status_int == 422
    assert person.roles() == {"porter"}


def test_a_harmless_role_counts_at_once(portal):
    admin, person = portal.signed_in("admin"), employ(portal, "auditor")
    browser = person.signed_in()
    browser.get("/patients", status=404)
    answer = do(admin, f"{person.path}/roles/add", role="porter", reason="new-duty")
    assert answer.location.endswith(person.path)
    assert told(admin)[0][:2] == ["ok", "The role has been added."]
    assert "/sign-in" in browser.get("/patients", status=303).location, "signed out everywhere"
    person.signed_in().get("/patients", status=200)
    event = last(person, Action.ROLES_CHANGED)
    assert event.details["added"] == "porter" and event.reasons == ("new-duty",)
    assert person.mails() == [MailKind.ROLES_CHANGED]


def test_a_guarded_role_waits(portal):
    admin, person = portal.signed_in("admin"), employ(portal, "porter")
    browser = person.signed_in()
    answer = do(admin, f"{person.path}/roles/add", role="doctor", reason="new-duty")
    assert "A colleague has to approve this now." in told(admin)[0][1]
    assert answer.location.endswith(person.path)
    assert person.roles() == {"porter"} and person.mails() == []
    browser.get("/patients", status=200)
    assert "Give a role : Doctor" in page_text(admin.get(person.path)).replace("role:", "role :")
    event = last(person, Action.APPROVAL_REQUESTED)
    assert event.reasons == ("new-duty", "second-person-needed")
    assert event.details["role"] == "doctor" and event.details["kind"] == "grant-role"
    again = do(admin, f"{person.path}/roles/add", role="doctor", reason="new-duty")
    assert again.status_int == 422
    assert "waited for already" in page_text(again)


def test_a_role_that_is_taken_is_gone_at_the_next_request(portal):
    admin, person = portal.signed_in("admin"), employ(portal, "doctor", "porter")
    patient = portal.person("patient")
    look_after(portal, person.id, patient)
    browser = person.signed_in()
    browser.get(f"/patients/{patient}/records/new", status=200)
    assert do(admin, f"{person.path}/roles/remove", role="doctor", reason="duty-ended")
    assert "/sign-in" in browser.get(f"/patients/{patient}/records/new", status=303).location
    person.signed_in().get(f"/patients/{patient}/records/new", status=404)
    assert person.roles() == {"porter"}
    assert last(person, Action.ROLES_CHANGED).details["removed"] == "doctor"
    assert person.mails() == [MailKind.ROLES_CHANGED]
    twice = post(admin, f"{person.path}/roles/remove", role="doctor", reason="duty-ended")
    assert twice.status_int == 422, "the form does not offer it any more"


def test_suspension_and_reinstatement(portal):
    admin, person = portal.signed_in("admin"), employ(portal, "porter")
    browser = person.signed_in()
    do(admin, f"{person.path}/suspend", reason="suspected-misuse")
    assert "/sign-in" in browser.get("/patients", status=303).location
    assert not person.can_sign_in()
    text = page_text(admin.get(person.path))
    assert "Suspended" in text and "Reinstate the account" in text
    assert "Add a role" not in text
    assert "This account is suspended already." in page_text(admin.get(f"{person.path}/suspend"))
    for deed in ("roles/add", "code", "email", "link"):
        answer = post(admin, f"{person.path}/{deed}", **deed_fields(deed))
        assert answer.status_int == 422 and "Reinstate it first" in page_text(answer), deed
    twice = post(admin, f"{person.path}/suspend", reason="left")
    assert twice.status_int == 422 and "Nothing was changed" in page_text(twice)
    do(admin, f"{person.path}/reinstate", reason="correction")
    assert person.can_sign_in()
    assert "/sign-in" in browser.get("/patients", status=303).location, "old sessions stay over"
    assert person.mails() == [MailKind.ACCOUNT_REINSTATED, MailKind.ACCOUNT_SUSPENDED]
    assert last(person, Action.ACCOUNT_SUSPENDED).outcome is Outcome.DENIED
    assert last(person, Action.ACCOUNT_REINSTATED).reasons == ("correction",)


def test_an_administrator_can_be_removed_while_another_is_left(portal):
    admin, colleague = portal.signed_in("admin"), employ(portal, "admin", name="Colleague")
    theirs = colleague.signed_in()
    theirs.get("/people", status=200)
    assert (
        do(admin, f"{colleague.path}/roles/remove", role="admin", reason="left").status_int == 303
    )
    assert "/sign-in" in theirs.get("/people", status=303).location
    assert colleague.roles() == frozenset()
    found = page_text(do(admin, "/people", name="colleague"))
    assert "Colleague No role Active" in found, "a note says why there is none"
    colleague.signed_in().get("/people", status=404)


def test_signing_somebody_out_everywhere(portal):
    admin, person = portal.signed_in("admin"), employ(portal, "porter")
    browsers = [person.signed_in(), person.signed_in()]
    do(admin, f"{person.path}/sessions/end", reason="lost-device")
    for browser in browsers:
        assert "/sign-in" in browser.get("/patients", status=303).location
    assert last(person, Action.SESSION_ENDED).details["count"] == 2
    assert person.can_sign_in()


def test_the_activation_mail_again_but_not_for_ever(portal):
    admin, person = portal.signed_in("admin"), employ(portal, "porter", active=False)
    for _turn in range(3):
        assert do(admin, f"{person.path}/link", reason="person-asked").status_int == 303
    answer = post(admin, f"{person.path}/link", reason="person-asked")
    assert answer.status_int == 422 and "No email was sent" in page_text(answer)
    assert person.mails() == [MailKind.ACTIVATION] * 3
    active = employ(portal, "porter")
    assert "activated already" in page_text(admin.get(f"{active.path}/link"))
    answer = post(admin, f"{active.path}/link", reason="person-asked")
    assert answer.status_int == 422 and active.mails() == []


def test_a_code_for_somebody_with_a_harmless_role(portal):
    admin, person = portal.signed_in("admin"), employ(portal, "porter", active=False)
    page = do(admin, f"{person.path}/code", reason="lost-device")
    assert page.status_int == 200
    code = page.html.select_one("#activation-code").get_text()
    assert len(code) == 14 and person.name in page_text(page)
    assert page.headers["Cache-Control"] == "no-store"
    assert code not in admin.get(person.path).text and code not in every_event(portal, "hospital")
    with portal.session("hospital") as session:
        assert session.get(Activation, person.id).code_by == portal.person("admin")
    assert last(person, Action.CODE_ISSUED).reasons == ("lost-device",)


@pytest.mark.parametrize("roles", [["doctor"], ["patient"], ["porter", "patient"], ["admin"]])
def test_a_code_that_a_colleague_has_to_approve(portal, roles):
    admin, person = portal.signed_in("admin"), employ(portal, *roles)
    answer = do(admin, f"{person.path}/code", reason="lost-device")
    assert answer.status_int == 303 and "approve" in told(admin)[0][1]
    with portal.session("hospital") as session:
        assert session.get(Activation, person.id) is None
    event = last(person, Action.APPROVAL_REQUESTED)
    assert event.details["kind"] == "issue-code"
    assert event.patient == (person.id if "patient" in roles else None)


def test_a_second_proof_is_removed_alone_only_from_harmless_accounts(portal):
    admin, porter, doctor = (
        portal.signed_in("admin"),
        employ(portal, "porter"),
        employ(portal, "doctor"),
    )
    for person in (porter, doctor):
        person.add_app()
        assert do(admin, f"{person.path}/second-factor", reason="lost-device").status_int == 303
    assert porter.can_sign_in() and porter.mails() == [MailKind.SECOND_FACTOR_REMOVED]
    answer = portal.browser().sign_in(doctor.number)
    assert "/sign-in/second" in answer.location and doctor.mails() == []
    assert last(porter, Action.SECOND_FACTOR_REMOVED).reasons == ("lost-device",)
    assert last(doctor, Action.APPROVAL_REQUESTED).details["kind"] == "reset-second-factor"
    assert "no second proof" in page_text(admin.get(f"{porter.path}/second-factor"))


@pytest.mark.parametrize(
    "email",
    [
        "",
        "nobody",
        "a b@example.org",
        "a@example.org\r\nBcc: everybody@example.org",
        "a@example.org\nSubject: x",
        "a@example.org%0d%0aBcc: x@example.org",
        "Ana <a@example.org>",
        "a@example.org, b@example.org",
        "<script>@example.org",
        "a@" + "x" * 300 + ".org",
        "a@localhost",
        "a@[127.0.0.1]",
    ],
)
def test_addresses_that_are_none(portal, email):
    admin, person = portal.signed_in("admin"), employ(portal, "porter")
    answer = post(admin, f"{person.path}/email", reason="correction", email=email)
    assert answer.status_int == 422
    with portal.session("hospital") as session:
        waiting = session.scalars(select(Approval.value).where(Approval.person_id == person.id))
        assert waiting.all() == []


def test_another_address_waits_and_stands_in_no_log(portal):
    admin, person = portal.signed_in("admin"), employ(portal, "porter")
    answer = do(admin, f"{person.path}/email", reason="correction", email=" New@EXAMPLE.org ")
    assert answer.status_int == 303
    with portal.session("hospital") as session:
        value = session.scalar(select(Approval.value).where(Approval.person_id == person.id))
        assert value == "New@example.org"
        assert session.get(Person, person.id).email == person.email
    log = every_event(portal, "hospital").lower()
    assert "new@example.org" not in log
    assert "new@example.org" not in admin.get(person.path).text.lower()


# -- registering -----------------------------------------------------------------------------------

GOOD = {
    "name": "Carlota Nóbrega",
    "day": "3",
    "month": "2",
    "year": "1980",
    "sex": "female",
    "email": "carlota@example.org",
}


def register(browser, *roles, number=None, **fields):
    form = browser.get("/people/register").forms["form"]
    form["number"] = number or unused_number()
    for name, value in {**GOOD, **fields}.items():
        form[name].force_value(value)
    for box in form.fields["checkbox"]:
        box.checked = box._value in roles
    return form.submit(expect_errors=True)


def person_with(portal, number, tenant="hospital"):
    with portal.session(tenant) as session:
        return identity.find_person(session, "citizen-card", number)


def test_registering_somebody_in_a_harmless_role(portal):
    admin, number = portal.signed_in("admin"), unused_number()
    page = register(admin, "porter", "volunteer", number=number)
    text = page_text(page)
    assert page.status_int == 200 and "Registered: Carlota Nóbrega" in text.replace(" :", ":")
    assert page.html.select_one("#activation-code")
    assert "Roles given" in text and "Porter, Volunteer" in text
    assert "We have emailed a link too." in text
    person = person_with(portal, number)
    with portal.session("hospital") as session:
        assert identity.roles_of(session, person) == {"porter", "volunteer"}
        assert session.get(Account, person).password_hash is None
    created = [e for e in events_of(portal, Action.ACCOUNT_CREATED) if e.object == person]
    assert [e.reasons for e in created] == [("new-duty",)]
    # As of every deed: the log pins what was written of it.
    assert [set(e.details) for e in created] == [{"note", "commitment"}]


def test_registering_somebody_in_a_guarded_role(portal):
    admin, number = portal.signed_in("admin"), unused_number()
    page = register(admin, "doctor", number=number, note="starts on Monday")
    text = page_text(page)
    assert page.html.select_one("#activation-code") is None
    assert "Waiting for a colleague's approval" in text
    assert "The colleague who approves gets the code" in text
    with portal.session("hospital") as session:
        person = identity.find_person(session, "citizen-card", number)
        assert identity.roles_of(session, person) == frozenset()
        assert session.get(Activation, person) is None
    listed = page_text(do(admin, "/people", name="carlota"))
    assert "No role" in listed


def test_a_guarded_role_needs_an_address_where_mail_is_sent(portal):
    answer = register(portal.signed_in("admin"), "doctor", email="")
    assert answer.status_int == 422
    assert "needs an email address" in page_text(answer)
    assert register(portal.signed_in("admin"), "porter", email="").status_int == 200


def test_whoever_is_known_gets_the_role_and_keeps_their_data(portal):
    admin = portal.signed_in("admin")
    known = employ(portal, "patient", name="Dália Simões", email="hers@example.org")
    page = register(
        admin, "porter", number=known.number, name="dalia  SIMÕES", email="mine@example.org"
    )
    assert page.status_int == 200
    assert "known here already" in page_text(page)
    assert page.html.select_one("#activation-code") is None
    assert "hers@example.org" not in page.text
    assert known.roles() == {"patient", "porter"} and known.can_sign_in()
    with portal.session("hospital") as session:
        person = session.get(Person, known.id)
        assert (person.email, person.name) == ("hers@example.org", "Dália Simões")


@pytest.mark.parametrize("fields", [{"name": "Dália Simão"}, {"day": "4"}, {"name": "Dália"}])
def test_a_number_of_somebody_else_tells_nothing_more(portal, fields):
    admin = portal.signed_in("admin")
    known = employ(portal, "patient", name="Dália Simões", email="hers@example.org")
    answer = register(admin, "porter", number=known.number, **{"name": "Dália Simões", **fields})
    assert answer.status_int == 422
    assert "known here under another name or date of birth" in page_text(answer)
    for words in ("hers@example.org", known.id):
        assert words not in answer.text
    assert known.roles() == {"patient"}
    assert events_of(portal, Action.ACCOUNT_CREATED)[-1].reasons == (Reason.WRONG_DATA,)


def test_nobody_registers_themselves(portal):
    answer = register(
        portal.signed_in("admin"), "porter", number=NUMBERS["admin"], name="Person admin"
    )
    assert answer.status_int == 422 and "cannot register yourself" in page_text(answer)


def test_whoever_is_suspended_is_reinstated_first(portal):
    admin, known = portal.signed_in("admin"), employ(portal, "porter")
    do(admin, f"{known.path}/suspend", reason="left")
    answer = register(admin, "volunteer", number=known.number, name=known.name)
    assert answer.status_int == 422 and "Reinstate it first" in page_text(answer)


def test_a_form_that_is_sent_twice(portal):
    admin, number = portal.signed_in("admin"), unused_number()
    assert register(admin, "porter", number=number).status_int == 200
    again = register(admin, "porter", number=number)
    assert again.status_int == 422
    assert "holds these roles already" in page_text(again)
    assert again.html.select_one("#activation-code") is None


def test_two_administrators_register_one_person_at_one_moment(portal, monkeypatch):
    """One wins; the request of the other is tried again, and finds the person."""
    admin, known = portal.signed_in("admin"), employ(portal, "porter", name="Carlota Nóbrega")
    find, tries = identity.find_person, []

    def not_yet_there(session, scheme, number):
        tries.append(number)
        return None if len(tries) < 2 else find(session, scheme, number)

    monkeypatch.setattr(identity, "find_person", not_yet_there)
    page = register(admin, "volunteer", number=known.number)
    assert tries == [known.number, known.number]
    assert page.status_int == 200 and "known here already" in page_text(page)
    assert known.roles() == {"porter", "volunteer"}


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"number": "1234567"}, "8 digits"),
        ({"number": "1234567X"}, "8 digits"),
        ({"number": "00000000"}, "8 digits"),
        ({"number": "1" * 41}, "40"),
        ({"name": ""}, "There is a problem"),
        ({"name": "---"}, "whole name"),
        ({"name": "Ana\u202eaic"}, "whole name"),
        ({"name": "Ana\u200bMaria"}, "whole name"),
        ({"name": "x" * 201}, "200"),
        ({"year": "1776"}, "year of birth"),
        ({"year": "2999"}, "future"),
        ({"month": "13"}, "date"),
        ({"sex": "yes"}, ""),
        ({"language": "xx"}, ""),
        ({"email": "a@example.org\r\nBcc: b@example.org"}, "email address"),
        ({"email": "nobody"}, "email address"),
        ({"phone": "912\r\n000"}, "ordinary signs"),
        ({"phone": "9" * 41}, "40"),
        ({"city": "x" * 101}, "100"),
        ({"note": "x" * 501}, "500"),
    ],
)
def test_clumsy_and_hostile_registrations(portal, registrar, fields, problem):
    answer = register(registrar, "porter", **fields)
    assert answer.status_int == 422
    assert problem in page_text(answer)
    assert person_with(portal, fields.get("number", "0")) is None


@pytest.fixture
def registrar(portal):
    return portal.signed_in("admin")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"name": "a\x00b"}, 400),
        ({"name": "x" * 30_000}, 400),
        ({"note": "x" * 10_000_000}, 413),
    ],
)
def test_registrations_that_no_browser_sends(registrar, fields, status):
    assert register(registrar, "porter", **fields).status_int == status


@pytest.mark.parametrize("roles", [(), ("patient",), ("nonsense",)])
def test_registrations_without_a_role_that_there_is(portal, registrar, roles):
    number = unused_number()
    fields = [
        ("csrf_token", registrar.token()),
        ("__formid__", "form"),
        ("number", number),
        ("name", GOOD["name"]),
        ("__start__", "birth_date:mapping"),
        ("year", "1980"),
        ("month", "2"),
        ("day", "3"),
        ("__end__", "birth_date:mapping"),
        ("sex", "female"),
        ("language", "en"),
        ("__start__", "roles:sequence"),
        *(("checkbox", role) for role in roles),
        ("__end__", "roles:sequence"),
    ]
    answer = registrar.app.post("/people/register", fields, expect_errors=True)
    assert answer.status_int == 422
    assert person_with(portal, number) is None


@pytest.mark.parametrize(
    ("typed", "kept"),
    [("0012 3450", "00123450"), (" 1.234-5679 ", "12345679"), ("１２３４５６７０", "12345670")],
)
def test_numbers_as_people_type_them(portal, registrar, typed, kept):
    assert register(registrar, "porter", number=typed).status_int == 200
    assert person_with(portal, kept)
    assert register(registrar, "porter", number=kept).status_int == 422


def test_names_that_look_alike_are_two_and_forms_of_one_are_one(portal, registrar):
    number = unused_number()
    composed = "João Conceição"
    assert register(registrar, "porter", number=number, name=composed).status_int == 200
    decomposed = unicodedata.normalize("NFD", composed)
    same = register(registrar, "volunteer", number=number, name=decomposed)
    assert same.status_int == 200
    other = register(registrar, "auditor", number=number, name="Joаo Conceição")
    assert other.status_int == 422, "a Cyrillic letter is another one"


def test_script_in_a_name_is_a_name(portal, registrar):
    number, name = unused_number(), "<script>alert('x')</script> Silva"
    page = register(registrar, "porter", number=number, name=name)
    person = person_with(portal, number)
    pages = [page, registrar.get(f"/people/{person}"), do(registrar, "/people", name="script")]
    pages += [registrar.get(f"/people/{person}/{deed}") for deed in DEEDS]
    for shown in pages:
        assert shown.status_int == 200 and "<script>alert" not in shown.text
    assert name in pages[2].html.find("table").get_text()
