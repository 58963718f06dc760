"""A site with records that is backed up, and restored elsewhere."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crx_institutions import CATALOGUE, CHEAP, clinical_record, subject
from installation import ROOT, Installation, raw_settings, tenant_files
from sqlalchemy import Engine, MetaData, select
from sqlalchemy.orm import Session

from medportal.backup.keys import Opener
from medportal.backup.making import Made, Places
from medportal.backup.restoring import Pair, Restored
from medportal.backup.tables import APART, FLEETING
from medportal.core.clock import utcnow
from medportal.ops import backup
from medportal.pki.profiles import Purpose
from medportal.pki.signatures import sign_statement
from medportal.records import statement
from medportal.records.fhir import to_fhir
from medportal.records.models import RecordVersion
from medportal.records.service import file_record
from medportal.records.statement import SealedContent
from medportal.settings import Settings, parse_settings
from medportal.tenancy.registry import Database
from medportal.vault.stores import documents_of

assert ROOT  # the helpers of the functional tests are importable


@dataclass
class Site:
    """An installation, its backup key, and where backups go."""

    portal: Installation
    directory: Path
    kind: str
    bare_database: Callable[[str], str]
    contents: dict[str, bytes] = field(default_factory=dict)
    restored: list[Any] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        return self.portal.settings

    @property
    def away(self) -> Path:
        return self.directory / "away"

    @property
    def passphrase(self) -> Path:
        return self.directory / "backup.passphrase"

    @property
    def patient(self) -> str:
        return self.portal.person("patient")

    def begin(self) -> None:
        """Make a backup key, some records and a signed log."""
        self.passphrase.write_text("a passphrase that is kept in a safe\n")
        self.passphrase.chmod(0o600)
        hospital = self.settings.tenant("hospital")
        backup.create_backup_key(self.settings, hospital, self.away, self.passphrase, CHEAP)
        for _ in range(40):
            self.add_record()
        self.portal.signed_in("doctor")
        self.turn()

    def add_record(self) -> str:
        """File a record of the patient; return its id."""
        record = clinical_record("hospital")
        content = to_fhir(record, subject(), CATALOGUE)
        keys, now = self.portal.keys("hospital"), utcnow()
        fields = statement.statement_fields(
            content, record.id, 1, "hospital", record.author_id, record.category, now
        )
        signed = sign_statement(keys.signer(Purpose.RECORD), statement.LABEL, fields).to_bytes()
        with self.portal.session("hospital") as session, session.begin():
            file_record(
                session,
                documents_of(keys.tenant, session),
                keys,
                record,
                SealedContent(content, signed),
                patient_id=self.patient,
                origin="hospital",
                local_id=record.id,
                now=now,
            )
        self.contents[record.id] = content
        return record.id

    def turn(self, portal: Installation | None = None) -> None:
        """Let jobs do what is due, and sign the log."""
        jobs = (portal or self.portal).jobs("hospital")
        while jobs.turn(utcnow()):
            pass

    def create(self, data: str = "", keys: str = "") -> Made:
        """Make a backup."""
        name = secrets.token_hex(4)
        places = Places(
            self.directory / (data or f"data-{name}"), self.directory / (keys or f"keys-{name}")
        )
        hospital = self.settings.tenant("hospital")
        database = self.portal.registry.database("hospital")
        return backup.create(
            self.settings, hospital, database, places, utcnow(), lambda counts: None
        )

    def opener(self) -> Opener:
        return backup.opener(self.away, self.passphrase)

    def elsewhere(self, kind: str = "", documents: str = "") -> "Elsewhere":
        """Return another machine on which nothing is; ``documents`` describes another store."""
        urls = {
            name: self.bare_database(kind or self.kind)
            if name == "hospital"
            else "sqlite:////unused"
            for name in ("hospital", "laboratory")
        }
        place = self.directory / f"elsewhere-{secrets.token_hex(4)}"
        stores = dict.fromkeys(urls, documents) if documents else None
        files = tenant_files(place / "tenants", urls, stores)
        raw = raw_settings(files, place / "state")
        made = Elsewhere(self, parse_settings(raw), raw)
        self.restored.append(made)
        return made

    def close(self) -> None:
        for place in self.restored:
            place.engine.dispose()


class Elsewhere:
    """Another machine."""

    def __init__(self, site: Site, settings: Settings, raw: dict[str, str]) -> None:
        self.site, self.settings, self.raw = site, settings, raw
        self.tenant = settings.tenant("hospital")
        self.home = settings.home("hospital")
        self.engine: Engine = Database(self.tenant).unchecked()

    def restore(self, made: Made, **more: Any) -> Restored:
        pair = more.pop("pair", Pair(made.data, made.keys))
        return backup.restore(
            self.settings, self.tenant, pair, self.site.opener(), utcnow(), **more
        )

    def portal(self) -> Installation:
        """Return the portal's state here, without an application."""
        from medportal.tenancy.registry import TenantRegistry

        made = Installation(self.settings, self.raw, None, TenantRegistry(self.settings.tenants))
        made.ids = self.site.portal.ids
        return made

    def contents(self) -> dict[str, bytes]:
        """Open every record of the patient with what is here alone."""
        portal = self.portal()
        keys, found = portal.keys("hospital"), {}
        with Session(self.engine) as session:
            documents = documents_of(self.tenant, session)
            for version in session.scalars(select(RecordVersion)):
                opened = keys.vault.open_record(
                    session,
                    self.site.patient,
                    version.record_id,
                    version.version,
                    documents.get(version.document_id),
                )
                found[version.record_id] = SealedContent.from_bytes(opened).content
        portal.registry.dispose()
        return found


def rows(engine: Engine) -> dict[str, set[tuple[Any, ...]]]:
    """Return every row of every table that a backup carries as rows."""
    metadata = MetaData()
    metadata.reflect(engine)
    with engine.connect() as connection:
        return {
            table.name: {tuple(row) for row in connection.execute(select(table))}
            for table in metadata.sorted_tables
            if table.name not in APART | FLEETING
        }
