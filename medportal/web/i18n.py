"""English and Portuguese: words, dates and numbers.

The English text is the message id. Portuguese comes from
``medportal/locale/pt/LC_MESSAGES/medportal.po``, compiled in memory when the process starts,
so that no compiled catalogue can lie beside a newer source. The catalogues that colander
and deform carry are merged in; ``colander.po`` beside ours replaces the sentences of
theirs that a patient should not have to read.

Other rooms import ``_`` and :func:`plural` from here; the catalogue is kept by
:mod:`medportal.web.catalogue`.
"""

from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from functools import cache, lru_cache
from importlib.resources import files
from io import BytesIO
from typing import Any
from zoneinfo import ZoneInfo

from babel import dates, numbers
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from pyramid.httpexceptions import HTTPBadRequest, HTTPSeeOther
from pyramid.i18n import Localizer, Translations
from pyramid.interfaces import ILocalizer
from pyramid.request import Request
from pyramid.response import Response
from pyramid.security import NO_PERMISSION_REQUIRED
from pyramid.threadlocal import get_current_request
from pyramid_chameleon.interfaces import IChameleonTranslate
from translationstring import TranslationString, TranslationStringFactory

from medportal.web.limits import posted_text
from medportal.web.navigation import safe_path

DOMAIN = "medportal"
LANGUAGES = {"en": "English", "pt": "Português"}
COOKIE = "__Host-lang"
COOKIE_SECONDS = 365 * 24 * 3600
#: English as written in Europe, and Portuguese as written in Portugal.
FORMATS = {"en": "en_GB", "pt": "pt_PT"}
BORROWED = ("colander", "deform")

_ = TranslationStringFactory(DOMAIN)


def includeme(config: Any) -> None:
    """Register the languages, the negotiator and the language switch."""
    translations = {language: load_translations(language) for language in LANGUAGES}
    ours = frozenset[Any]().union(*map(_own_messages, translations.values()))
    for language in LANGUAGES:
        localizer = QuickLocalizer(language, translations[language], ours)
        config.registry.registerUtility(localizer, ILocalizer, name=language)
    config.set_locale_negotiator(negotiate)
    config.registry.registerUtility(chameleon_translate, IChameleonTranslate)
    config.add_view(
        choose_language,
        route_name="language",
        request_method="POST",
        permission=NO_PERMISSION_REQUIRED,
    )


class QuickLocalizer(Localizer):  # type: ignore[misc]  # Pyramid comes without types.
    """A localizer that remembers what the words of our code and templates are in its language.

    A page says some hundred of them, the same each time. Only messages of the catalogue are
    remembered, and only if nothing is put into them: what is may be about somebody.
    """

    def __init__(self, language: str, translations: Translations, ours: frozenset[Any]) -> None:
        super().__init__(language, translations)
        self._ours = ours
        self._words: dict[tuple[Any, ...], str] = {}

    def translate(
        self, tstring: Any, domain: str | None = None, mapping: dict[str, Any] | None = None
    ) -> str:
        """Translate as Pyramid's localizer does."""
        if mapping or type(tstring) is not TranslationString or tstring.mapping:
            said: str = super().translate(tstring, domain, mapping)
            return said
        return self.say(str(tstring), domain or tstring.domain, tstring.default, tstring.context)

    def say(self, message: str, domain: str, default: str | None, context: str | None) -> str:
        """Return a message into which nothing is put, in this language."""
        key = (message, domain, default, context)
        found = self._words.get(key)
        if found is None:
            whole = TranslationString(message, domain, default, None, context)
            found = super().translate(whole)
            if message in self._ours and domain == DOMAIN:
                self._words[key] = found
        return found

    @lru_cache(maxsize=4096)  # noqa: B019  # There is one of each language, for good.
    def count(self, one: str, many: str, count: int, shown: str) -> str:
        """Return the form that fits ``count``, with ``${n}`` replaced by ``shown``."""
        found: str = self.pluralize(one, many, count, DOMAIN, {"n": shown})
        return found


def _own_messages(translations: Translations) -> Iterable[Any]:
    """Return the ids of our own messages that are translated."""
    own = translations._domains.get(DOMAIN)
    return own._catalog if own else ()


def load_translations(language: str) -> Translations:
    """Return the compiled translations of one language.

    English needs none of ours (message ids are English), but has replacements for colander's.
    """
    merged = Translations()
    # Without a file the base class leaves this out, and every lookup would fail.
    merged._catalog = {}
    for domain in BORROWED:
        borrowed = files(domain).joinpath("locale", language, "LC_MESSAGES", f"{domain}.mo")
        if borrowed.is_file():
            merged.add(Translations(BytesIO(borrowed.read_bytes()), domain))
    for domain in (DOMAIN, *BORROWED):
        own = po_file(language, domain)
        if own.is_file():
            merged.add(Translations(BytesIO(_compiled(own.read_bytes(), language)), domain))
    return merged


def po_file(language: str, domain: str = DOMAIN) -> Any:
    """Return where the source catalogue of a language lies (it may not exist)."""
    return files("medportal").joinpath("locale", language, "LC_MESSAGES", f"{domain}.po")


