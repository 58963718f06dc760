"""Codes from the desk and mailed links: choosing a password, on both engines."""

import threading
from dataclasses import replace
from datetime import date, timedelta

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from medportal.core.identity import Method
from medportal.core.reasons import Reason
from medportal.identity import codes, credentials, links, people, sessions
from medportal.identity.accounts import begin_anew
from medportal.identity.errors import ActivationRefused, CodeNotIssued, LinkNeeded
from medportal.identity.models import Account, AccountStatus, Activation, Person, RoleGrant
from medportal.identity.passwords import hash_password, verify_password
from medportal.mail.kinds import MailKind
from medportal.mail.models import OutgoingMail
from medportal.tenancy.tenant import Mail

BROWSER = sessions.Browser("Mozilla/5.0 (X11; Linux x86_64)", "127.0.0.1", True)
BY_PASSWORD = frozenset({Method.PASSWORD})
GOOD = "quiet rivers carry small boats"
OTHER = "seven green lamps in a row"
NUMBER = "17645234"
CLERK = "c" * 32
ALMOST = timedelta(microseconds=1)
LINK_LIFETIME = timedelta(days=7)


@pytest.fixture
def mailing(tenant):
    """Give the hospital with a mail server, which makes the link necessary."""
    return replace(tenant, mail=Mail("127.0.0.1:25", "no-reply@hospital.example"))


@pytest.fixture
def enter(session, now):
    """Give a function that registers somebody; return their id."""

    def made(number=NUMBER, email="", role="patient"):
        return people.register_person(
            session,
            scheme="citizen-card",
            number=number,
            profile=people.Profile("Amanda Júlio", date(1980, 2, 3), "female", email=email),
            role=role,
            by=None,
            now=now,
        ).person_id

    return made


def with_code(session, tenant, code, now, number=NUMBER, password=GOOD):
    """Check, hash and use, as the view does; return the person's id."""
    shown = codes.check_code(session, tenant, number, code, now)
    codes.use(session, shown, hash_password(tenant.passwords, password), now)
    return shown.person_id


def with_both(session, tenant, token, code, now, kind=MailKind.ACTIVATION, password=GOOD):
    """Do the same with a link."""
    shown = codes.check_link_and_code(session, kind, token, code, now)
    codes.use(session, shown, hash_password(tenant.passwords, password), now)
    return shown.person_id


def mint(session, person, now, kind=MailKind.ACTIVATION):
    """Make the token of a mail as the sender does."""
    return links.mint(session, kind, person, {links.ASKED: 2**62}, now)


def password_of(session, number=NUMBER):
    return credentials.credentials(session, "citizen-card", number).password_hash


def count(session, model):
    return session.scalar(select(func.count()).select_from(model))


# -- the code alone ------------------------------------------------------------------------------


def test_a_code_lets_somebody_without_email_choose_a_password_once(session, enter, tenant, now):
    person = enter()
    code = codes.issue_code(session, person, CLERK, now)
    assert with_code(session, tenant, code, now) == person
    assert verify_password(tenant.passwords, password_of(session), GOOD)
    with pytest.raises(ActivationRefused):
        with_code(session, tenant, code, now, password=OTHER)
    assert count(session, Activation) == 0


def test_a_code_is_read_as_people_copy_it(session, enter, tenant, now, monkeypatch):
    person = enter()
    monkeypatch.setattr(codes.secrets, "choice", lambda _alphabet: "0")
    assert codes.issue_code(session, person, None, now) == "0000-0000-0000"
    assert with_code(session, tenant, " oooo OoO0\u2011o000\n", now) == person


def test_the_letters_that_look_like_one(session, enter, tenant, now, monkeypatch):
    person = enter()
    monkeypatch.setattr(codes.secrets, "choice", lambda _alphabet: "1")
    codes.issue_code(session, person, None, now)
    assert with_code(session, tenant, "ilIL1i-llll-1\uff11", now) == person


def test_the_database_holds_salted_slow_hashes_of_codes(session, enter, now):
    """Sixty bits are few: whoever has the table shall not try them all at full speed."""
    person = enter()
    made = [codes.make_code() for _ in range(3)]
    assert len({fresh.code for fresh in made}) == len({fresh.hashed[:8] for fresh in made}) == 3
    assert all(len(fresh.code.replace("-", "")) == 12 for fresh in made)
    assert codes.issue_code(session, person, CLERK, now, made[0]) == made[0].code
    (row,) = session.scalars(select(Activation))
    assert (row.code_hash, row.code_by) == (made[0].hashed, CLERK)
    assert len(row.code_hash) == 32
    assert made[0].code not in repr(made[0])


