"""A mail from a letter, the institution and perhaps a link (PURE).

Every mail is plain text with an HTML part that says the same, without anything that a mail
program would fetch. Headers are made by the standard library's header objects, which refuse a
line's end, and values never become part of a pattern.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime
from html import escape
from string import Formatter
from textwrap import fill
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo

from medportal.core.clock import from_micros
from medportal.mail.addresses import mailbox
from medportal.mail.kinds import LIFETIMES, PATHS, Letter, MailKind, Params
from medportal.mail.words import FRAMES, WORDS, Frame
from medportal.tenancy.tenant import Tenant

LINE = 72


@dataclass(frozen=True, slots=True)
class _Content:
    """What a mail says, before it is text or HTML."""

    institution: str
    subject: str
    before: list[str]
    label: str
    link: str
    after: list[str]
    contact: list[tuple[str, str]]
    frame: Frame


def compose(letter: Letter, tenant: Tenant, token: str | None, now: datetime) -> EmailMessage:
    """Return the mail of a letter as it is sent ``now``, with a link if there is a ``token``.

    Raises ``Unsendable`` for an address that no mail can go to.
    """
    to = mailbox(letter.to)
    language = letter.language if letter.language in FRAMES else tenant.default_language
    content = _content(letter, tenant, language, _link(letter.kind, tenant, token), now)
    message = EmailMessage(SMTPUTF8 if to.needs_utf8 else SMTP)
    message["Date"] = format_datetime(now.astimezone(UTC))
    message["From"] = Address(_in_header(content.institution), addr_spec=_sender(tenant))
    message["To"] = Address(username=to.local, domain=to.domain)
    message["Subject"] = _in_header(content.subject)
    # The same for every try: who gets a mail twice can see that it is one.
    message["Message-ID"] = f"<{letter.id}@{_host(tenant)}>"
    message["Auto-Submitted"] = "auto-generated"
    # Quoted-printable, so that every server on the way takes it, whatever it offers.
    message.set_content(_as_text(content), cte="quoted-printable")
    message.add_alternative(
        _as_html(content, tenant.colours), subtype="html", cte="quoted-printable"
    )
    # Last: headers that begin with "Content-" go with a content that is replaced.
    message["Content-Language"] = content.frame.tag
    return message


def _sender(tenant: Tenant) -> str:
    if tenant.mail is None:
        raise ValueError("an institution without mail sends none")
    return tenant.mail.sender


def _host(tenant: Tenant) -> str:
    return urlsplit(tenant.address).hostname or tenant.hostnames[0]


def _link(kind: MailKind, tenant: Tenant, token: str | None) -> str:
    if token is None:
        return ""
    return f"{tenant.address}{PATHS[kind]}?link={quote(token, safe='')}"


def _content(letter: Letter, tenant: Tenant, language: str, link: str, now: datetime) -> _Content:
    words, frame = WORDS[language][letter.kind], FRAMES[language]
    values = _values(letter, tenant, language, now)
    return _Content(
        institution=_one_line(values["institution"]),
        subject=_one_line(words.subject.format_map(values)),
        before=_known(words.happened, values),
        label=words.label,
        link=link,
        after=_known(words.todo + words.caution, values),
        contact=_contact(tenant, frame),
        frame=frame,
    )


def _values(letter: Letter, tenant: Tenant, language: str, now: datetime) -> dict[str, str]:
    """Return what can stand in braces; what is not known of this mail is absent."""
    frame, zone = FRAMES[language], ZoneInfo(tenant.time_zone or "UTC")
    values = {
        "institution": tenant.name(language),
        "when": _date(letter.at, zone, frame),
        **_counts(letter.params),
        **_roles(letter.params, tenant, language),
    }
    if letter.kind in LIFETIMES:
        values["until"] = _date(now + LIFETIMES[letter.kind], zone, frame)
    if "at" in letter.params:
        values["at"] = _date(from_micros(int(letter.params["at"])), zone, frame)
    factors = frame.added if letter.kind is MailKind.SECOND_FACTOR_ADDED else frame.removed
    factor = factors.get(str(letter.params.get("factor")))
    return values if factor is None else values | {"factor": factor}


def _counts(params: Params) -> dict[str, str]:
    return {name: str(int(params[name])) for name in ("count", "left") if name in params}


def _roles(params: Params, tenant: Tenant, language: str) -> dict[str, str]:
    named = {name: tenant.roles.get(str(params.get(name))) for name in ("added", "removed")}
    return {name: role.names[language] for name, role in named.items() if role is not None}


def _known(paragraphs: tuple[str, ...], values: Mapping[str, str]) -> list[str]:
    """Return the paragraphs of which everything is known, filled in."""
    return [text.format_map(values) for text in paragraphs if fields(text) <= set(values)]


def fields(text: str) -> set[str]:
    """Return the names that stand in braces in a text."""
    return {name for _literal, name, _spec, _conversion in Formatter().parse(text) if name}


def _contact(tenant: Tenant, frame: Frame) -> list[tuple[str, str]]:
    contact = tenant.contact
    lines = [
        (frame.phone, contact.phone),
        (frame.email, contact.email),
        (frame.address, contact.address),
    ]
    return [(label, _one_line(value)) for label, value in lines if value]


def _date(moment: datetime, zone: ZoneInfo, frame: Frame) -> str:
    local = moment.astimezone(zone)
    return frame.date.format(
        day=local.day,
        month=frame.months[local.month - 1],
        year=local.year,
        time=f"{local:%H:%M}",
    )


def _in_header(text: str) -> str:
    """Return a text that stays one in a header.

    The standard library takes "=?...?=" for an encoded word (RFC 2047), decodes it and, before
    CPython's fix of CVE-2024-6923, writes out the line ends that it finds there.
    """
    return _one_line(text).replace("=?", "= ?")


def _one_line(text: str) -> str:
    """Return a text without line ends and other signs that have no shape."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


