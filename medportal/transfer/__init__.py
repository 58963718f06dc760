"""CRX/1: carrying clinical records from the institution that made them to a partner.

Holds: the protocol (messages, framing, the two state tables), TLS with channel binding, the
sender and receiver services, the processes that open what is delivered (:mod:`opener`), and the
adapters onto the delivery, patients and audit rooms.
May import: records and everything below it. :mod:`messages`, :mod:`framing`,
:mod:`transcript`, :mod:`batches`, :mod:`payload`, :mod:`kem`, :mod:`budget`, :mod:`events`,
:mod:`ports`, :mod:`opener_wire`, :mod:`errors`, :mod:`sending`, :mod:`receiving` and
:mod:`protocol` are PURE.
Never does: hold a key that opens a stored record, log a name, a number or a
pseudonym, or tell a partner why a patient is unknown.
Invariants: the receiver proves itself before the sender does; nothing is looked up before both
have; a receipt leaves only after what it claims is durable; everything at the receiver is
keyed by (sender, tid); a message that the table does not name is an error and a close.
Start reading at :mod:`medportal.transfer.protocol`.
"""
