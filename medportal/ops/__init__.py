"""Operating medportal: setting institutions up, supervising processes on one machine.

Holds: making keys and databases, trusting partners on one machine, the foreground
supervisor behind ``make run``.
May import: every room.
Never does: anything a request could reach.
Start reading at :mod:`medportal.ops.institution`.
"""