def test_a_new_code_ends_the_old_one(session, enter, tenant, now):
    person = enter()
    old = codes.issue_code(session, person, None, now)
    new = codes.issue_code(session, person, None, now)
    with pytest.raises(ActivationRefused):
        with_code(session, tenant, old, now)
    assert with_code(session, tenant, new, now) == person


@pytest.mark.parametrize("case", ["number", "code", "late", "empty", "hostile", "no code at all"])
def test_whatever_is_wrong_gets_one_answer(session, enter, tenant, now, case):
    person = enter()
    code = codes.issue_code(session, person, None, now)
    number, given, at = NUMBER, code, now
    if case == "number":
        number = "99999999"
    elif case == "late":
        at = now + codes.CODE_LIFETIME
    elif case == "no code at all":
        begin_anew(session, person, now, None)
    else:
        given = {"code": "AAAA-BBBB-CCCC", "empty": "", "hostile": "\ud800é" * 9}[case]
    with pytest.raises(ActivationRefused) as refused:
        with_code(session, tenant, given, at, number)
    assert str(refused.value) == "activation refused"
    assert password_of(session) is None


@pytest.mark.parametrize("number", [NUMBER, "99999999"])
def test_known_and_unknown_cost_one_hash(session, enter, tenant, now, number, monkeypatch):
    codes.issue_code(session, enter(), None, now)
    hashed, real = [], codes.hash_secret_raw

    def counting(*args, **kw):
        hashed.append(args)
        return real(*args, **kw)

    monkeypatch.setattr(codes, "hash_secret_raw", counting)
    for typed in ("AAAA-BBBB-CCCC", "", "no code at all, and far too long for one"):
        with pytest.raises(ActivationRefused):
            codes.check_code(session, tenant, number, typed, now)
    assert len(hashed) == 3


def test_a_code_stands_until_the_last_moment(session, enter, tenant, now):
    code = codes.issue_code(session, enter(), None, now)
    assert with_code(session, tenant, code, now + codes.CODE_LIFETIME - ALMOST)


def test_a_code_that_was_used_or_replaced_since_the_check_is_refused(session, enter, tenant, now):
    person = enter()
    hashed = hash_password(tenant.passwords, GOOD)
    old = codes.issue_code(session, person, None, now)
    early = codes.check_code(session, tenant, NUMBER, old, now)
    new = codes.issue_code(session, person, None, now)
    shown = codes.check_code(session, tenant, NUMBER, new, now)
    for of, at in ((early, now), (shown, now + codes.CODE_LIFETIME)):
        with pytest.raises(ActivationRefused):
            codes.use(session, of, hashed, at)
    codes.use(session, shown, hashed, now)
    with pytest.raises(ActivationRefused):
        codes.use(session, shown, hash_password(tenant.passwords, OTHER), now)
    assert password_of(session) == hashed


def test_nothing_shown_opens_nothing(session, enter, now):
    person = enter()
    codes.issue_code(session, person, None, now)
    with pytest.raises(ActivationRefused):
        codes.use(session, codes.Shown(person, True), "hash", now)
    assert count(session, Activation) == 1


def test_a_code_opens_its_own_account_alone(session, enter, tenant, now):
    mine, other = enter(), enter(number="12345678")
    code = codes.issue_code(session, mine, None, now)
    codes.issue_code(session, other, None, now)
    with pytest.raises(ActivationRefused):
        with_code(session, tenant, code, now, number="12345678")
    shown = codes.check_code(session, tenant, NUMBER, code, now)
    with pytest.raises(ActivationRefused):
        codes.use(session, replace(shown, person_id=other), "hash", now)


def test_activation_ends_sessions(session, enter, tenant, now):
    person = enter()
    token = sessions.open_session(session, person, now, methods=BY_PASSWORD, browser=BROWSER)[1]
    with_code(session, tenant, codes.issue_code(session, person, None, now), now)
    assert sessions.find_session(session, tenant, token, now) is None


def test_a_suspended_account_is_not_activated(session, enter, tenant, now):
    code = codes.issue_code(session, enter(), None, now)
    shown = codes.check_code(session, tenant, NUMBER, code, now)
    session.execute(update(Account).values(status=AccountStatus.SUSPENDED))
    with pytest.raises(ActivationRefused):
        codes.use(session, shown, "hash", now)
    with pytest.raises(ActivationRefused):
        codes.check_code(session, tenant, NUMBER, code, now)


