"""Documents in MongoDB: one moment across both databases, and restored into an empty one."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from backup_helpers import Site
from installation import TENANTS, install
from mongo_server import Documents, MongoServer

from medportal.backup import making
from medportal.ops.stores import migrate_documents
from medportal.vault import mongo
from medportal.vault.stores import documents_of


def table(documents: Documents) -> str:
    """Return what a tenant's file says of its document store."""
    return "\n".join(
        [
            'store = "mongodb"',
            f'url = "{documents.url}"',
            f'user = "{documents.user}"',
            f'password_file = "{documents.password_file}"',
            f'ca_file = "{documents.ca_file}"',
        ]
    )


@pytest.fixture
def stored(
    tmp_path: Path,
    key_material: Path,
    new_database: Any,
    bare_database: Callable[[str], str],
    mongodb: MongoServer,
) -> Iterator[Site]:
    tables = {tenant: table(mongodb.new_database()) for tenant in TENANTS}
    urls = {tenant: new_database("sqlite") for tenant in TENANTS}
    portal = install(tmp_path / "p", key_material, urls, tables)
    for tenant in TENANTS:
        migrate_documents(portal.settings.tenant(tenant))
    made = Site(portal, tmp_path, "sqlite", bare_database)
    made.begin()
    yield made
    made.close()
    portal.registry.dispose()
    portal.app.registry["tenants"].dispose()
    mongo.close_clients()


def test_documents_are_restored_into_an_empty_mongodb(stored: Site, mongodb: MongoServer) -> None:
    made = stored.create()
    assert (made.counts.documents, made.damaged) == (len(stored.contents), 0)
    place = stored.elsewhere(documents=table(mongodb.new_database()))
    place.restore(made)
    assert place.contents() == stored.contents


def test_documents_are_restored_into_sql(stored: Site) -> None:
    place = stored.elsewhere()
    place.restore(stored.create())
    assert place.contents() == stored.contents


def test_what_is_filed_meanwhile_is_left_out_and_what_is_gone_is_counted(
    stored: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = making._write_documents
    before = dict(stored.contents)
    hospital = stored.settings.tenant("hospital")

    def meanwhile(tenant: Any, session: Any, *rest: Any) -> int:
        stored.add_record()
        first = next(making._pins(session))
        gone = next(iter(first))
        # Within a transaction a removal waits for the commit; this one is somebody else's.
        documents_of(hospital, session)._store.remove([gone])
        return inner(tenant, session, *rest)

    monkeypatch.setattr(making, "_write_documents", meanwhile)
    made = stored.create()
    assert (made.counts.documents, made.damaged) == (len(before) - 1, 1)
