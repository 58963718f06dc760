"""``python -m medportal.firewall``: the same commands where nothing else of medportal is set up."""

from medportal.firewall.commands import firewall

if __name__ == "__main__":
    firewall(prog_name="python -m medportal.firewall")
