"""``python -m medportal.cli``: the same program as the ``medportal`` command."""

from medportal.cli import main

if __name__ == "__main__":
    main(prog_name="medportal")
