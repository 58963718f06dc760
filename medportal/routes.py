"""Every URL of the portal, in one table that can be searched.

``PATIENTS`` contexts walk Patients -> patient -> record with what ``traverse`` names.
"""

from typing import Any

ROOT = "medportal.access.resources.Root"
PATIENTS = "medportal.access.resources.Patients"

#: name, path, context factory, what traversal walks from there
ROUTES: tuple[tuple[str, str, str, str | None], ...] = (
    ("home", "/", ROOT, None),
    ("language", "/language", ROOT, None),
    ("help", "/help", ROOT, None),
    ("privacy", "/privacy", ROOT, None),
    ("accessibility", "/accessibility", ROOT, None),
    ("static", "/static/{fingerprint}/{name}", ROOT, None),
    ("theme", "/theme/{fingerprint}/{name}", ROOT, None),
    ("healthz", "/healthz", ROOT, None),
    ("sign-in", "/sign-in", ROOT, None),
    ("sign-out", "/sign-out", ROOT, None),
    ("activate", "/activate", ROOT, None),
    ("account", "/account", ROOT, None),
    ("account-password", "/account/password", ROOT, None),
    ("patients", "/patients", PATIENTS, None),
    ("patient-find", "/patients/find", PATIENTS, None),
    ("patient-register", "/patients/register", PATIENTS, None),
    ("patient", "/patients/{patient}", PATIENTS, "/{patient}"),
    ("care", "/patients/{patient}/care", PATIENTS, "/{patient}"),
    ("care-end", "/patients/{patient}/care/{assignment}/end", PATIENTS, "/{patient}"),
    ("record-new", "/patients/{patient}/records/new", PATIENTS, "/{patient}"),
    ("record", "/patients/{patient}/records/{record}", PATIENTS, "/{patient}/{record}"),
    (
        "record-delivery",
        "/patients/{patient}/records/{record}/delivery/{tid}",
        PATIENTS,
        "/{patient}/{record}",
    ),
    ("deliveries", "/deliveries", ROOT, None),
    ("audit-log", "/audit", ROOT, None),
)


def includeme(config: Any) -> None:
    """Add every route."""
    for name, path, factory, traverse in ROUTES:
        config.add_route(name, path, factory=factory, traverse=traverse)
