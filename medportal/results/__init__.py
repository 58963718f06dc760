"""Results that reach somebody: what is new, who noted it, what waits too long.

Holds: which results wait for somebody and in what order (:mod:`service`), who is told by mail
and when (:mod:`telling`), results that were held back for a person to decide about
(:mod:`held`), and the pages of all three. What is noted when a record is filed is
:mod:`medportal.records.news`.
May import: records and everything below.
Never does: write the meaning of a value where a thief of the database could read it: how
urgent a result is lies sealed under the patient's key; tell anybody of a result that they may
not open; show what is in a result that was held back.
Invariants: what cannot be opened counts as critical; one person notes a result for all who look
after the patient; whatever a person decides about a result that was held back, intake checks it
again in full.
Start reading at :mod:`medportal.results.service`.
"""

from typing import Any


def includeme(config: Any) -> None:
    """Register the views, and the count that the navigation shows."""
    config.add_request_method(
        "medportal.results.service.shown_count", "results_waiting", reify=True
    )
    config.scan("medportal.results.views")
