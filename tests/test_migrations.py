"""The migrations make what the models say, and a tenant behind the code is refused."""

import re
from datetime import UTC, date, datetime

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    CheckConstraint,
    Column,
    Engine,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    inspect,
    select,
    text,
)
from sqlalchemy.orm import Session

from medportal.models import Base
from medportal.records import store
from medportal.records.models import RecordVersion
from medportal.tenancy.engines import make_engine
from medportal.tenancy.errors import TenantBehind
from medportal.tenancy.schema import (
    alembic_config,
    current_revision,
    migrate,
    require_current,
    wanted_revision,
)


def drift(engine: Engine, metadata: MetaData) -> list[object]:
    """Return what would have to be migrated for a database to fit ``metadata``."""
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        return compare_metadata(context, metadata)


def copied() -> MetaData:
    """Return a copy of the models' tables to be changed."""
    metadata = MetaData(naming_convention=Base.metadata.naming_convention)
    for table in Base.metadata.sorted_tables:
        table.to_metadata(metadata)
    return metadata


def test_a_migrated_database_is_what_the_models_say(engine):
    assert drift(engine, Base.metadata) == []


def test_check_constraints_are_those_of_the_models(engine):
    # Autogenerate does not compare them.
    look = inspect(engine)
    for table in Base.metadata.sorted_tables:
        wanted = {str(c.name) for c in table.constraints if isinstance(c, CheckConstraint)}
        found = {str(check["name"]) for check in look.get_check_constraints(table.name)}
        assert found == wanted, table.name


def _more_table(metadata: MetaData) -> None:
    Table("unheard_of", metadata, Column("id", Integer, primary_key=True))


def _more_column(metadata: MetaData) -> None:
    metadata.tables["person"].append_column(Column("nickname", String(20), nullable=False))


def _less_table(metadata: MetaData) -> None:
    metadata.remove(metadata.tables["sign_in_throttle"])


def _nullable(metadata: MetaData) -> None:
    metadata.tables["person"].c.name.nullable = True


def _longer(metadata: MetaData) -> None:
    metadata.tables["person"].c.name.type = String(500)


def _more_index(metadata: MetaData) -> None:
    Index("ix_person_city", metadata.tables["person"].c.city)


@pytest.mark.parametrize(
    "change", [_more_table, _more_column, _less_table, _nullable, _longer, _more_index]
)
def test_drift_would_be_noticed(engine, change):
    metadata = copied()
    assert drift(engine, metadata) == []
    change(metadata)
    assert drift(engine, metadata) != []


def test_there_is_one_line_of_migrations():
    script = ScriptDirectory.from_config(alembic_config())
    assert script.get_heads() == [wanted_revision()]
    assert len(script.get_bases()) == 1


def test_migrating_again_changes_nothing(engine):
    migrate(engine)
    assert current_revision(engine) == wanted_revision()
    assert drift(engine, Base.metadata) == []
    require_current("hospital", engine)


def _refusal(engine: Engine) -> str:
    with pytest.raises(TenantBehind) as refused:
        require_current("hospital", engine)
    assert refused.value.tenant_id == "hospital"
    return str(refused.value)


@pytest.mark.parametrize("revision", ["0000", "from-the-future"])
def test_a_database_at_another_revision_is_refused_with_the_command(engine, revision):
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :r"), {"r": revision})
    message = _refusal(engine)
    assert re.search(r"mend it with: medportal tenant migrate hospital$", message)
    assert revision in message
    assert str(wanted_revision()) in message


def test_an_empty_database_is_refused_and_mended_by_migrating(tmp_path):
    engine = make_engine(f"sqlite:///{tmp_path / 'empty.sqlite'}")
    assert "at revision none" in _refusal(engine)
    migrate(engine)
    require_current("hospital", engine)
    engine.dispose()


def test_codes_of_before_are_cleared(tmp_path):
    """They are plain hashes, which keep nobody who has the database from trying them all."""
    engine = make_engine(f"sqlite:///{tmp_path / 'old.sqlite'}")
    config, at = alembic_config(), "2024-05-06 07:08:09.000000"
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        values = {"id": "1" * 32, "at": at}
        connection.execute(
            text(
                "INSERT INTO person (id, name, birth_date, sex, email, phone, city, language,"
                " created_at) VALUES (:id, 'Ana', '1980-02-03', 'female', '', '', '', 'pt', :at)"
            ),
            values,
        )
        connection.execute(
            text(
                "INSERT INTO activation (person_id, code_hash, expires_at) VALUES (:id, :hash, :at)"
            ),
            {**values, "hash": b"h" * 32},
        )
    migrate(engine)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM activation")) == 0
        assert connection.scalar(text("SELECT count(*) FROM person")) == 1
    engine.dispose()


