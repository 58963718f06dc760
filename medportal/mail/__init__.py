"""Mail: an outbox in SQL, composed in the person's language, sent over verified TLS.

Holds: kinds of mail and their words (:mod:`kinds`, :mod:`words`, :mod:`compose`,
:mod:`addresses` and :mod:`replies` are PURE), the outbox, the sender (:mod:`sending`) and its
conversation with a server (:mod:`smtp`).
May import: pki, audit, vault, tenancy, web, db, core.
Never does: clinical content; a token in the outbox (tokens are made when a mail is sent, by
the function that the sender is given); a connection to a server whose certificate does not hold.
Invariants: a mail is committed with its cause or not at all; two senders never hold one mail;
no address and no word of a server gets into a log.
Start reading at :mod:`medportal.mail.outbox`, then at :mod:`medportal.mail.sending`.
"""
