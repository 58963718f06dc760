"""What pages about records say of news: who has seen a result, and what is new to the patient."""

from dataclasses import dataclass
from datetime import date, datetime
from itertools import islice
from typing import Any

from pyramid.request import Request
from sqlalchemy.orm import Session

from medportal.access.resources import PatientContext, RecordContext
from medportal.core.permissions import Permission
from medportal.identity.people import names_of
from medportal.records import news
from medportal.records.presentation import CATEGORY_WORDS

#: How many of the patient's own news their page names.
MOST_NEW = 10


@dataclass(frozen=True, slots=True)
class Noting:
    """Whether a result was noted: by whom and when; ``path`` is where the asker may note it."""

    version: int
    at: datetime | None
    by: str
    path: str | None


@dataclass(frozen=True, slots=True)
class New:
    """Something that the patient has not opened yet."""

    path: str
    title: Any
    on: date


def noting_of(
    context: RecordContext, request: Request, version: int, *, is_shown: bool
) -> Noting | None:
    """Return who noted the newest version of a record; ``None`` if it is no news.

    If its content is shown, the patient's own look at it is noted with the page; if not, since
    it is damaged, nobody can say that they have seen it.
    """
    found = news.find(request.db, context.patient_id, context.record_id)
    if found is None or found.version != version:
        return None
    if is_shown and context.patient_context.patient.is_self:
        _mark_seen(request, context.record_id, version)
    by = found.acknowledged_by or ""
    is_open = is_shown and found.acknowledged_at is None
    may = is_open and context.decision.allows(Permission.RESULT_ACKNOWLEDGE)
    path = request.route_path(
        "result-acknowledge", patient=context.patient_id, record=context.record_id
    )
    name = names_of(request.db, [by]).get(by, "")
    return Noting(version, found.acknowledged_at, name, path if may else None)


def _mark_seen(request: Request, record_id: str, version: int) -> None:
    def write(session: Session) -> None:
        news.mark_seen(session, record_id, version, request.now)

    request.tail.append(write)


def new_to_patient(context: PatientContext, request: Request) -> list[New]:
    """Return what the patient has not opened of their own records, for nobody but them."""
    if not context.patient.is_self:
        return []
    readable = (
        one
        for one in news.unseen(request.db, context.patient_id)
        if context.record_decision(one.facts).allows(Permission.RECORD_READ)
    )
    return [
        New(
            request.route_path("record", patient=one.patient_id, record=one.record_id),
            CATEGORY_WORDS[one.category],
            one.effective_on,
        )
        for one in islice(readable, MOST_NEW)
    ]
