"""Notes of many patients opened at once: as one by one, with one query for all keys."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import event, update
from sqlalchemy.orm import Session

from medportal.vault import store
from medportal.vault.errors import (
    PatientKeyDestroyed,
    PatientKeyMissing,
    Tampered,
    UnknownVersion,
    VaultError,
    WrongKey,
)
from medportal.vault.keyring import TenantKeyring
from medportal.vault.models import PatientKey
from medportal.vault.service import Vault

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PEOPLE = [f"{n:032x}" for n in range(1, 6)]


@pytest.fixture
def vault() -> Vault:
    return Vault("hospital", TenantKeyring.generate(), lambda: NOW)


def sealed_of(session: Session, vault: Vault) -> list[tuple[str, str, bytes]]:
    """Seal two notes about each of some people, out of order."""
    return [
        (who, note, vault.seal_note(session, who, "result", note, f"{who} {note}".encode()))
        for note in ("one", "two")
        for who in PEOPLE
    ]


def test_they_open_in_their_order(session: Session, vault: Vault) -> None:
    sealed = sealed_of(session, vault)
    opened = vault.open_notes(session, "result", sealed)
    assert opened == [f"{who} {note}".encode() for who, note, _sealed in sealed]
    assert vault.open_notes(session, "result", []) == []


@pytest.mark.parametrize(("many", "queries"), [(500, 1), (2, 3)])
def test_all_keys_are_asked_for_at_once(
    session: Session, vault: Vault, monkeypatch: pytest.MonkeyPatch, many: int, queries: int
) -> None:
    monkeypatch.setattr(store, "MANY", many)
    sealed = sealed_of(session, vault)
    session.flush()
    statements: list[str] = []

    def hear(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        statements.append(statement)

    bind = session.get_bind()
    event.listen(bind, "before_cursor_execute", hear)
    opened = vault.open_notes(session, "result", sealed)
    event.remove(bind, "before_cursor_execute", hear)
    assert len(statements) == queries
    assert all(isinstance(each, bytes) for each in opened)


def test_what_does_not_open_stands_in_its_place(session: Session, vault: Vault) -> None:
    """A thief who can write: changed bytes, another's note, another's key, a key that is gone."""
    sealed = sealed_of(session, vault)[: len(PEOPLE)]
    whole, changed, swapped, erased, unknown = sealed
    vault.destroy_patient_key(session, erased[0], NOW)
    session.execute(
        update(PatientKey)
        .where(PatientKey.patient_id == unknown[0])
        .values(tenant_key_version=7)
        .execution_options(synchronize_session=False)
    )
    given = [
        (*changed[:2], changed[2][:-1] + bytes([changed[2][-1] ^ 1])),
        (*swapped[:2], whole[2]),
        erased,
        ("f" * 32, "one", whole[2]),
        unknown,
        (whole[0], "two", whole[2]),
        (*whole[:2], b""),
        whole,
    ]
    opened = vault.open_notes(session, "result", given)
    kinds: list[type[VaultError]] = [
        Tampered,
        WrongKey,
        PatientKeyDestroyed,
        PatientKeyMissing,
        UnknownVersion,
        Tampered,
        Tampered,
    ]
    assert [type(each) for each in opened[:-1]] == kinds
    assert opened[-1] == f"{whole[0]} one".encode()
    (other,) = vault.open_notes(session, "another-purpose", [whole])
    assert isinstance(other, Tampered)
