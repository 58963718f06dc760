"""Reviews of emergency access: who closes them, once, and what there is to compare."""

from datetime import timedelta

import pytest
from sqlalchemy import delete, select, update

from medportal.access import reviews
from medportal.access.errors import ReviewRefused
from medportal.access.glass import REASON_NOTE, Stated, break_glass, end_glass, seal_words
from medportal.access.models import (
    BrokenGlass,
    CareAssignment,
    CareKind,
    PatientRule,
    WardTeamMember,
)
from medportal.access.reviews import Surroundings, Told
from medportal.audit import store
from medportal.audit.append import append
from medportal.audit.events import Action, Event, Outcome
from medportal.audit.models import AuditEvent
from medportal.audit.statements import Checkpoint, SignedStatement
from medportal.core.ids import new_id
from medportal.core.reasons import Reason
from medportal.vault.keyring import TenantKeyring, new_key
from medportal.vault.models import PatientKey
from medportal.vault.service import Vault

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
WORDS = "Found unconscious in the lift, no colleague of the ward was there."
NOTE = "Asked the head of the ward, who confirms it."
RIGHT, WRONG = Reason.JUSTIFIED, Reason.NOT_JUSTIFIED


@pytest.fixture(scope="module")
def vault():
    return Vault("hospital", TenantKeyring({1: new_key()}, 1))


@pytest.fixture
def smash(session, vault, now):
    """Give a function that breaks the glass, with its event; returns the step's id."""

    def made(patient, staff, at=now, *, sensitive=False):
        why = Stated(Reason.EMERGENCY, WORDS)
        broken = break_glass(
            session, vault, patient, staff, why, at, lasts=HOUR, sensitive=sensitive
        )
        told(session, Action.GLASS_BROKEN, patient, broken.step.id, broken.commitment, at, staff)
        session.flush()
        return broken.step.id

    return made


def told(session, action, patient, step, commitment, at, actor):
    """Write the event of a step or of its review."""
    details = {"commitment": commitment}
    append(
        session,
        Event.create(action, now=at, actor=actor, patient=patient, object=step, details=details),
    )


def deed(session, action, patient, actor, at, outcome=Outcome.ALLOWED):
    """Write an event that a review may count."""
    append(session, Event.create(action, outcome, now=at, actor=actor, patient=patient))
    session.flush()


def close(session, vault, step, by, at, finding=RIGHT, words=NOTE):
    found = reviews.find(session, step)
    done = reviews.close(session, vault, found, finding, words, by, at)
    session.flush()
    return done


def refused(session, vault, step, by, at, **more):
    with pytest.raises(ReviewRefused) as caught:
        close(session, vault, step, by, at, **more)
    return caught.value.code


def test_the_queue_has_the_oldest_first_and_pages_by_key(session, vault, person, smash, now):
    doctor, officer = person(name="Ana"), person("privacy_officer", "Teresa")
    steps = [smash(person("patient"), doctor, now + n * MINUTE) for n in range(4)]
    first = reviews.waiting(session, after=None, limit=2)
    assert [review.id for review in first] == steps[:2]
    assert first[0].staff_name == "Ana" and first[0].finding is None
    key = reviews.list_key(session, steps[1])
    rest = reviews.waiting(session, after=key, limit=9)
    assert [review.id for review in rest] == steps[2:]
    assert reviews.list_key(session, "0" * 32) is None
    close(session, vault, steps[0], officer, now + 3 * HOUR)
    close(session, vault, steps[2], officer, now + 4 * HOUR)
    # A closed one leaves the queue, and still leads on to the page after it.
    assert [r.id for r in reviews.waiting(session, after=None, limit=9)] == [steps[1], steps[3]]
    key = reviews.list_key(session, steps[0])
    assert [r.id for r in reviews.waiting(session, after=key, limit=9)] == [steps[1], steps[3]]
    done = reviews.closed(session, 9)
    assert [(r.id, r.reviewer_name) for r in done] == [(steps[2], "Teresa"), (steps[0], "Teresa")]
    assert [r.id for r in reviews.closed(session, 1)] == [steps[2]]


