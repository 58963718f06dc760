"""Passkeys in the database: challenges that count once, and whose passkey it is."""

import json
from dataclasses import replace
from datetime import date, timedelta
from threading import Barrier, Thread

import pytest
from software_authenticator import Authenticator
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from medportal.core.reasons import Reason
from medportal.identity import passkeys
from medportal.identity.ceremonies import Purpose, Site, parse_new, parse_use
from medportal.identity.errors import PasskeyRefused, TooManyPasskeys
from medportal.identity.models import Account, Passkey, PasskeyChallenge
from medportal.identity.passkeys import Ceremony
from medportal.identity.people import Profile, register_person

ORIGIN = "https://hospital.localhost:8443"
SITE = Site("hospital.localhost", ORIGIN, "Riverside Hospital")
NETWORK = b"n" * 32


def asked(purpose=Purpose.SIGN_IN, person_id=None, bound_to="this browser"):
    return Ceremony(purpose, person_id, bound_to, NETWORK)


def add(session, person_id, device, now, name="My phone"):
    """Make a passkey and store it."""
    ceremony = asked(Purpose.ADD, person_id, "a session")
    options = passkeys.new_options(session, SITE, ceremony, person_id, now)
    answer = parse_new(json.dumps(device.create(options, ORIGIN)))
    made = passkeys.check_new(session, SITE, ceremony, answer, now)
    return passkeys.add(session, person_id, made, name, now)


def answer(session, ceremony, device, now, **lies):
    """Return what a browser answers to a new challenge."""
    options = passkeys.use_options(session, SITE, ceremony, now)
    return parse_use(json.dumps(device.get(options, ORIGIN, **lies)))


def use(session, ceremony, device, now, **lies):
    proof = passkeys.check_use(
        session, SITE, ceremony, answer(session, ceremony, device, now, **lies), now
    )
    passkeys.accept_use(session, proof, now)
    return proof


def refused(session, ceremony, said, now):
    """Return why an answer is refused."""
    with pytest.raises(PasskeyRefused) as caught:
        passkeys.check_use(session, SITE, ceremony, said, now)
    return caught.value.reason


def open_challenges(session):
    return session.scalar(select(func.count()).select_from(PasskeyChallenge))


@pytest.fixture
def ana(session, register):
    return register("17645234", name="Ana").person_id


@pytest.fixture
def rui(session, register):
    return register("19573526", name="Rui").person_id


def test_a_passkey_is_added_listed_used_renamed_and_removed(session, ana, now):
    device = Authenticator()
    passkey_id = add(session, ana, device, now)
    [line] = passkeys.passkeys_of(session, ana)
    assert (line.id, line.name, line.created_at) == (passkey_id, "My phone", now)
    assert (line.last_used_at, line.backed_up) == (None, False)

    later = now + timedelta(hours=1)
    assert use(session, asked(), device, later).person_id == ana
    session.expire_all()
    assert passkeys.find_passkey(session, ana, passkey_id).last_used_at == later

    assert passkeys.rename(session, ana, passkey_id, "Old phone")
    session.expire_all()
    assert passkeys.find_passkey(session, ana, passkey_id).name == "Old phone"
    assert passkeys.remove(session, ana, passkey_id)
    assert passkeys.passkeys_of(session, ana) == []
    said = answer(session, asked(), device, later)
    assert refused(session, asked(), said, later) is Reason.UNKNOWN_PASSKEY


def test_another_person_neither_finds_renames_nor_removes_it(session, ana, rui, now):
    passkey_id = add(session, ana, Authenticator(), now)
    assert passkeys.find_passkey(session, rui, passkey_id) is None
    assert not passkeys.rename(session, rui, passkey_id, "Mine")
    assert not passkeys.remove(session, rui, passkey_id)
    session.expire_all()
    assert [line.name for line in passkeys.passkeys_of(session, ana)] == ["My phone"]


def test_nobody_is_named_to_strangers_and_own_passkeys_to_their_person(session, ana, rui, now):
    device = Authenticator()
    add(session, ana, device, now)
    add(session, rui, Authenticator(), now)
    assert passkeys.use_options(session, SITE, asked(), now)["allowCredentials"] == []
    ceremony = asked(Purpose.SECOND_STEP, ana, "half")
    options = passkeys.use_options(session, SITE, ceremony, now)
    assert len(options["allowCredentials"]) == 1
    assert device.get(options, ORIGIN)["rawId"] == options["allowCredentials"][0]["id"]


