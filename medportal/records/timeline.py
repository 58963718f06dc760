"""The timeline of a patient: which records somebody may read, and a card for each of them.

Whether somebody may read a record is decided record by record, from what the index says of it,
before anything of it is opened; that the index says what was signed is checked when it is.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import islice
from typing import Any

from pyramid.httpexceptions import HTTPNotFound
from pyramid.request import Request

from medportal.access.decisions import Decision
from medportal.access.grants import mint
from medportal.access.period import NoPeriod, Period, period_of
from medportal.access.resources import PatientContext, why_of
from medportal.audit.events import Action, Outcome
from medportal.core.ids import is_id
from medportal.core.obligations import Obligation
from medportal.core.permissions import Permission
from medportal.records import catalogue as catalogues
from medportal.records import store
from medportal.records.content import RecordStatus
from medportal.records.errors import RecordDamaged
from medportal.records.glance import Glance, Seen, holds
from medportal.records.opening import Proved, open_many
from medportal.records.presentation import (
    CATEGORY_WORDS,
    INTERPRETATIONS,
    STATUSES,
    DeliveryLine,
    institution_name,
)
from medportal.records.store import IndexEntry, Narrowed
from medportal.records.views.deliveries import deliveries_of
from medportal.web.i18n import format_number, translate

#: How many values outside their range a card names; the rest are counted.
NAMED = 3
#: How many records a search opens before it asks whether to go on.
LOOKED_THROUGH = 200
BATCH = 25
#: How many entries of the index are read at once.
AT_ONCE = store.PAGE + 1
#: Ids are named in events in groups that fit into one detail.
IDS_IN_A_DETAIL = 6

Readable = tuple[IndexEntry, Decision]


@dataclass(frozen=True, slots=True)
class Value:
    """One value of a card, in words; ``kind`` and ``judgement`` as in a row of a record."""

    name: str
    value: str
    kind: str
    judgement: str


@dataclass(frozen=True, slots=True)
class Card:
    """One record on a timeline. Of a damaged one, and of one taken back, nothing is told."""

    entry: IndexEntry
    title: Any
    origin: str
    is_foreign: bool
    author: str = ""
    status: tuple[str, Any] | None = None
    headline: str = ""
    count: int = 0
    outside: int = 0
    notable: tuple[Value, ...] = ()
    is_damaged: bool = False
    deliveries: Sequence[DeliveryLine] = ()

    @property
    def unnamed(self) -> int:
        """Return how many values outside their range the card does not name."""
        return self.outside - len(self.notable)


@dataclass(frozen=True, slots=True)
class Looked:
    """A record that was opened for a list, or why it could not be."""

    entry: IndexEntry
    seen: Glance | None


@dataclass(frozen=True, slots=True)
class Asked:
    """What a timeline was narrowed to, and as what it was typed."""

    narrowed: Narrowed = store.NOT_NARROWED
    fields: Mapping[str, str] = field(default_factory=dict)
    problem: Any = None

    @property
    def is_narrowed(self) -> bool:
        """Tell whether the timeline shows less than everything, or was asked to."""
        return bool(self.fields)


def asked_for(request: Request, typed: Mapping[str, str]) -> Asked:
    """Return what a timeline is to be narrowed to.

    Raises ``HTTPNotFound`` for a category or an institution that no form of ours offers.
    """
    category, origin = typed.get("category", ""), typed.get("origin", "")
    offered = {"", *origin_ids(request)} if origin else {""}
    if category not in {"", *CATEGORY_WORDS} or origin not in offered:
        raise HTTPNotFound()
    problem = None
    try:
        period = period_of(typed)
    except NoPeriod as error:
        period, problem = Period(), error.words
        request.response.status_int = 422
    said = {"category": category, "origin": origin, **period.fields}
    fields = {name: text for name, text in said.items() if text}
    return Asked(Narrowed(category, origin, period.first, period.last), fields, problem)


def origins(request: Request) -> list[tuple[str, str]]:
    """Return the institutions that a timeline can be narrowed to, as (id, name).

    The same for every patient: which of them sent something is told by no list of choices.
    """
    return [(each, institution_name(request, each)) for each in origin_ids(request)]


def origin_ids(request: Request) -> list[str]:
    """Return the ids of :func:`origins`: this institution and those that it trusts."""
    return [request.tenant.id, *sorted(p.institution for p in request.keys.partners())]


def readable(
    context: PatientContext,
    request: Request,
    before: tuple[date, str] | None = None,
    narrowed: Narrowed = store.NOT_NARROWED,
) -> Iterator[Readable]:
    """Give the records that the person may read, newest first, each with its decision.

    What takes a proof of identity first is left out until it was given: that there is such a
    record, of which day and by whom, is as much as a stolen session is after.
    """
    while True:
        # One more than a page: whether there is a next one is then known at once.
        found = store.timeline(
            request.db, context.patient_id, before=before, limit=AT_ONCE, narrowed=narrowed
        )
        for entry in found:
            decision = context.record_decision(store.facts_of(entry))
            if decision.allows(Permission.RECORD_READ) and not decision.demands(
                Permission.RECORD_READ, Obligation.CONFIRM_FIRST
            ):
                yield entry, decision
        if len(found) < AT_ONCE:
            return
        before = (found[-1].effective_on, found[-1].id)


def key_of(entry: IndexEntry) -> str:
    """Return the key of a record, from which the next page goes on."""
    return f"{entry.effective_on.isoformat()}.{entry.id}"


def before_of(text: str | None) -> tuple[date, str] | None:
    """Return (date, id) of a key. Raises ``HTTPNotFound`` for what is none."""
    if not text:
        return None
    day, _dot, record_id = text.partition(".")
    try:
        if is_id(record_id):
            return date.fromisoformat(day), record_id
    except ValueError:
        pass
    raise HTTPNotFound()


def looked_at(context: PatientContext, request: Request, found: Sequence[Readable]) -> list[Looked]:
    """Open records at once and return what they say; each that is damaged has its event.

    That the others were looked at is the caller's to note, before the page is answered.
    """
    wanted = [
        (
            mint(
                request.identity,
                decision,
                Permission.RECORD_READ,
                context.patient_id,
                request.now,
                entry.id,
            ),
            entry,
        )
        for entry, decision in found
    ]
    results = open_many(request.db, request.documents, request.keys, wanted)
    return [
        _looked(context, request, each, result) for each, result in zip(found, results, strict=True)
    ]


def _looked(
    context: PatientContext, request: Request, found: Readable, result: Proved | RecordDamaged
) -> Looked:
    entry, decision = found
    if isinstance(result, Proved):
        return Looked(entry, result.seen)
    request.audit(
        Action.RECORD_READ,
        Outcome.FAILED,
        patient=context.patient_id,
        object=entry.id,
        **why_of(decision, Permission.RECORD_READ),
        details={"damaged": result.code},
    )
    return Looked(entry, None)


def cards_of(context: PatientContext, request: Request, looked: Sequence[Looked]) -> list[Card]:
    """Return the cards of records, in words of the page's language."""
    deliveries = deliveries_of(context, request, [one.entry.id for one in looked])
    names = {
        origin: institution_name(request, origin) for origin in {o.entry.origin for o in looked}
    }
    return [
        _card(request, one, names[one.entry.origin], deliveries.get(one.entry.id, ()))
        for one in looked
    ]


