"""Load the demonstration data into demonstration tenants.

People get passwords made at random for this installation, written to ``accounts.json``
(mode 0600) and nowhere else. Loading is one transaction a tenant, so that it is there whole
or not at all, and running it again changes nothing.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy.orm import Session

from medportal.access.care import assign, assign_team
from medportal.access.models import CareKind
from medportal.access.wards import join
from medportal.audit.append import append
from medportal.audit.events import Action, Event
from medportal.core.errors import ConfigurationError
from medportal.demo import people as cast
from medportal.demo.needs import needs_of
from medportal.demo.synthetic import Author, SyntheticPatient, generate
from medportal.identity.credentials import set_password
from medportal.identity.people import Profile, find_person, register_person
from medportal.keys import TenantKeys
from medportal.patients import partner_index, support
from medportal.patients.service import (
    Registration,
    build_partner_index,
    register_patient,
)
from medportal.pki.files import PRIVATE, write_file
from medportal.pki.profiles import Group
from medportal.records import catalogue as catalogues
from medportal.records import news
from medportal.records.content import ClinicalRecord, Subject, effective_date
from medportal.records.service import sign_and_file
from medportal.settings import Settings
from medportal.tenancy.registry import Database, TenantRegistry
from medportal.tenancy.tenant import PATIENT_ROLE, Kind, Tenant
from medportal.vault.stores import documents_of

SEED = 20260101
ACTOR = "process:demo"
WORDS = 5
PARTNERSHIP = timedelta(days=365)
#: Records that are older than this are history when the demonstration begins, and no news.
NEWS = timedelta(days=14)
CARE_ROLES = ("doctor", "nurse", "porter", "volunteer", "patient_assistant", "clinical_assistant")


@dataclass(frozen=True, slots=True)
class DemoAccount:
    """One line of ``accounts.json``."""

    tenant: str
    url: str
    role: str
    name: str
    citizen_number: str
    password: str


def load(
    settings: Settings, registry: TenantRegistry, urls: Mapping[str, str], now: datetime
) -> list[DemoAccount]:
    """Load every tenant that has not been loaded; return all accounts.

    Raises ``ConfigurationError`` for a tenant that is not marked as a demonstration.
    """
    for tenant in settings.tenants.values():
        _require_demonstration(tenant)
    path = settings.state / "demo" / "accounts.json"
    accounts = {_key(account): account for account in read_accounts(path)}
    for tenant in settings.tenants.values():
        keys = TenantKeys(tenant, settings.home(tenant.id), secrets=settings.secrets(tenant.id))
        with registry.database(tenant.id).writer() as session, session.begin():
            fresh = _load_tenant(session, tenant, keys, urls[tenant.id], accounts, now)
            # Written before the commit: a password that nobody knows is worth nothing, a
            # file that names accounts that never came is replaced by the next run.
            accounts.update({_key(account): account for account in fresh})
            _write_accounts(path, list(accounts.values()))
    return list(accounts.values())


def load_people(
    settings: Settings, tenant: Tenant, database: Database, url: str, now: datetime
) -> list[DemoAccount]:
    """Register the people of the original in one institution, and nothing else.

    Returns the accounts that were made now: their passwords stand nowhere else. Raises
    ``ConfigurationError`` for a tenant that is not marked as a demonstration.
    """
    _require_demonstration(tenant)
    groups = (Group.PORTAL, Group.PAIR)
    keys = TenantKeys(tenant, settings.home(tenant.id), groups, settings.secrets(tenant.id))
    with database.writer() as session, session.begin():
        _build_indexes(session, keys, now)
        scheme = tenant.identifiers.scheme
        return [
            _add_person(session, tenant, keys, person, url, now)
            for person in cast.people(tenant.id)
            if find_person(session, scheme, person.citizen_number) is None
        ]


def _require_demonstration(tenant: Tenant) -> None:
    if not tenant.demonstration:
        raise ConfigurationError(
            f"{tenant.id}.toml: demonstration data goes only into tenants that say "
            "demonstration = true"
        )


def read_accounts(path: Path) -> list[DemoAccount]:
    """Return the accounts of an earlier run, none if there was none."""
    try:
        return [DemoAccount(**line) for line in json.loads(path.read_text("utf-8"))]
    except FileNotFoundError:
        return []


def _write_accounts(path: Path, accounts: list[DemoAccount]) -> None:
    text = json.dumps([asdict(account) for account in accounts], ensure_ascii=False, indent=2)
    write_file(path, text.encode("utf-8") + b"\n", PRIVATE)


def _key(account: DemoAccount) -> tuple[str, str]:
    return account.tenant, account.citizen_number


def _load_tenant(
    session: Session,
    tenant: Tenant,
    keys: TenantKeys,
    url: str,
    known: Mapping[tuple[str, str], DemoAccount],
    now: datetime,
) -> list[DemoAccount]:
    _build_indexes(session, keys, now)
    scheme = tenant.identifiers.scheme
    cast_here = cast.people(tenant.id)
    if all(find_person(session, scheme, person.citizen_number) for person in cast_here):
        return [
            _same_place(known[tenant.id, person.citizen_number], url)
            for person in cast_here
            if (tenant.id, person.citizen_number) in known
        ]
    accounts = [_add_person(session, tenant, keys, person, url, now) for person in cast_here]
    count = _add_synthetic(session, tenant, keys, now)
    news.take_for_known(session, now.date() - NEWS, now)
    append(
        session,
        Event.create(Action.DEMO_LOADED, now=now, actor=ACTOR, details={"patients": count}),
    )
    return accounts


def _same_place(account: DemoAccount, url: str) -> DemoAccount:
    return DemoAccount(**{**asdict(account), "url": url})


def _build_indexes(session: Session, keys: TenantKeys, now: datetime) -> None:
    """Build the index for every partner, so that "unknown" may be said."""
    for key in keys.partner_keys():
        if partner_index.is_complete(session, key.partner, key.key_id):
            continue
        build = partner_index.begin_index(session, key)
        after: str | None = ""
        while after is not None:
            after = build_partner_index(session, build, after)
        partner_index.finish_index(session, build, now)


def _add_person(
    session: Session,
    tenant: Tenant,
    keys: TenantKeys,
    person: cast.Person,
    url: str,
    now: datetime,
) -> DemoAccount:
    profile = Profile(
        name=person.name,
        birth_date=person.birth_date,
        sex=person.sex,
        email=person.email,
        phone=person.phone,
        city=person.city,
        language="en",
    )
    scheme, number = tenant.identifiers.scheme, person.citizen_number
    if person.role == PATIENT_ROLE:
        person_id, _created = register_patient(
            session,
            Registration(
                scheme,
                number,
                profile,
                ward=tenant.wards[0] if tenant.wards else "",
                bed="1" if tenant.wards else "",
                destinations=_destinations(tenant, keys),
            ),
            keys.partner_keys(),
            by=None,
            now=now,
        )
    else:
        person_id = register_person(
            session,
            scheme=scheme,
            number=number,
            profile=profile,
            role=person.role,
            by=None,
            now=now,
        ).person_id
    password = _password()
    set_password(session, person_id, tenant.passwords, password, now)
    return DemoAccount(tenant.id, url, person.role, person.name, number, password)


def _password() -> str:
    """Return about 100 random bits in groups that can be typed."""
    return "-".join(secrets.token_hex(3)[:5] for _group in range(WORDS))


def _destinations(tenant: Tenant, keys: TenantKeys) -> tuple[str, ...]:
    if tenant.kind is not Kind.LABORATORY:
        return ()
    return tuple(partner.institution for partner in keys.partners() if partner.endpoint)


def _add_synthetic(session: Session, tenant: Tenant, keys: TenantKeys, now: datetime) -> int:
    staff = _staff(session, tenant)
    authors = {
        cast.HOSPITAL: staff.get("doctor") or [Author("0" * 32, "A doctor elsewhere")],
        cast.LABORATORY: staff.get("responsible") or [Author("0" * 32, "A laboratory")],
    }
    catalogue = catalogues.load()
    _give_history(session, tenant, keys, authors, now)
    _make_teams(session, tenant, staff, now)
    count = 0
    for patient in generate(SEED, today=now.date(), authors=authors, catalogue=catalogue):
        if tenant.id not in patient.tenants:
            continue
        _add_patient(session, tenant, keys, patient, staff, count, now)
        count += 1
    _assign_cast(session, tenant, keys, staff, now)
    return count


def _give_history(
    session: Session,
    tenant: Tenant,
    keys: TenantKeys,
    authors: Mapping[str, Sequence[Author]],
    now: datetime,
) -> None:
    """Give the original's patient the records of one who was made up, of the same sex."""
    for person in (p for p in cast.people(tenant.id) if p.role == PATIENT_ROLE):
        made_up = generate(SEED + 1, today=now.date(), authors=authors, catalogue=catalogues.load())
        like = next(p for p in made_up if p.subject.sex == person.sex and len(p.tenants) > 1)
        number = person.citizen_number
        patient_id = find_person(session, tenant.identifiers.scheme, number)
        subject = replace(
            like.subject, number=number, name=person.name, birth_date=person.birth_date
        )
        for record in like.records:
            too_early = effective_date(record) <= person.birth_date
            if patient_id is not None and record.institution == tenant.id and not too_early:
                _add_record(session, tenant, keys, record, subject, patient_id, now)


