"""Every mail in both languages: complete, plain, and nothing that could be a trick."""

import re
from dataclasses import replace
from datetime import timedelta
from email import message_from_bytes
from email.policy import default
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medportal.core.clock import to_micros
from medportal.mail.compose import compose, fields
from medportal.mail.errors import Unsendable
from medportal.mail.kinds import LIFETIMES, PARAMS, PATHS, WITH_TOKEN, MailKind, check_params
from medportal.mail.words import FRAMES, NAMES, WORDS
from medportal.tenancy.tenant import LANGUAGES, Contact

TOKEN = "T0ken-_" * 6
EVERY = [(kind, language) for kind in MailKind for language in LANGUAGES]


@pytest.fixture
def all_params(now):
    """Give every parameter that a kind knows."""
    values = {
        "asked": to_micros(now),
        "change": "0" * 32,
        "at": to_micros(now + timedelta(days=3)),
        "factor": "totp",
        "left": 7,
        "count": 23,
        "added": "nurse",
        "removed": "doctor",
    }
    return lambda kind: {name: values[name] for name in PARAMS.get(kind, ())}


@pytest.fixture
def made(tenant, letter, now):
    """Compose a mail and read it as its recipient's program does."""

    def make(tenant=tenant, now=now, **values):
        composed = letter(**values)
        token = TOKEN if composed.kind in WITH_TOKEN else None
        data = bytes(compose(composed, tenant, token, now))
        return message_from_bytes(data, policy=default)

    return make


def text_of(message):
    return message.get_body(("plain",)).get_content().replace("\r\n", "\n")


def html_of(message):
    return message.get_body(("html",)).get_content()


