"""What must reach a partner, what came from one, and how far each of them is.

Holds: the outbox (rows that commit with the record they carry), the inbox (what partners
handed over, keyed by sender and transfer id), receipts and their sequences, the table of
delivery states, back-off, what is remembered of each partner (receipt mark, log head), what
administrators hold, and how much was carried in which hour.
May import: patients and everything below it.
Never does: open or seal content, talk to a network, commit. Every function works inside the
caller's transaction, so that a row and what it stands for become durable together.

Invariants:

* A row is either settled (``settled_at``) or will be claimed again (``next_at``): nothing is
  dropped silently.
* Whoever writes the end of an attempt holds the fence that its claim was given.
* Of one chain of corrections only the oldest unsettled version can be claimed.
* One (sender, transfer id) has one row in the inbox, one digest and one receipt sequence;
  sequences of one sender have no gaps and become visible in their order.

Start reading at :mod:`medportal.delivery.states`, then ``outbox`` and ``inbox``. How partners take
turns is :mod:`medportal.delivery.groups` (PURE).
"""
