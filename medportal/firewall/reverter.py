"""The process that brings former rules back: ``python -m medportal.firewall.reverter STATE TOKEN``.

It leaves the terminal and the session of whoever began it, so it outlives a connection that the
new rules cut, and ends by itself when the rules are confirmed, taken back, or taken back by it.
"""

import os
import sys
import time
from pathlib import Path

from medportal.firewall.apply import watch
from medportal.firewall.errors import FirewallError

#: How often it tries where nft fails, and how long between.
_TRIES = 30
_BETWEEN = 2.0


def main(state: Path, token: str) -> None:
    """Go into the background, then wait."""
    process = os.fork()
    if process:
        (state / "reverter.pid").write_text(str(process), "ascii")
        os._exit(0)
    os.setsid()
    for _ in range(_TRIES):
        try:
            watch(state, token)
            return
        except FirewallError:
            # nft may lack memory for a moment; nobody is there who could be told.
            time.sleep(_BETWEEN)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
