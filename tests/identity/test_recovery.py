"""Recovery codes: shown once, hashed with a salt for one person, good once."""

import threading
from datetime import date, timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from medportal.core.reasons import Reason
from medportal.identity import recovery
from medportal.identity.errors import CodeRefused
from medportal.identity.models import RecoveryCode
from medportal.identity.people import Profile, register_person
from medportal.mail.models import OutgoingMail

HOUR = timedelta(hours=1)


def somebody(session, now, number="17645234"):
    return register_person(
        session,
        scheme="citizen-card",
        number=number,
        profile=Profile("Amanda Júlio", date(1980, 2, 3), "female", email="a@example.org"),
        role="patient",
        by=None,
        now=now,
    ).person_id


def use(session, person, typed, now):
    """Read, hash and use up a code, as the views do."""
    code = recovery.read_code(typed)
    assert code is not None
    return recovery.use_code(session, person, recovery.hash_of(session, person, code), now)


def refused(session, person, typed, now):
    with pytest.raises(CodeRefused) as error:
        use(session, person, typed, now)
    return error.value.reason


def mails(session):
    rows = session.execute(select(OutgoingMail.kind, OutgoingMail.params))
    return sorted(tuple(row) for row in rows)


def test_ten_codes_of_sixty_bits(session, now):
    person = somebody(session, now)
    codes = recovery.replace_codes(session, person, now)
    assert len(set(codes)) == recovery.COUNT == recovery.codes_left(session, person)
    for code in codes:
        assert [len(group) for group in code.split("-")] == [4, 4, 4]
        assert set(code) <= set(recovery.ALPHABET + "-")
    assert len(recovery.ALPHABET) ** recovery.LENGTH == 2**60


def test_each_is_good_once(session, now):
    person = somebody(session, now)
    codes = recovery.replace_codes(session, person, now)
    assert use(session, person, codes[3], now) == 9
    assert refused(session, person, codes[3], now + HOUR) is Reason.USED_CODE
    assert use(session, person, codes[0], now + HOUR) == 8
    used = session.scalars(select(RecoveryCode.used_at).order_by(RecoveryCode.used_at)).all()
    assert {now, now + HOUR} <= set(used)
    assert mails(session) == [
        ("recovery-code-used", '{"left": 8}'),
        ("recovery-code-used", '{"left": 9}'),
        ("recovery-codes-made", "{}"),
    ]


def test_new_ones_void_the_old(session, now):
    person = somebody(session, now)
    old = recovery.replace_codes(session, person, now)
    use(session, person, old[0], now)
    new = recovery.replace_codes(session, person, now)
    assert not set(old) & set(new)
    for code in old:
        assert refused(session, person, code, now) is Reason.WRONG_CODE
    assert use(session, person, new[0], now) == 9


def test_codes_are_made_only_for_who_has_none_left(session, now):
    person = somebody(session, now)
    made = recovery.make_codes(person)
    codes = recovery.ensure_codes(session, person, now, made, is_first=False)
    assert codes == list(made.codes)
    assert recovery.ensure_codes(session, person, now, is_first=False) is None
    for code in codes[:-1]:
        use(session, person, code, now)
    assert recovery.ensure_codes(session, person, now, is_first=False) is None
    assert use(session, person, codes[-1], now) == 0
    assert len(recovery.ensure_codes(session, person, now, is_first=False)) == 10
    assert len(recovery.ensure_codes(session, person, now, is_first=True)) == 10


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("ABCD-EFGH-JKMN", "ABCDEFGHJKMN"),
        ("abcdefghjkmn", "ABCDEFGHJKMN"),
        (" abcd efgh\tjkmn ", "ABCDEFGHJKMN"),
        ("ABCD–EFGH—JKMN", "ABCDEFGHJKMN"),
        ("ＡＢＣＤ-ＥＦＧＨ-ＪＫＭＮ", "ABCDEFGHJKMN"),
        ("oOiI-lL00-1111", "001111001111"),
        ("ABCD-EFGH-JKM\u200bN", "ABCDEFGHJKMN"),
        ("АBCD-EFGH-JKMN", None),  # A Cyrillic A.
        ("ABCD-EFGH-JKMU", None),
        ("ABCD-EFGH-JKM", None),
        ("ABCD-EFGH-JKMNP", None),
        ("123456", None),
        ("", None),
        ("A" * 100_000, None),
        ("<script>alert", None),
        ("ABCD-EFGH-JKM\0", None),
        ("\ufb03" * 4, "FF1FF1FF1FF1"),  # The ligature of ffi.
        ("\ufb03" * 5, None),
    ],
)
def test_codes_are_read_as_people_copy_them(typed, read):
    assert recovery.read_code(typed) == read


