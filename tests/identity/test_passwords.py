"""Passwords: what is stored, what is taken, what a new one must be."""

import unicodedata

import pytest

from medportal.identity.errors import WeakPassword
from medportal.identity.passwords import (
    MAXIMUM_LENGTH,
    check_new_password,
    hash_password,
    needs_rehash,
    verify_password,
)
from medportal.tenancy.tenant import PasswordPolicy

CHEAP = PasswordPolicy(minimum_length=15, time_cost=1, memory_kib=8)
GOOD = "quiet rivers carry small boats"


def test_a_hash_is_argon2id_salted_and_holds_no_password():
    one, other = hash_password(CHEAP, GOOD), hash_password(CHEAP, GOOD)
    assert one.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert one != other
    assert "rivers" not in one


def test_the_right_password_and_no_other():
    stored = hash_password(CHEAP, GOOD)
    assert verify_password(CHEAP, stored, GOOD)
    for wrong in ("", "\ud800", GOOD + " ", GOOD.upper(), GOOD[:-1], "x" * 10_000):
        assert not verify_password(CHEAP, stored, wrong)


def test_one_password_in_two_compositions():
    password = "São Tomé, às três da manhã"
    stored = hash_password(CHEAP, unicodedata.normalize("NFD", password))
    assert verify_password(CHEAP, stored, unicodedata.normalize("NFC", password))


@pytest.mark.parametrize("stored", [None, "", "plain", "$argon2id$broken", "$argon2i$v=19$m=8"])
def test_without_a_usable_hash_the_answer_is_no(stored):
    assert not verify_password(CHEAP, stored, GOOD)
    assert not verify_password(CHEAP, stored, "the password of nobody")


def test_without_a_hash_as_much_work_is_done(monkeypatch):
    from argon2 import PasswordHasher

    worked = []
    verify = PasswordHasher.verify
    monkeypatch.setattr(
        PasswordHasher, "verify", lambda self, h, p: worked.append(h) or verify(self, h, p)
    )
    verify_password(CHEAP, None, GOOD)
    verify_password(CHEAP, hash_password(CHEAP, GOOD), GOOD)
    assert len(worked) == 2
    parameters = [stored.split("$")[:4] for stored in worked]
    assert parameters[0] == parameters[1]


def test_an_endless_password_is_not_hashed_whole(monkeypatch):
    from argon2 import PasswordHasher

    seen = []
    monkeypatch.setattr(PasswordHasher, "verify", lambda self, h, p: seen.append(len(p)))
    verify_password(CHEAP, "stored", "x" * (MAXIMUM_LENGTH + 1))
    verify_password(CHEAP, "stored", "x" * MAXIMUM_LENGTH)
    assert seen == [0, MAXIMUM_LENGTH]


def test_other_parameters_ask_for_a_new_hash():
    stored = hash_password(CHEAP, GOOD)
    assert not needs_rehash(CHEAP, stored)
    assert needs_rehash(PasswordPolicy(time_cost=2, memory_kib=8), stored)
    assert needs_rehash(PasswordPolicy(time_cost=1, memory_kib=16), stored)


WORDS = ["Amanda", "Júlio", "17645234", "Riverside", "Hospital", "password", "Sá"]


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("", "too-short"),
        ("fourteen chars", "too-short"),
        ("e\u0301" * 8 + "abcdef", "too-short"),  # eight letters with accents, not sixteen
        ("x" * 257, "too-long"),
        ("abab" * 8, "too-simple"),
        ("1" * 20, "too-simple"),
        ("amanda júlio 17645234", "guessable"),
        ("RIVERSIDEHOSPITAL1", "guessable"),
        ("PasswordPasswordPassword", "guessable"),
    ],
)
def test_weak_passwords_are_refused_with_a_code(password, code):
    with pytest.raises(WeakPassword) as refused:
        check_new_password(CHEAP, password, WORDS)
    assert refused.value.code == code
    assert str(refused.value) == code, "an error never holds what was typed"


@pytest.mark.parametrize(
    "password",
    [GOOD, "fifteen letters", "ação é reação, não é?", "x1y2z" * 51, "Sá da Bandeira 1834 Lisboa"],
)
def test_good_passwords_are_taken(password):
    check_new_password(CHEAP, password, WORDS)
