"""The banner over every page about a patient whose glass somebody has broken, while it is open."""

from typing import Any

from pyramid.request import Request

from medportal.access.resources import PatientContext, RecordContext
from medportal.core.permissions import Permission, Reach
from medportal.web.i18n import _, time_zone

#: These say themselves what is open.
OWN_PAGES = ("glass", "glass-end")


def includeme(config: Any) -> None:
    """Give requests ``banners`` and ``ways_on``, which the frame and the 404 page show."""
    config.add_request_method(banners, "banners", reify=True)
    config.add_request_method(ways_on, "ways_on", reify=True)


def banners(request: Request) -> list[tuple[Any, str, Any]]:
    """Return (what to say, address, words of the link) of what is open now by emergency access."""
    context = getattr(request, "context", None)
    if isinstance(context, RecordContext):
        context = context.patient_context
    if not isinstance(context, PatientContext) or request.matched_route.name in OWN_PAGES:
        return []
    # Facts are not loaded for the banner's sake: after a refusal there is no database to ask.
    facts = context.__dict__.get("patient")
    if facts is None or getattr(request, "exception", None) is not None:
        return []
    until = max((g.until for g in facts.glass if g.in_force(request.now)), default=None)
    if until is None:
        return []
    clock = until.astimezone(time_zone(request)).strftime("%H:%M")
    words = _(
        "Emergency access until ${time}. The patient was told, and somebody checks it.",
        mapping={"time": clock},
    )
    return [(words, request.route_path("glass", patient=context.patient_id), _("End it"))]


def ways_on(request: Request) -> list[tuple[Any, str, Any]]:
    """Return what the page for what is hidden or missing says to somebody besides.

    It looks at the asker alone, so that it is the same for both.
    """
    identity = request.identity
    roles = [request.tenant.roles.get(role) for role in (identity.roles if identity else ())]
    grants = [role.grants for role in roles if role is not None]
    if not any(g.get(Permission.GLASS_BREAK) is Reach.ANY for g in grants):
        return []
    words = _(
        "If this was about a patient whom you do not look after, and who needs help now, find "
        "the patient by number. You are then asked for a reason."
    )
    return [(words, request.route_path("patient-find"), _("Find by number"))]
