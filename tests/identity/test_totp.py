"""Authenticator apps: RFC 6238, no code twice, secrets that nobody reads from the database."""

import base64
import threading
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

import pyotp
import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from medportal.core.identity import Method
from medportal.core.reasons import Reason
from medportal.identity import factors, passkeys, totp
from medportal.identity.errors import CodeRefused, LastSecondFactor, SessionOver, SetupReplaced
from medportal.identity.models import LoginSession, Passkey, Person, RecoveryCode, Totp
from medportal.identity.people import Profile, register_person
from medportal.identity.recovery import codes_left, replace_codes
from medportal.identity.sessions import Browser, find_session, open_session
from medportal.mail.models import OutgoingMail
from medportal.vault.errors import VaultError
from medportal.vault.keyring import TenantKeyring
from medportal.vault.service import Vault

BROWSER = Browser("Firefox/140.0", "127.0.0.1", True)
#: RFC 6238, appendix B, SHA-1; the last six of the eight digits there.
RFC_SECRET = base64.b32encode(b"12345678901234567890").decode()
RFC_VECTORS = [
    (59, "287082"),
    (1111111109, "081804"),
    (1111111111, "050471"),
    (1234567890, "005924"),
    (2000000000, "279037"),
    (20000000000, "353130"),
]
STEP = timedelta(seconds=totp.STEP_SECONDS)


@pytest.fixture(scope="session")
def vault():
    return Vault("hospital", TenantKeyring.generate())


@pytest.fixture
def person(session, register):
    person_id = register().person_id
    session.execute(update(Person).values(email="amanda@example.org"))
    return person_id


def code_at(secret, at):
    return pyotp.TOTP(secret).at(at)


def set_up(session, vault, person, now):
    """Set an app up as a person does; return its secret. The code of ``now`` is used then."""
    totp.begin_setup(session, vault, person, now)
    setup = totp.setup_of(session, vault, person, now)
    checked = totp.check_setup(session, vault, person, setup.mark, code_at(setup.secret, now), now)
    totp.finish_setup(session, person, checked, now)
    return setup.secret


def give_secret(session, vault, person, secret, now):
    """Let an app with a known secret be in force that was never used."""
    sealed = vault.seal_secret("totp", person, secret.encode())
    session.add(Totp(person_id=person, sealed_secret=sealed, confirmed_at=now))
    session.flush()


def refused(session, vault, person, code, now):
    with pytest.raises(CodeRefused) as error:
        totp.verify(session, vault, person, code, now)
    return error.value.reason


def at(seconds):
    return datetime.fromtimestamp(seconds, UTC)


# -- RFC 6238 ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "code"), RFC_VECTORS)
def test_the_vectors_of_the_rfc(session, vault, person, seconds, code):
    give_secret(session, vault, person, RFC_SECRET, at(0))
    totp.verify(session, vault, person, code, at(seconds))
    assert refused(session, vault, person, code, at(seconds)) is Reason.USED_CODE


@pytest.mark.parametrize(
    ("offset", "reason"),
    [
        (-1800, Reason.WRONG_CODE),
        (-600, Reason.EXPIRED),
        (-60, Reason.EXPIRED),
        (-30, None),
        (0, None),
        (30, None),
        (60, Reason.WRONG_CODE),
    ],
)
def test_one_step_before_and_after_count_and_no_other(session, vault, person, now, offset, reason):
    give_secret(session, vault, person, RFC_SECRET, now)
    code = code_at(RFC_SECRET, now + timedelta(seconds=offset))
    if reason is None:
        totp.verify(session, vault, person, code, now)
    else:
        assert refused(session, vault, person, code, now) is reason


def test_the_window_ends_with_the_step_to_the_microsecond(session, vault, person):
    """A code counts for its own half minute and the two beside it: not a moment longer."""
    begin = at(1_700_000_010)
    code = code_at(RFC_SECRET, begin)
    give_secret(session, vault, person, RFC_SECRET, begin)
    tick = timedelta(microseconds=1)
    assert refused(session, vault, person, code, begin - STEP - tick) is Reason.WRONG_CODE
    assert refused(session, vault, person, code, begin + 2 * STEP) is Reason.EXPIRED
    totp.verify(session, vault, person, code, begin + 2 * STEP - tick)
    give_secret_again = update(Totp).values(last_step=None)
    session.execute(give_secret_again)
    totp.verify(session, vault, person, code, begin - STEP)


# -- a used code is used -------------------------------------------------------------------------


