"""What can go wrong with a firewall (PURE)."""

from medportal.core.errors import MedportalError


class FirewallError(MedportalError):
    """Rules cannot be rendered, loaded, kept or taken back; the message says why."""
