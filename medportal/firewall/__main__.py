"""``python -m medportal.firewall``: the same commands where nothing else of medportal is set up."""

import sys

import click

from medportal.core.errors import MedportalError
from medportal.firewall.commands import firewall


def main() -> None:
    """Run the commands; what an operator can mend is a line for each problem, exit status 2."""
    try:
        firewall(prog_name="python -m medportal.firewall")
    except MedportalError as error:
        for problem in getattr(error, "problems", (str(error),)):
            click.echo(f"medportal: {problem}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