def test_no_code_is_accepted_twice_nor_an_older_one_afterwards(session, vault, person, now):
    give_secret(session, vault, person, RFC_SECRET, now)
    earlier, later = code_at(RFC_SECRET, now - STEP), code_at(RFC_SECRET, now + STEP)
    totp.verify(session, vault, person, code_at(RFC_SECRET, now), now)
    assert refused(session, vault, person, code_at(RFC_SECRET, now), now) is Reason.USED_CODE
    assert refused(session, vault, person, earlier, now) is Reason.USED_CODE
    totp.verify(session, vault, person, later, now)
    assert refused(session, vault, person, later, now + STEP) is Reason.USED_CODE


def test_a_wrong_code_uses_nothing_up(session, vault, person, now):
    give_secret(session, vault, person, RFC_SECRET, now)
    for wrong in ("000000", "", "abcdef", "1" * 5000, "é\ud800", RFC_SECRET):
        assert refused(session, vault, person, wrong, now) is Reason.WRONG_CODE
    assert session.scalar(select(Totp.last_step)) is None
    totp.verify(session, vault, person, code_at(RFC_SECRET, now), now)


def test_the_code_that_confirmed_an_app_does_not_sign_in(session, vault, person, now):
    secret = set_up(session, vault, person, now)
    assert refused(session, vault, person, code_at(secret, now), now) is Reason.USED_CODE
    totp.verify(session, vault, person, code_at(secret, now + STEP), now + STEP)


def test_of_many_with_one_code_at_once_one_succeeds(engine, vault, now):
    with Session(engine) as session, session.begin():
        person = a_person(session, now)
        give_secret(session, vault, person, RFC_SECRET, now)
    outcomes = at_once(
        engine, 8, lambda s: totp.verify(s, vault, person, code_at(RFC_SECRET, now), now)
    )
    assert sorted(outcomes, key=str) == [None] + [Reason.USED_CODE] * 7


def a_person(session, now):
    return register_person(
        session,
        scheme="citizen-card",
        number="17645234",
        profile=Profile("Amanda Júlio", date(1980, 2, 3), "female", email="a@example.org"),
        role="patient",
        by=None,
        now=now,
    ).person_id


def at_once(engine, count, act):
    """Run ``act`` in so many transactions at one moment; return their refusals' reasons."""
    barrier = threading.Barrier(count)
    outcomes = []

    def run():
        barrier.wait(20)
        try:
            with Session(engine) as session, session.begin():
                act(session)
            outcomes.append(None)
        except CodeRefused as error:
            outcomes.append(error.reason)
        except SetupReplaced:
            outcomes.append("replaced")

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return outcomes


# -- setting up ----------------------------------------------------------------------------------


def test_an_app_counts_only_when_a_right_code_was_given(session, vault, person, now):
    totp.begin_setup(session, vault, person, now)
    setup = totp.setup_of(session, vault, person, now)
    assert factors.second_factors(session, person) == frozenset()
    assert totp.app_since(session, person) is None
    code = code_at(setup.secret, now)
    assert refused(session, vault, person, code, now) is Reason.WRONG_CODE
    with pytest.raises(CodeRefused):
        totp.check_setup(session, vault, person, setup.mark, "000000", now)
    checked = totp.check_setup(session, vault, person, setup.mark, code, now)
    assert factors.second_factors(session, person) == frozenset()
    assert totp.finish_setup(session, person, checked, now) is False
    assert factors.second_factors(session, person) == {Method.TOTP}
    assert totp.app_since(session, person) == now
    assert totp.setup_of(session, vault, person, now) is None
    (mail,) = session.scalars(select(OutgoingMail))
    assert (mail.kind, mail.params) == ("second-factor-added", '{"factor": "totp"}')


def test_secrets_are_long_and_each_is_new(session, vault, person, now):
    seen = set()
    for _ in range(5):
        totp.begin_setup(session, vault, person, now)
        seen.add(totp.setup_of(session, vault, person, now).secret)
    assert len(seen) == 5
    assert all(len(base64.b32decode(secret)) == 20 for secret in seen)


def test_a_setup_is_over_after_half_an_hour(session, vault, person, now):
    totp.begin_setup(session, vault, person, now)
    last = now + totp.SETUP_LIFETIME - timedelta(microseconds=1)
    setup = totp.setup_of(session, vault, person, last)
    assert totp.setup_of(session, vault, person, now + totp.SETUP_LIFETIME) is None
    late = now + totp.SETUP_LIFETIME
    with pytest.raises(SetupReplaced):
        totp.check_setup(session, vault, person, setup.mark, code_at(setup.secret, late), late)