def test_two_browsers_that_use_one_code_at_once(engine, tenant, now):
    """One gets in, the other is told that the code was used."""
    with Session(engine) as session, session.begin():
        person = people.register_person(
            session,
            scheme="citizen-card",
            number=NUMBER,
            profile=people.Profile("A", date(1980, 1, 1), "female"),
            role="patient",
            by=None,
            now=now,
        ).person_id
        code = codes.issue_code(session, person, None, now)
    barrier, outcomes = threading.Barrier(2), []

    def tab(name):
        with Session(engine) as session:
            shown = codes.check_code(session, tenant, NUMBER, code, now)
        barrier.wait(10)
        try:
            with Session(engine) as session, session.begin():
                codes.use(session, shown, name, now)
        except ActivationRefused:
            name = "refused"
        outcomes.append(name)

    threads = [threading.Thread(target=tab, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    with Session(engine) as session:
        assert sorted(outcomes, key="refused".__eq__)[1] == "refused"
        assert password_of(session) in outcomes
        assert count(session, Activation) == 0


# -- code and link -------------------------------------------------------------------------------


def test_with_an_address_it_takes_both_halves(session, enter, mailing, now):
    person = enter(email="ana@example.org")
    code = codes.issue_code(session, person, CLERK, now)
    with pytest.raises(LinkNeeded) as told:
        with_code(session, mailing, code, now)
    assert told.value.person_id == person
    token = mint(session, person, now)
    with pytest.raises(ActivationRefused):
        with_both(session, mailing, token, "AAAA-BBBB-CCCC", now)
    with pytest.raises(LinkNeeded):
        with_code(session, mailing, code, now)
    assert password_of(session) is None
    assert with_both(session, mailing, token, code, now) == person
    assert verify_password(mailing.passwords, password_of(session), GOOD)
    assert count(session, Activation) == 0


def test_a_wrong_code_does_not_tell_that_there_is_an_address(session, enter, mailing, now):
    codes.issue_code(session, enter(email="ana@example.org"), None, now)
    with pytest.raises(ActivationRefused):
        with_code(session, mailing, "AAAA-BBBB-CCCC", now)


def test_an_institution_without_mail_asks_for_the_code_alone(session, enter, tenant, now):
    person = enter(email="ana@example.org")
    made = codes.welcome(session, tenant, person, now)
    assert made.mail_sent is False
    assert count(session, OutgoingMail) == 0
    assert with_code(session, tenant, made.code, now) == person


def test_the_link_of_one_and_the_code_of_another(session, enter, mailing, now):
    ana, rui = enter(email="ana@example.org"), enter(number="12345678", email="rui@example.org")
    code = {person: codes.issue_code(session, person, None, now) for person in (ana, rui)}
    token = {person: mint(session, person, now) for person in (ana, rui)}
    for link, desk in ((ana, rui), (rui, ana)):
        with pytest.raises(ActivationRefused):
            with_both(session, mailing, token[link], code[desk], now)
    assert with_both(session, mailing, token[rui], code[rui], now) == rui


def test_each_half_runs_out_by_itself_and_is_renewed_by_itself(session, enter, mailing, now):
    person = enter(email="ana@example.org")
    code, token = codes.issue_code(session, person, None, now), mint(session, person, now)
    later = now + LINK_LIFETIME
    assert codes.check_link(session, MailKind.ACTIVATION, token, later - ALMOST)
    with pytest.raises(ActivationRefused):
        with_both(session, mailing, token, code, later)
    renewed = mint(session, person, later)
    codes.check_link_and_code(session, MailKind.ACTIVATION, renewed, code, later)
    much_later = now + codes.CODE_LIFETIME
    with pytest.raises(ActivationRefused):
        with_both(session, mailing, mint(session, person, much_later), code, much_later)
    newest = mint(session, person, much_later)
    again = codes.issue_code(session, person, None, much_later)
    assert with_both(session, mailing, newest, again, much_later) == person


def test_a_link_is_used_once(session, enter, mailing, now):
    person = enter(email="ana@example.org")
    code, token = codes.issue_code(session, person, None, now), mint(session, person, now)
    with_both(session, mailing, token, code, now)
    codes.issue_code(session, person, None, now)
    with pytest.raises(ActivationRefused):
        codes.check_link(session, MailKind.ACTIVATION, token, now)


def test_a_link_for_one_purpose_is_nothing_for_another(session, enter, now):
    token = mint(session, enter(email="ana@example.org"), now)
    for kind in (MailKind.RESET, MailKind.EMAIL_CONFIRM):
        with pytest.raises(ActivationRefused):
            codes.check_link(session, kind, token, now)


@pytest.mark.parametrize("token", ["", "A" * 43, "\ud800", "\x00", "é" * 5000, "' OR 1=1 --"])
def test_made_up_links(session, enter, now, token):
    mint(session, enter(email="ana@example.org"), now)
    with pytest.raises(ActivationRefused):
        codes.check_link(session, MailKind.ACTIVATION, token, now)


def test_whoever_reads_the_database_finds_no_token(session, enter, now):
    person = enter(email="ana@example.org")
    token = mint(session, person, now)
    assert len(token) == 43, "256 bits"
    (row,) = session.scalars(select(Activation))
    assert token.encode() not in row.link_hash
    assert row.link_hash == links.link_hash(MailKind.ACTIVATION, token)


# -- what the desk does --------------------------------------------------------------------------


def test_welcome_hands_over_a_code_and_mails_a_link(session, enter, mailing, now):
    person = enter(email="ana@example.org")
    made = codes.welcome(session, mailing, person, now, by=CLERK)
    assert made.mail_sent is True
    (mail,) = session.scalars(select(OutgoingMail))
    assert (mail.kind, mail.person_id, mail.address, mail.language) == (
        MailKind.ACTIVATION,
        person,
        "ana@example.org",
        "pt",
    )
    assert made.code.replace("-", "") not in mail.params.upper()
    token = mint(session, person, now)
    assert with_both(session, mailing, token, made.code, now) == person
    assert codes.welcome(session, mailing, person, now) == codes.Welcome(None, False)


def test_welcome_without_an_address_is_the_code(session, enter, mailing, now):
    person = enter()
    made = codes.welcome(session, mailing, person, now)
    assert made.mail_sent is False
    assert count(session, OutgoingMail) == 0
    assert with_code(session, mailing, made.code, now) == person


@pytest.mark.parametrize(
    ("email", "activated", "role", "way", "refusal"),
    [
        ("", False, "patient", codes.WayIn.CODE, None),
        ("", False, "volunteer", codes.WayIn.CODE, Reason.SECOND_PERSON_NEEDED),
        ("", False, "doctor", codes.WayIn.CODE, Reason.SECOND_PERSON_NEEDED),
        ("", True, "patient", codes.WayIn.CODE, Reason.SECOND_PERSON_NEEDED),
        ("a@example.org", False, "patient", codes.WayIn.FIRST_LINK, None),
        ("a@example.org", False, "doctor", codes.WayIn.FIRST_LINK, Reason.SECOND_PERSON_NEEDED),
        ("a@example.org", True, "porter", codes.WayIn.NEW_LINK, Reason.SECOND_PERSON_NEEDED),
        ("a@example.org", True, "patient", codes.WayIn.NEW_LINK, None),
    ],
)
def test_when_one_clerk_is_enough(
    session, enter, mailing, now, email, activated, role, way, refusal
):
    person = enter(email=email)
    if role != "patient":
        session.add(RoleGrant(person_id=person, role=role, granted_at=now))
    if activated:
        credentials.store_hash(session, person, "hash", now)
    assert codes.way_in(session, mailing, person) is way
    if refusal is None:
        codes.require_alone(session, mailing, person, CLERK)
    else:
        with pytest.raises(CodeNotIssued) as told:
            codes.require_alone(session, mailing, person, CLERK)
        assert told.value.reason is refusal


def test_an_account_that_opens_more_or_was_somebodys_takes_the_link(session, enter, mailing, now):
    """One at the desk ends a representation at once, and then the account is a patient's."""
    parent, email = enter(email=""), ""
    session.add(RoleGrant(person_id=parent, role="representative", granted_at=now))
    anew = enter(number="12345678", email=email)
    begin_anew(session, anew, now, None)
    for person in (parent, anew):
        with pytest.raises(CodeNotIssued) as told:
            codes.require_alone(session, mailing, person, CLERK)
        assert told.value.reason is Reason.SECOND_PERSON_NEEDED
    session.execute(update(Person).values(email="ana@example.org"))
    for person in (parent, anew):
        codes.require_alone(session, mailing, person, CLERK)


def test_nobody_issues_a_code_for_themselves_or_a_suspended_account(session, enter, mailing, now):
    person = enter(email="ana@example.org")
    with pytest.raises(CodeNotIssued) as told:
        codes.require_alone(session, mailing, person, person)
    assert told.value.reason is Reason.OWN_ACCOUNT
    session.execute(update(Account).values(status=AccountStatus.SUSPENDED))
    with pytest.raises(CodeNotIssued) as told:
        codes.require_alone(session, mailing, person, CLERK)
    assert told.value.reason is Reason.SUSPENDED


def test_housekeeping_deletes_what_ran_out(session, enter, now):
    ana, rui = enter(email="ana@example.org"), enter(number="12345678", email="rui@example.org")
    codes.issue_code(session, ana, None, now)
    for person in (ana, rui):
        mint(session, person, now)
    codes.forget_old_halves(session, now + LINK_LIFETIME - ALMOST)
    assert count(session, Activation) == 2
    codes.forget_old_halves(session, now + LINK_LIFETIME)
    session.expire_all()
    (left,) = session.scalars(select(Activation))
    assert (left.person_id, left.link_hash, left.link_expires_at) == (ana, None, None)
    assert left.code_hash is not None
    codes.forget_old_halves(session, now + codes.CODE_LIFETIME)
    assert count(session, Activation) == 0
