"""Draws the tables of :mod:`medportal.transfer.protocol` for ``docs/protocol.md`` (PURE but for
:func:`main`).

``python -m medportal.transfer.drawing docs/protocol.md`` brings the drawn part up to date; a test
fails while it is not.
"""

import sys
from collections import defaultdict
from dataclasses import fields
from pathlib import Path

from medportal.transfer import protocol
from medportal.transfer.messages import CLASSES
from medportal.transfer.protocol import Table

BEGIN = "<!-- drawn from the tables: begin -->"
END = "<!-- drawn from the tables: end -->"
_SAYS = {
    "S": ("HELLO", "PROOF", "QUERY", "DELIVER"),
    "R": (
        *("CHALLENGE", "READY", "OFFER", "UNKNOWN", "BUSY"),
        *("STALE_OFFER", "RECEIPT", "CHANGED"),
    ),
}


def first_line(doc: str | None) -> str:
    """Return the first line of a docstring, without its full stop."""
    return (doc or "").strip().splitlines()[0].rstrip(".")


def messages_table() -> str:
    """Return all messages: who says them, their fields, what they mean."""
    rows = ["| message | from | fields | means |", "|---|---|---|---|"]
    for name, kind in CLASSES.items():
        who = next((side for side, names in _SAYS.items() if name in names), "either")
        names = ", ".join(field.name for field in fields(kind))
        rows.append(f"| `{name}` | {who} | {names} | {first_line(kind.__doc__)} |")
    return "\n".join(rows)


def rows_table(table: Table, where: str) -> str:
    """Return a table as it is: from, on what, what is done, to where."""
    rows = [f"| {where} | on | does | then |", "|---|---|---|---|"]
    for (state, kind), rule in table.items():
        then = ", ".join(rule.to)
        rows.append(f"| {state} | `{kind}` | {first_line(rule.act.__doc__)} | {then} |")
    return "\n".join(rows)


def diagram(table: Table, *, start: str) -> str:
    """Return a Mermaid state diagram; events that lead the same way share an arrow."""
    arrows: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (state, kind), rule in table.items():
        for then in rule.to:
            if then != state:
                arrows[state, then].append(kind)
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {_id(start)}"]
    lines += [
        f"    {_id(state)} --> {_id(then)}: {', '.join(kinds)}"
        for (state, then), kinds in arrows.items()
    ]
    return "\n".join([*lines, "```"])


def _id(state: str) -> str:
    return state.replace("-", "_")


def drawn() -> str:
    """Return everything that is drawn, in Markdown."""
    parts = ["## Messages", messages_table()]
    for title, table, records in (
        ("The sender", protocol.SENDER, protocol.SENDER_RECORD),
        ("The receiver", protocol.RECEIVER, protocol.RECEIVER_RECORD),
    ):
        parts += [f"## {title}", diagram(table, start="start"), rows_table(table, "phase")]
        parts += [
            f"### One record at {title[0].lower()}{title[1:]}",
            diagram(records, start="none"),
            rows_table(records, "stage"),
        ]
    return "\n\n".join(parts)


def redrawn(document: str) -> str:
    """Return a document with its drawn part brought up to date."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{drawn()}\n\n{END}{after}"


def main(path: Path) -> None:
    """Bring the drawn part of a file up to date."""
    path.write_text(redrawn(path.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