@cache
def known_messages() -> frozenset[str]:
    """Return the message ids of our own catalogue."""
    catalogue = read_po(BytesIO(po_file("pt").read_bytes()), locale="pt")
    return frozenset(_first(message.id) for message in catalogue if message.id)


def negotiate(request: Request) -> str:
    """Return the language of a request.

    First what was chosen in this browser, then what the signed-in person prefers, then what
    the browser asks for, then the institution's own.
    """
    chosen = request.cookies.get(COOKIE)
    if chosen in LANGUAGES:
        return str(chosen)
    preferred = getattr(request, "language_preference", None)
    return str(preferred) if preferred in LANGUAGES else _impersonal(request)


def settle_impersonally(request: Request) -> None:
    """Fix a request's language without asking who it is from.

    Error pages use this where a look at the session or the database may be the very thing
    that failed, or must not happen yet.
    """
    if "locale_name" not in request.__dict__:
        chosen = request.cookies.get(COOKIE)
        request.locale_name = chosen if chosen in LANGUAGES else _impersonal(request)


def _impersonal(request: Request) -> str:
    own = getattr(getattr(request, "tenant", None), "default_language", None) or "en"
    asked: str = request.accept_language.lookup(list(LANGUAGES), default=own)
    return asked


def translate(request: Request, message: str) -> str:
    """Return ``message`` (a translation string or plain text) in the request's language."""
    found: str = request.localizer.translate(message)
    return found


def plural(request: Request, one: str, many: str, count: int) -> str:
    """Return the form that fits ``count``, with ``${n}`` replaced by the formatted count."""
    found: str = request.localizer.count(one, many, count, format_number(request, count))
    return found


def chameleon_translate(
    msgid: Any,
    domain: str | None = None,
    mapping: dict[str, object] | None = None,
    context: str | None = None,
    target_language: str | None = None,
    default: str | None = None,
) -> Any:
    """Translate for Chameleon, in the language of the request being answered.

    A template that names no domain means ours.
    """
    if not isinstance(msgid, str):
        return msgid if msgid is None else str(msgid)
    request = get_current_request()
    if request is not None and not mapping and type(msgid) is str:
        return request.localizer.say(msgid, domain or DOMAIN, default, context)
    if not isinstance(msgid, TranslationString):
        msgid = TranslationString(msgid, domain or DOMAIN, default, mapping, context)
    return msgid.interpolate() if request is None else request.localizer.translate(msgid)


def choose_language(request: Request) -> Response:
    """Remember the language chosen in this browser and go back to the page it was chosen on."""
    language = posted_text(request, "language")
    if language not in LANGUAGES:
        raise HTTPBadRequest()
    response = HTTPSeeOther(safe_path(posted_text(request, "next")))
    response.set_cookie(
        COOKIE,
        language,
        max_age=COOKIE_SECONDS,
        path="/",
        secure=True,
        httponly=True,
        samesite="Lax",
    )
    return response


def format_date(request: Request, day: date) -> str:
    """Return a date in words: 7 March 2025, 7 de março de 2025.

    A ``datetime`` is taken at the institution's clock.
    """
    if isinstance(day, datetime):
        day = day.astimezone(time_zone(request)).date()
    return _date(day, _format(request))


@lru_cache(maxsize=4096)
def _date(day: date, locale: str) -> str:
    return dates.format_date(day, "long", locale=locale)


def format_datetime(request: Request, instant: datetime, *, seconds: bool = False) -> str:
    """Return date and time of an aware instant at the institution's clock.

    Raises ``ValueError`` for a naive one.
    """
    if instant.tzinfo is None:
        raise ValueError("a naive datetime has no place on the time line")
    local = instant.astimezone(time_zone(request))
    clock = local.strftime("%H:%M:%S" if seconds else "%H:%M")
    return f"{format_date(request, local)}, {clock}"


def format_number(request: Request, number: int | Decimal) -> str:
    """Return a number as written in the request's language, with every decimal it has.

    Trailing zeros stay: 13.40 says how exactly something was measured, 13.4 says less.
    """
    return _number(str(number), _format(request))


# By the digits as they stand: 13.40 and 13.4 are equal numbers, and not the same words.
@lru_cache(maxsize=4096)
def _number(digits: str, locale: str) -> str:
    number = Decimal(digits)
    exponent = number.as_tuple().exponent
    places = max(0, -exponent) if isinstance(exponent, int) else 0
    pattern = "#,##0" + ("." + "0" * places if places else "")
    return numbers.format_decimal(number, pattern, locale=locale)


def time_zone(request: Request) -> ZoneInfo:
    """Return the institution's time zone, UTC where it names none."""
    name = getattr(getattr(request, "tenant", None), "time_zone", None)
    return ZoneInfo(name or "UTC")


def _format(request: Request) -> str:
    return FORMATS.get(request.locale_name, "en_GB")


@cache
def _compiled(source: bytes, language: str) -> bytes:
    catalogue: Catalog = read_po(BytesIO(source), locale=language, abort_invalid=True)
    compiled = BytesIO()
    write_mo(compiled, catalogue)
    return compiled.getvalue()


def _first(message_id: object) -> str:
    return str(message_id[0] if isinstance(message_id, list | tuple) else message_id)
