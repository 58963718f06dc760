"""Operating medportal: setting institutions up, supervising processes on one machine.

Holds: making keys and databases, trusting partners on one machine, the foreground
supervisor behind ``make run``.
May import: every room but ``cli``, ``jobs``, ``server`` and ``config``, which stand above it;
what it needs of the command line is passed in.
Never does: anything a request could reach.
Start reading at :mod:`medportal.ops.institution`.
"""