class Page(HTMLParser):
    """Collects what an HTML part is made of."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.attributes, self.words, self.skip = [], [], [], 0
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_data(self, data):
        self.words.append(data)

    def values(self, name):
        return [value for _tag, found, value in self.attributes if found == name]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.mark.parametrize(("kind", "language"), EVERY)
def test_every_mail_is_complete(made, all_params, kind, language):
    message = made(kind=kind, language=language, params=all_params(kind))
    text, page = text_of(message), Page(html_of(message))
    for part in (message["Subject"], text, page.text):
        assert part.strip()
        assert not re.search(r"[{}]|\$\{|None|%\(|\bMailKind\b", part)
    name = {"en": "Riverside Hospital", "pt": "Hospital da Ribeira"}[language]
    assert text.startswith(name + "\n")
    assert message["From"].addresses[0].display_name == name
    for known in ("+351 210 000 000", "help@hospital.example", "Rua da Ribeira 1, Porto"):
        assert known in text and known in page.text
    assert message["Content-Language"] == FRAMES[language].tag


@pytest.mark.parametrize(("kind", "language"), EVERY)
def test_text_and_html_say_the_same(made, all_params, kind, language):
    message = made(kind=kind, language=language, params=all_params(kind))
    html = " ".join(Page(html_of(message)).text.split())
    for paragraph in text_of(message).split("\n\n"):
        said = " ".join(paragraph.split())
        if said.endswith(":") or said.startswith(FRAMES[language].contact):
            said = said.partition(":")[0]
        assert said in html


@pytest.mark.parametrize(("kind", "language"), EVERY)
def test_a_mail_without_any_parameter_has_words_too(made, kind, language):
    message = made(kind=kind, language=language, params={})
    assert len(text_of(message)) > 200
    assert not re.search(r"[{}]|None", text_of(message))


@pytest.mark.parametrize(("kind", "language"), EVERY)
def test_words_name_only_what_can_be_known(kind, language):
    words = WORDS[language][kind]
    wanted = set()
    for text in (words.subject, *words.happened, *words.todo, *words.caution):
        wanted |= fields(text)
    known = PARAMS.get(kind, frozenset()) - {"asked", "change"}
    always = {"institution", "when"} | ({"until"} if kind in WITH_TOKEN else set())
    assert wanted <= NAMES
    assert wanted <= always | known
    # What is posted with a mail is also said.
    assert known <= wanted


@pytest.mark.parametrize(("kind", "language"), EVERY)
def test_the_subject_gives_no_role_and_nothing_but_the_occasion(
    made, all_params, tenant, kind, language
):
    subject = made(kind=kind, language=language, params=all_params(kind))["Subject"]
    names = [name for role in tenant.roles.values() for name in role.names.values()]
    assert not any(name.casefold() in subject.casefold() for name in names)
    assert len(subject) <= 78


@pytest.mark.parametrize(("kind", "language"), EVERY)
def test_links_are_there_where_a_token_is_and_nowhere_else(made, all_params, kind, language):
    message = made(kind=kind, language=language, params=all_params(kind))
    lines = [line for line in text_of(message).splitlines() if "http" in line]
    page = Page(html_of(message))
    if kind in WITH_TOKEN:
        link = f"https://hospital.localhost:8443{PATHS[kind]}?link={TOKEN}"
        assert lines == [link]
        assert page.values("href") == [link]
        assert link in page.text
    else:
        assert lines == []
        assert page.values("href") == []


@pytest.mark.parametrize(("kind", "language"), EVERY)
def test_the_html_part_fetches_nothing_and_says_its_language(made, kind, language):
    page = Page(html_of(made(kind=kind, language=language)))
    assert set(page.tags) <= {
        *("html", "head", "meta", "title", "body", "div", "h1", "h2", "p", "a", "br", "span")
    }
    assert ("html", "lang", FRAMES[language].tag) in page.attributes
    assert not {"src", "srcset", "background", "onclick", "action"} & {
        name for _tag, name, _value in page.attributes
    }
    assert not any("url(" in style for style in page.values("style"))
    assert page.tags.count("h1") == 1


def test_both_languages_say_as_much():
    for kind in MailKind:
        english, portuguese = WORDS["en"][kind], WORDS["pt"][kind]
        for name in ("happened", "todo", "caution"):
            assert len(getattr(english, name)) == len(getattr(portuguese, name))
        assert bool(english.label) == bool(portuguese.label) == (kind in WITH_TOKEN)
    assert set(WORDS) == set(FRAMES) == set(LANGUAGES)


def test_times_are_told_by_the_institutions_clock(made, now):
    # 14:05 in Lisbon in winter; a week later is still winter, 72 hours later too.
    english = text_of(made(kind=MailKind.PASSWORD_CHANGED, language="en"))
    assert "on 7 March 2026, 14:05." in " ".join(english.split())
    portuguese = text_of(made(kind=MailKind.ACTIVATION, language="pt"))
    assert "até 14 de março de 2026, às 14:05" in " ".join(portuguese.split())
    at = to_micros(now + timedelta(days=30))
    summer = text_of(made(kind=MailKind.EMAIL_BY_STAFF, language="en", params={"at": at}))
    assert "on 6 April 2026, 15:05" in " ".join(summer.split())


def test_a_link_counts_from_the_sending_not_from_the_asking(made, now):
    late = made(kind=MailKind.RESET, at=now, now=now + timedelta(days=5))
    assert "until 13 March 2026, 14:05" in " ".join(text_of(late).split())


def test_factors_and_roles_are_named(made):
    roles = {"added": "nurse", "removed": "doctor"}
    said = text_of(made(kind=MailKind.ROLES_CHANGED, language="pt", params=roles))
    assert "acrescentada: Enfermagem" in said and "retirada: Médico" in said
    for factor, words in (("totp", "aplicação"), ("passkey", "passkey"), ("all", "todos")):
        kind = MailKind.SECOND_FACTOR_REMOVED
        assert words in text_of(made(kind=kind, language="pt", params={"factor": factor}))
    added = made(kind=MailKind.SECOND_FACTOR_ADDED, params={"factor": "totp"})
    assert "What was added: an app" in text_of(added)


def test_a_role_that_is_gone_is_not_mentioned(made):
    said = text_of(made(kind=MailKind.ROLES_CHANGED, params={"added": "alchemist"}))
    assert "alchemist" not in said and "Role added" not in said


def test_an_unknown_language_is_the_institutions(made):
    assert made(language="xx")["Content-Language"] == "en-GB"


def test_headers_say_what_it_is(made, tenant, now):
    message = made(id="a" * 32, kind=MailKind.RESET, language="pt")
    assert message["Message-ID"] == f"<{'a' * 32}@hospital.localhost>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Date"].datetime == now
    assert message["From"].addresses[0].addr_spec == tenant.mail.sender
    assert message["To"].addresses[0].addr_spec == "josefa@mail.example"
    assert "T0ken" not in "".join(f"{name}{value}" for name, value in message.items())


def test_a_second_try_has_the_same_message_id(made, now):
    tries = [made(id="b" * 32, now=now + timedelta(hours=hours)) for hours in (0, 5)]
    assert len({message["Message-ID"] for message in tries}) == 1


def test_the_mail_travels_in_seven_bits(tenant, letter, now):
    data = bytes(compose(letter(language="pt"), tenant, None, now))
    assert data.isascii()
    assert max(map(len, data.split(b"\r\n"))) <= 78
    assert b"\n" not in data.replace(b"\r\n", b"")


HOSTILE = [
    "Riverside\r\nBcc: spy@mail.example",
    "Riverside\nSubject: other",
    "Riverside\r\n\r\n<script>alert(1)</script>",
    "Riverside\x00Hospital",
    "Riverside\u2028Bcc: spy@mail.example",
    '"Riverside" <spy@mail.example>, x',
    "Riverside, Bcc: spy@mail.example;",
    "=?utf-8?q?=0D=0ABcc:_spy=40mail.example?=",
    "{0.__class__} {token} %s ${when}",
    "<b>Riverside</b> &amp; \"friends\" 'x'",
    "é" * 200,
    "x" * 500,
]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
@pytest.mark.parametrize("kind", [MailKind.ACTIVATION, MailKind.EMAIL_CHANGED])
def test_no_name_of_an_institution_becomes_a_header_or_markup(made, tenant, name, kind):
    usual = made(kind=kind)
    message = made(tenant=replace(tenant, names={"en": name, "pt": name}), kind=kind)
    assert message.keys() == usual.keys()
    assert len(message["From"].addresses) == len(message["To"].addresses) == 1
    assert message["From"].addresses[0].addr_spec == tenant.mail.sender
    assert message["To"].addresses[0].addr_spec == "josefa@mail.example"
    assert Page(html_of(message)).tags == Page(html_of(usual)).tags


#: Texts of what header parsers take for something, and any other sign.
PIECES = st.lists(
    st.sampled_from(
        ["=?", "?=", "utf-8?q?", "=0D=0A", "\r\n", "Bcc: ", "x@y.example", '"', "<", ">"]
    )
    | st.text(max_size=5),
    max_size=8,
).map("".join)


@given(name=PIECES, local=PIECES)
def test_nothing_that_is_written_makes_a_header_or_a_recipient(tenant, letter, now, name, local):
    shown = replace(tenant, names={"en": name or "x", "pt": name or "x"})
    try:
        data = bytes(compose(letter(to=f"{local}@mail.example"), shown, None, now))
    except Unsendable:
        data = bytes(compose(letter(), shown, None, now))
    message = message_from_bytes(data, policy=default)
    usual = message_from_bytes(bytes(compose(letter(), tenant, None, now)), policy=default)
    assert message.keys() == usual.keys()
    assert [len(message[name].addresses) for name in ("From", "To")] == [1, 1]
    assert message["To"].addresses[0].domain == "mail.example"
    assert message["From"].addresses[0].addr_spec == tenant.mail.sender


@pytest.mark.parametrize("name", ["<img src=x>", "a\r\nb", "{x}", "é" * 300])
def test_roles_and_contact_are_words_only(made, tenant, name):
    roles = {"nurse": replace(tenant.roles["nurse"], names={"en": name, "pt": name})}
    hostile = replace(tenant, roles=roles, contact=Contact(name, name, name))
    values = {"kind": MailKind.ROLES_CHANGED, "params": {"added": "nurse"}}
    message = made(tenant=hostile, **values)
    assert Page(html_of(message)).tags == Page(html_of(made(**values))).tags
    assert message.keys() == made(**values).keys()


def test_without_a_contact_the_desk_is_named(made, tenant):
    said = text_of(made(tenant=replace(tenant, contact=Contact()), language="pt"))
    assert "Pergunte na nossa receção." in said


@pytest.mark.parametrize("to", ["josefa@mail.example\r\nBcc: spy@mail.example", "", "a,b@c.de"])
def test_an_address_that_is_none_gets_no_mail(made, to):
    with pytest.raises(Unsendable):
        made(to=to)


def test_an_address_that_needs_utf8_keeps_its_letters(tenant, letter, now):
    data = bytes(compose(letter(to="josé@correio.pt"), tenant, None, now))
    assert "To: josé@correio.pt".encode() in data


def test_an_institution_without_mail_composes_none(tenant, letter, now):
    with pytest.raises(ValueError, match="sends none"):
        compose(letter(), replace(tenant, mail=None), None, now)


def test_parameters_that_a_kind_does_not_know_are_refused():
    check_params(MailKind.RECOVERY_CODE_USED, {"left": 3})
    with pytest.raises(ValueError, match="knows no left"):
        check_params(MailKind.PASSWORD_CHANGED, {"left": 3})
    with pytest.raises(ValueError, match="is one of"):
        check_params(MailKind.SECOND_FACTOR_ADDED, {"factor": "carrier pigeon"})


def test_a_kind_with_a_token_has_a_path_and_a_lifetime():
    assert set(PATHS) == set(LIFETIMES) == WITH_TOKEN
