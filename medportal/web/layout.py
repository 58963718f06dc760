"""What every page shares: the frame, and helpers for what stands in it.

Templates of every room find these names:

``layout``   the frame: ``metal:use-macro="layout"`` with the slots ``title`` and ``content``
             (also ``before``, above the heading, for a way back)
``ui``       the parts: ``metal:use-macro="ui.macros['summary']"`` and so on, see parts.pt
``h``        this page's :class:`Helpers`: dates, numbers, icons, tags, addresses of files
``_``        to mark words inside Python expressions of a template
"""

import datetime as dt
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from chameleon.utils import Markup
from pyramid.csrf import get_csrf_token
from pyramid.events import BeforeRender
from pyramid.interfaces import IRequest
from pyramid.renderers import get_renderer
from pyramid.request import Request

from medportal.web import i18n, icons
from medportal.web.assets import LOGO, Assets, theme_url
from medportal.web.flash import Flash, take
from medportal.web.i18n import LANGUAGES, _

TAGS = frozenset({"ok", "wait", "warn", "bad", "info", "plain"})
#: Where the registry keeps the templates that every page has.
FRAMES = "medportal.frames"
#: Links at the foot of every page: route name and words.
FOOT = (
    ("help", _("Help")),
    ("privacy", _("Privacy")),
    ("accessibility", _("Accessibility")),
)


def includeme(config: Any) -> None:
    """Give templates their names, and requests an empty navigation to fill."""
    config.add_subscriber(add_names, BeforeRender)
    config.add_request_method(lambda request: [], "nav", reify=True)


def add_names(event: Any) -> None:
    """Put the shared names into a template's own."""
    request = event.get("request")
    if not IRequest.providedBy(request) or not str(event.get("renderer_name")).endswith(".pt"):
        return
    event["layout"], event["ui"] = _frames(request.registry)
    event["h"] = Helpers(request)
    event["_"] = _


def _frames(registry: Any) -> tuple[Any, Any]:
    """Return the templates of the frame and of the parts, looked up once."""
    found: tuple[Any, Any] | None = registry.get(FRAMES)
    if found is None:
        frame, parts = (
            get_renderer(f"medportal.web:templates/{name}.pt", registry=registry).implementation()
            for name in ("layout", "parts")
        )
        found = registry[FRAMES] = frame, parts
    return found


