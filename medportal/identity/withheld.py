"""What to tell somebody whose roles do not all count in this session, and where to go."""

from typing import Any

from pyramid.request import Request

from medportal.core.reasons import Reason
from medportal.web.i18n import _

#: Reason, what to say, the route of the page that mends it and its words.
NOTICES: tuple[tuple[Reason, Any, str, Any], ...] = (
    (
        Reason.SECOND_FACTOR_NEEDED,
        _(
            "Your role needs a second proof that it is you, besides the password. Until you "
            "have set one up, or signed in with it, the pages of this role are closed."
        ),
        "account-second-factor",
        _("Set up the second proof"),
    ),
    (
        Reason.SECOND_FACTOR_NEEDED_OFF_SITE,
        _(
            "You are outside the institution. The pages of staff open here only for those who "
            "signed in with a second proof besides the password."
        ),
        "account-second-factor",
        _("Set up the second proof"),
    ),
    (
        Reason.PASSWORD_TOO_SHORT,
        _(
            "Your password is too short to be your only proof. Choose a longer one, then your "
            "pages open again."
        ),
        "account-password",
        _("Change my password"),
    ),
)


def includeme(config: Any) -> None:
    """Give requests ``withheld``, which the frame of every page shows."""
    config.add_request_method(withheld, "withheld", reify=True)


def withheld(request: Request) -> list[tuple[Any, str, Any]]:
    """Return (what to say, address, words of the link) for each reason that applies."""
    identity = request.identity
    reasons = identity.withheld if identity else frozenset()
    return [
        (words, request.route_path(route), link)
        for reason, words, route, link in NOTICES
        if reason in reasons
    ]
