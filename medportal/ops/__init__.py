"""Operating medportal: what an institution's operators do, and processes on one machine.

Holds: making keys, databases and their roles, keys of hosts, renewing and changing keys and
passphrases, certificates and what is between edge and portal (:mod:`edges` on the portal's side,
:mod:`edge_host` on nginx's), backup and restore and the review after it, onboarding a partner,
trusting partners on one machine, and the foreground supervisor behind ``make run``.
May import: every room but ``cli``, ``jobs``, ``server`` and ``config``, which stand above it;
what it needs of the command line is passed in.
Never does: anything a request could reach.
Start reading at :mod:`medportal.ops.institution`.
"""