def test_the_same_moment_pages_by_id(session, person, smash, now):
    steps = sorted(smash(person("patient"), person()) for _one in range(3))
    key = reviews.list_key(session, steps[0])
    assert [r.id for r in reviews.waiting(session, after=key, limit=9)] == steps[1:]


def test_somebody_else_closes_it_once(session, vault, person, smash, now):
    patient, doctor = person("patient"), person()
    officer, other = person("privacy_officer"), person("privacy_officer")
    step = smash(patient, doctor)
    end = now + HOUR
    assert refused(session, vault, step, doctor, end) == "own-access"
    assert refused(session, vault, step, patient, end) == "about-you"
    assert refused(session, vault, step, officer, end - MINUTE) == "still-open"
    done = close(session, vault, step, officer, end, WRONG)
    assert (done.patient_id, done.finding) == (patient, WRONG)
    session.expire_all()
    found = reviews.find(session, step)
    assert (found.finding, found.reviewed_at) == (WRONG, end)
    # Closed for good: nobody makes it right afterwards, not even whoever closed it.
    for by in (officer, other):
        assert refused(session, vault, step, by, end + HOUR) == "closed-already"
    session.expire_all()
    assert reviews.find(session, step) == found


def test_two_at_once_close_it_once(session, vault, person, smash, now):
    step = smash(person("patient"), person())
    stale = reviews.find(session, step)
    close(session, vault, step, person("privacy_officer"), now + HOUR)
    with pytest.raises(ReviewRefused) as caught:
        # What this one looked at was open still.
        reviews.close(session, vault, stale, WRONG, NOTE, person("auditor"), now + HOUR)
    assert caught.value.code == "closed-already"
    session.expire_all()
    assert reviews.find(session, step).finding is RIGHT


def test_words_come_back_and_are_compared_with_the_log(session, vault, person, smash, now):
    patient, officer = person("patient"), person("privacy_officer")
    step = smash(patient, person())
    review = reviews.find(session, step)
    assert reviews.stated(session, vault, review) == Told(WORDS, matches=True)
    assert reviews.found_words(session, vault, review) is None
    done = close(session, vault, step, officer, now + HOUR)
    told(session, Action.GLASS_REVIEWED, patient, step, done.commitment, now + HOUR, officer)
    session.flush()
    assert reviews.found_words(session, vault, review) == Told(NOTE, matches=True)
    assert NOTE.encode() not in session.get(BrokenGlass, step).finding_text
    # Nothing of it shows where objects are printed.
    assert "lift" not in repr(reviews.stated(session, vault, review))


def test_words_put_in_place_of_others_are_noticed(session, vault, person, smash, now):
    """Whoever has the keys and the database can seal other words, but not change the log."""
    patient, doctor = person("patient"), person()
    step = smash(patient, doctor)
    other = seal_words(session, vault, patient, REASON_NOTE, step, "Was asked by the patient.")
    session.execute(update(BrokenGlass).where(BrokenGlass.id == step).values(text=other.sealed))
    review = reviews.find(session, step)
    assert reviews.stated(session, vault, review) == Told(
        "Was asked by the patient.", matches=False
    )


def test_words_without_an_event_do_not_match(session, vault, person, now):
    patient, doctor = person("patient"), person()
    why = Stated(Reason.SAFETY, WORDS)
    broken = break_glass(session, vault, patient, doctor, why, now, lasts=HOUR)
    session.flush()
    review = reviews.find(session, broken.step.id)
    assert reviews.stated(session, vault, review) == Told(WORDS, matches=False)


def test_words_that_cannot_be_opened_are_told_as_lost(session, vault, person, smash, now):
    step = smash(person("patient"), person())
    session.execute(update(BrokenGlass).where(BrokenGlass.id == step).values(text=b"cut"))
    assert reviews.stated(session, vault, reviews.find(session, step)) == Told(None, matches=False)


def test_after_the_key_is_gone_a_review_closes_without_words(session, vault, person, smash, now):
    patient, officer = person("patient"), person("privacy_officer")
    step = smash(patient, person())
    vault.destroy_patient_key(session, patient, now)
    assert session.get(PatientKey, patient).wrapped is None
    assert reviews.stated(session, vault, reviews.find(session, step)).text is None
    assert refused(session, vault, step, officer, now + HOUR) == "no-words"
    done = close(session, vault, step, officer, now + HOUR, words="")
    assert done.commitment is None
    assert session.get(BrokenGlass, step).finding_text is None