def _card(
    request: Request, looked: Looked, origin: str, deliveries: Sequence[DeliveryLine]
) -> Card:
    entry, seen = looked.entry, looked.seen
    told = {
        "entry": entry,
        "title": CATEGORY_WORDS[entry.category],
        "origin": origin,
        "is_foreign": entry.origin != request.tenant.id,
        "deliveries": deliveries,
    }
    if seen is None:
        return Card(**told, is_damaged=True)
    told |= {"author": seen.author, "status": STATUSES.get(seen.status)}
    if seen.status is RecordStatus.ENTERED_IN_ERROR:
        return Card(**told)
    notable = seen.notable
    return Card(
        **told,
        headline=seen.headline,
        count=seen.count,
        outside=len(notable),
        notable=tuple(_value(request, value) for value in notable[:NAMED]),
    )


def _value(request: Request, value: Seen) -> Value:
    kind, words = INTERPRETATIONS[value.meaning]
    return Value(
        name=name_of(request, value.part or value.code, value.name),
        value=_written(request, value),
        kind=kind,
        judgement=translate(request, words),
    )


def _written(request: Request, value: Seen) -> str:
    if value.number is None:
        return catalogues.load().answer(value.coded, request.locale_name)
    return " ".join(filter(None, (format_number(request, value.number), value.unit_text)))