def test_a_device_is_told_what_it_has_already(session, ana, now):
    add(session, ana, Authenticator(), now)
    options = passkeys.new_options(session, SITE, asked(Purpose.ADD, ana), ana, now)
    assert len(options["excludeCredentials"]) == 1
    assert options["user"]["displayName"] == "Ana"


def test_a_challenge_counts_once(session, ana, now):
    device = Authenticator()
    add(session, ana, device, now)
    said = answer(session, asked(), device, now)
    passkeys.accept_use(session, passkeys.check_use(session, SITE, asked(), said, now), now)
    assert refused(session, asked(), said, now) is Reason.EXPIRED


def test_a_challenge_lasts_five_minutes(session, ana, now):
    device = Authenticator()
    add(session, ana, device, now)
    said = answer(session, asked(), device, now)
    last = now + timedelta(minutes=5) - timedelta(seconds=1)
    assert passkeys.check_use(session, SITE, asked(), said, last)
    assert refused(session, asked(), said, now + timedelta(minutes=5)) is Reason.EXPIRED


def test_a_challenge_is_for_its_purpose_person_and_session(session, ana, rui, now):
    device = Authenticator()
    add(session, ana, device, now)
    mine = asked(Purpose.CONFIRM, ana, "my session")
    said = answer(session, mine, device, now)
    for other in (
        asked(Purpose.SECOND_STEP, ana, "my session"),
        asked(Purpose.ADD, ana, "my session"),
        asked(Purpose.CONFIRM, ana, "another session"),
        asked(Purpose.CONFIRM, rui, "my session"),
        asked(Purpose.SIGN_IN, None, "my session"),
    ):
        assert refused(session, other, said, now) is Reason.EXPIRED
    assert passkeys.check_use(session, SITE, mine, said, now)


def test_a_challenge_of_another_browser_is_not_taken(session, ana, now):
    device = Authenticator()
    add(session, ana, device, now)
    said = answer(session, asked(bound_to="the thief's browser"), device, now)
    assert refused(session, asked(bound_to="the victim's browser"), said, now) is Reason.EXPIRED


def test_a_challenge_that_we_never_sent_is_not_taken(session, ana, now):
    device = Authenticator()
    add(session, ana, device, now)
    own = {"challenge": "A" * 43, "allowCredentials": [], "rpId": SITE.rp_id}
    said = parse_use(json.dumps(device.get(own, ORIGIN)))
    assert refused(session, asked(), said, now) is Reason.EXPIRED


def test_another_persons_passkey_is_no_second_step(session, ana, rui, now):
    """A colleague who knows Ana's password brings their own passkey."""
    add(session, ana, Authenticator(), now)
    theirs = Authenticator()
    add(session, rui, theirs, now)
    ceremony = asked(Purpose.SECOND_STEP, ana, "half")
    said = answer(session, ceremony, theirs, now, credential=theirs.kept[0])
    assert refused(session, ceremony, said, now) is Reason.UNKNOWN_PASSKEY


def test_swapped_credential_ids_do_not_pass(session, ana, rui, now):
    """Rui signs, and names Ana's passkey and Ana."""
    hers, theirs = Authenticator(), Authenticator()
    add(session, ana, hers, now)
    add(session, rui, theirs, now)
    forged = replace(hers.kept[0], private=theirs.kept[0].private)
    said = answer(session, asked(), theirs, now, credential=forged)
    assert refused(session, asked(), said, now) is Reason.WRONG_CREDENTIALS


def test_who_signs_in_is_who_the_authenticator_keeps_it_for(session, ana, rui, now):
    device = Authenticator()
    add(session, ana, device, now)
    for handle in (bytes.fromhex(rui), b"", b"somebody", None):
        said = answer(session, asked(), device, now, user_handle=handle)
        assert refused(session, asked(), said, now) is Reason.UNKNOWN_PASSKEY
    # Where it is known who is asked, an older authenticator may leave it out.
    known = asked(Purpose.CONFIRM, ana, "a session")
    assert use(session, known, device, now, user_handle=None).person_id == ana
    said = answer(session, known, device, now, user_handle=bytes.fromhex(rui))
    assert refused(session, known, said, now) is Reason.UNKNOWN_PASSKEY


def test_a_passkey_of_another_institution_is_unknown_here(session, ana, now):
    there = Site("laboratory.localhost", "https://laboratory.localhost:8444", "Laboratory")
    device = Authenticator()
    add(session, ana, device, now)
    said = answer(session, asked(), device, now, rp_id=there.rp_id)
    assert refused(session, asked(), said, now) is Reason.WRONG_CREDENTIALS
    options = passkeys.use_options(session, SITE, asked(), now)
    elsewhere = parse_use(json.dumps(device.get(options, there.origin)))
    assert refused(session, asked(), elsewhere, now) is Reason.WRONG_SITE


