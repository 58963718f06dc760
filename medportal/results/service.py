"""Which results wait for somebody: those of the patients whom they look after now.

Each is decided about by itself, and how urgent it is opened only for who may read it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from pyramid.request import Request
from sqlalchemy import Select, or_, select

from medportal.access.care import patients_of
from medportal.access.models import BrokenGlass
from medportal.access.question import Relation
from medportal.access.resources import PatientContext, Patients, root_of
from medportal.core.clock import to_micros
from medportal.core.ids import is_id
from medportal.core.obligations import Obligation
from medportal.core.permissions import Permission
from medportal.patients.models import Patient
from medportal.records import news
from medportal.records.news import News, Urgency

PAGE = 20
#: How many of the newest are looked at. Whoever leaves more than these is told so.
MOST = 500
BATCH = 100
#: The most that is counted in the navigation.
MOST_COUNTED = 99
#: Pages whose navigation says how many wait: where work begins. The others are not to pay for it.
COUNTED_ON = frozenset({"home", "patients", "results"})


@dataclass(frozen=True, slots=True)
class Waiting:
    """A result that nobody has noted, and how the asker stands to its patient."""

    news: News
    urgency: Urgency
    context: PatientContext

    @property
    def is_critical(self) -> bool:
        """Tell whether it cannot wait."""
        return self.urgency is Urgency.CRITICAL

    @property
    def rank(self) -> tuple[int, int, str]:
        """Return where it stands: critical ones first, the oldest before; then the newest."""
        filed = to_micros(self.news.filed_at)
        if self.is_critical:
            return (0, filed, self.news.record_id)
        return (1, -filed, self.news.record_id)


@dataclass(frozen=True, slots=True)
class Found:
    """All results that wait for somebody, in order; ``is_partial`` if there were too many."""

    results: tuple[Waiting, ...]
    is_partial: bool = False


def has_results(request: Request) -> bool:
    """Tell whether the asker is somebody for whom results may wait."""
    root = root_of(request)
    return root.decision.allows(Permission.PATIENTS_LIST) and bool(
        root.facts().held.get(Permission.RESULT_ACKNOWLEDGE)
    )


def waiting_for(request: Request) -> Found:
    """Return the results that wait for the asker."""
    looked_at = list(islice(_newest(request), MOST + 1))
    found = [one for one in _seen(request, looked_at[:MOST]) if not _is_own_news(request, one)]
    return Found(tuple(sorted(found, key=lambda one: one.rank)), len(looked_at) > MOST)


def rank_of(request: Request, record_id: str) -> tuple[int, int, str] | None:
    """Return where a result stands or stood; ``None`` for what the asker may not see."""
    one = news.find_any(request.db, record_id) if is_id(record_id) else None
    found = next(_seen(request, [one]), None) if one is not None else None
    return found.rank if found else None


def owes_a_proof(request: Request) -> bool:
    """Tell whether some results are listed after a proof of identity alone, be there any or not."""
    return Relation(request.identity, root_of(request).facts(), request.now).owes_a_proof


def shown_count(request: Request) -> int | None:
    """Return how many results wait for the asker, ``None`` on pages that do not say so."""
    route = getattr(request, "matched_route", None)
    if route is None or route.name not in COUNTED_ON or not has_results(request):
        return None
    # Nothing is opened to be counted, but what the asker wrote: that counts if it is critical.
    me, looked_at = request.identity.person_id, list(islice(_newest(request), MOST))
    notable = (one for one, _context in _notable(request, looked_at))
    counted = (one for one in notable if one.author_id != me or _is_critical(request, one))
    return len(list(islice(counted, MOST_COUNTED + 1)))


def _is_critical(request: Request, one: News) -> bool:
    return news.urgency(request.db, request.keys.vault, one) is Urgency.CRITICAL


def _newest(request: Request) -> Iterator[News]:
    """Give what nobody has noted of the patients whom the asker looks after, newest first."""
    mine, before = _mine(request), None
    while True:
        batch = news.waiting(request.db, mine, before=before, limit=BATCH)
        yield from batch
        if len(batch) < BATCH:
            return
        before = batch[-1].place


def _mine(request: Request) -> Select[str]:
    """Return the query of the patients whose results may wait for the asker."""
    me, now = request.identity.person_id, request.now
    cared_for = patients_of(me, sorted(root_of(request).departments), now)
    broken = select(BrokenGlass.patient_id).where(
        BrokenGlass.staff_id == me, BrokenGlass.since <= now, BrokenGlass.until > now
    )
    whose = (Patient.person_id.in_(ids) for ids in (cared_for, broken))
    return select(Patient.person_id).where(Patient.person_id != me, or_(*whose))


def _seen(request: Request, found: list[News]) -> Iterator[Waiting]:
    """Give those of the results that the asker may read and note now, with how urgent they are."""
    for one, context in _notable(request, found):
        urgency = news.urgency(request.db, request.keys.vault, one)
        if urgency is not None:
            yield Waiting(one, urgency, context)


def _notable(request: Request, found: list[News]) -> Iterator[tuple[News, PatientContext]]:
    """Give those of the results that the asker may read and note now."""
    contexts = Patients(request).several({one.patient_id for one in found}) if found else {}
    for one in found:
        context = contexts[one.patient_id]
        if may_note(context, one):
            yield one, context


def may_note(context: PatientContext, one: News) -> bool:
    """Tell whether the asker may read a result now, without more ado, and note that they did."""
    if not context.decision.allows(Permission.RESULT_ACKNOWLEDGE):
        return False
    decision = context.record_decision(one.facts)
    # A list asks nobody for their password: what needs it first is left out.
    return decision.allows(Permission.RECORD_READ) and not decision.demands(
        Permission.RECORD_READ, Obligation.CONFIRM_FIRST
    )


def _is_own_news(request: Request, one: Waiting) -> bool:
    """Tell whether it is what the asker wrote: no news to them, unless it cannot wait."""
    is_mine: bool = one.news.author_id == request.identity.person_id
    return is_mine and not one.is_critical
