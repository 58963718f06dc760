"""What happened, in a log that nobody can quietly change.

Holds: events, the Merkle log over them (RFC 9162 hashing), the sequencer, doubly signed
heads, proofs, the verifier (against the database or offline) and the search.
May import: the standard library, cryptography, SQLAlchemy, Pyramid (``requests``), vault,
tenancy, db and core.
PURE: ``errors``, ``events``, ``merkle``, ``heads``, ``statements``, ``checking``, ``lines``,
``fhir``.
Never does: hold keys (a signer is passed in), change an event, delete one but under a signed
checkpoint (``maintenance``), cascade, store names, numbers or other personal text.
Invariants: an event commits with what it tells of; sequence numbers are 0, 1, 2 and so on without a
gap; every batch ends in a signed head; leaf ``n`` is the event with sequence number ``n``.
Stated window: an event that is not sequenced yet can still be removed unnoticed by
somebody who writes to the database; ``medportal jobs`` runs the sequencer, several times a
second while there is little to do.
Start reading at :mod:`medportal.audit.events`, then :mod:`medportal.audit.sequence`.
"""
