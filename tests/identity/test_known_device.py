"""The cookie by which a browser is known: one person's, one institution's, for half a year."""

import base64
from datetime import timedelta

import pytest

from medportal.identity import known_device
from medportal.identity.known_device import LIFETIME, MOST, of_when
from medportal.vault.keyring import TenantKeyring
from medportal.vault.service import Vault

MINE, OTHER = "a" * 32, "b" * 32
KEYRING = TenantKeyring.generate()
VAULT = Vault("hospital", KEYRING)
SINCE = "1700000000000000.-"


def new_cookie(vault, person_id, now, device_id=None, since=SINCE):
    return known_device.new_cookie(vault, person_id, since, now, device_id)


def read_cookie(vault, person_id, cookie, now, since=SINCE):
    return known_device.read_cookie(vault, person_id, since, cookie, now)


def test_a_browser_is_known_again(now):
    cookie = new_cookie(VAULT, MINE, now)
    device = read_cookie(VAULT, MINE, cookie, now)
    assert int(device) in range(MOST)
    renewed = new_cookie(VAULT, MINE, now + LIFETIME, device)
    assert renewed != cookie
    assert read_cookie(VAULT, MINE, renewed, now + LIFETIME) == device


def test_however_many_cookies_are_of_a_few_browsers(now):
    """Each browser has a counter of its own: many cookies are no more tries than eight."""
    cookies = {new_cookie(VAULT, MINE, now) for _ in range(300)}
    found = {read_cookie(VAULT, MINE, cookie, now) for cookie in cookies}
    assert len(cookies) == 300 and 1 < len(found) <= MOST == 8


@pytest.mark.parametrize("since", ["", "-.-", "1700000000000001.-", "1700000000000000"])
def test_it_ends_with_what_it_was_given_for(now, since):
    cookie = new_cookie(VAULT, MINE, now)
    assert read_cookie(VAULT, MINE, cookie, now, since) is None


def test_of_when_proofs_are(now):
    assert of_when(now, None) != of_when(now, now) != of_when(now + timedelta.resolution, now)
    assert of_when(None) == "-" and " " not in of_when(now, None, now)


def test_a_cookie_of_an_earlier_form_is_a_strangers(now):
    sealed = VAULT.seal_secret("known-device", MINE, b"0 1700000000000000")
    cookie = base64.urlsafe_b64encode(sealed).decode()
    assert read_cookie(VAULT, MINE, cookie, now) is None


def test_it_is_known_for_half_a_year(now):
    cookie = new_cookie(VAULT, MINE, now)
    moment = timedelta(microseconds=1)
    assert read_cookie(VAULT, MINE, cookie, now + LIFETIME - moment)
    assert read_cookie(VAULT, MINE, cookie, now + LIFETIME) is None


def test_it_names_nobody_and_fits_nobody_else(now):
    cookie = new_cookie(VAULT, MINE, now)
    sealed = base64.urlsafe_b64decode(cookie)
    assert MINE.encode() not in sealed and len(cookie) < 300
    assert read_cookie(VAULT, OTHER, cookie, now) is None
    assert read_cookie(Vault("laboratory", KEYRING), MINE, cookie, now) is None
    assert read_cookie(Vault("hospital", TenantKeyring.generate()), MINE, cookie, now) is None
    other_purpose = VAULT.seal_secret("totp", MINE, b"x")
    forged = base64.urlsafe_b64encode(other_purpose).decode()
    assert read_cookie(VAULT, MINE, forged, now) is None


@pytest.mark.parametrize(
    "cookie", [None, "", "x", "é", "AAAA", "=" * 40, "A" * 300, "A" * 501, "....", "\ud800"]
)
def test_what_is_no_cookie_of_ours_is_a_stranger(now, cookie):
    assert read_cookie(VAULT, MINE, cookie, now) is None


def test_every_changed_character_makes_a_stranger(now):
    cookie = new_cookie(VAULT, MINE, now)
    for place in range(0, len(cookie), 7):
        changed = "B" if cookie[place] != "B" else "C"
        assert read_cookie(VAULT, MINE, cookie[:place] + changed + cookie[place + 1 :], now) is None
