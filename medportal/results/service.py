"""Which results wait for somebody: those of the patients whom they look after now.

Each is decided about by itself, and how urgent it is opened only for who may read it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from pyramid.request import Request
from sqlalchemy import Select, or_, select

from medportal.access.care import patients_of
from medportal.access.models import BrokenGlass
from medportal.access.question import Relation
from medportal.access.resources import PatientContext, Patients, root_of
from medportal.audit import search
from medportal.audit.events import Action, Outcome
from medportal.audit.search import Query
from medportal.core.clock import to_micros
from medportal.core.ids import is_id
from medportal.core.obligations import Obligation
from medportal.core.permissions import Permission
from medportal.patients.models import Patient
from medportal.records import news
from medportal.records.interpret import Urgency
from medportal.records.news import News

PAGE = 20
#: How many that are not critical are listed, the newest ones. Whoever leaves more is told so;
#: critical ones are listed all, however many came after them.
MOST = 500
BATCH = 250
#: How many of somebody's latest readings of a record are looked at for that of one version.
LOOKED_BACK = 100
#: The most that is counted in the navigation.
MOST_COUNTED = 99
#: Pages whose navigation says how many wait: where work begins. The others are not to pay for it.
COUNTED_ON = frozenset({"home", "patients", "results"})


#: A result that somebody may note, and how they stand to its patient.
Notable = tuple[News, PatientContext]


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
    critical: list[Waiting] = []
    usual: list[Waiting] = []
    is_partial = False
    for one in _waiting(request):
        if one.is_critical:
            critical.append(one)
        elif len(usual) < MOST:
            usual.append(one)
        else:
            is_partial = True
    return Found(tuple(sorted([*critical, *usual], key=lambda one: one.rank)), is_partial)


def rank_of(request: Request, record_id: str) -> tuple[int, int, str] | None:
    """Return where a result stands or stood; ``None`` for what the asker may not see."""
    one = news.find_any(request.db, record_id) if is_id(record_id) else None
    found = next(_seen(request, _notable(request, [one], {})), None) if one is not None else None
    return found.rank if found else None


def has_read(request: Request, one: News) -> bool:
    """Tell whether the asker has opened this version of the record, as the log has it."""
    query = Query(
        patient=one.patient_id,
        actor=request.identity.person_id,
        action=Action.RECORD_READ,
        outcome=Outcome.ALLOWED,
        object=one.record_id,
        since=one.filed_at,
    )
    found = search.find(request.db, query, limit=LOOKED_BACK)
    return any(event.details.get("version") == one.version for event in found.events)


def owes_a_proof(request: Request) -> bool:
    """Tell whether some results are listed after a proof of identity alone, be there any or not."""
    return Relation(request.identity, root_of(request).facts(), request.now).owes_a_proof


def shown_count(request: Request) -> int | None:
    """Return how many results wait for the asker, ``None`` on pages that do not say so."""
    route = getattr(request, "matched_route", None)
    if route is None or route.name not in COUNTED_ON or not has_results(request):
        return None
    return len(list(islice(_counted(request), MOST_COUNTED + 1)))


def _counted(request: Request) -> Iterator[News]:
    """Give what waits for the asker, opening nothing but what they wrote themselves."""
    for batch in _batches(request):
        own = [each for each in batch if _is_own(request, each[0])]
        yield from (one for one, _context in batch if not _is_own(request, one))
        yield from (one.news for one in _seen(request, own) if one.is_critical)


def _waiting(request: Request) -> Iterator[Waiting]:
    """Give what waits for the asker, with how urgent it is, newest first."""
    for batch in _batches(request):
        for one in _seen(request, batch):
            # What one wrote oneself is no news, unless it cannot wait.
            if one.is_critical or not _is_own(request, one.news):
                yield one


def _batches(request: Request) -> Iterator[list[Notable]]:
    """Give what nobody has noted and the asker may note, newest first, a few hundred at a time."""
    mine, before, known = _mine(request), None, dict[str, PatientContext]()
    while True:
        batch = news.waiting(request.db, mine, before=before, limit=BATCH)
        yield _notable(request, batch, known)
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


def _seen(request: Request, found: Sequence[Notable]) -> Iterator[Waiting]:
    """Give results with how urgent they are, opened at once; not those of erased patients."""
    opened = news.urgencies(request.db, request.keys.vault, [one for one, _context in found])
    for (one, context), urgency in zip(found, opened, strict=True):
        if urgency is not None:
            yield Waiting(one, urgency, context)


def _notable(
    request: Request, found: Sequence[News], known: dict[str, PatientContext]
) -> list[Notable]:
    """Return those of the results that the asker may read and note now.

    ``known`` are patients that were looked at before; those of these results are added.
    """
    unknown = {one.patient_id for one in found} - known.keys()
    if unknown:
        known.update(Patients(request).several(unknown))
    pairs = [(one, known[one.patient_id]) for one in found]
    return [(one, context) for one, context in pairs if may_note(context, one)]


def may_note(context: PatientContext, one: News) -> bool:
    """Tell whether the asker may read a result now, without more ado, and note that they did."""
    if not context.decision.allows(Permission.RESULT_ACKNOWLEDGE):
        return False
    decision = context.record_decision(one.facts)
    # A list asks nobody for their password: what needs it first is left out.
    return decision.allows(Permission.RECORD_READ) and not decision.demands(
        Permission.RECORD_READ, Obligation.CONFIRM_FIRST
    )


def _is_own(request: Request, one: News) -> bool:
    return bool(one.signer_id == request.identity.person_id)
