"""Mail addresses as people, and others, type them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medportal.identity.emails import LONGEST, normal_email, same_address
from medportal.mail.addresses import mailbox


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("ana@example.org", "ana@example.org"),
        ("  Ana.Reis+saude@Example.ORG ", "Ana.Reis+saude@example.org"),
        ("\u00a0ana@example.org\t", "ana@example.org"),
        ("o'neill@example.org", "o'neill@example.org"),
        ("ana@saúde.example", "ana@xn--sade-rra.example"),
        ("ana@ｅｘａｍｐｌｅ.org", "ana@example.org"),
        ("ana@example。org", "ana@example.org"),
        ("ana@sa\u0075\u0301de.example", "ana@xn--sade-rra.example"),
        (f"{'a' * 64}@example.org", f"{'a' * 64}@example.org"),
    ],
)
def test_addresses_have_one_form(typed, kept):
    assert normal_email(typed) == kept
    assert normal_email(kept) == kept


def test_a_look_alike_domain_becomes_visible():
    """The second letter is Cyrillic."""
    assert normal_email("ana@ex\u0430mple.org") == "ana@xn--exmple-4nf.org"


@pytest.mark.parametrize(
    "typed",
    [
        "",
        " ",
        "ana",
        "@",
        "ana@",
        "@example.org",
        "ana@example",
        "ana@@example.org",
        "ana@b@example.org",
        "ana@example..org",
        "ana@.example.org",
        "ana@example.org.",
        "ana@-example.org",
        "ana@exam_ple.org",
        "ana@192.0.2.1",
        "ana@[192.0.2.1]",
        "ana reis@example.org",
        ".ana@example.org",
        "ana.@example.org",
        "a..a@example.org",
        '"ana reis"@example.org',
        "Ana <ana@example.org>",
        "ana@example.org, rui@example.org",
        "ana@example.org;rui@example.org",
        "mailto:ana@example.org",
        "ana(x)@example.org",
        "ana\\@example.org",
        "joão@example.org",
        "ana\uff20example.org",
        "аna@example.org",
        "ana@example.org\r\nBcc: rui@example.org",
        "ana@example.org\n",
        "ana\r@example.org",
        "ana\x00@example.org",
        "ana@exam\x00ple.org",
        "ana@example.org\u2028",
        "ana@example.org\u202e",
        "ana\u200b@example.org",
        "ana@straße.example",
        "ana@exam\u200dple.org",
        "ana@exam\u00adple",
        "ana@\ud800.org",
        f"{'a' * 65}@example.org",
        f"ana@{'b' * 64}.org",
        f"ana@{'b.' * 130}org",
        f"ana@{'é' * 200}.org",
        "a" * 10_000_000,
    ],
)
def test_what_is_no_address_that_we_take(typed):
    assert normal_email(typed) is None


@given(st.text(max_size=300))
def test_whatever_is_kept_is_one_recipient_on_one_line(typed):
    kept = normal_email(typed)
    if kept is not None:
        assert kept.isascii()
        assert kept.isprintable()
        assert not set(kept) & set(' ,;:<>()[]"\\')
        assert len(kept) <= LONGEST


@given(
    local=st.from_regex(r"[a-z!#$%&'*+/=?^_`{|}~-]{1,20}", fullmatch=True),
    domain=st.from_regex(r"[a-z\u00e0-\u00f6]{1,20}\.[a-z]{2,5}", fullmatch=True),
)
def test_what_forms_take_can_be_sent_to(local, domain):
    kept = normal_email(f"{local}@{domain}")
    assert kept is not None
    assert mailbox(kept).address == kept


def test_addresses_that_differ_in_case_are_one_mailbox():
    assert same_address("Ana@example.org", "ana@example.org")
    assert not same_address("ana@example.org", "ana@example.com")
