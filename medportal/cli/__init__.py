"""The command line: ``medportal [--config FILE] [--set NAME=VALUE] [--json] NOUN VERB``.

Holds: a module for each noun (``tenant``, ``keys``, ``pki``, ``edge``, ``partner``, ``store``,
``demo``, ``mail``, ``audit``, ``backup``, ``people``, ``record``, ``transfer``), the processes that
stay (``serve``),
what every command gets (``context``), what it says (``output``), and the program that they hang
from (``program``).
May import: every room, inside the commands, so that a line of help waits for none of them.
Never does: anything but read options, call one function of :mod:`medportal.ops` or of a room, and
show what came of it.
Every noun understands ``--json``. Errors that an operator can mend are one line each on standard
error, exit status 2, without a trace; 1 means done, and not all is well.
Start reading at :mod:`medportal.cli.program`.
"""

from medportal.cli.program import main

__all__ = ["main"]