@pytest.mark.parametrize("count", [7, 6, 1, 0])
def test_a_counter_that_does_not_go_on_is_a_possible_copy(session, ana, now, count):
    device = Authenticator(step=7)
    add(session, ana, device, now)
    assert use(session, asked(), device, now).new_count == 7
    session.expire_all()
    said = answer(session, asked(), device, now, count=count)
    assert refused(session, asked(), said, now) is Reason.POSSIBLE_CLONE
    # Nothing was noted of it: the real one goes on.
    assert use(session, asked(), device, now).new_count == 21


def test_the_counter_is_believed_only_with_a_signature(session, ana, now):
    device = Authenticator(step=7)
    add(session, ana, device, now)
    use(session, asked(), device, now)
    session.expire_all()
    stranger = Authenticator()._new_key()
    said = answer(session, asked(), device, now, count=1, private=stranger)
    assert refused(session, asked(), said, now) is Reason.WRONG_CREDENTIALS


def test_an_authenticator_without_a_counter_is_no_copy(session, ana, now):
    device = Authenticator(step=0)
    add(session, ana, device, now)
    for _time in range(3):
        assert use(session, asked(), device, now).new_count == 0


def test_the_suspended_are_refused(session, ana, now):
    device = Authenticator()
    add(session, ana, device, now)
    said = answer(session, asked(), device, now)
    session.execute(update(Account).where(Account.person_id == ana).values(status="suspended"))
    assert refused(session, asked(), said, now) is Reason.SUSPENDED


def test_what_happened_since_it_was_verified_wins(session, ana, now):
    device = Authenticator()
    passkey_id = add(session, ana, device, now)

    def proof():
        said = answer(session, asked(), device, now)
        session.expire_all()
        return passkeys.check_use(session, SITE, asked(), said, now)

    verified = proof()
    session.execute(update(Passkey).values(sign_count=100))
    with pytest.raises(PasskeyRefused):
        passkeys.accept_use(session, verified, now)
    session.execute(update(Passkey).values(sign_count=1))
    verified = proof()
    session.execute(update(Account).where(Account.person_id == ana).values(status="suspended"))
    with pytest.raises(PasskeyRefused) as caught:
        passkeys.accept_use(session, verified, now)
    assert caught.value.reason is Reason.SUSPENDED
    session.execute(update(Account).where(Account.person_id == ana).values(status="active"))
    verified = proof()
    passkeys.remove(session, ana, passkey_id)
    with pytest.raises(PasskeyRefused):
        passkeys.accept_use(session, verified, now)


def test_a_refused_answer_takes_its_challenge_away(session, ana, now):
    device = Authenticator()
    add(session, ana, device, now)
    wrong = answer(session, asked(), device, now, private=Authenticator()._new_key())
    assert open_challenges(session) == 1
    passkeys.discard(session, asked(bound_to="somebody else's browser"), wrong.client_data)
    assert open_challenges(session) == 1
    passkeys.discard(session, asked(), wrong.client_data)
    assert open_challenges(session) == 0
    passkeys.discard(session, asked(), b"no client data")


def test_a_new_passkey_wants_its_challenge_too(session, ana, now):
    ceremony = asked(Purpose.ADD, ana, "a session")
    options = passkeys.new_options(session, SITE, ceremony, ana, now)
    said = parse_new(json.dumps(Authenticator().create(options, ORIGIN)))
    other = asked(Purpose.ADD, ana, "another session")
    with pytest.raises(PasskeyRefused):
        passkeys.check_new(session, SITE, other, said, now)
    made = passkeys.check_new(session, SITE, ceremony, said, now)
    passkeys.add(session, ana, made, "Phone", now)
    with pytest.raises(PasskeyRefused):
        passkeys.check_new(session, SITE, ceremony, said, now)
    with pytest.raises(PasskeyRefused):
        passkeys.add(session, ana, made, "Phone again", now)


def test_a_passkey_belongs_to_one_person(session, ana, rui, now):
    """Somebody offers a credential that is another's, or a copy of their own."""
    device = Authenticator()
    add(session, ana, device, now)
    for person in (rui, ana):
        ceremony = asked(Purpose.ADD, person, "a session")
        options = passkeys.new_options(session, SITE, ceremony, person, now)
        taken = device.kept[0].id
        said = parse_new(json.dumps(Authenticator().create(options, ORIGIN, credential_id=taken)))
        made = passkeys.check_new(session, SITE, ceremony, said, now)
        with pytest.raises(PasskeyRefused):
            passkeys.add(session, person, made, "Mine", now)
    assert passkeys.passkeys_of(session, rui) == []
    assert use(session, asked(), device, now).person_id == ana


