"""Profiles: what a purpose means, and the data file."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from medportal.core.errors import ConfigurationError
from medportal.pki.layout import PROFILES, load_profiles
from medportal.pki.profiles import (
    ARC,
    LONGEST_WEB_LIFETIME,
    Group,
    Profiles,
    Purpose,
    institution_uri,
    is_institution,
    meaning,
    parse_profiles,
    speaks_tls,
)

TEXT = PROFILES.read_text("utf-8")


def test_every_purpose_is_distinguishable():
    uses = [meaning(purpose).uses for purpose in Purpose]
    assert len(set(uses)) == len(Purpose)
    for purpose in Purpose:
        # No certificate's usages contain all that another purpose asks for.
        assert not [other for other in Purpose if meaning(purpose).uses < meaning(other).uses]
        assert meaning(purpose).oid.dotted_string.startswith(ARC + ".1.")


def test_only_tls_purposes_have_tls_usages():
    tls = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert {p for p in Purpose if speaks_tls(p)} == {Purpose.WEB, Purpose.EDGE, Purpose.CHANNEL}
    assert meaning(Purpose.CHANNEL).uses > tls
    assert ExtendedKeyUsageOID.CLIENT_AUTH not in meaning(Purpose.WEB).uses


def test_every_purpose_has_a_profile_and_one_holder(profiles: Profiles):
    held = [purpose for group in Group for purpose in profiles.of_group(group)]
    assert sorted(held) == sorted(Purpose)
    assert profiles.of_group(Group.CA) == ()


@pytest.mark.parametrize("text", ["hospital", "lab-2", "ab"])
def test_institution_ids(text: str):
    assert is_institution(text)
    assert institution_uri(text) == f"urn:medportal:institution:{text}"


@pytest.mark.parametrize("text", ["", "a", "Hospital", "../x", "2lab", "lab\n", "a" * 32, "lá"])
def test_what_is_no_institution_id(text: str):
    assert not is_institution(text)
    with pytest.raises(ValueError, match="slug"):
        institution_uri(text)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("skew_minutes = 5", "skew_minutes = -5", "clock.skew_minutes should be a whole number"),
        ("skew_minutes = 5", "skew_minutes = true", "clock.skew_minutes should be a whole number"),
        ("skew_minutes = 5", "other = 5", "clock.other should be absent; known here: skew_minutes"),
        ("[ca]", "[cia]", "ca.lifetime_days should be"),
        ("[ca]", "ca = 3\n[cia]", "ca.lifetime_days should be"),
        ("[crl]", "[crl]\nmore = 1", "crl.more should be absent"),
        ('group = "edge"', 'group = "ca"', "purpose.edge.group should be one of portal"),
        ('group = "edge"', 'group = "pair"', "one of portal, exchange, jobs, edge"),
        ('group = "edge"', 'group = "outbox"', "one of portal, exchange, jobs, edge"),
        ("[purpose.web]", "[purpose.wib]", "purpose.web.group should be one of"),
        ("[purpose.web]", "[purpose.wib]", "purpose.wib should be absent"),
        (
            "lifetime_days = 365  ",
            "lifetime_days = 398  ",
            "web.lifetime_days should be at",
        ),
        ("refuse_after_days = 14", "refuse_after_days = 7", "crl.refuse_after_days should be more"),
        (
            "renew_before_days = 244",
            "renew_before_days = 730",
            "head.renew_before_days should be l",
        ),
        ("overlap_days = 90", "overlap_days = 3650", "ca.overlap_days should be less"),
        (
            "[ca]\nlifetime_days = 3650",
            "[ca]\nlifetime_days = 300",
            "web.lifetime_days should be at",
        ),
        ('"clientAuth", ".1.3"', '".1.3"', "purpose.channel.extended_key_usage should be ["),
        ('key = "Ed25519"', 'key = "RSA"', 'exchange.key should be "Ed25519", by the protocol'),
        ('["digitalSignature"]', '["keyAgreement"]', "purpose.web.key_usage should be"),
        ('["dns", "institution"]', '["dns"]', "purpose.web.alternative_names should be"),
        ("[clock]", "[clock", "not TOML"),
    ],
)
def test_a_bad_profile_file_says_what_is_wrong(old: str, new: str, says: str):
    assert old in TEXT
    with pytest.raises(ConfigurationError) as caught:
        parse_profiles(TEXT.replace(old, new, 1))
    assert any(says in problem for problem in caught.value.problems)


def test_all_problems_are_told_at_once():
    with pytest.raises(ConfigurationError) as caught:
        parse_profiles("")
    assert len(caught.value.problems) == 6 + 7 * len(Purpose)


def test_the_longest_web_lifetime_is_what_browsers_accept():
    longest = TEXT.replace("lifetime_days = 365  ", "lifetime_days = 397  ", 1)
    parsed = parse_profiles(longest)
    assert parsed[Purpose.WEB].lifetime == LONGEST_WEB_LIFETIME
    assert parsed[Purpose.WEB].lifetime + parsed.skew < timedelta(days=398)


def test_a_missing_or_bad_file_is_named(tmp_path: Path):
    with pytest.raises(ConfigurationError, match=r"none\.toml: cannot be read"):
        load_profiles(tmp_path / "none.toml")
    bad = tmp_path / "bad.toml"
    bad.write_text("x = ")
    with pytest.raises(ConfigurationError, match=r"bad\.toml: not TOML"):
        load_profiles(bad)


def test_profiles_are_read_once():
    assert load_profiles() is load_profiles()
