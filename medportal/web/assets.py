"""Static files: read once, fingerprinted together, compressed, kept by browsers for a year.

Style sheets and modules are few and small, so they are held in memory. One fingerprint
covers all of them and stands in the path, so that a module's relative imports find modules
of the same release. Bootstrap's style sheet comes from the installed deform.

``/theme/...`` is the same for what each institution looks like: its colours, mark, icon and
logo. Admins change that, and the fingerprint with it, so that browsers ask for the new look.
"""

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

from pyramid.request import Request
from pyramid.response import Response
from pyramid.security import NO_PERMISSION_REQUIRED

from medportal.web import colour
from medportal.web.headers import mark_as_asset
from medportal.web.icons import icon_file

TYPES = {
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
    "png": "image/png",
}
#: These are compressed already.
AS_THEY_ARE = frozenset({"image/png"})
LOGO = "logo.png"
BOOTSTRAP = "bootstrap.css"
NEUTRAL = {"brand": "#2f4858", "brand_text": "#ffffff", "accent": "#0b5c8a"}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file as it is sent: type, bytes, the same bytes compressed where that helps."""

    content_type: str
    plain: bytes
    compressed: bytes | None


@dataclass(frozen=True, slots=True)
class Assets:
    """All static files by name, and the fingerprint of all of them."""

    fingerprint: str
    by_name: Mapping[str, Asset]

    def url(self, name: str) -> str:
        """Return the path of a static file. Raises ``KeyError`` if there is none of that name."""
        if name not in self.by_name:
            raise KeyError(name)
        return f"/static/{self.fingerprint}/{name}"


def includeme(config: Any) -> None:
    """Register the static files and the themes."""
    config.registry["medportal.assets"] = load_assets()
    for view, route in ((serve_static, "static"), (serve_theme, "theme")):
        config.add_view(
            view, route_name=route, request_method="GET", permission=NO_PERMISSION_REQUIRED
        )


def load_assets() -> Assets:
    """Read every static file."""
    sources = {
        entry.name: entry.read_bytes()
        for entry in files("medportal.web").joinpath("static").iterdir()
        if entry.name.rsplit(".", 1)[-1] in TYPES
    }
    sources[BOOTSTRAP] = files("deform").joinpath("static/css/bootstrap.min.css").read_bytes()
    return Assets(
        _fingerprint(sources), {name: _asset(name, data) for name, data in sources.items()}
    )


def serve_static(request: Request) -> Response:
    """Send a static file."""
    assets: Assets = request.registry["medportal.assets"]
    asset = assets.by_name.get(request.matchdict["name"])
    return _send(request, asset, request.matchdict["fingerprint"] == assets.fingerprint)


def serve_theme(request: Request) -> Response:
    """Send what makes the look of the request's institution."""
    theme = _theme(request)
    asset = theme.by_name.get(request.matchdict["name"])
    return _send(request, asset, request.matchdict["fingerprint"] == theme.fingerprint)


@lru_cache(maxsize=64)
def theme_of(
    kind: str, *, brand: str, brand_text: str, accent: str, logo: bytes | None = None
) -> Assets:
    """Return the theme of an institution: ``theme.css``, ``icon.svg``, perhaps ``logo.png``.

    Raises ``ValueError`` for a colour that is not ``#rrggbb``.
    """
    sources = {
        "theme.css": theme_css(brand, brand_text, accent).encode(),
        "icon.svg": icon_file(kind, brand, brand_text).encode(),
        **({} if logo is None else {LOGO: logo}),
    }
    return Assets(
        _fingerprint(sources), {name: _asset(name, data) for name, data in sources.items()}
    )


def theme_url(request: Request, name: str) -> str:
    """Return the path of a file of the request's institution's theme, neutral without one."""
    return f"/theme/{_theme(request).fingerprint}/{name}"


def theme_css(brand: str, brand_text: str, accent: str) -> str:
    """Return the style sheet that carries an institution's colours.

    Everything else is mixed from the three, so that states and tints keep their contrast
    whatever an institution chooses. Raises ``ValueError`` for a colour that is not ``#rrggbb``.
    """
    for given in (brand, brand_text, accent):
        colour.parse(given)
    tint = colour.mix(colour.WHITE, brand, 0.06)
    values = {
        "brand": brand,
        "brand-text": brand_text,
        "brand-strong": colour.mix(brand, colour.BLACK, 0.25),
        "brand-strong-text": colour.readable_on(colour.mix(brand, colour.BLACK, 0.25)),
        "brand-ink": colour.darkened(brand, tint, 7.0),
        "tint": tint,
        "tint-strong": colour.mix(colour.WHITE, brand, 0.13),
        "accent": colour.darkened(accent, colour.mix(colour.WHITE, brand, 0.13)),
        "accent-strong": colour.mix(accent, colour.BLACK, 0.4),
    }
    lines = "".join(f"  --{name}: {value};\n" for name, value in values.items())
    return f":root {{\n{lines}}}\n"


def _theme(request: Request) -> Assets:
    tenant = getattr(request, "tenant", None)
    if tenant is None:
        return theme_of("none", **NEUTRAL)
    colours = {key: tenant.colours[key] for key in NEUTRAL}
    return theme_of(tenant.kind, **colours, logo=getattr(tenant, "logo", None))


def _send(request: Request, asset: Asset | None, is_current: bool) -> Response:
    if asset is None:
        # Not the page of missing things: nobody is sent to the sign-in over a style sheet.
        return Response("There is no such file.\n", status=404, content_type="text/plain")
    if is_current:
        # During an upgrade a page of the other release may ask here; it gets our file, but
        # does not keep it under its own name.
        mark_as_asset(request)
    if asset.compressed is None:
        return Response(body=asset.plain, content_type=asset.content_type, charset=None)
    accepted = request.accept_encoding
    compress = bool(accepted.header_value and accepted.acceptable_offers(["gzip"]))
    response = Response(
        body=asset.compressed if compress else asset.plain,
        content_type=asset.content_type,
        charset="utf-8",
        vary="Accept-Encoding",
    )
    if compress:
        response.content_encoding = "gzip"
    return response


def _asset(name: str, data: bytes) -> Asset:
    content_type = TYPES[name.rsplit(".", 1)[-1]]
    if content_type in AS_THEY_ARE:
        return Asset(content_type, data, None)
    # The time is left out of the compressed form, so that every process sends the same bytes.
    return Asset(content_type, data, gzip.compress(data, mtime=0))


def _fingerprint(sources: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(sources):
        digest.update(f"{name}:{len(sources[name])}:".encode() + sources[name])
    return digest.hexdigest()[:20]
