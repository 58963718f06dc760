"""Who comes back with a restore is let in when somebody has confirmed it."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from backup_helpers import Elsewhere, Site
from click.testing import CliRunner, Result
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from medportal.admin.service import suspend
from medportal.audit.events import Action, Event
from medportal.audit.models import AuditEvent
from medportal.backup.making import Made
from medportal.cli import main
from medportal.core.clock import utcnow
from medportal.core.reasons import Reason
from medportal.identity import credentials
from medportal.identity.accounts import Why
from medportal.identity.email_change import apply_due, cancel_all, request_by_staff
from medportal.identity.models import (
    Account,
    AccountStatus,
    Activation,
    PersonIdentifier,
    RoleGrant,
)
from medportal.ops.review import NotToBeChanged, Whom, confirm, hold, in_review


@pytest.fixture(scope="module")
def made(site: Site) -> Made:
    """Give a backup after which the doctor is suspended and the nurse leaves the role."""
    done = site.create()
    hospital = site.settings.tenant("hospital")
    why = Why(site.portal.person("admin"), Reason.OTHER)
    with site.portal.session("hospital") as session, session.begin():
        suspend(session, hospital, site.portal.person("doctor"), why, utcnow())
        nurse = site.portal.person("nurse")
        session.execute(delete(RoleGrant).where(RoleGrant.person_id == nurse))
    return done


def statuses(place: Elsewhere) -> dict[str, str]:
    with Session(place.engine) as session:
        rows = session.execute(select(Account.person_id, Account.status))
        return {row.person_id: row.status for row in rows}


def of(place: Elsewhere, *roles: str) -> list[str]:
    found = statuses(place)
    return [found[place.site.portal.person(role)] for role in roles]


def test_staff_is_held_and_admins_and_patients_are_not(site: Site, made: Made) -> None:
    place = site.elsewhere()
    done = place.restore(made)
    assert of(place, "doctor", "nurse", "auditor") == ["held"] * 3
    assert of(place, "admin", "patient") == ["active"] * 2
    found = statuses(place)
    assert done.held == sum(status == "held" for status in found.values())
    with Session(place.engine) as session:
        told = [
            event
            for row in session.scalars(select(AuditEvent.body))
            if (event := Event.from_bytes(row)).action is Action.ACCOUNT_SUSPENDED
            and event.reasons == (str(Reason.RESTORED_FROM_BACKUP),)
        ]
    assert {event.object for event in told} == {who for who in found if found[who] == "held"}


@pytest.mark.parametrize(
    ("whom", "expected"),
    [
        (Whom.EVERYBODY, ["held", "held", "active"]),
        (Whom.NOBODY, ["active", "active", "active"]),
    ],
)
def test_more_or_nobody_may_be_held(
    site: Site, made: Made, whom: Whom, expected: list[str]
) -> None:
    place = site.elsewhere()
    place.restore(made, whom=whom)
    assert of(place, "doctor", "patient", "admin") == expected


def test_who_is_held_cannot_sign_in_until_confirmed(site: Site, made: Made) -> None:
    place = site.elsewhere()
    place.restore(made)
    doctor, scheme = site.portal.person("doctor"), place.tenant.identifiers.scheme
    with Session(place.engine) as session, session.begin():
        number = session.scalar(
            select(PersonIdentifier.value).where(PersonIdentifier.person_id == doctor)
        )
        assert number is not None
        before = credentials.credentials(session, scheme, number)
        confirm(session, [doctor], utcnow())
        after = credentials.credentials(session, scheme, number)
    assert before is not None and not before.active
    assert after is not None and after.active


def test_one_who_is_not_held_stops_all_of_a_confirmation(site: Site, made: Made) -> None:
    place = site.elsewhere()
    place.restore(made)
    doctor, admin = site.portal.person("doctor"), site.portal.person("admin")
    for other in (admin, "0" * 32, ""):
        with Session(place.engine) as session, pytest.raises(NotToBeChanged), session.begin():
            confirm(session, [doctor, other], utcnow())
    assert of(place, "doctor", "admin") == ["held", "active"]
    with Session(place.engine) as session, pytest.raises(NotToBeChanged), session.begin():
        hold(session, [admin, doctor], utcnow())
    assert of(place, "admin") == ["active"]


def test_an_admin_reinstates_or_suspends_who_is_held(site: Site, made: Made) -> None:
    from medportal.admin.service import reinstate

    place = site.elsewhere()
    place.restore(made)
    doctor, nurse = site.portal.person("doctor"), site.portal.person("nurse")
    why = Why(site.portal.person("admin"), Reason.OTHER)
    with Session(place.engine) as session, session.begin():
        suspend(session, place.tenant, doctor, why, utcnow())
        reinstate(session, nurse, why, utcnow())
    assert of(place, "doctor", "nurse") == ["suspended", "active"]
    with Session(place.engine) as session:
        assert doctor not in {each.person_id for each in in_review(session, place.tenant)}


def test_the_list_says_who_is_held_and_who_may_confirm(site: Site, made: Made) -> None:
    place = site.elsewhere()
    place.restore(made)
    with Session(place.engine) as session:
        found = in_review(session, place.tenant)
    assert [each.status for each in found] == sorted((e.status for e in found), reverse=True)
    shown = {each.person_id: each for each in found}
    assert shown[site.portal.person("doctor")].roles == ("doctor",)
    assert shown[site.portal.person("admin")].status == "active"
    assert site.portal.person("patient") not in shown


def test_who_was_suspended_before_the_backup_stays_so(site: Site, made: Made) -> None:
    doctor = site.portal.person("doctor")
    later = site.create()
    place = site.elsewhere()
    place.restore(later)
    assert statuses(place)[doctor] == AccountStatus.SUSPENDED
    with Session(place.engine) as session, session.begin(), pytest.raises(NotToBeChanged):
        confirm(session, [doctor], utcnow())


def run(ini: Path, *words: Any) -> Result:
    return CliRunner().invoke(main, ["--config", str(ini), "--json", *map(str, words)])


def test_an_operator_confirms_on_the_command_line(site: Site, made: Made) -> None:
    place = site.elsewhere()
    ini = place.settings.state.parent / "there.ini"
    lines = ["[app:main]", "use = egg:medportal", *(f"{k} = {v}" for k, v in place.raw.items())]
    ini.write_text("\n".join(lines) + "\n", "utf-8")
    opens = ("--key", site.away, "--passphrase-file", site.passphrase)
    files = ("--data", made.data, "--keys", made.keys, "--ledger-of-the-backup")
    restored = run(ini, "backup", "restore", "hospital", *files, *opens)
    assert restored.exit_code == 0, restored.output
    held = json.loads(restored.stdout)["held_for_review"]
    assert held > 2 and "tenant review hospital" in restored.stderr
    listed = [
        json.loads(line) for line in run(ini, "tenant", "review", "hospital").stdout.splitlines()
    ]
    assert sum(row["status"] == "held" for row in listed) == held
    doctor, admin = site.portal.person("doctor"), site.portal.person("admin")
    done = run(ini, "tenant", "review", "hospital", "--confirm", doctor, "--hold", admin)
    assert done.exit_code == 0, done.output
    assert of(place, "doctor", "admin") == ["active", "held"]
    again = run(ini, "tenant", "review", "hospital", "--confirm", doctor)
    assert (again.exit_code, "nothing was changed" in again.stderr) == (2, True)


def ask_for_another_address(session: Session, site: Site, role: str) -> None:
    person = site.portal.person
    request_by_staff(
        session,
        person(role),
        f"{role}@elsewhere.example",
        person("ward_clerk"),
        person("auditor"),
        utcnow(),
        timedelta(days=3),
    )


@pytest.mark.parametrize("whom", [Whom.STAFF, Whom.NOBODY])
def test_what_waited_about_accounts_is_called_off_with_a_restore(site: Site, whom: Whom) -> None:
    """It may have been called off since the backup; nobody can object to it a second time."""
    with site.portal.session("hospital") as session, session.begin():
        for role in ("porter", "patient"):
            ask_for_another_address(session, site, role)
    made = site.create()
    with site.portal.session("hospital") as session, session.begin():
        kept = session.scalar(select(func.count()).select_from(Activation))
        for role in ("porter", "patient"):
            cancel_all(session, site.portal.person(role), utcnow())
    place = site.elsewhere()
    place.restore(made, whom=whom)
    with Session(place.engine) as session, session.begin():
        if whom is Whom.STAFF:
            confirm(session, [site.portal.person("porter")], utcnow())
        done = apply_due(session, utcnow() + timedelta(days=4))
        left = session.scalar(select(func.count()).select_from(Activation))
    assert (len(done), left) == ((0, 0) if whom is Whom.STAFF else (2, kept))


def test_what_waits_about_an_account_that_is_held_does_not_happen(site: Site, made: Made) -> None:
    place = site.elsewhere()
    place.restore(made)
    with Session(place.engine) as session, session.begin():
        ask_for_another_address(session, site, "patient")
        hold(session, [site.portal.person("patient")], utcnow())
        confirm(session, [site.portal.person("patient")], utcnow())
        assert apply_due(session, utcnow() + timedelta(days=4)) == []
