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
    ("sign-in-second", "/sign-in/second", ROOT, None),
    ("sign-in-passkey-options", "/sign-in/passkey/options", ROOT, None),
    ("sign-in-passkey", "/sign-in/passkey", ROOT, None),
    ("sign-out", "/sign-out", ROOT, None),
    ("activate", "/activate", ROOT, None),
    ("reset", "/reset", ROOT, None),
    ("reset-finish", "/reset/finish", ROOT, None),
    ("email-confirm", "/email/confirm", ROOT, None),
    ("account", "/account", ROOT, None),
    ("account-confirm", "/account/confirm", ROOT, None),
    ("account-email", "/account/email", ROOT, None),
    ("account-email-cancel", "/account/email/cancel", ROOT, None),
    ("account-language", "/account/language", ROOT, None),
    ("account-sessions", "/account/sessions", ROOT, None),
    ("account-session-end", "/account/sessions/{session}/end", ROOT, None),
    ("account-sessions-end", "/account/sessions/end-others", ROOT, None),
    ("account-second-factor", "/account/second-factor", ROOT, None),
    ("account-totp", "/account/second-factor/app", ROOT, None),
    ("account-totp-remove", "/account/second-factor/app/remove", ROOT, None),
    ("account-recovery-codes", "/account/second-factor/recovery-codes", ROOT, None),
    ("account-passkey-options", "/account/passkeys/options", ROOT, None),
    ("account-passkey-add", "/account/passkeys/add", ROOT, None),
    ("account-passkey-name", "/account/passkeys/{passkey}/name", ROOT, None),
    ("account-passkey-remove", "/account/passkeys/{passkey}/remove", ROOT, None),
    ("account-password", "/account/password", ROOT, None),
    ("patients", "/patients", PATIENTS, None),
    ("patient-find", "/patients/find", PATIENTS, None),
    ("patient-register", "/patients/register", PATIENTS, None),
    ("patient", "/patients/{patient}", PATIENTS, "/{patient}"),
    ("care", "/patients/{patient}/care", PATIENTS, "/{patient}"),
    ("care-end", "/patients/{patient}/care/{assignment}/end", PATIENTS, "/{patient}"),
    ("patient-code", "/patients/{patient}/code", PATIENTS, "/{patient}"),
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
    ("people", "/people", ROOT, None),
    ("person-find", "/people/find", ROOT, None),
    ("person-register", "/people/register", ROOT, None),
    ("person", "/people/{person}", ROOT, None),
    ("person-role-add", "/people/{person}/roles/add", ROOT, None),
    ("person-role-remove", "/people/{person}/roles/remove", ROOT, None),
    ("person-suspend", "/people/{person}/suspend", ROOT, None),
    ("person-reinstate", "/people/{person}/reinstate", ROOT, None),
    ("person-code", "/people/{person}/code", ROOT, None),
    ("person-link", "/people/{person}/link", ROOT, None),
    ("person-email", "/people/{person}/email", ROOT, None),
    ("person-email-cancel", "/people/{person}/email/cancel", ROOT, None),
    ("person-second-factor", "/people/{person}/second-factor", ROOT, None),
    ("person-sessions-end", "/people/{person}/sessions/end", ROOT, None),
    ("approvals", "/approvals", ROOT, None),
    ("approval", "/approvals/{approval}", ROOT, None),
    ("institution-settings", "/settings", ROOT, None),
    ("institution-settings-edit", "/settings/edit", ROOT, None),
    ("institution-settings-version", "/settings/versions/{version}", ROOT, None),
    ("demonstration-mail", "/demonstration/mail", ROOT, None),
    ("demonstration-mail-one", "/demonstration/mail/{mail}", ROOT, None),
)


def includeme(config: Any) -> None:
    """Add every route."""
    for name, path, factory, traverse in ROUTES:
        config.add_route(name, path, factory=factory, traverse=traverse)
