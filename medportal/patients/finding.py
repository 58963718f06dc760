"""Finding patients by exact number, for those who may not see everybody.

A number that finds somebody tells that they are registered here. So whoever does not see
everybody anyway is slowed down: after some misses, and after some hits on patients whom they
then leave alone. Both are counted for the person, wherever they sign in, and nobody keeps
anybody else waiting. Breaking the glass, which the patient hears of, forgets their hits: a night
with many emergencies is no search, and one emergency makes no search good.
"""

from datetime import datetime

from sqlalchemy.orm import Session

from medportal.identity import throttle
from medportal.identity.views.answers import refuse_throttled

MISSES = "patient-find"
HITS = "patient-found"
#: The hits on one patient, counted besides, so that they can be taken back.
ONE_HIT = "one-patient-found"


def refuse_searching(
    session: Session, person_id: str, now: datetime, *, in_turn: bool = False
) -> None:
    """Raise ``Throttled`` while somebody has to wait before the next number."""
    for kind in (MISSES, HITS):
        refuse_throttled(session, _keys(kind, person_id), now, in_turn=in_turn)


def note_miss(session: Session, person_id: str, now: datetime) -> None:
    """Count a number that found nobody."""
    throttle.note_failure(session, _keys(MISSES, person_id), now)


def note_hit(session: Session, person_id: str, patient_id: str, now: datetime) -> None:
    """Count a number that found a patient whom the person may not see."""
    throttle.note_failure(session, _keys(HITS, person_id), now)
    throttle.note_failure(session, _of_one(person_id, patient_id), now)


def forget_hits(session: Session, person_id: str, patient_id: str) -> None:
    """Forget the hits on one patient of somebody who went on to break the glass to them."""
    throttle.forget_part(session, _keys(HITS, person_id), _of_one(person_id, patient_id))


def _of_one(person_id: str, patient_id: str) -> throttle.Keys:
    return _keys(ONE_HIT, f"{person_id} {patient_id}")


def _keys(kind: str, person_id: str) -> throttle.Keys:
    # The person takes the place of the network: colleagues share one, and not their misses.
    return throttle.keys(kind, person_id, f"person {person_id}", anywhere=True)
