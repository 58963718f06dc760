"""The files that an edge is given: which they are, and where they lie ready for it."""

from pathlib import Path

#: What nginx reads on the edge; of these the public ones.
EDGE_FILES = ("edge-ca.crt", "edge-ca.crl", "web.pem", "edge.pem")
EDGE_PUBLIC = ("edge-ca.crt", "edge-ca.crl")


def carry_directory(edge: Path) -> Path:
    """Return where the files for the edge lie below the directory of its authority."""
    return edge / "carry"


def prepared(edge: Path) -> dict[str, str] | None:
    """Return the files for the edge by name, ``None`` if they are not all there."""
    there = carry_directory(edge)
    if not all((there / name).exists() for name in EDGE_FILES):
        return None
    return {name: (there / name).read_text("ascii") for name in EDGE_FILES}
