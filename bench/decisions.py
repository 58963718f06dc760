"""Decisions a second, by the table alone and with the facts of a database: one JSON line each.

Run as ``python -m bench.decisions``. One process, SQLite in a temporary directory. "page" decides
every permission about one patient, as a page does once; "record" the two that a list asks
about each record. ``hidden_to_missing`` is how much longer a refusal takes for a patient whom
the asker does not look after, and who has many rules, than for one who is not there: by
turns, facts and decision together, so that it should be near 1.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from medportal.access.decisions import decide
from medportal.access.facts import asker_facts, departments_of, patient_facts
from medportal.access.models import PatientRule
from medportal.access.question import AccessFacts, AssignmentFacts, PatientFacts, RecordFacts
from medportal.access.resources import ABOUT_A_RECORD
from medportal.access.rules import Effect, Rule, What, Whom
from medportal.core.identity import Identity
from medportal.core.ids import new_id
from medportal.identity.people import Profile, register_person
from medportal.patients.service import Registration, register_patient
from medportal.tenancy.engines import make_engine
from medportal.tenancy.loader import load_tenants
from medportal.tenancy.schema import migrate
from medportal.tenancy.tenant import Tenant

ROOT = Path(__file__).resolve().parents[1]
NOW = datetime(2026, 3, 1, tzinfo=UTC)
PORTS = ("exchange_port", "mail_port", "hospital_port", "laboratory_port")
ROUNDS = 300
PAIRS = 1_000
RULES = 20


def hospital() -> Tenant:
    variables = {"state": "unused", **dict.fromkeys(PORTS, "4000")}
    return load_tenants(ROOT / "tenants", ["hospital"], variables)["hospital"]


def rule(effect: Effect, whom: Whom, whom_id: str) -> Rule:
    return Rule(new_id(), effect, whom, whom_id, What.EVERYTHING, "", NOW, None)


def per_second(run: Callable[[], Any]) -> int:
    run()
    began = time.perf_counter()
    for _ in range(ROUNDS):
        run()
    return round(ROUNDS / (time.perf_counter() - began))


def alone(tenant: Tenant) -> dict[str, Any]:
    """Return decisions a second of the table alone, without rules and with many."""
    me = new_id()
    who = Identity(me, "hospital", frozenset({"doctor"}), "s", NOW)
    record = RecordFacts(new_id(), True, None, "laboratory")
    found = {}
    for count in (0, RULES):
        rules = tuple(rule(Effect.ALLOW, Whom.ROLE, "doctor") for _ in range(count))
        patient = PatientFacts(
            new_id(), True, assignments=(AssignmentFacts(True, NOW, None),), rules=rules
        )
        facts = replace(asker_facts(tenant, who), patient=patient)
        found[f"{count} rules"] = {
            "page": per_second(lambda f=facts: decide(who, f, NOW)),
            "record": per_second(
                lambda f=facts: decide(who, replace(f, record=record), NOW, ABOUT_A_RECORD)
            ),
        }
    return {"bench": "decisions", "rules_that_name_the_asker": found}


def _prepare(session: Session) -> tuple[Identity, str]:
    profile = Profile("Somebody", date(1980, 1, 1), "female")
    patient, _new = register_patient(
        session, Registration("citizen-card", "1", profile), [], by=None, now=NOW
    )
    doctor = register_person(
        session,
        scheme="citizen-card",
        number="2",
        profile=profile,
        role="doctor",
        by=None,
        now=NOW,
    ).person_id
    for _ in range(RULES):
        session.add(
            PatientRule(
                id=new_id(),
                patient_id=patient,
                effect="allow",
                whom="person",
                whom_id=new_id(),
                what="everything",
                what_id="",
                since=NOW - timedelta(days=1),
                made_at=NOW,
                made_by=patient,
            )
        )
    return Identity(doctor, "hospital", frozenset({"doctor"}), "s", NOW), patient


def with_facts(tenant: Tenant, url: str) -> dict[str, Any]:
    """Return decisions a second with their facts read, and hidden against missing."""
    engine = make_engine(url)
    migrate(engine)
    with Session(engine) as session:
        who, hidden = _prepare(session)
        session.flush()
        missing = "0" * 32

        def asked(patient_id: str) -> bool:
            departments = departments_of(session, who.person_id, NOW)
            patient = patient_facts(session, who, patient_id, NOW, departments)
            facts: AccessFacts = replace(
                asker_facts(tenant, who), patient=patient, departments=departments
            )
            return bool(decide(who, facts, NOW).permissions)

        taken: dict[str, list[float]] = {hidden: [], missing: []}
        for turn in range(PAIRS):
            for patient_id in (hidden, missing) if turn % 2 else (missing, hidden):
                began = time.perf_counter()
                asked(patient_id)
                taken[patient_id].append(time.perf_counter() - began)
        rate = per_second(lambda: asked(hidden))
    engine.dispose()
    medians = [statistics.median(taken[each]) for each in (hidden, missing)]
    return {
        "bench": "decisions_with_facts",
        "engine": "sqlite",
        "per_second": rate,
        "hidden_to_missing": round(medians[0] / medians[1], 3),
    }


def main() -> None:
    tenant = hospital()
    print(json.dumps(alone(tenant)), flush=True)
    with tempfile.TemporaryDirectory() as name:
        url = f"sqlite:///{name}/portal.sqlite"
        print(json.dumps(with_facts(tenant, url)), flush=True)


if __name__ == "__main__":
    main()