def test_a_migration_that_fails_leaves_the_database_as_it_was(tmp_path):
    path = tmp_path / "half.sqlite"
    plain = create_engine(f"sqlite:///{path}")
    with plain.begin() as connection:
        # One of the tables that the first migration makes is in its way.
        connection.execute(text("CREATE TABLE person (odd INTEGER)"))
    plain.dispose()
    engine = make_engine(f"sqlite:///{path}")
    with pytest.raises(Exception, match="person"):
        migrate(engine)
    with engine.connect() as connection:
        names = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'"))
        assert set(names.scalars()) <= {"person", "alembic_version"}
    assert current_revision(engine) is None
    engine.dispose()


PATIENT, RECORD, CORRECTION = "a" * 32, "c" * 32, "d" * 32
AT = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)


def _to(engine: Engine, revision: str) -> None:
    config = alembic_config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        step = command.upgrade if revision == wanted_revision() else command.downgrade
        step(config, revision)


def _fill(engine: Engine, table: str, **values: object) -> None:
    found = Table(table, MetaData(), autoload_with=engine)
    with engine.begin() as connection:
        connection.execute(found.insert().values(**values))


def _records(engine: Engine) -> None:
    """Write a patient with a record from here, and a partner's second version, as 0003 did."""
    person = {"name": "Ana", "birth_date": date(1980, 2, 3), "sex": "female", "language": "pt"}
    kept = {"email": "", "phone": "", "city": "", "created_at": AT}
    _fill(engine, "person", id=PATIENT, **person, **kept)
    lies = {"status": "active", "ward": "", "bed": "", "registered_at": AT}
    _fill(engine, "patient", person_id=PATIENT, **lies)
    rows = (
        (RECORD, "hospital", "medical", "clinical-note", PATIENT, 1),
        (CORRECTION, "laboratory", "clinical", "laboratory", None, 2),
    )
    for number, (record, origin, kind, category, author, version) in enumerate(rows):
        _fill(
            engine,
            "record",
            id=record,
            patient_id=PATIENT,
            origin=origin,
            origin_record_id=record,
            kind=kind,
            category=category,
            effective_on=date(2026, 2, 3 + number),
            local_author_id=author,
            current_version=version,
            created_at=AT,
        )
        _fill(
            engine,
            "record_version",
            record_id=record,
            version=version,
            document_id=f"{number:032x}",
            document_digest=bytes(32),
            content_digest=b"c" * 32,
            created_at=AT,
        )


def test_records_of_before_say_in_their_version_what_they_said(engine):
    _to(engine, "0003")
    _records(engine)
    for _again in range(2):
        _to(engine, str(wanted_revision()))
        with Session(engine) as session:
            found = [store.find(session, PATIENT, each) for each in (RECORD, CORRECTION)]
            own, partners = found
            versions = session.scalars(select(RecordVersion).order_by(RecordVersion.document_id))
            told = [(v.category, v.status, v.effective_on, v.local_signer_id) for v in versions]
        assert told == [
            ("clinical-note", "final", date(2026, 2, 3), PATIENT),
            ("laboratory", "final", date(2026, 2, 4), None),
        ]
        assert (own.local_author_id, own.local_signer_id, own.head) == (PATIENT, PATIENT, None)
        assert (partners.version, partners.replaces, partners.is_newest) == (2, None, True)
        assert drift(engine, Base.metadata) == []
        # And back, with all that was there.
        _to(engine, "0003")
        with engine.connect() as connection:
            for table in ("person", "record", "record_version"):
                rows = connection.scalar(text(f"SELECT count(*) FROM {table}"))  # noqa: S608
                assert rows == (1 if table == "person" else 2)
            dangling = (
                engine.dialect.name == "sqlite"
                and connection.execute(text("PRAGMA foreign_key_check")).all()
            )
            assert not dangling
