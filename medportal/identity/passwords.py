"""Passwords: argon2id, and what the policy asks of a new one.

Source: NIST SP 800-63B-4 section 3.1.1 (length over composition, a blocklist, Unicode
normalised before hashing).
"""

import unicodedata
from collections.abc import Iterable
from functools import cache

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from medportal.identity.errors import WeakPassword
from medportal.tenancy.tenant import PasswordPolicy

MAXIMUM_LENGTH = 256


@cache
def _hasher(policy: PasswordPolicy) -> PasswordHasher:
    return PasswordHasher(
        time_cost=policy.time_cost,
        memory_cost=policy.memory_kib,
        parallelism=policy.parallelism,
        type=Type.ID,
    )


@cache
def _nobodys_hash(policy: PasswordPolicy) -> str:
    return _hasher(policy).hash("the password of nobody")


def hash_password(policy: PasswordPolicy, password: str) -> str:
    """Return the argon2id hash of a password, salt and parameters within."""
    return _hasher(policy).hash(_bytes(password))


def verify_password(policy: PasswordPolicy, stored: str | None, password: str) -> bool:
    """Tell whether a password fits a stored hash.

    Without a stored hash as much work is done and the answer is no, so that time does not
    tell whether somebody has an account.
    """
    if len(password) > MAXIMUM_LENGTH:
        password = ""
    try:
        _hasher(policy).verify(stored or _nobodys_hash(policy), _bytes(password))
    except (VerificationError, InvalidHashError):
        return False
    return bool(stored)


def needs_rehash(policy: PasswordPolicy, stored: str) -> bool:
    """Tell whether a stored hash was made with other parameters than today's."""
    return _hasher(policy).check_needs_rehash(stored)


def check_new_password(policy: PasswordPolicy, password: str, guessable: Iterable[str]) -> None:
    """Raise ``WeakPassword`` for a new password that the policy refuses.

    ``guessable`` are words that an acquaintance would try: names, numbers, the institution.
    """
    text = _normal(password)
    if len(text) < policy.minimum_length:
        raise WeakPassword("too-short")
    if len(text) > MAXIMUM_LENGTH:
        raise WeakPassword("too-long")
    if len(set(text)) < 5:
        raise WeakPassword("too-simple")
    folded = text.casefold()
    for word in guessable:
        folded = folded.replace(word.casefold(), "") if len(word) > 3 else folded
    if len(folded) < policy.minimum_length // 2:
        raise WeakPassword("guessable")


def _bytes(password: str) -> bytes:
    # Half a character, which no browser sends, is no reason to fail.
    return _normal(password).encode("utf-8", "surrogatepass")


def _normal(password: str) -> str:
    return unicodedata.normalize("NFC", password)
