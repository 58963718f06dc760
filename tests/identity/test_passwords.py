"""Passwords: what is stored, what is taken, what a new one must be."""

import threading
import unicodedata

import pytest
from argon2 import PasswordHasher

from medportal.core.identity import Method
from medportal.identity import codes, recovery
from medportal.identity.errors import WeakPassword
from medportal.identity.passwords import (
    AT_ONCE,
    MAXIMUM_LENGTH,
    check_new_password,
    hash_password,
    length_of,
    method_of,
    minimum_for,
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


@pytest.mark.parametrize(
    ("password", "length"),
    [
        ("", 0),
        ("abc", 3),
        ("e\u0301" * 8, 8),  # eight letters with accents, typed as sixteen characters
        ("\U0001f418" * 3, 3),
        ("\u1100\u1161" * 4, 4),  # Korean syllables, typed in parts
        (" x ", 3),
        ("e\u0301" * 2_000, 4_000),  # far too long: not looked at
    ],
)
def test_length_is_counted_in_characters_as_people_see_them(password, length):
    assert length_of(password) == length


def test_the_minimum_depends_on_the_other_factor():
    policy = PasswordPolicy(minimum_length=15, minimum_with_second_factor=8)
    assert minimum_for(policy, False) == 15
    assert minimum_for(policy, True) == 8


@pytest.mark.parametrize(
    ("password", "method"),
    [
        ("fifteen letters", Method.PASSWORD),
        ("fourteen chars", Method.SHORT_PASSWORD),
        ("e\u0301" * 14, Method.SHORT_PASSWORD),
        ("\u00e9" * 15, Method.PASSWORD),
        ("e\u0301" * 15, Method.PASSWORD),
        ("", Method.SHORT_PASSWORD),
    ],
)
def test_a_short_password_is_no_only_factor(password, method):
    assert method_of(CHEAP, password) is method


WORDS = ["Amanda Júlio", "17645234", "Riverside Hospital", "Sá"]


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("", "too-short"),
        ("fourteen chars", "too-short"),
        ("e\u0301" * 8 + "abcdef", "too-short"),
        ("x" * 257, "too-long"),
        ("e\u0301" * 257, "too-long"),
        ("x" * 100_000, "too-long"),
        ("abab" * 8, "too-simple"),
        ("1" * 20, "too-simple"),
        ("Password123456!!", "too-simple"),
        ("qwertyuiopasdfghjk", "too-simple"),
        ("correct horse battery staple", "too-simple"),
        ("PasswordPasswordPassword", "too-simple"),
        ("x1y2z" * 51, "too-simple"),
        ("amanda júlio 17645234", "guessable"),
        ("Riverside, Amanda", "guessable"),
    ],
)
def test_weak_passwords_are_refused_with_a_code(password, code):
    with pytest.raises(WeakPassword) as refused:
        check_new_password(15, password, WORDS)
    assert (refused.value.code, refused.value.minimum) == (code, 15)
    assert str(refused.value) == code, "an error never holds what was typed"


@pytest.mark.parametrize(
    "password",
    [
        GOOD,
        "ação é reação, não é?",
        " " + GOOD + " ",
        "Sá da Bandeira 1834 Lisboa",
        "só minúsculas e espaços aqui",
        "everything in lower case",
        "x" * 240 + " quiet rivers",
        "\U0001f418 elephants never forget",
        "<script>alert('quiet rivers')</script>",
        "quiet\trivers\rcarry\nsmall boats",
    ],
)
def test_good_passwords_are_taken(password):
    """Whatever they are made of: nothing is asked but length and not being guessed."""
    check_new_password(15, password, WORDS)


def test_eight_characters_are_taken_beside_a_second_factor():
    check_new_password(8, "xk3pqz9w", WORDS)
    with pytest.raises(WeakPassword) as refused:
        check_new_password(8, "sunshine1", WORDS)
    assert refused.value.code == "too-simple"
    with pytest.raises(WeakPassword) as refused:
        check_new_password(8, "xk3pqz9", WORDS)
    assert refused.value.minimum == 8


def test_a_password_is_taken_exactly_as_typed():
    stored = hash_password(CHEAP, " Quiet rivers carry ")
    for other in ("Quiet rivers carry", " quiet rivers carry ", " Quiet rivers carry  "):
        assert not verify_password(CHEAP, stored, other)


def test_all_of_a_long_password_counts():
    long = "quiet rivers carry small boats " * 8
    assert len(long) == 248
    stored = hash_password(CHEAP, long + "a")
    assert not verify_password(CHEAP, stored, long + "b")
    assert verify_password(CHEAP, stored, long + "a")


def test_only_so_many_are_hashed_at_a_time(monkeypatch):
    """A flood of sign-ins and codes waits in line; it does not take the memory of the machine."""
    under_way, most, lock = set(), [], threading.Lock()
    together = threading.Event()

    def slowed(real):
        def hashing(*given, **named):
            number = threading.get_ident()
            with lock:
                under_way.add(number)
                most.append(len(under_way))
            together.wait(0.05)
            with lock:
                under_way.discard(number)
            return real(*given, **named)

        return hashing

    stored = hash_password(CHEAP, GOOD)
    for name in ("hash", "verify"):
        monkeypatch.setattr(PasswordHasher, name, slowed(getattr(PasswordHasher, name)))
    for module in (codes, recovery):
        monkeypatch.setattr(module, "_MEMORY_KIB", 8)
        monkeypatch.setattr(module, "hash_secret_raw", slowed(module.hash_secret_raw))
    work = [
        lambda: hash_password(CHEAP, GOOD),
        lambda: verify_password(CHEAP, stored, GOOD),
        codes.make_code,
        lambda: recovery.make_codes("p" * 32),
    ]
    threads = [threading.Thread(target=work[n % len(work)]) for n in range(4 * AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(most) == AT_ONCE * (3 + recovery.COUNT)
    assert max(most) <= AT_ONCE


def test_a_password_that_does_not_fit_gives_its_turn_back():
    stored = hash_password(CHEAP, GOOD)
    for _ in range(2 * AT_ONCE + 1):
        assert not verify_password(CHEAP, stored, "wrong")
        assert not verify_password(CHEAP, "no hash", "wrong")
    assert verify_password(CHEAP, stored, GOOD)
