"""Faults, each a run: laboratories and a hospital at work while everything is done to them.

``make faults`` (root, Linux) starts the real processes of institutions that the product's own
commands have set up: one or several laboratories that send to one hospital, which may send back.
Wherever something is sent from, a clerk files records and chains of corrections, and meanwhile, by
a plan drawn from a seed, processes and databases are killed with -9, also inside a record's
exchange, cables cut, packets lost and delayed, disks filled, clocks set wrong, everything
restarted. When all is healed, every record must be registered once and receipted, in order, within
a bounded time, whichever way it went. What a run did and found is one line of JSON. It is tooling
beside the product, no part of it.

Everything is inside one private world (mount, network, process namespaces) whose first process
the kernel ends with the runner, kill -9 included: no process, mount, address or file outlives it.

Start reading at ``run``; then ``cast`` (who takes part), ``plan`` (what is done), ``wire`` (how the
middle of an exchange is hit), ``houses`` (the institutions), ``staff`` (who enters what) and
``verdict`` (what must hold). It uses commands, the entry
of records as the portal calls it, and reads of the databases: nothing of how the exchange is
built. docs/faults.md says what was found.
"""
