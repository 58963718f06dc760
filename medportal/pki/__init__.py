"""Certificates, keys and the statements signed with them; each institution is its own authority.

Holds: certificate profiles, verification, signed statements, pair keys and partner descriptors
(PURE: ``profiles``, ``certificates``, ``verify``, ``signers``, ``signatures``, ``pairing``,
``descriptors``, ``keyfiles``, ``requests``, ``expiry``, ``errors``); and on disk the authority, its
revocation list, the key files and the trusted partners (``ca``, ``keystore``, ``partners``, over
``layout``, ``files`` and ``passphrases``), its next key (``rollover``), an authority kept elsewhere
(``offline``), files for other software (``containers``, ``published``), how it all stands
(``standing``), which files the edge is given (``carried``) and the ``medportal pki`` commands
(``commands``).
May import: the standard library, cryptography and core; ``commands`` also click.
Never does: databases, Pyramid, sockets, logging of keys or passphrases. It never takes an
algorithm from what it verifies, and never asks any authority but the one it was given.
Invariants: a key has one purpose and its certificate says which; a verified thing is returned
or a named ``PkiError`` raised, nothing in between; private keys are encrypted on disk, mode
0600; every function that depends on time takes ``now``.
Start reading at :mod:`medportal.pki.profiles`, then :mod:`medportal.pki.verify`.
"""