def _staff(session: Session, tenant: Tenant) -> dict[str, list[Author]]:
    staff: dict[str, list[Author]] = {}
    for person in cast.people(tenant.id):
        person_id = find_person(session, tenant.identifiers.scheme, person.citizen_number)
        if person_id is not None:
            staff.setdefault(person.role, []).append(Author(person_id, person.name))
    return staff


def _add_patient(
    session: Session,
    tenant: Tenant,
    keys: TenantKeys,
    patient: SyntheticPatient,
    staff: Mapping[str, Sequence[Author]],
    position: int,
    now: datetime,
) -> None:
    subject = patient.subject
    patient_id, _created = register_patient(
        session,
        Registration(
            tenant.identifiers.scheme,
            subject.number,
            Profile(
                subject.name,
                subject.birth_date,
                subject.sex,
                patient.email,
                patient.phone,
                patient.city,
                "pt",
            ),
            ward=tenant.wards[position % len(tenant.wards)] if tenant.wards else "",
            # The first bed of the first ward is that of the original's patient.
            bed=str(position // max(1, len(tenant.wards)) + 2) if tenant.wards else "",
            destinations=_destinations(tenant, keys),
        ),
        keys.partner_keys(),
        by=None,
        now=now,
    )
    for record in patient.records:
        if record.institution == tenant.id:
            _add_record(session, tenant, keys, record, subject, patient_id, now)
    doctors = staff.get("doctor", [])
    if doctors:
        doctor = doctors[position % len(doctors)]
        _assign(session, patient_id, doctor.id, CareKind.TREATING, now)
    if tenant.wards:
        ward = tenant.wards[position % len(tenant.wards)]
        assign_team(session, patient_id=patient_id, ward=ward, by=None, now=now)
        _note_needs(session, keys, patient_id, position, now)


def _make_teams(
    session: Session, tenant: Tenant, staff: Mapping[str, Sequence[Author]], now: datetime
) -> None:
    """Put the first of every caring role but doctors into the team of the first ward."""
    for ward in tenant.wards[:1]:
        for role in CARE_ROLES:
            for member in staff.get(role, [])[:1] if role != "doctor" else ():
                join(
                    session,
                    ward=ward,
                    staff_id=member.id,
                    assignable_roles=CARE_ROLES,
                    by=None,
                    now=now,
                )


def _note_needs(
    session: Session, keys: TenantKeys, patient_id: str, position: int, now: datetime
) -> None:
    needs = needs_of(position)
    if needs:
        support.keep(
            session, keys.vault, patient_id, needs, seen=support.NONE_YET, by=None, now=now
        )


def _add_record(
    session: Session,
    tenant: Tenant,
    keys: TenantKeys,
    record: ClinicalRecord,
    subject: Subject,
    patient_id: str,
    now: datetime,
) -> None:
    sign_and_file(
        session,
        documents_of(tenant, session),
        keys,
        record,
        subject,
        catalogues.load(),
        patient_id=patient_id,
        # Older results stay at the laboratory, as if the partnership had begun a year ago:
        # a first start shall not be busy for long with carrying history.
        destinations=_destinations(tenant, keys) if _is_recent(record, now) else (),
        now=now,
    )


def _is_recent(record: ClinicalRecord, now: datetime) -> bool:
    return effective_date(record) > now.date() - PARTNERSHIP


def _assign_cast(
    session: Session,
    tenant: Tenant,
    keys: TenantKeys,
    staff: Mapping[str, Sequence[Author]],
    now: datetime,
) -> None:
    """Put the first doctor and one of every caring role in charge of the original's patient."""
    for patient in staff.get(PATIENT_ROLE, [])[:1]:
        if tenant.wards:
            _note_needs(session, keys, patient.id, 0, now)
        for role in CARE_ROLES:
            for carer in staff.get(role, [])[:1]:
                kind = CareKind.TREATING if role == "doctor" else CareKind.TEAM
                _assign(session, patient.id, carer.id, kind, now)


def _assign(
    session: Session, patient_id: str, staff_id: str, kind: CareKind, now: datetime
) -> None:
    assign(
        session,
        patient_id=patient_id,
        staff_id=staff_id,
        kind=kind,
        assignable_roles=CARE_ROLES,
        treating_roles=("doctor",),
        by=None,
        now=now,
    )
