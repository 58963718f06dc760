"""medportal: medical records that travel from laboratory to hospital, and that patients control.

The rooms, from top to bottom; each imports only from those below it:

===================================== ======================================================
``cli``                               the command line
``config``, ``jobs``, ``server``      what a process is put together from; they do not know
                                      each other
``ops``                               setting institutions up, the supervisor
``models``                            gathers the tables of all rooms, to migrate and to grant
``demo``                              demonstration data
``settings``, ``routes``, ``logs``    what a process reads at its start; only the above use it
``admin``                             screens of the institution's admin
``transfer``                          the exchange with partners
``records``                           clinical content, its versions, its pages
``access``                            who may see what
``delivery``                          outbox, inbox, receipts
``keys``                              one tenant's keys, opened when first used: from here on
                                      upward a room may hold keys, below they are passed in
``patients``, ``identity``            who is cared for, who signs in
``mail``                              the outbox of mails, their words, the sender
``pki``, ``audit``, ``vault``         certificates, the log, sealing
``tenancy``                           which institution a request is for, its database
``web``, ``db``, ``core``             pages, tables, words that everything shares
===================================== ======================================================

Modules whose docstring says (PURE) import the standard library, ``cryptography`` and each
other; ``cbor2`` comes in through :mod:`medportal.core.canonical` alone. ``make contracts`` and
``tests/test_purity.py`` check order and purity. Start reading at :mod:`medportal.config`, then
at ``docs/architecture.md``.
"""

import warnings
from collections.abc import Mapping
from typing import Any

# Pyramid and deform import pkg_resources, which says at every start that it is old; setuptools
# is pinned for them, and an operator can do nothing about it.
warnings.filterwarnings("ignore", message="pkg_resources is deprecated", category=UserWarning)


def main(global_config: Mapping[str, str], **settings: str) -> Any:
    """Return the portal's WSGI application (PasteDeploy's ``app_factory``)."""
    # Imported here, so that importing a PURE module does not pull in Pyramid.
    from medportal.config import make_app

    return make_app(settings)
