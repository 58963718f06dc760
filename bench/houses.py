"""A hospital and laboratories for the benches of the exchange: real keys, real databases.

What is queued is what the portal queues: a record in FHIR, its author's statement, sealed to the
laboratory's outbox key.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from medportal.core.categories import Category
from medportal.core.clock import utcnow
from medportal.core.ids import new_id
from medportal.delivery.outbox import Outgoing, enqueue
from medportal.delivery.parcel import Parcel, outbox_info
from medportal.keys import TenantKeys
from medportal.patients.partner_index import begin_index, finish_index, index_patient
from medportal.patients.pseudonyms import Demographics, pseudonym
from medportal.pki import ca as authority
from medportal.pki import partners
from medportal.pki.keystore import create_share
from medportal.pki.passphrases import create_passphrases
from medportal.pki.profiles import Group, Purpose
from medportal.pki.signatures import sign_statement
from medportal.records import catalogue, statement
from medportal.records.content import (
    ClinicalRecord,
    Observation,
    Quantity,
    RecordKind,
    RecordStatus,
    Sex,
    Subject,
)
from medportal.records.fhir import to_fhir
from medportal.tenancy.engines import make_engine
from medportal.tenancy.loader import load_tenants
from medportal.tenancy.schema import migrate
from medportal.tenancy.tenant import Tenant
from medportal.vault import boxes

TENANTS = Path(__file__).parents[1] / "tenants"
HOSPITAL = "hospital"
SCHEME, NAME, BIRTH = "citizen-card", "Amanda Júlio", date(1980, 2, 3)
NUMBERS = tuple(f"{number:08}" for number in range(10_000_000, 10_000_064))
CATALOGUE = catalogue.load()
LATER = timedelta(days=1)
"""How far off what is queued becomes due, until the measuring begins."""


def tenant_of(state: Path, name: str, port: int) -> Tenant:
    """Return the tenant of an institution; laboratories differ by their names only."""
    ports = {"mail_port": "2525", "hospital_port": "8443", "laboratory_port": "8444"}
    kind = name if name == HOSPITAL else "laboratory"
    variables = {"state": str(state), "exchange_port": str(port), **ports}
    return replace(load_tenants(TENANTS, [kind], variables)[kind], id=name)


def keys_of(state: Path, name: str, groups: Sequence[Group], port: int = 4000) -> TenantKeys:
    """Return the keys that one process of an institution holds."""
    return TenantKeys(tenant_of(state, name, port), state / name, groups)


@dataclass(frozen=True)
class House:
    """One institution; ``url`` is the address of its database."""

    tenant: Tenant
    home: Path
    url: str

    @cached_property
    def keys(self) -> TenantKeys:
        return TenantKeys(self.tenant, self.home)

    @cached_property
    def engine(self) -> Engine:
        return make_engine(self.url)

    @property
    def id(self) -> str:
        return self.tenant.id

    def descriptor(self, endpoint: str | None) -> bytes:
        store = self.keys.keystore
        return partners.export_descriptor(
            self.keys.signer(Purpose.EXCHANGE),
            kind=self.tenant.kind.value,
            names=self.tenant.names,
            ca=store.ca,
            endpoint=endpoint,
            share=store.share_public(),
            now=utcnow(),
        )

    def trust(self, other: "House", endpoint: str | None = None) -> None:
        read = partners.read_descriptor(other.descriptor(endpoint), utcnow())
        partners.trust(self.keys.places.pki, read, utcnow(), replace=True)

    def register(self) -> None:
        """Register patients, and complete the indexes of all partners."""
        keys = self.keys.partner_keys()
        with Session(self.engine) as session, session.begin():
            for number in NUMBERS:
                patient = Demographics(new_id(), ((SCHEME, number),), NAME, BIRTH)
                index_patient(session, keys, patient)
        for key in keys:
            with Session(self.engine) as session, session.begin():
                build = begin_index(session, key)
            with Session(self.engine) as session, session.begin():
                finish_index(session, build, utcnow())

    def queue(self, count: int, due: datetime) -> None:
        """Put records into the outbox as the portal does."""
        signer, key = self.keys.signer(Purpose.RECORD), self.keys.partner_key(HOSPITAL)
        with Session(self.engine) as session, session.begin():
            for at in range(count):
                enqueue(session, self._outgoing(signer, key, NUMBERS[at % len(NUMBERS)]), due)

    def _outgoing(self, signer: object, key: object, number: str) -> Outgoing:
        record = clinical_record(self.id)
        subject = Subject(SCHEME, number, NAME, BIRTH, Sex.FEMALE)
        content, tid = to_fhir(record, subject, CATALOGUE), new_id()
        fields = statement.statement_fields(
            content, record.id, 1, self.id, record.author_id, record.category, utcnow()
        )
        signed = sign_statement(signer, statement.LABEL, fields).to_bytes()
        parcel = Parcel(content, signed, SCHEME, number, NAME, BIRTH.isoformat()).to_bytes()
        return Outgoing(
            tid=tid,
            partner=HOSPITAL,
            record_id=record.id,
            version=1,
            chain=record.id,
            patient_id=new_id(),
            pseudonym=pseudonym(key.key, SCHEME, number),
            key_id=key.key_id,
            digest=statement.digest(content),
            sealed=self.keys.seal_outgoing(parcel, outbox_info(self.id, HOSPITAL, tid)),
        )

    def parcel(self) -> bytes:
        """Return one record as it travels, for the other ways."""
        signer = self.keys.signer(Purpose.RECORD)
        record = clinical_record(self.id)
        subject = Subject(SCHEME, NUMBERS[0], NAME, BIRTH, Sex.FEMALE)
        content = to_fhir(record, subject, CATALOGUE)
        fields = statement.statement_fields(
            content, record.id, 1, self.id, record.author_id, record.category, utcnow()
        )
        signed = sign_statement(signer, statement.LABEL, fields).to_bytes()
        return Parcel(content, signed, SCHEME, NUMBERS[0], NAME, BIRTH.isoformat()).to_bytes()


def clinical_record(institution: str) -> ClinicalRecord:
    return ClinicalRecord(
        id=new_id(),
        version=1,
        kind=RecordKind.CLINICAL,
        category=Category.LABORATORY,
        status=RecordStatus.FINAL,
        effective=date(2026, 5, 1),
        author_id=new_id(),
        author_name="Paulo Marques",
        institution=institution,
        observations=(Observation("2823-3", Quantity(Decimal("5.0"), "mmol/L")),),
        diagnosis=None,
        notes=None,
    )


def found(state: Path, name: str, port: int, url: str = "") -> House:
    """Make an institution: directory, keys, boxes, database."""
    tenant, home = tenant_of(state, name, port), state / name
    passphrases = create_passphrases(home / "secrets")
    hosts, now = list(tenant.hostnames), utcnow()
    authority.init_ca(home / "pki", name, tenant.names, passphrases["ca"], now)
    authority.issue_missing(home / "pki", dns_names=hosts, passphrases=passphrases, now=now)
    create_share(home / "pki", passphrases["pair"])
    (home / "vault").mkdir()
    boxes.create_box_keys(home / "vault", "outbox", passphrases["outbox"])
    boxes.create_box_keys(home / "vault", "inbox", passphrases["jobs"])
    house = House(tenant, home, url or f"sqlite:///{home}/portal.sqlite")
    migrate(house.engine)
    return house


def enrol(hospital: House, laboratories: Sequence[House], port: int) -> None:
    """Let the hospital and each laboratory trust each other; register patients."""
    for laboratory in laboratories:
        hospital.trust(laboratory)
        laboratory.trust(hospital, f"127.0.0.1:{port}")
    hospital.register()
