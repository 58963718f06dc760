"""Security headers on every answer, error pages included.

No inline script or style is allowed anywhere, so what somebody manages to inject into a
page does not run. Only fingerprinted files, which hold nothing personal, may be kept by a
browser; everything else is ``no-store``.
"""

from collections.abc import Callable
from typing import Any

from pyramid.request import Request
from pyramid.response import Response
from pyramid.settings import asbool

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        # Bootstrap's style sheet draws its check marks from data: images.
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
PERMISSIONS_POLICY = ", ".join(
    (
        "accelerometer=()",
        "camera=()",
        "display-capture=()",
        "geolocation=()",
        "gyroscope=()",
        "microphone=()",
        "midi=()",
        "payment=()",
        "usb=()",
        "publickey-credentials-create=(self)",
        "publickey-credentials-get=(self)",
    )
)
ALWAYS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Permissions-Policy": PERMISSIONS_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# Two years, and for names below too: one without HTTPS could set cookies for the portal's name.
STRICT_TRANSPORT = "max-age=63072000; includeSubDomains"
KEEP_FOR_A_YEAR = "public, max-age=31536000, immutable"


def mark_as_asset(request: Request) -> None:
    """Say that the answer to this request holds nothing personal and may be kept for a year."""
    request.is_asset = True


def mark_as_public(request: Request, seconds: int) -> None:
    """Say that the answer to this request is for everybody, and may be kept for that long."""
    request.public_seconds = seconds


def headers_tween_factory(
    handler: Callable[[Request], Response], registry: Any
) -> Callable[[Request], Response]:
    """Make the outermost tween, which puts the headers on whatever answer leaves.

    ``medportal.hsts`` adds HSTS. It belongs into production only: with it, a certificate
    authority that is made anew locks browsers out.
    """
    hsts = asbool(registry.settings.get("medportal.hsts", False))

    def headers_tween(request: Request) -> Response:
        response = handler(request)
        response.headers.update(ALWAYS)
        if hsts:
            response.headers["Strict-Transport-Security"] = STRICT_TRANSPORT
        kept = getattr(request, "is_asset", False) and response.status_int == 200
        if kept:
            response.headers["Cache-Control"] = KEEP_FOR_A_YEAR
        elif getattr(request, "public_seconds", 0) and response.status_int in (200, 304):
            response.headers["Cache-Control"] = f"public, max-age={request.public_seconds}"
            # Meant for other software, wherever a person follows a link to it.
            response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        else:
            response.headers["Cache-Control"] = "no-store"
            response.headers["X-Robots-Tag"] = "noindex"
        return response

    return headers_tween
