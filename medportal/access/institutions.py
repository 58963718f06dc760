"""The names of this institution and of its partners."""

from pyramid.request import Request


def institution_name(request: Request, institution: str) -> str:
    """Return the name of this institution or of a partner, in the page's language."""
    if institution == request.tenant.id:
        return str(request.tenant.name(request.locale_name))
    partner = request.keys.partner(institution)
    if partner is None:
        return institution
    return str(partner.names.get(request.locale_name) or institution)
