"""Passwords: argon2id, and what the policy asks of a new one.

Source: NIST SP 800-63B-4 section 3.1.1 (length over composition, a blocklist, Unicode
normalised before hashing); OWASP ASVS 5.0, chapter V6.2. A password is taken exactly as it
was typed: nothing is cut off, no letter changes its case.

Each argon2 takes the memory that the tenant's file names. Of many at once in a process only
:data:`AT_ONCE` are under way, those of codes included, and the others wait: for as many as
there are threads of the server, which is bounded. More would take memory and finish no sooner.
"""

import os
import unicodedata
from collections.abc import Collection
from functools import cache
from threading import BoundedSemaphore

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from medportal.core.identity import Method
from medportal.identity.errors import WeakPassword
from medportal.identity.guessing import bits, bits_wanted
from medportal.tenancy.tenant import PasswordPolicy

#: In characters as :func:`length_of` counts them.
MAXIMUM_LENGTH = 256
#: What is longer than this as it was typed is not even looked at.
_MAXIMUM_TYPED = 4 * MAXIMUM_LENGTH
#: How many passwords and codes one process hashes or compares at a time.
AT_ONCE = 2 * (os.cpu_count() or 1)
#: Whoever calls argon2 holds one of these meanwhile, and never a second one.
TURNS = BoundedSemaphore(AT_ONCE)


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
    return hash_password(policy, "the password of nobody")


def minimum_for(policy: PasswordPolicy, has_second_factor: bool) -> int:
    """Return how many characters a new password has at least."""
    return policy.minimum_with_second_factor if has_second_factor else policy.minimum_length


def length_of(password: str) -> int:
    """Return the count of characters by which every length here is measured.

    A letter with its accent is one, whichever way a keyboard composed it. What is far too
    long is only told to be so.
    """
    if len(password) > _MAXIMUM_TYPED:
        return len(password)
    return len(_normal(password))


def method_of(policy: PasswordPolicy, password: str) -> Method:
    """Return what a right password proves: one that is short is not enough by itself."""
    is_long = length_of(password) >= policy.minimum_length
    return Method.PASSWORD if is_long else Method.SHORT_PASSWORD


def hash_password(policy: PasswordPolicy, password: str) -> str:
    """Return the argon2id hash of a password, salt and parameters within."""
    with TURNS:
        return _hasher(policy).hash(_bytes(password))


def verify_password(policy: PasswordPolicy, stored: str | None, password: str) -> bool:
    """Tell whether a password fits a stored hash.

    Without a stored hash as much work is done and the answer is no, so that time does not
    tell whether somebody has an account.
    """
    # Made whether it is needed or not: the first unknown number of a process shall not cost more.
    nobodys = _nobodys_hash(policy)
    if length_of(password) > MAXIMUM_LENGTH:
        password = ""
    try:
        with TURNS:
            _hasher(policy).verify(stored or nobodys, _bytes(password))
    except (VerificationError, InvalidHashError):
        return False
    return bool(stored)


def needs_rehash(policy: PasswordPolicy, stored: str) -> bool:
    """Tell whether a stored hash was made with other parameters than today's."""
    return _hasher(policy).check_needs_rehash(stored)


def check_new_password(minimum: int, password: str, guessable: Collection[str]) -> None:
    """Raise ``WeakPassword`` for a new password that is too short or too easily guessed.

    ``minimum`` is what :func:`minimum_for` returned, ``guessable`` are words that an
    acquaintance would try: names, numbers, the institution. Which kinds of characters are in
    it is nobody's business.
    """
    length = length_of(password)
    if length < minimum:
        raise WeakPassword("too-short", minimum)
    if length > MAXIMUM_LENGTH:
        raise WeakPassword("too-long", minimum)
    found = bits(password, guessable)
    if found < bits_wanted(minimum):
        raise WeakPassword("guessable" if found < bits(password) else "too-simple", minimum)


def _bytes(password: str) -> bytes:
    # Half a character, which no browser sends, is no reason to fail.
    return _normal(password).encode("utf-8", "surrogatepass")


def _normal(password: str) -> str:
    return unicodedata.normalize("NFC", password)
