"""New results: the list of those that wait, and noting one of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pyramid.httpexceptions import HTTPNotFound, HTTPSeeOther
from pyramid.request import Request
from pyramid.view import view_config

from medportal.access.resources import RecordContext
from medportal.audit.events import Action, Outcome
from medportal.core.permissions import Permission
from medportal.core.reasons import Reason
from medportal.identity.people import names_of
from medportal.records import news, store
from medportal.records.errors import RecordDamaged
from medportal.records.opening import open_record
from medportal.records.presentation import CATEGORY_WORDS, institution_name
from medportal.results import service
from medportal.results.service import PAGE, Waiting
from medportal.results.words import STATUS_WORDS
from medportal.web.flash import flash
from medportal.web.i18n import _
from medportal.web.limits import posted_text


@view_config(
    route_name="results",
    permission=Permission.PATIENTS_LIST,
    request_method="GET",
    renderer="medportal.results:templates/results.pt",
)
def result_list(request: Request) -> dict[str, Any]:
    """List the results that wait: those that cannot wait first, then the newest."""
    if not service.has_results(request):
        raise HTTPNotFound()
    behind = _cursor(request)
    found = service.waiting_for(request)
    request.results_waiting = min(len(found.results), service.MOST_COUNTED + 1)
    rest = [one for one in found.results if behind is None or one.rank > behind]
    page, more = rest[:PAGE], len(rest) > PAGE
    _tell(request, page)
    names = names_of(request.db, {one.news.patient_id for one in page})
    cards = [_card(request, one, names) for one in page]
    return {
        "critical": [card for card in cards if card["is_critical"]],
        "usual": [card for card in cards if not card["is_critical"]],
        "is_first": behind is None,
        "is_partial": found.is_partial and not more,
        "owes_a_proof": service.owes_a_proof(request),
        "next": page[-1].news.record_id if more else None,
    }


def _cursor(request: Request) -> tuple[int, int, str] | None:
    """Return where the page before ended. Raises ``HTTPNotFound`` for what one may not see."""
    after = request.GET.get("after")
    if after is None:
        return None
    rank = service.rank_of(request, after)
    if rank is None:
        raise HTTPNotFound()
    return rank


def _card(request: Request, one: Waiting, names: dict[str, str]) -> dict[str, Any]:
    result = one.news
    return {
        "path": request.route_path("record", patient=result.patient_id, record=result.record_id),
        "patient": names.get(result.patient_id, ""),
        "title": CATEGORY_WORDS[result.category],
        "effective_on": result.effective_on,
        "filed_at": result.filed_at,
        "origin": institution_name(request, result.origin),
        "status": STATUS_WORDS.get(result.status),
        "is_critical": one.is_critical,
    }


def _tell(request: Request, page: Sequence[Waiting]) -> None:
    """Write an event for each patient of whom the page says something, or that it was empty."""
    counts = Counter(one.news.patient_id for one in page)
    contexts = {one.news.patient_id: one.context for one in page}
    for patient_id, count in counts.items():
        why = contexts[patient_id].why(Permission.RESULT_ACKNOWLEDGE)
        request.audit(Action.RESULTS_VIEWED, **why, details={"count": count})
    if not counts:
        request.audit(Action.RESULTS_VIEWED, details={"count": 0})


@view_config(
    route_name="result-acknowledge",
    permission=Permission.RESULT_ACKNOWLEDGE,
    request_method="POST",
)
def acknowledge(context: RecordContext, request: Request) -> HTTPSeeOther:
    """Note for all who look after the patient that one has seen a version of a record."""
    # Who may not read it has nothing to note; raises if they must prove first who they are.
    if not context.decision.allows(Permission.RECORD_READ):
        raise HTTPNotFound()
    context.grant(Permission.RECORD_READ)
    one = news.find(request.db, context.patient_id, context.record_id)
    if one is None:
        raise HTTPNotFound()
    here = request.route_path("record", patient=context.patient_id, record=context.record_id)
    if posted_text(request, "version") != str(one.version):
        _audit_noted(context, request, one, Outcome.DENIED, [Reason.CHANGED_MEANWHILE])
        words = _("This record has changed since you opened it. Read what it says now first.")
        flash(request, words, "warn")
        return HTTPSeeOther(here)
    problem = _unread(context, request, one)
    if problem is not None:
        flash(request, problem, "warn")
        return HTTPSeeOther(here)
    if not news.acknowledge(request.db, one, request.identity.person_id, request.now):
        _audit_noted(context, request, one, Outcome.DENIED, [Reason.NOTHING_NEW])
        flash(request, _("Somebody had noted this before: you see below who, and when."), "info")
        return HTTPSeeOther(here)
    _audit_noted(context, request, one)
    flash(request, _("Noted. Your colleagues see that you have seen it."), "ok")
    return HTTPSeeOther(request.route_path("results") if service.has_results(request) else here)


def _unread(context: RecordContext, request: Request, one: news.News) -> Any:
    """Return why nobody can have seen what they say they saw, in words; ``None`` if they have.

    The log has to say that this person opened this version, and it has to open now: what is
    damaged was shown to nobody.
    """
    if not service.has_read(request, one):
        _audit_noted(context, request, one, Outcome.DENIED, [Reason.NOT_READ])
        return _("Read what the record says first. Then note that you have seen it.")
    entry = store.find(request.db, context.patient_id, context.record_id)
    if entry is None:
        raise HTTPNotFound()
    grant = context.grant(Permission.RECORD_READ)
    try:
        open_record(request.db, request.documents, request.keys, grant, entry)
    except RecordDamaged as error:
        details = {"damaged": error.code}
        _audit_noted(context, request, one, Outcome.FAILED, [Reason.NOT_READ], details)
        return _("This record cannot be trusted, and stays on the list. Tell the institution.")
    return None


def _audit_noted(
    context: RecordContext,
    request: Request,
    one: news.News,
    outcome: Outcome = Outcome.ALLOWED,
    reasons: Sequence[Reason] = (),
    told: Mapping[str, str] = MappingProxyType({}),
) -> None:
    why = context.why(Permission.RESULT_ACKNOWLEDGE)
    if reasons:
        why["reasons"] = reasons
    details = {"version": one.version, **told}
    request.audit(Action.RESULT_ACKNOWLEDGED, outcome, **why, details=details)
