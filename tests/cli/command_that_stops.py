"""The ``medportal`` command, which sends itself a signal as soon as it has said a word.

A signal that another process sends may arrive when the command has gone on by many steps; this one
arrives at the same point each time.

``python command_that_stops.py NUMBER WORD ARGUMENT...``
"""

import signal
import sys
from typing import Any

import click

from medportal.cli import main

echo = click.echo


def echo_and_stop(message: Any = None, *args: Any, **options: Any) -> None:
    """Say a line; if the word is in it, raise the signal (once: SIGINT is answered in words)."""
    global WORD
    echo(message, *args, **options)
    if WORD and options.get("err") and WORD in str(message):
        sys.stderr.flush()
        WORD = ""
        signal.raise_signal(NUMBER)


if __name__ == "__main__":
    NUMBER, WORD = signal.Signals(int(sys.argv[1])), sys.argv[2]
    # Whoever runs the tests may ignore Ctrl-C, and children would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    click.echo = echo_and_stop  # type: ignore[assignment]  # a double in another process
    main(sys.argv[3:], prog_name="medportal")