def test_of_two_tabs_the_last_wins_and_the_first_is_told(session, vault, person, now):
    totp.begin_setup(session, vault, person, now)
    first = totp.setup_of(session, vault, person, now)
    totp.begin_setup(session, vault, person, now)
    second = totp.setup_of(session, vault, person, now)
    for mark, secret in (
        (first.mark, first.secret),
        ("", second.secret),
        ("é" * 32, second.secret),
    ):
        with pytest.raises(SetupReplaced):
            totp.check_setup(session, vault, person, mark, code_at(secret, now), now)
    code = code_at(second.secret, now)
    checked = totp.check_setup(session, vault, person, second.mark, code, now)
    totp.begin_setup(session, vault, person, now)
    with pytest.raises(SetupReplaced):
        totp.finish_setup(session, person, checked, now)
    assert factors.second_factors(session, person) == frozenset()


def test_a_setup_is_finished_once(engine, vault, now):
    with Session(engine) as session, session.begin():
        person = a_person(session, now)
        totp.begin_setup(session, vault, person, now)
        setup = totp.setup_of(session, vault, person, now)
        code = code_at(setup.secret, now)
        checked = totp.check_setup(session, vault, person, setup.mark, code, now)
    outcomes = at_once(engine, 4, lambda s: totp.finish_setup(s, person, checked, now))
    assert sorted(map(str, outcomes)) == ["None"] + ["replaced"] * 3


def test_the_old_phone_works_until_the_new_one_is_confirmed(session, vault, person, now):
    old = set_up(session, vault, person, now)
    later = now + 10 * STEP
    totp.begin_setup(session, vault, person, later)
    totp.verify(session, vault, person, code_at(old, later), later)
    setup = totp.setup_of(session, vault, person, later)
    code = code_at(setup.secret, later)
    checked = totp.check_setup(session, vault, person, setup.mark, code, later)
    assert totp.finish_setup(session, person, checked, later) is True
    even_later = later + 2 * STEP
    assert refused(session, vault, person, code_at(old, even_later), even_later)
    totp.verify(session, vault, person, code_at(setup.secret, even_later), even_later)


# -- a thief with the database -------------------------------------------------------------------


def test_the_database_holds_no_secret(session, vault, person, now):
    secret = set_up(session, vault, person, now)
    totp.begin_setup(session, vault, person, now)
    row = session.execute(select(Totp.sealed_secret, Totp.pending_secret)).one()
    for sealed in row:
        assert secret.encode() not in sealed
        assert base64.b32decode(secret) not in sealed
    assert secret not in repr(totp.setup_of(session, vault, person, now))


def test_a_secret_opens_for_its_own_person_and_institution_alone(
    session, register, vault, person, now
):
    """Who can write into the database gains nothing by giving somebody their own app."""
    secret = set_up(session, vault, person, now)
    other = register(number="12345678").person_id
    sealed = session.scalar(select(Totp.sealed_secret).where(Totp.person_id == person))
    session.add(Totp(person_id=other, sealed_secret=sealed, confirmed_at=now))
    session.flush()
    later = now + STEP
    with pytest.raises(VaultError):
        totp.verify(session, vault, other, code_at(secret, later), later)
    for purpose, owner in (("other", person), ("totp", other)):
        with pytest.raises(VaultError):
            vault.open_secret(purpose, owner, sealed)
    for stranger in (
        Vault("laboratory", vault._keyring),
        Vault("hospital", TenantKeyring.generate()),
    ):
        with pytest.raises(VaultError):
            totp.verify(session, stranger, person, code_at(secret, later), later)


def test_a_secret_outlives_a_new_tenant_key(session, person, now):
    keyring = TenantKeyring.generate()
    secret = set_up(session, Vault("hospital", keyring), person, now)
    rotated = Vault("hospital", keyring.rotated())
    totp.verify(session, rotated, person, code_at(secret, now + STEP), now + STEP)


# -- what people see and type --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("123456", "123456"),
        (" 123 456\n", "123456"),
        ("123-456", "123456"),
        ("123\u00a0456", "123456"),
        ("123\u200b456", "123456"),
        ("123–456", "123456"),
        ("000042", "000042"),
        ("１２３４５６", "123456"),
        ("١٢٣٤٥٦", "123456"),
        ("12345", None),
        ("1234567", None),
        ("12345O", None),
        ("12345a", None),
        ("½23456", None),
        ("²23456", None),
        ("+12345", None),
        ("1_2345", None),
        ("", None),
        ("1" * 10_000_000, None),
        ("123456\0", None),
    ],
)
def test_codes_are_read_as_people_type_them(typed, read):
    assert totp.read_code(typed) == read