# Text


def _as_text(content: _Content) -> str:
    parts = [content.institution, *content.before]
    if content.link:
        # A line of its own, never broken: mail programs make a link of it.
        parts += [f"{content.label}:", content.link]
    parts += content.after
    parts += [_contact_text(content), *content.frame.foot]
    return "\n\n".join(_filled(part, content.link) for part in parts) + "\n"


def _contact_text(content: _Content) -> str:
    lines = [f"{label}: {value}" for label, value in content.contact]
    return "\n".join([f"{content.frame.contact}:", *(lines or [content.frame.at_the_desk])])


def _filled(part: str, link: str) -> str:
    if part == link:
        return part
    return "\n".join(
        fill(line, LINE, break_long_words=False, break_on_hyphens=False)
        for line in part.splitlines()
    )


# HTML

_BODY = "margin:0;padding:24px 16px;background:#ffffff;color:#1c1c1c;"
_FONT = "font-family:Arial,Helvetica,sans-serif;font-size:18px;line-height:1.5;"
_BUTTON = "display:inline-block;padding:12px 20px;border-radius:4px;font-weight:bold;"


def _as_html(content: _Content, colours: Mapping[str, str]) -> str:
    parts = [f"<h1 style='font-size:22px;margin:0 0 16px'>{escape(content.institution)}</h1>"]
    parts += _paragraphs(content.before)
    parts += _link_html(content, colours)
    parts += _paragraphs(content.after)
    parts.append(_contact_html(content))
    parts += [f"<p style='font-size:16px'>{escape(line)}</p>" for line in content.frame.foot]
    inner = "\n".join(parts)
    return (
        f'<!DOCTYPE html>\n<html lang="{content.frame.tag}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(content.subject)}</title>\n</head>\n"
        f'<body style="{_BODY}{_FONT}">\n<div style="max-width:36em;margin:0 auto">\n'
        f"{inner}\n</div>\n</body>\n</html>\n"
    )


def _paragraphs(texts: list[str]) -> list[str]:
    return [f"<p>{escape(text)}</p>" for text in texts]


def _link_html(content: _Content, colours: Mapping[str, str]) -> list[str]:
    if not content.link:
        return []
    link = escape(content.link)
    style = f"{_BUTTON}background:{colours['brand']};color:{colours['brand_text']}"
    return [
        f'<p><a href="{link}" style="{escape(style)}">{escape(content.label)}</a></p>',
        f"<p style='font-size:16px'>{escape(content.frame.copy_link)}<br>"
        f"<span style='word-break:break-all'>{link}</span></p>",
    ]


def _contact_html(content: _Content) -> str:
    heading = f"<h2 style='font-size:18px;margin:24px 0 8px'>{escape(content.frame.contact)}</h2>"
    lines = [f"{escape(label)}: {escape(value)}" for label, value in content.contact]
    return f"{heading}\n<p>{'<br>'.join(lines or [escape(content.frame.at_the_desk)])}</p>"
