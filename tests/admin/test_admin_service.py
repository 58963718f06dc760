"""Which deeds one administrator does alone, and which wait for a second person."""

from datetime import UTC, date, datetime

import pytest
from sqlalchemy import func, select

from medportal.admin import service
from medportal.admin.approvals import Asked
from medportal.admin.errors import ApprovalRefused
from medportal.admin.models import Approval, ApprovalKind
from medportal.core.reasons import Reason
from medportal.identity import accounts, directory
from medportal.identity.codes import Welcome
from medportal.identity.errors import AccountRefused, NotTheSamePerson
from medportal.identity.factors import second_factors
from medportal.identity.models import AccountNote, Activation, Person, Totp
from medportal.identity.people import Profile, roles_of
from medportal.mail.kinds import MailKind
from medportal.mail.models import OutgoingMail

NOW = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
NAME, BORN, NUMBER = "Amanda Júlio", date(1980, 2, 3), "30000001"


@pytest.fixture
def admin(session, somebody):
    return somebody(session, "admin", name="Admin")


def profile(name=NAME, born=BORN, email="amanda@example.org"):
    return Profile(name, born, "female", email=email)


def count(session, model):
    session.flush()
    return session.scalar(select(func.count()).select_from(model))


def details(session, person):
    return directory.details(session, "citizen-card", person)


def register(session, tenant, why, *roles, number=NUMBER, who=None):
    return service.register_staff(session, tenant, number, who or profile(), roles, why, NOW)


# -- registering ------------------------------------------------------------------------------


def test_somebody_new_in_a_harmless_role(session, hospital, admin, why):
    done = register(session, hospital, why(admin), "porter", "volunteer")
    assert done.created and done.given == ("porter", "volunteer") and done.asked == ()
    assert roles_of(session, done.person_id) == {"porter", "volunteer"}
    assert done.welcome.code and done.welcome.mail_sent
    kinds = session.scalars(select(OutgoingMail.kind)).all()
    assert kinds == [MailKind.ACTIVATION], "one mail says all"
    shown = details(session, done.person_id)
    assert (shown.name, shown.number, shown.email) == (NAME, NUMBER, "amanda@example.org")


def test_somebody_new_in_a_guarded_role_has_none_until_it_is_approved(
    session, hospital, admin, why
):
    done = register(session, hospital, why(admin), "doctor")
    assert done.created and done.asked == ("doctor",) and done.welcome is None
    assert roles_of(session, done.person_id) == frozenset()
    assert count(session, Activation) == count(session, OutgoingMail) == 0
    assert session.scalar(select(Approval.value)) == "doctor"


def test_of_two_kinds_of_roles_one_waits_and_so_does_the_code(session, hospital, admin, why):
    done = register(session, hospital, why(admin), "doctor", "porter")
    assert (done.given, done.asked) == (("porter",), ("doctor",))
    assert roles_of(session, done.person_id) == {"porter"}
    assert done.welcome is None and count(session, Activation) == 0


def test_whoever_is_known_gets_the_role_and_keeps_everything_else(
    session, hospital, admin, somebody, why
):
    known = somebody(session, "patient", name="Amanda JÚLIO", email="hers@example.org")
    who = profile("amanda julio", email="mine@example.org")
    done = register(session, hospital, why(admin), "porter", number="20000001", who=who)
    assert (done.person_id, done.created, done.welcome) == (known, False, None)
    assert roles_of(session, known) == {"patient", "porter"}
    session.expire_all()
    person = session.get(Person, known)
    assert (person.name, person.email) == ("Amanda JÚLIO", "hers@example.org")
    assert accounts.has_password(session, known) and count(session, Activation) == 0


@pytest.mark.parametrize(
    ("name", "born"),
    [
        ("Amanda Júlia", BORN),
        ("Amanda", BORN),
        (NAME, date(1980, 3, 2)),
        ("Аmanda Júlio", BORN),  # A Cyrillic letter.
    ],
)
def test_a_number_of_somebody_else_gives_nobody_a_role(
    session, hospital, admin, somebody, why, name, born
):
    known = somebody(session, "patient")
    with pytest.raises(NotTheSamePerson):
        register(
            session, hospital, why(admin), "porter", number="20000001", who=profile(name, born)
        )
    assert roles_of(session, known) == {"patient"}
    assert count(session, AccountNote) == 0


