"""A hospital and a laboratory with real keys and databases, in directories of their own."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from medportal.core.categories import Category
from medportal.core.clock import utcnow
from medportal.core.ids import new_id
from medportal.delivery.models import Inbox, Outbox
from medportal.delivery.outbox import Outgoing, enqueue
from medportal.delivery.parcel import Parcel, outbox_info
from medportal.keys import TenantKeys
from medportal.patients.partner_index import begin_index, finish_index, index_patient
from medportal.patients.pseudonyms import Demographics, pseudonym
from medportal.pki import ca as authority
from medportal.pki import partners
from medportal.pki.keystore import KeyStore, create_share
from medportal.pki.passphrases import create_passphrases
from medportal.pki.profiles import Purpose
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
from medportal.vault.passphrase import Cost

TENANTS = Path(__file__).parents[2] / "tenants"
SCHEME, NUMBER, NAME = "citizen-card", "17645234", "Amanda Júlio"
BIRTH = date(1980, 2, 3)
CATALOGUE = catalogue.load()
#: Opening the key files takes no effort: every house opens some.
CHEAP = Cost(iterations=1, lanes=1, memory_kib=8)


@dataclass(frozen=True)
class House:
    """One institution: its directory, keys and database."""

    tenant: Tenant
    home: Path
    keys: TenantKeys
    engine: Engine

    @property
    def id(self) -> str:
        return self.tenant.id

    @property
    def pki(self) -> Path:
        return self.keys.places.pki

    @property
    def store(self) -> KeyStore:
        return self.keys.keystore

    def descriptor(self, endpoint: str | None) -> bytes:
        return partners.export_descriptor(
            self.keys.signer(Purpose.EXCHANGE),
            kind=self.tenant.kind.value,
            names=self.tenant.names,
            ca=self.store.ca,
            endpoint=endpoint,
            share=self.store.share_public(),
            now=utcnow(),
        )

    def trust(self, other: "House", endpoint: str | None = None, replace: bool = False) -> None:
        read = partners.read_descriptor(other.descriptor(endpoint), utcnow())
        partners.trust(self.pki, read, utcnow(), replace=replace)

    def build_indexes(self) -> None:
        for key in self.keys.partner_keys():
            with Session(self.engine) as session, session.begin():
                build = begin_index(session, key)
            with Session(self.engine) as session, session.begin():
                finish_index(session, build, utcnow())

    def register(self, number: str = NUMBER, name: str = NAME) -> str:
        patient = Demographics(new_id(), ((SCHEME, number),), name, BIRTH)
        with Session(self.engine) as session, session.begin():
            index_patient(session, self.keys.partner_keys(), patient)
        return patient.patient_id

    def queue(
        self, partner: str, number: str = NUMBER, count: int = 1, **other: object
    ) -> list[str]:
        """Put records into the outbox as the portal does; return their transfer ids."""
        with Session(self.engine) as session, session.begin():
            return [self._enqueue(session, partner, number, **other) for _ in range(count)]

    def _enqueue(
        self,
        session: Session,
        partner: str,
        number: str,
        *,
        content: bytes | None = None,
        asked: str = "",
        tid: str = "",
        name: str = NAME,
        signed: bytes | None = None,
    ) -> str:
        record = clinical_record(self.id)
        content = content or to_fhir(record, subject(number), CATALOGUE)
        now, tid = utcnow(), tid or new_id()
        fields = statement.statement_fields(
            content, record.id, 1, self.id, record.author_id, record.category, now
        )
        signer = self.keys.signer(Purpose.RECORD)
        signed = signed or sign_statement(signer, statement.LABEL, fields).to_bytes()
        parcel = Parcel(content, signed, SCHEME, number, name, BIRTH.isoformat())
        key = self.keys.partner_key(partner)
        sealed = self.keys.seal_outgoing(parcel.to_bytes(), outbox_info(self.id, partner, tid))
        outgoing = Outgoing(
            tid=tid,
            partner=partner,
            record_id=record.id,
            version=1,
            chain=record.id,
            patient_id=new_id(),
            pseudonym=pseudonym(key.key, SCHEME, asked or number),
            key_id=key.key_id,
            digest=statement.digest(content),
            sealed=sealed,
        )
        return enqueue(session, outgoing, now)

    def outbox(self) -> dict[str, Outbox]:
        with Session(self.engine, expire_on_commit=False) as session:
            return {row.tid: row for row in session.scalars(select(Outbox))}

    def inbox(self) -> list[Inbox]:
        with Session(self.engine, expire_on_commit=False) as session:
            return list(session.scalars(select(Inbox).order_by(Inbox.sequence)))


def subject(number: str = NUMBER) -> Subject:
    return Subject(SCHEME, number, NAME, BIRTH, Sex.FEMALE)


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


def found(
    state: Path, name: str, port: int = 4000, database: str = "", tenants: Path = TENANTS
) -> House:
    """Make an institution from its tenant file: directory, keys, boxes, database.

    ``database`` is the address of a migrated database; without it, one is made in SQLite.
    ``tenants`` is where its file lies.
    """
    variables = {
        "state": str(state),
        "exchange_port": str(port),
        # Of no use here, but the tenants' files name them.
        "mail_port": "2525",
        "hospital_port": "8443",
        "laboratory_port": "8444",
    }
    tenant = load_tenants(tenants, [name], variables)[name]
    home = state / name
    passphrases = create_passphrases(home / "secrets")
    names = list(tenant.hostnames)
    now = datetime.now(UTC)
    authority.init_ca(home / "pki", name, tenant.names, passphrases["ca"], now)
    authority.issue_missing(home / "pki", dns_names=names, passphrases=passphrases, now=now)
    create_share(home / "pki", passphrases["pair"])
    (home / "vault").mkdir()
    boxes.create_box_keys(home / "vault", "outbox", passphrases["outbox"], CHEAP)
    boxes.create_box_keys(home / "vault", "inbox", passphrases["jobs"], CHEAP)
    if not database:
        (home / "portal.sqlite").write_bytes(_migrated())
    engine = make_engine(database or f"sqlite:///{home}/portal.sqlite")
    return House(tenant, home, TenantKeys(tenant, home), engine)


@cache
def _migrated() -> bytes:
    """Return the one file of an empty database that the migrations made."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "portal.sqlite"
        engine = make_engine(f"sqlite:///{path}")
        migrate(engine)
        with engine.connect() as connection:
            connection.execute(text("ROLLBACK"))
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        engine.dispose()
        return path.read_bytes()


def enrol(hospital: House, laboratory: House, port: int = 4000) -> None:
    """Let two institutions trust each other, and build the hospital's index."""
    endpoint = f"127.0.0.1:{port}"
    hospital.trust(laboratory, None, replace=True)
    laboratory.trust(hospital, endpoint, replace=True)
    hospital.build_indexes()
    laboratory.build_indexes()
