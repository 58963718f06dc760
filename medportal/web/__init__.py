"""What every page of the portal shares: frame, forms, languages, errors, headers.

Holds: the layout and its parts, the deform renderer, static files, English and Portuguese,
the check against forged requests, limits on what comes in, error pages, security headers.
May import: core (and Pyramid, deform, colander, Babel). :mod:`colour`, :mod:`icons` and
:mod:`navigation` are PURE.
Never does: a database query. What it shows of the person and the institution it takes
from the request: ``tenant`` (``None`` for an unknown host), ``identity``, ``person_name``,
``language_preference`` and ``nav``.
Invariants: no inline script or style anywhere; nothing dynamic is kept by a browser; no
exception's message reaches a browser or a log.
Before the first request every template is compiled (:mod:`warm`), or taken from where it is kept
(:mod:`compiled`).
Start reading at :mod:`medportal.web.layout`, then :mod:`medportal.web.forms`.
"""

from typing import Any

#: The outermost tweens, from the outside in. Whatever else runs belongs under them.
TWEENS = (
    "medportal.web.headers.headers_tween_factory",
    "medportal.web.errors.crash_tween_factory",
    "medportal.web.limits.limits_tween_factory",
    "medportal.web.csrf.forgery_tween_factory",
)
HOST_TWEEN = "medportal.tenancy.requests.host_tween_factory"
TRANSACTION_TWEEN = "pyramid_tm.tm_tween_factory"


def includeme(config: Any) -> None:
    """Wire the room into an application."""
    config.include("pyramid_chameleon")
    for module in (
        "addresses",
        "i18n",
        "limits",
        "csrf",
        "errors",
        "assets",
        "forms",
        "layout",
        "pages",
        "edge",
    ):
        config.include(f"medportal.web.{module}")
    _add_tweens(config)


def _add_tweens(config: Any) -> None:
    """Put the host (421) between what must see every answer and what reads the request."""
    # Imported here: three modules of this room are PURE, and importing them runs this file.
    from pyramid.tweens import EXCVIEW, INGRESS, MAIN

    headers, crash, limits, forgery = TWEENS
    config.add_tween(headers, under=INGRESS, over=(crash, MAIN))
    config.add_tween(crash, under=headers, over=(HOST_TWEEN, limits, MAIN))
    config.add_tween(limits, under=(HOST_TWEEN, crash), over=(forgery, MAIN))
    config.add_tween(forgery, under=limits, over=(TRANSACTION_TWEEN, EXCVIEW, MAIN))