def test_what_was_done_meanwhile_is_counted(session, person, smash, now):
    patient, another, doctor = person("patient"), person("patient"), person()
    step = smash(patient, doctor)
    for at in (now, now + MINUTE, now + HOUR - MINUTE):
        deed(session, Action.RECORD_READ, patient, doctor, at)
    deed(session, Action.RECORD_READ, patient, doctor, now + MINUTE, Outcome.FAILED)
    deed(session, Action.PATIENT_VIEWED, patient, doctor, now + MINUTE)
    # Before, after, by somebody else, of somebody else: none of these.
    deed(session, Action.RECORD_READ, patient, doctor, now - MINUTE)
    deed(session, Action.RECORD_READ, patient, doctor, now + HOUR)
    deed(session, Action.RECORD_READ, patient, person(), now + MINUTE)
    deed(session, Action.RECORD_READ, another, doctor, now + MINUTE)
    found = reviews.surroundings(session, reviews.find(session, step), "hospital")
    assert found == Surroundings(
        deeds=(
            (Action.PATIENT_VIEWED, Outcome.ALLOWED, 1),
            (Action.RECORD_READ, Outcome.ALLOWED, 3),
            (Action.RECORD_READ, Outcome.FAILED, 1),
        ),
        in_care=False,
        blocked=False,
        others=0,
        unjustified=0,
    )


def test_what_the_person_opened_before_is_counted(session, vault, person, smash, now):
    doctor, officer = person(), person("privacy_officer")
    day = timedelta(days=1)
    old = smash(person("patient"), doctor, now - 31 * day)
    wrong = smash(person("patient"), doctor, now - 29 * day)
    right = smash(person("patient"), doctor, now - day)
    smash(person("patient"), person(), now - day)
    step = smash(person("patient"), doctor, now)
    smash(person("patient"), doctor, now + day)
    for closed, finding in ((old, WRONG), (wrong, WRONG), (right, RIGHT)):
        close(session, vault, closed, officer, now, finding)
    found = reviews.surroundings(session, reviews.find(session, step), "hospital")
    assert (found.others, found.unjustified) == (2, 1)


@pytest.mark.parametrize("through", ["person", "team"])
@pytest.mark.parametrize(
    ("since", "until", "counts"),
    [(-2, None, True), (-2, 2, True), (0, None, True), (-2, 0, False), (1, None, False)],
)
def test_whether_the_person_was_in_care(session, person, smash, now, through, since, until, counts):
    patient, doctor = person("patient"), person()
    begin = now + since * HOUR
    end = None if until is None else now + until * HOUR
    is_team = through == "team"
    if is_team:
        session.add(
            WardTeamMember(id=new_id(), ward="Cardiology", staff_id=doctor, since=now - 9 * HOUR)
        )
    session.add(
        CareAssignment(
            id=new_id(),
            patient_id=patient,
            staff_id=None if is_team else doctor,
            ward="Cardiology" if is_team else None,
            kind=CareKind.TEAM,
            since=begin,
            until=end,
        )
    )
    step = smash(patient, doctor)
    assert reviews.surroundings(session, reviews.find(session, step), "hospital").in_care is counts


RULES = {
    "the person": ("block", "person", "the doctor", -1, None, None, True),
    "the role": ("block", "role", "doctor", -1, None, None, True),
    "the ward": ("block", "department", "Cardiology", -1, None, None, True),
    "the institution": ("block", "institution", "hospital", -1, None, None, True),
    "a partner": ("block", "institution", "laboratory", -1, None, None, False),
    "a colleague": ("block", "person", "0" * 32, -1, None, None, False),
    "another role": ("block", "role", "nurse", -1, None, None, False),
    "let in": ("allow", "person", "the doctor", -1, None, None, False),
    "later": ("block", "role", "doctor", 1, None, None, False),
    "over": ("block", "role", "doctor", -2, 0, None, False),
    "ended before": ("block", "role", "doctor", -2, None, 0, False),
    "ended since": ("block", "role", "doctor", -2, None, 1, True),
}