class Helpers:
    """What a template may need of its request, and nothing that changes anything."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._flashes: list[Flash] | None = None

    @property
    def language(self) -> str:
        """Return the language of the page: en or pt."""
        return str(self._request.locale_name)

    @property
    def institution(self) -> str:
        """Return the institution's name in the page's language."""
        tenant = getattr(self._request, "tenant", None)
        if tenant is None:
            return "medportal"
        return str(tenant.names.get(self.language) or tenant.names[tenant.default_language])

    @property
    def mark(self) -> str:
        """Return the institution's mark."""
        kind = getattr(getattr(self._request, "tenant", None), "kind", "none")
        return self.icon(kind if kind in icons.ICONS else "none")

    @property
    def logo(self) -> str | None:
        """Return the address of the institution's own picture, if it has one."""
        has_one = getattr(getattr(self._request, "tenant", None), "logo", None) is not None
        return self.theme(LOGO) if has_one else None

    @property
    def contact(self) -> list[tuple[str, str, str]]:
        """Return how to reach the institution: what it is, words, address of the link or empty."""
        contact = getattr(getattr(self._request, "tenant", None), "contact", None)
        if contact is None:
            return []
        phone, email = contact.phone, contact.email
        lines = [
            (_("Phone"), phone, "tel:" + "".join(ch for ch in phone if ch in "+0123456789")),
            (_("Email"), email, "mailto:" + quote(email, safe="@+")),
            (_("Address"), contact.address, ""),
        ]
        return [(what, words, link) for what, words, link in lines if words]

    @property
    def person(self) -> str | None:
        """Return the name of who is signed in; nobody on a plain page, which asks no session."""
        if self.is_plain or self._request.identity is None:
            return None
        return str(self._request.person_name or self.text(_("Signed in")))

    @property
    def is_plain(self) -> bool:
        """Tell whether this page must not look at the session or the database."""
        return bool(getattr(self._request, "is_plain", False))

    @property
    def nav(self) -> list[tuple[str, str, bool]]:
        """Return the navigation: label, address, whether it is this page."""
        return [] if self.is_plain else list(self._request.nav)

    @property
    def withheld(self) -> list[tuple[str, str, str]]:
        """Return what keeps some of the person's pages closed: words, address, link's words."""
        if self.is_plain:
            return []
        found = getattr(self._request, "withheld", [])
        return [(self.text(words), address, self.text(link)) for words, address, link in found]

    @property
    def banners(self) -> list[tuple[str, str, str]]:
        """Return what is out of the ordinary about this page: words, address, link's words."""
        if self.is_plain:
            return []
        found = getattr(self._request, "banners", [])
        return [(self.text(words), address, self.text(link)) for words, address, link in found]

    @property
    def other_languages(self) -> list[tuple[str, str]]:
        """Return code and own name of the languages that the page is not in."""
        return [(code, name) for code, name in LANGUAGES.items() if code != self.language]

    @property
    def foot(self) -> list[tuple[str, str]]:
        """Return address and words of the links at the foot."""
        return [(self._request.route_path(name), words) for name, words in FOOT]

    @property
    def flashes(self) -> list[Flash]:
        """Return the one-time messages, the same ones however often asked."""
        if self._flashes is None:
            self._flashes = [] if self.is_plain else take(self._request)
        return self._flashes

    @property
    def form(self) -> Any:
        """Return the form of this page that has errors, or ``None``."""
        return getattr(self._request, "failed_form", None)

    @property
    def csrf_token(self) -> str:
        """Return the token that every POST form of a page carries."""
        token: str = get_csrf_token(self._request)
        return token

    @property
    def here(self) -> str:
        """Return the address of this page; a plain page may have one that cannot be read."""
        return "/" if self.is_plain else str(self._request.path_qs)

    def asset(self, name: str) -> str:
        """Return the address of a static file. Raises ``KeyError`` for an unknown one."""
        assets: Assets = self._request.registry["medportal.assets"]
        return assets.url(name)

    def theme(self, name: str) -> str:
        """Return the address of a file of the institution's theme."""
        return theme_url(self._request, name)

    def icon(self, name: str) -> str:
        """Return an icon of :mod:`medportal.web.icons`."""
        return Markup(icons.icon(name))

    def tag(self, kind: str, words: str) -> str:
        """Return a state as a tag: ok, wait, warn, bad, info or plain; sign, colour and words."""
        if kind not in TAGS:
            raise ValueError("unknown kind of tag")
        return Markup(f'<span class="tag" data-kind="{kind}">{_escaped(self.text(words))}</span>')

    def text(self, words: str) -> str:
        """Return words in the page's language."""
        return i18n.translate(self._request, words)

    def plural(self, one: str, many: str, count: int) -> str:
        """Return the form that fits ``count``; ``${n}`` in it is the count."""
        return i18n.plural(self._request, one, many, count)

    def date(self, day: dt.date) -> str:
        """Return a date in words."""
        return i18n.format_date(self._request, day)

    def datetime(self, instant: dt.datetime, *, seconds: bool = False) -> str:
        """Return date and time at the institution's clock."""
        return i18n.format_datetime(self._request, instant, seconds=seconds)

    def number(self, number: int | Decimal) -> str:
        """Return a number as it is written in the page's language."""
        return i18n.format_number(self._request, number)

    def time(self, moment: dt.date | dt.datetime) -> str:
        """Return a ``<time>`` element: words for people, ISO 8601 for programs."""
        words = self.datetime(moment) if isinstance(moment, dt.datetime) else self.date(moment)
        return Markup(f'<time datetime="{moment.isoformat()}">{_escaped(words)}</time>')


def _escaped(text: str) -> str:
    for plain, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(plain, entity)
    return text