def name_of(request: Request, code: str, signed: str) -> str:
    """Return what a value is called here, or as it was signed where nobody knows it here."""
    definition = catalogues.load().find(code)
    return definition.name(request.locale_name) if definition else signed


def note_listed(
    context: PatientContext,
    request: Request,
    shown: Iterable[IndexEntry],
    **details: str | int,
) -> None:
    """Note that these records stood on a list, each by its id, with its first line and marks."""
    ids = [entry.id for entry in shown]
    groups = [ids[at : at + IDS_IN_A_DETAIL] for at in range(0, len(ids), IDS_IN_A_DETAIL)]
    named = {f"records-{place}": " ".join(group) for place, group in enumerate(groups, 1)}
    request.audit(
        Action.RECORDS_LISTED,
        **context.why(Permission.RECORD_LIST),
        details={"count": len(ids), **named, **details},
    )


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a timeline: its records, and the key of the next page if there is one."""

    looked: list[Looked]
    next: str | None
    #: How many records were opened for it, and how many of them could not be trusted.
    opened: int = 0
    damaged: int = 0


def page_of(
    context: PatientContext, request: Request, before: tuple[date, str] | None, narrowed: Narrowed
) -> Page:
    """Return a page of the records that the person may read, and nothing about the others.

    The page is filled with readable records, and the key of the next one is that of the last
    record shown: neither a short page nor an address tells that something is hidden.
    """
    found = list(islice(readable(context, request, before, narrowed), store.PAGE + 1))
    page = found[: store.PAGE]
    return Page(
        looked_at(context, request, page),
        key_of(page[-1][0]) if len(found) > store.PAGE else None,
    )


def search(
    context: PatientContext,
    request: Request,
    words: tuple[str, ...],
    before: tuple[date, str] | None,
    narrowed: Narrowed,
) -> Page:
    """Return the newest records in which all words stand, of those that the person may read.

    Nothing is indexed: the records are opened for it, a few at a time and at most
    ``LOOKED_THROUGH`` of them; the next page goes on from the last one that was looked into.
    """
    rows = readable(context, request, before, narrowed)
    hits: list[Looked] = []
    opened = damaged = 0
    last: IndexEntry | None = None
    while opened < LOOKED_THROUGH and len(hits) < store.PAGE:
        batch = looked_at(context, request, list(islice(rows, BATCH)))
        if not batch:
            return Page(hits, None, opened, damaged)
        for one in batch:
            if len(hits) == store.PAGE:
                return Page(hits, key_of(last) if last else None, opened, damaged)
            opened, damaged, last = opened + 1, damaged + (one.seen is None), one.entry
            if one.seen is not None and _fits(request, one.seen, words):
                hits.append(one)
    more = last is not None and next(rows, None) is not None
    return Page(hits, key_of(last) if more and last else None, opened, damaged)


def _fits(request: Request, seen: Glance, words: tuple[str, ...]) -> bool:
    if seen.status is RecordStatus.ENTERED_IN_ERROR:
        return False
    names = [name_of(request, value.code, value.name) for value in seen.values]
    names += [name_of(request, value.part, value.name) for value in seen.values if value.part]
    names += [_written(request, value) for value in seen.values if value.coded]
    return holds(seen, words, tuple(names))