@pytest.mark.parametrize("which", RULES)
def test_whether_a_rule_kept_the_person_out(session, person, smash, now, which):
    effect, whom, whom_id, since, until, ended, counts = RULES[which]
    patient, doctor = person("patient"), person()
    session.add(
        WardTeamMember(id=new_id(), ward="Cardiology", staff_id=doctor, since=now - 9 * HOUR)
    )
    session.add(
        PatientRule(
            id=new_id(),
            patient_id=patient,
            effect=effect,
            whom=whom,
            whom_id=doctor if whom_id == "the doctor" else whom_id,
            what="category",
            what_id="laboratory",
            since=now + since * HOUR,
            until=None if until is None else now + until * HOUR,
            made_at=now,
            made_by=patient,
            ended_at=None if ended is None else now + ended * HOUR,
        )
    )
    step = smash(patient, doctor)
    found = reviews.surroundings(session, reviews.find(session, step), "hospital")
    assert found.blocked is counts


def test_a_reviewer_ends_what_still_goes_on(session, person, smash, now):
    patient, doctor, officer = person("patient"), person(), person("privacy_officer")
    first, second = smash(patient, doctor), smash(patient, doctor, sensitive=True)
    elsewhere = smash(person("patient"), doctor)
    review = reviews.find(session, second)
    for by, code in ((doctor, "own-access"), (patient, "about-you")):
        with pytest.raises(ReviewRefused) as caught:
            reviews.stop(session, review, by, now + MINUTE)
        assert caught.value.code == code
    assert reviews.stop(session, review, officer, now + MINUTE) == sorted([first, second])
    assert reviews.stop(session, review, officer, now + MINUTE) == []
    session.expire_all()
    assert session.get(BrokenGlass, elsewhere).until == now + HOUR
    assert not reviews.find(session, first).is_open(now + MINUTE)


def test_ended_sooner_can_be_reviewed_sooner(session, vault, person, smash, now):
    patient, doctor = person("patient"), person()
    step = smash(patient, doctor)
    end_glass(session, patient, doctor, step, now + MINUTE)
    session.expire_all()
    close(session, vault, step, person("privacy_officer"), now + MINUTE)
    assert session.scalars(select(BrokenGlass.finding)).all() == ["justified"]


def test_no_review_by_an_id_that_names_none(session):
    assert reviews.find(session, "0" * 32) is None


def pruned(session, at, size=1):
    """Leave what is left of a log whose first events were forgotten: a checkpoint, and the next."""
    checkpoint = Checkpoint("hospital", size, bytes(32), at)
    store.add_statement(session, SignedStatement(checkpoint, ()))
    event = Event.create(Action.SIGN_IN, now=at)
    append(session, event)
    session.flush()
    session.execute(update(AuditEvent).where(AuditEvent.id == event.id).values(sequence=size))


def test_words_whose_event_was_forgotten_raise_no_alarm(session, vault, person, smash, now):
    step, later = smash(person("patient"), person()), smash(person("patient"), person(), now + HOUR)
    session.execute(delete(AuditEvent).where(AuditEvent.action == Action.GLASS_BROKEN))
    stated = [Told(WORDS, matches=False)] * 2
    found = [reviews.find(session, each) for each in (step, later)]
    assert [reviews.stated(session, vault, each) for each in found] == stated
    pruned(session, now + MINUTE)
    # What should be in the part of the log that is kept, and is not, was taken away.
    stated[0] = Told(WORDS, matches=False, is_pruned=True)
    assert [reviews.stated(session, vault, each) for each in found] == stated


def test_what_was_closed_pages_by_key(session, vault, person, smash, now):
    officer = person("privacy_officer")
    steps = [smash(person("patient"), person()) for _one in range(3)]
    for number, step in enumerate(steps):
        close(session, vault, step, officer, now + HOUR + number * MINUTE)
    first = reviews.closed(session, 2)
    key = reviews.closed_key(session, first[-1].id)
    rest = reviews.closed(session, 2, after=key)
    assert [r.id for r in [*first, *rest]] == list(reversed(steps))
    assert reviews.closed_key(session, smash(person("patient"), person())) is None
