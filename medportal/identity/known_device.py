"""Browsers in which somebody has given their second factor before.

Whoever learned a password can try codes of the second factor from anywhere. Such tries are
counted for the account as a whole, over all addresses, so that nobody guesses a code by
having many addresses. A counter of that kind would let the thief keep the person out too;
so tries from a browser that the person has used before are counted for that browser alone.
It is known by a cookie, sealed by the vault for that person (as OWASP describes under
"device cookies"). It opens nothing: it only says which counter a try belongs to.

A cookie ends when what it was given for changes: the password, the app. So whoever once knew a
password keeps no counters of their own after it was changed. And however many cookies somebody
collects for one person, they are of :data:`MOST` browsers, so that they give no more tries.
"""

import base64
import binascii
import secrets
from datetime import datetime, timedelta

from medportal.core.clock import from_micros, to_micros
from medportal.vault.errors import VaultError
from medportal.vault.service import Vault

LIFETIME = timedelta(days=180)
#: How many browsers of one person are told apart; of more, some share a counter.
MOST = 8
_PURPOSE = "known-device"
_LONGEST = 500


def new_cookie(
    vault: Vault, person_id: str, since: str, now: datetime, device_id: str | None = None
) -> str:
    """Return the cookie for a browser, with the id that it has already, if any.

    ``since`` says of when the person's proofs are: with others, the cookie is a stranger's.
    """
    text = f"{device_id or secrets.randbelow(MOST)} {to_micros(now)} {since}"
    sealed = vault.seal_secret(_PURPOSE, person_id, text.encode("ascii"))
    return base64.urlsafe_b64encode(sealed).decode("ascii")


def read_cookie(
    vault: Vault, person_id: str, since: str, cookie: str | None, now: datetime
) -> str | None:
    """Return the id of a person's browser; ``None`` for a stranger's, another's or an old one."""
    if not cookie or len(cookie) > _LONGEST:
        return None
    try:
        sealed = base64.b64decode(cookie.encode("ascii"), altchars=b"-_", validate=True)
        opened = vault.open_secret(_PURPOSE, person_id, sealed)
    except (UnicodeEncodeError, binascii.Error, VaultError):
        # Not ours, or of a key that is gone: a stranger like others.
        return None
    parts = opened.decode("ascii").split(" ")
    # A cookie of an earlier form had no third part: a stranger, too.
    if len(parts) != 3 or parts[2] != since:
        return None
    return parts[0] if from_micros(int(parts[1])) > now - LIFETIME else None


def of_when(*moments: datetime | None) -> str:
    """Return of when somebody's proofs are, as a cookie says it."""
    return ".".join("-" if moment is None else str(to_micros(moment)) for moment in moments)
