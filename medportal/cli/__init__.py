"""The command line: ``medportal [--config FILE] [--set NAME=VALUE] [--json] NOUN VERB``.

Holds: a module for each noun (``tenant``, ``keys``, ``pki``, ``edge``, ``partner``, ``store``,
``demo``, ``mail``, ``audit``, ``backup``, ``record``, ``transfer``; ``people`` has ``staff`` and
``sessions``; ``firewall`` has its own room), the processes that stay (``serve``), what every
command gets (``context``), what it says (``output``), and the program that they hang from
(``program``).
May import: every room, inside the commands, so that a line of help waits for none of them.
Never does: decide. A command reads options, calls :mod:`medportal.ops` or a room, and shows what
came of it.
Every noun understands ``--json``.

Exit statuses: 0, done and all is well. 1, done, and not all is well: a document is damaged, a log
or a file is not what was signed. 2, refused, nothing was done; one line on standard error for each
mistake that an operator can mend, without a trace. 3, nothing is wrong, but not all could be told:
``audit verify`` and ``audit check`` of a log with a declared restore, ``record verify`` of a signer
whose authority was not given. 130, stopped by whoever runs it: Ctrl-C, or no yes to a question.
Start reading at :mod:`medportal.cli.program`.
"""

from medportal.cli.program import main

__all__ = ["main"]