def test_what_the_picture_says():
    uri = totp.provisioning_uri(RFC_SECRET, "Amanda Júlio", "Hospital da Ribeira")
    parts = urlsplit(uri)
    assert (parts.scheme, parts.netloc) == ("otpauth", "totp")
    assert unquote(parts.path) == "/Hospital da Ribeira:Amanda Júlio"
    assert parse_qs(parts.query) == {"secret": [RFC_SECRET], "issuer": ["Hospital da Ribeira"]}
    assert pyotp.parse_uri(uri).at(59) == "287082"


@pytest.mark.parametrize(
    "name", ["A:B", "x" * 200, "<b>&\"'", "a\r\nb", "", "日本 語", "a?secret=b"]
)
def test_odd_names_stay_in_their_place(name):
    uri = totp.provisioning_uri(RFC_SECRET, name, name)
    parsed = pyotp.parse_uri(uri)
    assert parsed.secret == RFC_SECRET
    assert ":" not in parsed.name and len(parsed.name) <= 64
    assert totp.qr_code(uri)


def test_the_picture_is_an_element_that_our_policy_lets_show():
    """Neither style attributes nor script: the Content-Security-Policy would drop them."""
    picture = totp.qr_code(totp.provisioning_uri(RFC_SECRET, "Amanda Júlio", "Hospital"))
    root = ElementTree.fromstring(picture)
    for element in root.iter():
        assert not {"style", "href"} & set(element.attrib)
        assert element.tag in {"svg", "path", "g"}
    assert root.attrib["class"] == "qr"


def test_the_key_is_read_out_in_groups_of_four():
    assert totp.in_groups(RFC_SECRET) == "GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ"


# -- removing ------------------------------------------------------------------------------------


def sign_in(session, tenant, person, now, methods):
    _id, token = open_session(session, person, now, methods=frozenset(methods), browser=BROWSER)
    session.flush()
    return token, find_session(session, tenant, token, now)


def add_passkey(session, person, now):
    session.add(
        Passkey(
            id="a" * 32,
            person_id=person,
            credential_id=b"c",
            public_key=b"k",
            sign_count=0,
            transports="",
            backed_up=False,
            name="Phone",
            created_at=now,
        )
    )
    session.flush()


def remove_app(session, person, login, now, long_password):
    return factors.remove_factor(
        session,
        login,
        Method.TOTP,
        lambda: totp.remove(session, person),
        now,
        long_password=long_password,
    )


def test_with_the_last_factor_go_recovery_codes_and_other_sessions(
    session, tenant, vault, person, now
):
    set_up(session, vault, person, now)
    replace_codes(session, person, now)
    token, login = sign_in(session, tenant, person, now, {Method.PASSWORD, Method.TOTP})
    sign_in(session, tenant, person, now, {Method.PASSWORD, Method.RECOVERY_CODE})
    assert remove_app(session, person, login, now, True) is True
    assert factors.second_factors(session, person) == frozenset()
    assert codes_left(session, person) == 0
    assert session.scalars(select(LoginSession.id)).all() == [login.id]
    session.expire_all()
    assert find_session(session, tenant, token, now).methods == {Method.PASSWORD}
    kinds = session.scalars(select(OutgoingMail.kind).order_by(OutgoingMail.kind)).all()
    assert kinds[-1] == "second-factor-removed"
    assert remove_app(session, person, login, now, True) is False
    assert len(session.scalars(select(OutgoingMail.id)).all()) == len(kinds)


def test_a_short_password_is_not_left_alone(session, tenant, vault, person, now):
    set_up(session, vault, person, now)
    replace_codes(session, person, now)
    _token, login = sign_in(session, tenant, person, now, {Method.PASSWORD, Method.TOTP})
    with pytest.raises(LastSecondFactor):
        remove_app(session, person, login, now, False)
    assert factors.second_factors(session, person) == {Method.TOTP}
    assert codes_left(session, person) == 10
    add_passkey(session, person, now)
    token, login = sign_in(session, tenant, person, now, {Method.PASSWORD, Method.TOTP})
    assert remove_app(session, person, login, now, False) is True
    assert factors.second_factors(session, person) == {Method.PASSKEY}
    assert codes_left(session, person) == 10
    session.expire_all()
    # Until the passkey is used, this session is one with a password that is too short alone.
    assert find_session(session, tenant, token, now).methods == {Method.SHORT_PASSWORD}


