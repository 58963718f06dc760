"""A patient's rules in the database: made, changed, ended, listed, mirrored for partners."""

import threading
from datetime import date, timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from medportal.access import patient_rules
from medportal.access.errors import RuleRefused
from medportal.access.facts import rules_of
from medportal.access.models import PatientRule
from medportal.access.patient_rules import MOST, PAST, Wish
from medportal.access.rules import Effect, What, Whom
from medportal.core.ids import new_id
from medportal.delivery.models import PartnerBlock
from medportal.identity.people import Profile
from medportal.patients.service import Registration, register_patient
from medportal.vault.keyring import TenantKeyring, new_key
from medportal.vault.service import Vault

DAY = timedelta(days=1)


@pytest.fixture
def vault():
    return Vault("hospital", TenantKeyring({1: new_key()}, 1))


def wish(**values):
    usual = {
        "effect": Effect.BLOCK,
        "whom": Whom.ROLE,
        "whom_id": "nurse",
        "what": What.EVERYTHING,
        "what_id": "",
    }
    return Wish(**(usual | values))


@pytest.fixture
def make(session, vault, now):
    """Give a function that makes a rule of a patient; returns what was saved."""

    def made(patient, at=now, **values):
        return patient_rules.make(session, vault, patient, wish(**values), by=patient, now=at)

    return made


def test_a_rule_counts_from_now_until_it_is_ended(session, vault, person, make, now):
    patient = person("patient")
    saved = make(patient, note="Because")
    (rule,) = rules_of(session, patient)
    assert rule == saved.rule and rule.since == now and rule.in_force(now)
    listed = patient_rules.rules(session, vault, patient, patient, now)
    assert [(one.rule, one.note) for one in listed.in_force] == [(rule, "Because")]
    ended = patient_rules.end(session, patient, rule.id, by=patient, now=now + DAY)
    assert ended.rule.id == rule.id and rules_of(session, patient) == ()
    listed = patient_rules.rules(session, vault, patient, patient, now + DAY)
    assert (listed.in_force, [one.ended_at for one in listed.over]) == ((), [now + DAY])


def test_no_rule_acts_on_the_past(person, make, now):
    assert make(person("patient"), since=now - 30 * DAY).rule.since == now


@pytest.mark.parametrize(
    ("since", "until"),
    [(None, 0), (None, -1), (2, 2), (2, 1)],
    ids=["ends-now", "ended", "no-time", "backwards"],
)
def test_a_rule_that_never_counts_is_refused(person, make, now, since, until):
    begins = None if since is None else now + since * DAY
    with pytest.raises(RuleRefused, match="over-already"):
        make(person("patient"), since=begins, until=now + until * DAY)


def test_nobody_makes_rules_about_themselves(person, make):
    patient = person("patient")
    with pytest.raises(RuleRefused, match="about-oneself"):
        make(patient, whom=Whom.PERSON, whom_id=patient)


def test_what_is_said_already_is_not_said_again_until_it_is_over(person, make, now):
    patient = person("patient")
    make(patient, until=now + DAY)
    with pytest.raises(RuleRefused, match="there-already"):
        make(patient, since=now + 5 * DAY)
    make(patient, what=What.CATEGORY, what_id="genetics")
    make(patient, effect=Effect.ALLOW)
    make(patient, at=now + DAY)
    make(person("patient"))


def test_there_are_not_more_rules_than_anybody_oversees(person, make):
    patient = person("patient")
    for number in range(MOST):
        make(patient, whom=Whom.DEPARTMENT, whom_id=f"Ward {number}")
    with pytest.raises(RuleRefused, match="too-many"):
        make(patient)


def test_a_change_ends_one_rule_and_makes_another_at_the_same_instant(
    session, vault, person, make, now
):
    patient = person("patient")
    old = make(patient).rule
    later = now + DAY
    ended, made = patient_rules.change(
        session, vault, patient, old.id, wish(until=later + DAY), by=patient, now=later
    )
    assert (ended.rule.id, made.rule.since) == (old.id, later)
    row = session.get(PatientRule, old.id)
    assert (row.ended_at, row.ended_by, row.until) == (later, patient, None)
    assert [rule.id for rule in rules_of(session, patient)] == [made.rule.id]


@pytest.mark.parametrize("whose", ["ended", "another's", "nobody's"])
def test_only_a_standing_rule_of_this_patient_is_ended_or_changed(
    session, vault, person, make, now, whose
):
    patient, other = person("patient"), person("patient")
    made = {"ended": make(patient).rule.id, "another's": make(other).rule.id}
    rule_id = made.get(whose, new_id())
    if whose == "ended":
        patient_rules.end(session, patient, rule_id, by=patient, now=now)
    with pytest.raises(RuleRefused, match="ended-already"):
        patient_rules.end(session, patient, rule_id, by=patient, now=now)
    with pytest.raises(RuleRefused, match="ended-already"):
        patient_rules.change(session, vault, patient, rule_id, wish(), by=patient, now=now)
    assert patient_rules.find(session, vault, patient, rule_id, patient, now) is None
    assert [rule.id for rule in rules_of(session, other)] == [made["another's"]]


