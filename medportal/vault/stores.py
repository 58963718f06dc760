"""Which document store an institution uses."""

from sqlalchemy.orm import Session

from medportal.tenancy.tenant import Tenant
from medportal.vault import mongo
from medportal.vault.documents import (
    AfterCommit,
    DocumentKeeper,
    DocumentStore,
    FallbackDocumentStore,
    SqlDocumentStore,
)

SQL = "sql"
MONGODB = "mongodb"
KINDS = (SQL, MONGODB)


def documents_of(tenant: Tenant, session: Session) -> DocumentStore:
    """Return the institution's document store, for use with this session.

    Raises ``DocumentsUnavailable`` for a MongoDB that is not set up, not migrated, or another
    institution's.
    """
    named = tenant.documents
    first = _within(tenant, named.store, session)
    if not named.fallback:
        return first
    return FallbackDocumentStore(first, _within(tenant, named.fallback, session))


def _within(tenant: Tenant, kind: str, session: Session) -> DocumentStore:
    """Return a store that removes nothing before the session commits."""
    keeper = keeper_of(tenant, kind, session)
    return keeper if kind == SQL else AfterCommit(keeper, session)


def keeper_of(tenant: Tenant, kind: str, session: Session) -> DocumentKeeper:
    """Return one of the institution's stores, whether it is the one in use or not.

    Raises ``DocumentsUnavailable`` as :func:`documents_of` does.
    """
    if kind == MONGODB:
        return mongo.keeper(tenant.id, tenant.documents)
    return SqlDocumentStore(session)


def uses_mongodb(tenant: Tenant) -> bool:
    """Tell whether this institution's pages need MongoDB."""
    return MONGODB in {tenant.documents.store, tenant.documents.fallback}