@pytest.mark.parametrize(
    ("methods", "after"),
    [
        ({Method.PASSKEY}, {Method.PASSKEY}),
        ({Method.PASSKEY, Method.PASSWORD, Method.TOTP}, {Method.PASSKEY, Method.PASSWORD}),
        ({Method.RECOVERY_CODE, Method.PASSWORD}, {Method.RECOVERY_CODE, Method.PASSWORD}),
        ({Method.TOTP, Method.SHORT_PASSWORD}, {Method.PASSWORD}),
    ],
)
def test_a_session_loses_what_was_removed_and_no_more(
    session, tenant, vault, person, now, methods, after
):
    set_up(session, vault, person, now)
    add_passkey(session, person, now)
    token, login = sign_in(session, tenant, person, now, methods)
    remove_app(session, person, login, now, True)
    session.expire_all()
    assert find_session(session, tenant, token, now).methods == after


def test_two_removals_at_once_do_not_leave_a_short_password_alone(engine, tenant, vault, now):
    """The app in one tab and the passkey in another: one of the two is told no."""
    with Session(engine) as session, session.begin():
        person = a_person(session, now)
        give_secret(session, vault, person, RFC_SECRET, now)
        add_passkey(session, person, now)
        _token, login = sign_in(session, tenant, person, now, {Method.PASSWORD, Method.TOTP})
    ways = [
        (Method.TOTP, lambda s: totp.remove(s, person)),
        (Method.PASSKEY, lambda s: passkeys.remove(s, person, "a" * 32)),
    ]
    outcomes = []
    lock = threading.Lock()

    def one(session):
        with lock:
            factor, removal = ways.pop()
        try:
            factors.remove_factor(
                session, login, factor, lambda: removal(session), now, long_password=False
            )
            outcomes.append("removed")
        except (LastSecondFactor, SessionOver):
            # Whoever removed the app, with which they signed in, has to sign in again first.
            outcomes.append("refused")

    at_once(engine, 2, one)
    assert sorted(outcomes) == ["refused", "removed"]
    with Session(engine) as session:
        assert len(factors.second_factors(session, person)) == 1


def test_the_institution_removes_everything(session, tenant, register, vault, person, now):
    other = register(number="12345678").person_id
    for somebody in (person, other):
        set_up(session, vault, somebody, now)
        replace_codes(session, somebody, now)
        sign_in(session, tenant, somebody, now, {Method.PASSWORD, Method.TOTP})
    add_passkey(session, person, now)
    factors.remove_all_factors(session, person, now)
    assert factors.second_factors(session, person) == frozenset()
    assert set(session.scalars(select(LoginSession.person_id))) == {other}
    assert set(session.scalars(select(RecoveryCode.person_id))) == {other}
    assert factors.second_factors(session, other) == {Method.TOTP}
    params = session.scalars(
        select(OutgoingMail.params).where(OutgoingMail.kind == "second-factor-removed")
    ).all()
    assert params == ['{"factor": "all"}']


def test_which_roles_require_one(tenant):
    doctor = replace(tenant.roles["doctor"], second_factor=True)
    strict = replace(tenant, roles={**tenant.roles, "doctor": doctor})
    assert factors.roles_that_require(strict, {"doctor", "patient", "gone"}) == ["doctor"]
    assert factors.roles_that_require(tenant, {"doctor", "patient"}) == []


def test_no_code_counts_before_an_app_is_confirmed(session, vault, person, now, monkeypatch):
    """Not even one of the secret that stands in where there is none."""
    totp.begin_setup(session, vault, person, now)
    monkeypatch.setattr("pyotp.random_base32", lambda *_: RFC_SECRET)
    with pytest.raises(CodeRefused) as error:
        totp.verify(session, vault, person, code_at(RFC_SECRET, now), now)
    assert error.value.reason is Reason.WRONG_CODE
    sealed = vault.seal_secret("totp", person, RFC_SECRET.encode())
    session.execute(update(Totp).values(sealed_secret=sealed))
    with pytest.raises(CodeRefused):
        totp.verify(session, vault, person, code_at(RFC_SECRET, now), now)
    assert session.scalar(select(Totp.last_step)) is None
