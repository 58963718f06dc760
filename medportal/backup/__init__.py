"""Backups: two files that bring an institution back on another machine.

Holds: how a backup is sealed and signed, what stands in it, making, checking and restoring one,
the signed note of size and digest beside each file (``seals``), what lies in a directory of them
(``shelves``) and whether it is well (``watching``), taking away the oldest (``pruning``), and the
backup key.
May import: erasure, records, vault, tenancy and everything below.
PURE: ``errors``, ``container``, ``frames``.
Never does: put keys and data into one file; restore anything of a file before all of it was
verified; bring an erased patient back; write anything in the clear.
Start reading at :mod:`medportal.backup.container`, then :mod:`medportal.backup.making`.
"""
