"""Clinical records: what a record says, and how it is stored, signed and shown.

Holds: clinical content as frozen values (:mod:`content`), the catalogue of
observations (:mod:`catalogue` with ``catalogue.toml``), the interpretation of a value
against reference ranges (:mod:`interpret`), the exact bytes that are stored and sent
(:mod:`fhir`), the statement its author signs over them (:mod:`statement`) and the
reading of what people type (:mod:`entry`); all of these are PURE.
May import: access, delivery, keys and everything below them; the PURE modules only
core.
Never does: change the bytes of a record once they are signed; guess what somebody
meant to type; tell in an error what somebody typed.
Invariants: one record has one encoding, and ``from_fhir`` refuses every other; a
decimal keeps its digits from the form to the bytes and back; a value that the
catalogue cannot judge is "unknown", never "normal".
Start reading at :mod:`medportal.records.content`.
"""

from typing import Any


def includeme(config: Any) -> None:
    """Register the views, how decisions learn about records, and how logs name them."""
    from medportal.records.presentation import readable, record_titles
    from medportal.records.store import record_facts

    config.registry["record_facts"] = record_facts
    config.registry["record_titles"] = record_titles
    config.registry["readable_records"] = readable
    config.scan("medportal.records.views")