def test_registering_twice_changes_nothing_the_second_time(session, hospital, admin, why):
    first = register(session, hospital, why(admin), "porter", "doctor")
    notes = count(session, AccountNote)
    with pytest.raises(AccountRefused, match=Reason.NOTHING_NEW):
        register(session, hospital, why(admin), "porter", "doctor")
    assert count(session, AccountNote) == notes
    assert roles_of(session, first.person_id) == {"porter"}
    again = register(session, hospital, why(admin), "porter", "doctor", "volunteer")
    assert (again.created, again.given, again.asked) == (False, ("volunteer",), ())


def test_nobody_registers_themselves_or_whoever_is_suspended(
    session, hospital, admin, somebody, why
):
    other = somebody(session, "admin", name="Other")
    with pytest.raises(AccountRefused, match=Reason.OWN_ACCOUNT):
        register(session, hospital, why(admin), "porter", number="20000000", who=profile("Admin"))
    closed = somebody(session, "porter")
    accounts.suspend(session, closed, managing={"admin"}, by=other, now=NOW)
    with pytest.raises(AccountRefused, match=Reason.SUSPENDED):
        register(session, hospital, why(admin), "volunteer", number="20000002")


# -- roles ------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["patient", "no_such_role", "", "DOCTOR", "doctor\x00"])
def test_roles_that_are_not_given_here(session, hospital, admin, somebody, why, role):
    person = somebody(session, "porter")
    with pytest.raises(AccountRefused, match=Reason.NO_SUCH_THING):
        service.add_role(session, hospital, person, role, why(admin), NOW)
    assert roles_of(session, person) == {"porter"}


def test_the_role_of_patients_is_not_taken_here(session, hospital, admin, somebody, why):
    person = somebody(session, "patient", "porter")
    with pytest.raises(AccountRefused, match=Reason.NO_SUCH_THING):
        service.remove_role(session, hospital, person, "patient", why(admin), NOW)
    assert roles_of(session, person) == {"patient", "porter"}


@pytest.mark.parametrize(
    ("name", "role", "alone"),
    [
        ("hospital", "porter", True),
        ("hospital", "auditor", False),
        ("hospital", "doctor", False),
        ("hospital", "ward_clerk", False),
        ("hospital", "admin", False),
        ("hospital", "privacy_officer", False),
        ("laboratory", "responsible", False),
        ("laboratory", "auditor", False),
    ],
)
def test_who_gives_a_role(request, session, admin, somebody, why, name, role, alone):
    tenant, person = request.getfixturevalue(name), somebody(session, "volunteer")
    added = service.add_role(session, tenant, person, role, why(admin), NOW)
    assert (added.asked is None) is alone
    assert (role in roles_of(session, person)) is alone
    with pytest.raises((AccountRefused, ApprovalRefused), match=Reason.NOTHING_NEW):
        service.add_role(session, tenant, person, role, why(admin), NOW)


# -- codes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("roles", "active", "email", "name", "alone"),
    [
        # Nothing to take over yet, nothing guarded: one is enough.
        (["porter"], False, "", "hospital", True),
        (["porter"], False, "a@example.org", "hospital", True),
        # In use: the code is half of it, unless there is no address or no mail here.
        (["porter"], True, "a@example.org", "hospital", True),
        (["porter"], True, "", "hospital", False),
        (["auditor"], False, "a@example.org", "laboratory", False),
        # A patient's record, or a role with powers.
        (["patient"], False, "a@example.org", "hospital", False),
        (["patient"], True, "a@example.org", "hospital", False),
        (["patient", "porter"], True, "a@example.org", "hospital", False),
        (["doctor"], True, "a@example.org", "hospital", False),
        (["doctor"], False, "", "hospital", False),
        (["ward_clerk"], True, "a@example.org", "hospital", False),
        (["admin"], True, "a@example.org", "hospital", False),
        (["privacy_officer"], False, "a@example.org", "hospital", False),
        (["responsible"], False, "a@example.org", "laboratory", False),
    ],
)
def test_who_issues_a_code(
    request, session, admin, somebody, why, roles, active, email, name, alone
):
    tenant = request.getfixturevalue(name)
    person = somebody(session, *roles, active=active, email=email)
    assert service.code_needs_second(tenant, details(session, person)) is not alone
    note, outcome = service.new_code(session, tenant, person, why(admin), NOW)
    if alone:
        assert isinstance(outcome, Welcome) and outcome.code
    else:
        assert isinstance(outcome, Asked) and outcome.note == note
        assert count(session, Activation) == 0
        assert session.scalar(select(Approval.kind)) == ApprovalKind.ISSUE_CODE