# -- a thief -------------------------------------------------------------------------------------


def test_a_code_is_one_persons(session, now):
    mine, other = somebody(session, now), somebody(session, now, "12345678")
    codes = recovery.replace_codes(session, mine, now)
    assert refused(session, other, codes[0], now) is Reason.WRONG_CODE
    recovery.replace_codes(session, other, now)
    assert refused(session, other, codes[0], now) is Reason.WRONG_CODE
    assert recovery.codes_left(session, mine) == recovery.codes_left(session, other) == 10


def test_a_row_that_is_copied_to_another_person_opens_nothing(session, now):
    """Who can write into the database gains nothing by giving somebody their own codes."""
    mine, other = somebody(session, now), somebody(session, now, "12345678")
    codes = recovery.replace_codes(session, mine, now)
    session.flush()
    hashes = session.scalars(select(RecoveryCode.code_hash)).all()
    session.add_all(
        RecoveryCode(person_id=other, code_hash=hashed, created_at=now) for hashed in hashes
    )
    session.flush()
    for code in codes:
        assert refused(session, other, code, now) is Reason.WRONG_CODE


def test_the_database_holds_salted_hashes(session, now):
    person, other = somebody(session, now), somebody(session, now, "12345678")
    codes = recovery.replace_codes(session, person, now)
    recovery.replace_codes(session, other, now)
    session.flush()
    rows = session.execute(select(RecoveryCode.person_id, RecoveryCode.code_hash)).all()
    stored = b"".join(row.code_hash for row in rows)
    for code in codes:
        assert code.encode() not in stored and code.replace("-", "").encode() not in stored
    salts = {(row.person_id, row.code_hash[:8]) for row in rows}
    assert len(salts) == 2 and len({salt for _person, salt in salts}) == 2
    assert len({row.code_hash for row in rows}) == 20
    made = recovery.make_codes(person)
    assert not any(code in repr(made) for code in made.codes)


def test_who_has_no_codes_is_refused_the_same(session, now):
    person = somebody(session, now)
    assert refused(session, person, "ABCD-EFGH-JKMN", now) is Reason.WRONG_CODE
    assert len(recovery.hash_of(session, person, "ABCDEFGHJKMN")) == 32


def test_of_many_with_one_code_at_once_one_succeeds(engine, now):
    with Session(engine) as session, session.begin():
        person = somebody(session, now)
        code = recovery.replace_codes(session, person, now)[0].replace("-", "")
        session.flush()
        hashed = recovery.hash_of(session, person, code)
    barrier = threading.Barrier(8)
    outcomes = []

    def one():
        barrier.wait(20)
        try:
            with Session(engine) as session, session.begin():
                outcomes.append(recovery.use_code(session, person, hashed, now))
        except CodeRefused as error:
            outcomes.append(error.reason)

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(outcomes, key=str) == [9] + [Reason.USED_CODE] * 7
    with Session(engine) as session:
        kinds = session.scalars(select(OutgoingMail.kind)).all()
        assert kinds.count("recovery-code-used") == 1
        assert session.scalar(select(func.count(RecoveryCode.used_at))) == 1
