"""Demonstration data: the people of the original and synthetic patients.

Holds: the people (:mod:`people`), their words (:mod:`vocabulary`), how measurements come
about (:mod:`physiology`) and the generator of patients with years of records
(:mod:`synthetic`); these four are PURE. A mail server on this machine (:mod:`post_office`) and
the pages that show what it took (:mod:`mailbox`).
May import: the PURE modules of records, and core; what loads the data into databases, and
the post office, may import every room below it, never ``ops`` or ``cli``.
Never does: hold a password or anything about a real person; load into a tenant that is
not marked as a demonstration; send a mail off this machine, or show one of an institution that
is not marked so.
Invariants: the same seed, day and authors give the same patients and records, byte for
byte; citizen numbers of synthetic patients never meet those of the people.
Start reading at :func:`medportal.demo.synthetic.generate`.
"""
