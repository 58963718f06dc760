"""Words and values that every other room shares.

Holds: the frozen ``Identity``, the ``Permission``, ``Reason`` and ``Category``
vocabularies, the error family, the clock, random ids and canonical bytes.
May import: the standard library and cbor2.
Never does: input or output, frameworks, reading a global clock behind a
caller's back (callers pass ``now``).
Start reading at :mod:`medportal.core.permissions`.
"""