def test_what_is_over_is_listed_by_itself_and_not_for_ever(session, vault, person, make, now):
    patient = person("patient")
    for number in range(PAST + 3):
        make(patient, whom=Whom.DEPARTMENT, whom_id=f"Ward {number}", until=now + DAY)
    coming = make(patient, since=now + 3 * DAY).rule
    listed = patient_rules.rules(session, vault, patient, patient, now + 2 * DAY)
    assert (len(listed.over), listed.in_force) == (PAST, ())
    assert [one.rule for one in listed.to_come] == [coming]


def test_a_note_opens_for_its_rule_and_patient_only(session, vault, person, make, now):
    patient = person("patient")
    mine, other = make(patient, note="Mine"), make(patient, effect=Effect.ALLOW, note="Other")
    assert mine.commitment != other.commitment and len(mine.commitment) == 64
    rows = [session.get(PatientRule, saved.rule.id) for saved in (mine, other)]
    rows[0].note, rows[1].note = rows[1].note, rows[0].note
    session.flush()
    notes = [
        one.note for one in patient_rules.rules(session, vault, patient, patient, now).in_force
    ]
    assert notes == [None, None]
    assert make(person("patient")).commitment == ""


def test_the_same_words_have_another_commitment_each_time(person, make):
    first, second = (make(person("patient"), note="Same").commitment for _ in range(2))
    assert first != second


def test_rules_about_partners_and_no_others_are_mirrored(session, vault, person, make, now):
    patient = person("patient")
    make(patient)
    make(patient, whom=Whom.INSTITUTION, whom_id="hospital")
    theirs = make(
        patient,
        whom=Whom.INSTITUTION,
        whom_id="laboratory",
        what=What.CATEGORY,
        what_id="genetics",
        until=now + DAY,
    ).rule
    (block,) = session.scalars(select(PartnerBlock))
    assert (block.rule_id, block.patient_id, block.partner) == (theirs.id, patient, "laboratory")
    assert (block.effect, block.what, block.what_id) == ("block", "category", "genetics")
    assert (block.since, block.until) == (theirs.since, theirs.until)
    patient_rules.change(
        session,
        vault,
        patient,
        theirs.id,
        wish(whom=Whom.INSTITUTION, whom_id="laboratory"),
        by=patient,
        now=now,
    )
    (block,) = session.scalars(select(PartnerBlock))
    assert block.what == "everything"
    patient_rules.end(session, patient, block.rule_id, by=patient, now=now)
    assert session.scalars(select(PartnerBlock)).all() == []


def test_two_forms_at_once_make_one_rule(engine, vault, now):
    with Session(engine) as session, session.begin():
        registration = Registration(
            "citizen-card", "29999999", Profile("Somebody", date(1980, 1, 1), "female")
        )
        patient, _ = register_patient(session, registration, [], by=None, now=now)
    barrier, refused = threading.Barrier(2, timeout=30), []

    def send() -> None:
        with Session(engine) as session, session.begin():
            barrier.wait()
            try:
                patient_rules.make(session, vault, patient, wish(), by=patient, now=now)
            except RuleRefused as error:
                refused.append(error.code)

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Session(engine) as session:
        count = session.scalar(
            select(func.count()).select_from(PatientRule).where(PatientRule.patient_id == patient)
        )
    assert (count, refused) == (1, ["there-already"])


@pytest.mark.parametrize("whom", ["mother", "nurse"])
def test_what_the_patient_made_is_not_a_representatives_to_end(session, vault, person, now, whom):
    patient, mother = person("patient"), person("representative")
    named = {"whom": Whom.PERSON, "whom_id": mother} if whom == "mother" else {}
    rule = patient_rules.make(
        session, vault, patient, wish(note="Why", **named), by=patient, now=now
    ).rule
    (listed,) = patient_rules.rules(session, vault, patient, mother, now).in_force
    assert (listed.note, listed.may_change) == ("", False)
    assert not patient_rules.may_change(session, patient, rule.id, mother)
    with pytest.raises(RuleRefused):
        patient_rules.end(session, patient, rule.id, by=mother, now=now)
    assert patient_rules.may_change(session, patient, rule.id, patient)


def test_nobody_makes_a_rule_about_themselves_for_somebody_else(session, vault, person, now):
    patient, mother, father = person("patient"), person("representative"), person("representative")

    def make(whom_id):
        made = wish(effect=Effect.ALLOW, whom=Whom.PERSON, whom_id=whom_id)
        return patient_rules.make(session, vault, patient, made, by=mother, now=now)

    with pytest.raises(RuleRefused, match="names-oneself"):
        make(mother)
    rule = make(father).rule
    # The one who made it may change it; the one whom it names may not.
    assert patient_rules.may_change(session, patient, rule.id, mother)
    assert not patient_rules.may_change(session, patient, rule.id, father)
