"""What jobs does about certificates: renew what is due, let authorities retire, warn admins.

Renewing needs the authority's key and the passphrases of the groups concerned; where the key is
kept elsewhere, admins are warned in time, and ``medportal pki`` says what to run.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from medportal.audit.events import Action, Event
from medportal.core.permissions import Permission
from medportal.identity.models import Account, AccountStatus, RoleGrant
from medportal.identity.notices import notify
from medportal.identity.powers import roles_with
from medportal.keys import TenantKeys
from medportal.mail.kinds import MailKind
from medportal.ops import edges
from medportal.pki import ca, rollover
from medportal.pki.errors import KeyFileUnfit
from medportal.pki.expiry import State, stage_at
from medportal.pki.files import PRIVATE, write_file
from medportal.pki.layout import load_profiles
from medportal.pki.profiles import Group, Purpose
from medportal.pki.standing import LIST, Standing, edge_standings, is_ca_here, standings
from medportal.settings import Settings
from medportal.tenancy.tenant import Tenant

#: A list is good for days, not for years: what is said of it a month before its end is noise.
LIST_WARN_DAYS = 7
_WARNED = ".warned.json"


@dataclass(frozen=True, slots=True)
class Renewed:
    """What was certified anew, by the institution's authority or by the edge's own."""

    purpose: Purpose
    serial: int
    is_edge: bool = False


def issued(renewed: Renewed, actor: str, now: datetime) -> Event:
    """Return what the audit log is told of a certificate."""
    return Event.create(
        Action.CERTIFICATE_ISSUED,
        now=now,
        actor=actor,
        details={
            "purpose": str(renewed.purpose),
            "serial": f"{renewed.serial:040x}",
            **({"authority": "edge"} if renewed.is_edge else {}),
        },
    )


def _keys(settings: Settings, tenant: Tenant) -> TenantKeys:
    groups = (Group.CA, *dict.fromkeys(p.group for p in load_profiles().purposes.values()))
    return TenantKeys(tenant, settings.home(tenant.id), groups, settings.secrets(tenant.id))


def renew_due(settings: Settings, tenant: Tenant, now: datetime) -> list[Renewed]:
    """Certify anew what is due, if the authority's key is here; return what was.

    Also what a former authority certified. A purpose whose passphrase is on another host is that
    host's to renew.
    """
    keys = _keys(settings, tenant)
    directory, held = keys.places.pki, keys.passphrases
    if Group.CA not in held or not is_ca_here(directory):
        return []
    due = {info.purpose for info in ca.due_for_renewal(directory, now)}
    due |= set(rollover.certified_by_former(directory))
    done = []
    for purpose in sorted(due):
        group = load_profiles()[purpose].group
        if group not in held:
            continue
        leaf = ca.issue(
            directory,
            purpose,
            dns_names=tenant.hostnames if purpose is Purpose.WEB else (),
            ca_passphrase=held[Group.CA],
            group_passphrase=held[group],
            now=now,
        )
        done.append(Renewed(purpose, leaf.serial_number))
    return done


def renew_edge_due(
    settings: Settings, tenant: Tenant, now: datetime
) -> tuple[list[Renewed], list[str]]:
    """Renew what is due between edge and portal, and lay ready what the edge fetches.

    Return both: what was renewed, and the names of files that are new.
    """
    keys = _keys(settings, tenant)
    done = [
        Renewed(purpose, serial, is_edge=True) for purpose, serial in edges.renew_edge(keys, now)
    ]
    return done, edges.prepare(keys)


def retire_former(settings: Settings, tenant: Tenant, now: datetime) -> int:
    """Let a former authority go whose time is over; return how many went.

    One under which a key is still in use waits, and the page of certificates says so.
    """
    keys = _keys(settings, tenant)
    try:
        return len(
            rollover.retire(keys.places.pki, ca_passphrase=keys.passphrases.get(Group.CA), now=now)
        )
    except KeyFileUnfit:
        return 0


# Warnings


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be told now: the days left (0: it has ended), and what is then remembered."""

    days: int
    told: dict[str, int]


def warning_due(directory: Path, now: datetime, edge: Path | None = None) -> Due | None:
    """Return the warning that is due, ``None`` if everything was said.

    ``edge`` is the key directory of the authority between edge and portal.
    """
    told = _told(directory)
    between = edge_standings(edge, now) if edge is not None else []
    found = {
        each.name: days
        for each in [*standings(directory, now), *between]
        if (days := _stage(each, now)) is not None
    }
    new = [days for name, days in found.items() if days < told.get(name, 1000)]
    if not new:
        return None
    # Of what was renewed or replaced nothing needs to be remembered.
    return Due(min(new), found)


def _stage(each: Standing, now: datetime) -> int | None:
    stage = stage_at(each.not_after, now)
    if stage is None or each.state in (State.REVOKED, State.RETIRING):
        return None
    if each.what == LIST and stage.days > LIST_WARN_DAYS:
        return None
    return stage.days


def warn_admins(session: Session, tenant: Tenant, due: Due, now: datetime) -> int:
    """Post the mails of a warning, in the caller's transaction; return how many."""
    people = admins(session, tenant)
    for person_id in people:
        if due.days > 0:
            notify(session, person_id, MailKind.CERTIFICATE_ENDS, now, count=due.days)
        else:
            notify(session, person_id, MailKind.CERTIFICATE_ENDED, now)
    return len(people)


def remember_warning(directory: Path, due: Due) -> None:
    """Remember what was told, after the commit: what dies in between tells twice, not never."""
    write_file(directory / _WARNED, json.dumps(due.told, sort_keys=True).encode(), PRIVATE)


def admins(session: Session, tenant: Tenant) -> list[str]:
    """Return whose accounts are active and may manage the institution's settings."""
    roles = roles_with(tenant, Permission.SETTINGS_MANAGE)
    query = (
        select(RoleGrant.person_id)
        .join(Account, Account.person_id == RoleGrant.person_id)
        .where(RoleGrant.role.in_(roles), Account.status == AccountStatus.ACTIVE)
    )
    return sorted(set(session.scalars(query)))


def _told(directory: Path) -> dict[str, int]:
    path = directory / _WARNED
    if not path.exists():
        return {}
    try:
        said = json.loads(path.read_text("utf-8"))
    except ValueError:
        # Half a file cannot be (it is replaced in one step); a foreign one is said again.
        return {}
    return {str(name): int(days) for name, days in said.items()}