def test_nobody_has_more_than_twenty(session, ana, now):
    ceremony = asked(Purpose.ADD, ana, "a session")
    options = passkeys.new_options(session, SITE, ceremony, ana, now)
    said = parse_new(json.dumps(Authenticator().create(options, ORIGIN)))
    made = passkeys.check_new(session, SITE, ceremony, said, now)
    for number in range(passkeys.MOST_PASSKEYS):
        add(session, ana, Authenticator(), now, f"Key {number}")
    with pytest.raises(TooManyPasskeys):
        passkeys.new_options(session, SITE, ceremony, ana, now)
    with pytest.raises(TooManyPasskeys):
        passkeys.add(session, ana, made, "One too many", now)


def test_strangers_do_not_fill_the_table(session, now, monkeypatch):
    monkeypatch.setattr(passkeys, "MOST_OPEN", 10)
    elsewhere = replace(asked(), sent_to=b"m" * 32)
    passkeys.use_options(session, SITE, elsewhere, now - timedelta(minutes=4))
    for moment in range(30):
        passkeys.use_options(session, SITE, asked(), now + timedelta(seconds=moment))
        session.flush()
    assert open_challenges(session) == 10 + 1
    oldest = session.scalar(
        select(func.min(PasskeyChallenge.expires_at)).where(PasskeyChallenge.sent_to == NETWORK)
    )
    assert oldest == now + timedelta(seconds=20) + passkeys.LIFETIME


def test_however_many_ask_the_newest_is_answered(session, ana, now, monkeypatch):
    monkeypatch.setattr(passkeys, "MOST_OPEN", 10)
    device = Authenticator()
    add(session, ana, device, now)
    for _time in range(25):
        passkeys.use_options(session, SITE, asked(), now)
        session.flush()
    later = now + timedelta(seconds=1)
    said = answer(session, asked(), device, later)
    session.flush()
    for _time in range(9):
        passkeys.use_options(session, SITE, asked(bound_to="a program"), later)
        session.flush()
    proof = passkeys.check_use(session, SITE, asked(), said, later)
    passkeys.accept_use(session, proof, later)


def test_answering_makes_room(session, ana, now, monkeypatch):
    monkeypatch.setattr(passkeys, "MOST_OPEN", 1)
    device = Authenticator()
    add(session, ana, device, now)
    session.flush()
    passkeys.forget_stale_challenges(session, now + timedelta(hours=1))
    for _time in range(3):
        use(session, asked(), device, now)


def test_a_session_has_room_of_its_own(session, ana, now):
    ceremony = asked(Purpose.CONFIRM, ana, "a session")
    for _time in range(passkeys.MOST_OPEN_OF_SESSION + 5):
        passkeys.use_options(session, SITE, ceremony, now)
        session.flush()
    assert open_challenges(session) == passkeys.MOST_OPEN_OF_SESSION == 10


def test_stale_challenges_are_forgotten(session, now):
    passkeys.use_options(session, SITE, asked(), now)
    passkeys.use_options(session, SITE, asked(), now + timedelta(minutes=2))
    session.flush()
    passkeys.forget_stale_challenges(session, now + timedelta(minutes=6))
    assert open_challenges(session) == 1


def test_of_two_answers_at_once_one_counts(engine, now):
    """Both were verified before either was accepted."""
    with Session(engine) as session, session.begin():
        profile = Profile("Ana", date(1980, 2, 3), "female")
        person_id = register_person(
            session,
            scheme="citizen-card",
            number="17645234",
            profile=profile,
            role="doctor",
            by=None,
            now=now,
        ).person_id
    device = Authenticator(step=0)
    with Session(engine) as session, session.begin():
        add(session, person_id, device, now)
    with Session(engine) as session, session.begin():
        said = answer(session, asked(), device, now)
    with Session(engine) as session:
        proof = passkeys.check_use(session, SITE, asked(), said, now)
    outcomes, together = [], Barrier(2)

    def accept():
        together.wait()
        try:
            with Session(engine) as session, session.begin():
                passkeys.accept_use(session, proof, now)
            outcomes.append("accepted")
        except PasskeyRefused as refusal:
            outcomes.append(refusal.reason)

    threads = [Thread(target=accept) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, outcomes)) == ["accepted", "expired"]