def test_no_code_for_oneself_or_whoever_is_suspended(session, hospital, admin, somebody, why):
    with pytest.raises(AccountRefused, match=Reason.OWN_ACCOUNT):
        service.new_code(session, hospital, admin, why(admin), NOW)
    closed = somebody(session, "porter")
    accounts.suspend(session, closed, managing={"admin"}, by=admin, now=NOW)
    with pytest.raises(AccountRefused, match=Reason.SUSPENDED):
        service.new_code(session, hospital, closed, why(admin), NOW)
    assert count(session, Activation) == 0


# -- second factors, links, contact -------------------------------------------------------------


@pytest.mark.parametrize(
    ("roles", "alone"),
    [
        (["porter"], True),
        (["porter", "volunteer"], True),
        (["auditor"], False),
        (["doctor"], False),
        (["ward_clerk"], False),
        (["patient"], False),
        (["porter", "patient"], False),
        (["admin"], False),
        (["gone_from_the_file"], False),
    ],
)
def test_who_removes_second_factors(session, hospital, admin, somebody, why, roles, alone):
    person = somebody(session, *roles)
    session.add(Totp(person_id=person, sealed_secret=b"s", confirmed_at=NOW))
    session.flush()
    _note, asked = service.reset_second_factor(session, hospital, person, why(admin), NOW)
    assert (asked is None) is alone
    assert bool(second_factors(session, person)) is not alone


def test_without_a_second_factor_there_is_none_to_remove(session, hospital, admin, somebody, why):
    with pytest.raises(AccountRefused, match=Reason.NOTHING_NEW):
        service.reset_second_factor(session, hospital, somebody(session, "doctor"), why(admin), NOW)


def test_the_first_link_is_sent_again_but_not_for_ever(session, hospital, admin, somebody, why):
    person = somebody(session, "porter", active=False)
    for _turn in range(3):
        service.resend_link(session, hospital, person, why(admin), NOW)
    with pytest.raises(AccountRefused, match=Reason.TOO_MANY):
        service.resend_link(session, hospital, person, why(admin), NOW)
    assert session.scalars(select(OutgoingMail.kind)).all() == [MailKind.ACTIVATION] * 3
    with pytest.raises(AccountRefused, match=Reason.NOTHING_NEW):
        service.resend_link(session, hospital, somebody(session, "porter"), why(admin), NOW)


@pytest.mark.parametrize(
    ("roles", "shown"),
    [
        (["porter"], True),
        (["doctor"], True),
        (["doctor", "patient"], True),
        (["patient"], False),
        # Anybody could make a porter of a patient, to see how to reach them.
        (["porter", "patient"], False),
        (["auditor", "patient"], True),
    ],
)
def test_whose_contact_data_are_shown(session, hospital, somebody, roles, shown):
    person = details(session, somebody(session, *roles))
    assert service.shows_contact(hospital, person) is shown


@pytest.mark.parametrize(
    ("roles", "shown"),
    [
        (["porter", "patient"], ["porter"]),
        (["patient"], ["patient"]),
        (["doctor", "porter"], ["doctor", "porter"]),
    ],
)
def test_that_a_colleague_is_a_patient_is_not_shown(session, somebody, roles, shown):
    assert service.shown_roles(details(session, somebody(session, *roles))) == shown
