"""The last look at an address before a server is told."""

import pytest

from medportal.mail.addresses import mailbox
from medportal.mail.errors import Problem, Unsendable


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("josefa@mail.example", "josefa@mail.example"),
        ("josefa.o'neill+tag@mail.example", "josefa.o'neill+tag@mail.example"),
        ("Josefa@MAIL.Example", "Josefa@mail.example"),
        ("josefa@exâmple.pt", "josefa@xn--exmple-xta.pt"),
        ("josefa@mail。example", "josefa@mail.example"),
        ("a/b=c!d%e@mail.example", "a/b=c!d%e@mail.example"),
    ],
)
def test_an_address_is_written_with_a_domain_in_ascii(text, written):
    assert mailbox(text).address == written


@pytest.mark.parametrize(("text", "needs"), [("josefa@exâmple.pt", False), ("josé@mail.pt", True)])
def test_only_what_stands_before_the_at_needs_a_server_with_utf8(text, needs):
    assert mailbox(text).needs_utf8 is needs


def test_two_ways_to_write_a_letter_are_one_address():
    assert mailbox("jose\u0301@mail.pt") == mailbox("jos\u00e9@mail.pt")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "josefa",
        "@mail.example",
        "josefa@",
        "josefa@mail",
        "a@b@mail.example",
        "josefa@mail..example",
        "josefa@-mail.example",
        "josefa@mail.example.",
        "josefa@[127.0.0.1]",
        "josefa@mail_host.example",
        ".josefa@mail.example",
        "josefa.@mail.example",
        "jo..sefa@mail.example",
        "jo sefa@mail.example",
        '"jo sefa"@mail.example',
        "josefa@mail.example\r\nBcc: spy@mail.example",
        "josefa\r\nRCPT TO:<spy@mail.example>@mail.example",
        "josefa@mail.example>\r\nDATA",
        "josefa@mail.example\n",
        "josefa\x00@mail.example",
        "josefa@mail.example\x00",
        "josefa,spy@mail.example",
        "josefa;spy@mail.example",
        "Josefa <josefa@mail.example>",
        "josefa(comment)@mail.example",
        "jo\u200bsefa@mail.example",
        "jo\u202esefa@mail.example",
        "jo\u00a0sefa@mail.example",
        "jo\u2028sefa@mail.example",
        "jo\ud800sefa@mail.example",
        "josefa@mail\u2028.example",
        "x" * 65 + "@mail.example",
        "josefa@" + "x" * 64 + ".example",
        "josefa@" + "x." * 130 + "example",
        "é" * 33 + "@mail.example",
        "josefa@" + "é" * 40 + ".mail" * 42,
        "=?utf-8?q?=0D=0ABcc:_spy=40mail.example?=@mail.example",
        "x" * 10_000_000 + "@mail.example",
    ],
    ids=lambda text: ascii(text[:40]),
)
def test_what_is_no_plain_address_is_refused_without_repeating_it(text):
    with pytest.raises(Unsendable) as caught:
        mailbox(text)
    assert caught.value.problem is Problem.ADDRESS_MALFORMED
    assert str(caught.value) == "address-malformed"
