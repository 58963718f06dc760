"""What may talk to what: the policy of the hosts, the rules it gives, loading them without harm.

Holds: the policy parsed and checked (``policy``), the rules of each host derived from it
(``rules``), the same as nftables and as ufw (``nft``, ``ufw``, ``render``) and in words
(``words``), all PURE; the file (``loader``); loading with a way back (``apply``, ``pending``,
``reverter``); the command line (``commands``).
May import: the standard library, click (``commands`` alone) and core.
Never does: databases, Pyramid, keys; it never touches a table of nftables but its own, and
loads nothing unless told to and without a time after which the former rules come back.
Invariants: what a statement of the policy opens is opened by it at both hosts and at the router
between them, and nothing else is; the same policy gives the same bytes.
Start reading at ``firewall/policy.toml``, then :mod:`medportal.firewall.rules`.
"""
