"""``medportal tenant add``: a second laboratory by commands alone, and its first record."""

import configparser
import json
import shutil
import signal
import socket
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import Commands, Done
from exchange_helpers import exchange
from free_ports import free_port
from installation import ROOT, TENANTS, Installation, install
from sqlalchemy import func, select

from medportal.audit.events import Action
from medportal.audit.models import AuditEvent
from medportal.config import make_app
from medportal.core.clock import utcnow
from medportal.core.ids import new_id
from medportal.delivery.models import Inbox, Outbox
from medportal.identity.codes import check_code
from medportal.identity.people import Profile
from medportal.ops import ini_file
from medportal.patients import partner_index
from medportal.patients.service import Registration, build_partner_index, register_patient
from medportal.records import catalogue as catalogues
from medportal.records.content import (
    ClinicalRecord,
    Observation,
    Quantity,
    RecordKind,
    RecordStatus,
    Sex,
    Subject,
)
from medportal.records.models import Record
from medportal.records.service import category_of, sign_and_file
from medportal.settings import Settings, parse_settings
from medportal.tenancy.registry import TenantRegistry
from medportal.vault.stores import documents_of

NAME = "northlab"
ADMIN = "51234567"
PATIENT = "52345678"
WORDS = {
    "--name-en": "North Laboratory",
    "--name-pt": "Laboratório do Norte",
    "--host": "northlab.localhost",
    "--admin-number": ADMIN,
    "--admin-name": "Dália Reis",
    "--admin-birth-date": "1975-06-01",
}


def add(name: str = NAME, *more: str, **other: str) -> tuple[str, ...]:
    """Return the words of the command; ``other`` are options with another value, or none."""
    said = WORDS | {f"--{key.replace('_', '-')}": value for key, value in other.items()}
    return ("tenant", "add", name, *(word for pair in said.items() for word in pair), *more)


@pytest.fixture
def site(tmp_path: Path, key_material: Path, new_database: Any) -> Iterator[Commands]:
    """Give two institutions of this test's own, whose portal listens too."""
    urls = {tenant: new_database("sqlite") for tenant in TENANTS}
    made = Commands(install(tmp_path / "p", key_material, urls), tmp_path)
    made.begin(patients=0)
    yield made
    made.close()


def with_portal(site: Commands, *listeners: str) -> None:
    """Let the ini file start a portal, as production's does."""
    lines = ["[server:main]", "paste.server_runner = medportal.server:run", "# where", "listen ="]
    lines += [f"    {each}" for each in listeners]
    text = site.ini.read_text("utf-8") + "\n".join(["", *lines, "workers = 2", ""])
    site.ini.write_text(text, "utf-8")


def file_of(site: Commands, name: str = NAME) -> Path:
    return Path(site.portal.raw["medportal.tenants_dir"]) / f"{name}.toml"


def state(site: Commands) -> Path:
    return site.portal.settings.state


def all_files(site: Commands) -> dict[Path, bytes]:
    """Return what there is of files that say what an installation is."""
    texts = [site.ini, *file_of(site).parent.iterdir()]
    return {path: path.read_bytes() for path in texts} | dict.fromkeys(state(site).iterdir(), b"")


def settings_of(site: Commands) -> tuple[Settings, dict[str, str]]:
    """Return what the ini file says now."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(site.ini, "utf-8")
    section = parser["app:main"]
    raw = {key: value for key, value in section.items() if key.startswith("medportal.")}
    return parse_settings(raw), raw


# From nothing to a record that arrives


@pytest.fixture
def three(site: Commands) -> Iterator[Installation]:
    """Add a laboratory and let it and the hospital trust each other, by commands alone."""
    site.rows(*add())
    for name, other in ((NAME, "hospital"), ("hospital", NAME)):
        file = site.directory / f"{name}.partner"
        (row,) = site.rows("partner", "export", name, "--output", file)
        site.rows("partner", "trust", other, file, "--fingerprint", row["fingerprint"])
    settings, raw = settings_of(site)
    made = Installation(settings, raw, make_app(raw), TenantRegistry(settings.tenants))
    yield made
    made.registry.dispose()
    made.app.registry["tenants"].dispose()


def register(made: Installation, tenant: str, destinations: tuple[str, ...] = ()) -> str:
    """Register the same person as a patient, as the desk does."""
    keys = made.keys(tenant)
    with made.session(tenant) as session, session.begin():
        for key in keys.partner_keys():
            build = partner_index.begin_index(session, key)
            build_partner_index(session, build, "")
            partner_index.finish_index(session, build, utcnow())
        profile = Profile("Rui Norte", date(1970, 1, 2), "male", language="pt")
        who = Registration("citizen-card", PATIENT, profile, destinations=destinations)
        patient_id, _new = register_patient(
            session, who, keys.partner_keys(), by=None, now=utcnow()
        )
    return str(patient_id)


def write(made: Installation, patient_id: str) -> None:
    """Sign a record with the keys that the command made, and queue it for the hospital."""
    keys, catalogue = made.keys(NAME), catalogues.load()
    rate = catalogue.by_key("heart-rate")
    values = (Observation(rate.code, Quantity(Decimal("72"), rate.unit)),)
    record = ClinicalRecord(
        id=new_id(),
        version=1,
        kind=RecordKind.CLINICAL,
        category=category_of(RecordKind.CLINICAL, values, catalogue),
        status=RecordStatus.FINAL,
        effective=date(2026, 1, 2),
        author_id=new_id(),
        author_name="Rita Norte",
        institution=NAME,
        observations=values,
    )
    subject = Subject("citizen-card", PATIENT, "Rui Norte", date(1970, 1, 2), Sex.MALE)
    with made.session(NAME) as session, session.begin():
        queued = sign_and_file(
            session,
            documents_of(keys.tenant, session),
            keys,
            record,
            subject,
            catalogue,
            patient_id=patient_id,
            destinations=("hospital",),
            now=utcnow(),
        )
    assert [partner for partner, _tid in queued] == ["hospital"]


def test_a_second_laboratory_delivers_its_first_record(three: Installation) -> None:
    """Through the real sender and receiver, over TLS, beside the two that were there."""
    there = register(three, "hospital")
    write(three, register(three, NAME, ("hospital",)))
    exchange(three, NAME, "hospital")
    with three.session(NAME) as session:
        (row,) = session.execute(select(Outbox.state, Outbox.receipt_sequence)).all()
        assert row == ("delivered", 1)
    with three.session("hospital") as session:
        found = session.execute(select(Record.origin, Record.patient_id)).all()
        assert (NAME, there) in [tuple(each) for each in found]
        assert session.scalars(select(Inbox.sender)).all() == [NAME]
    with three.session("laboratory") as session:
        assert session.scalar(select(func.count()).select_from(Outbox)) == 0


def test_its_pages_are_served_under_its_own_name(three: Installation) -> None:
    page = three.browser(NAME).get("/sign-in")
    assert "North Laboratory" in page.text
    assert three.browser("hospital").get("/sign-in").html.title.text.endswith("Riverside Hospital")


# What the command makes and says


def test_what_is_made_and_said(site: Commands) -> None:
    port = free_port()
    with_portal(site, "hospital = 127.0.0.1:1", "laboratory = 127.0.0.1:2")
    before = site.ini.read_text("utf-8")
    done = site.run(*add(listen=f"127.0.0.1:{port}"))
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    settings, _raw = settings_of(site)
    tenant = settings.tenant(NAME)
    assert tenant.address == f"https://northlab.localhost:{port}"
    assert not tenant.demonstration and tenant.time_zone == "Europe/Lisbon"
    assert "institution:partners:manage" in {str(p) for p in tenant.roles["admin"].grants}
    database = TenantRegistry(settings.tenants).database(NAME)
    with database.reader() as session:
        check_code(session, tenant, ADMIN, row["activation_code"], utcnow())
        actions = session.scalars(select(AuditEvent.action)).all()
    database.dispose()
    assert {Action.TENANT_CREATED, Action.ACCOUNT_CREATED} <= set(actions)
    (exported,) = site.rows("partner", "export", NAME, "--output", site.directory / "x")
    assert exported["fingerprint"] == row["fingerprint"]
    for words in ("partner export", "partner trust", "transfer send", "telephone"):
        assert words in done.stderr
    # Two lines are new in the ini file, and none is lost.
    after = site.ini.read_text("utf-8").splitlines()
    assert f"    {NAME} = 127.0.0.1:{port}" in after
    assert len(after) == len(before.splitlines()) + 1
    assert [line for line in before.splitlines() if line not in after] == [
        "medportal.tenants = hospital laboratory"
    ]


def test_a_preview_makes_nothing(site: Commands) -> None:
    before = all_files(site)
    rows = site.rows(*add(NAME, "--dry-run"))
    assert any(str(file_of(site)) in row["would"] for row in rows)
    assert all_files(site) == before


def test_a_hospital_too(site: Commands) -> None:
    site.rows(*add("eastside", kind="hospital", host="eastside.localhost"))
    settings, _raw = settings_of(site)
    assert {"doctor", "nurse", "porter"} <= set(settings.tenant("eastside").roles)


@pytest.mark.parametrize("kind", ["hospital", "laboratory"])
def test_roles_are_those_of_the_file_to_copy(kind: str, tmp_path: Path) -> None:
    """What a laboratory leaves out of it is about beds and notes for those who move people."""
    import tomllib

    text = (ROOT / "deploy" / "tenant-template.toml").read_text("utf-8")
    template = tomllib.loads(text)["roles"]
    made = tomllib.loads(
        (ROOT / f"medportal/ops/tenant_files/{kind}_roles.toml").read_text("utf-8")
    )
    if kind == "hospital":
        assert made["roles"] == template
        return
    assert set(made["roles"]) == {
        *("admin", "privacy_officer", "auditor", "responsible", "patient", "representative")
    }
    for name, role in made["roles"].items():
        if name == "responsible":
            commented = (
                text[text.index("# [roles.responsible]") :].replace("# ", "").replace("#", "")
            )
            assert role == tomllib.loads(commented)["roles"]["responsible"]
            continue
        left_out = set(template[name]["permissions"]) - set(role["permissions"])
        assert {one.split(":")[1] for one in left_out} <= {"bed", "transport", "alerts", "vitals"}
        assert set(role["permissions"]) <= set(template[name]["permissions"])


# What is refused, before anything is made


REFUSED = [
    ("malformed", ("North_Lab",), {}, "lower-case"),
    ("a path", ("../north",), {}, "lower-case"),
    ("too long", ("n" * 40,), {}, "lower-case"),
    ("there already", ("hospital",), {}, "served here already"),
    (
        "a host that is taken",
        (NAME,),
        {"host": "hospital.localhost"},
        "belongs to hospital already",
    ),
    ("a host that is none", (NAME,), {"host": "no host"}, "hostnames"),
    ("a name with a line break", (NAME,), {"name_en": "A\nB"}, "letters, digits and signs"),
    ("another address", (NAME,), {"address": "https://elsewhere.example"}, "one of the hostnames"),
    ("no time zone", (NAME,), {"time_zone": "Mars/Base"}, "time zone"),
    ("a number that is none", (NAME,), {"admin_number": "12"}, "8 digits"),
    ("a date that is none", (NAME,), {"admin_birth_date": "yesterday"}, "YYYY-MM-DD"),
    ("a listener that is none", (NAME,), {"listen": "nowhere"}, "address:port"),
    ("a port that is none", (NAME,), {"listen": "127.0.0.1:99999"}, "address:port"),
    ("an endpoint that is none", (NAME,), {"endpoint": "north"}, "address:port"),
    ("half an exchange", (NAME,), {"exchange_listen": "127.0.0.1:4001"}, "goes with --endpoint"),
    ("a database that is none", (NAME,), {"database": "mysql://x"}, "database.url"),
]


@pytest.mark.parametrize(
    ("words", "other", "told"),
    [case[1:] for case in REFUSED],
    ids=[case[0].replace(" ", "-") for case in REFUSED],
)
def test_refused(site: Commands, words: tuple[str, ...], other: dict[str, str], told: str) -> None:
    before = all_files(site)
    assert told in site.refusal(*add(*words, **other))
    assert all_files(site) == before


def test_a_port_that_is_taken_is_refused(site: Commands) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        with_portal(site, "hospital = 127.0.0.1:1", "laboratory = 127.0.0.1:2")
        before = all_files(site)
        assert "in use" in site.refusal(*add(listen=f"127.0.0.1:{port}"))
    assert "taken by the portal of hospital" in site.refusal(*add(listen="127.0.0.1:1"))
    told = site.refusal(*add(endpoint="north.example:4000", exchange_listen="127.0.0.1:4000"))
    assert "taken by the receiver of hospital" in told
    assert "say where the portal" in told
    assert all_files(site) == before


def test_what_belongs_to_something_else_is_not_touched(site: Commands) -> None:
    (state(site) / NAME).mkdir()
    assert "belongs to something else" in site.refusal(*add())
    (state(site) / NAME).rmdir()
    file_of(site).write_text("id = 'x'\n", "utf-8")
    assert "says something else" in site.refusal(*add())
    assert file_of(site).read_text("utf-8") == "id = 'x'\n"


def test_an_ini_file_of_another_form_is_not_touched(site: Commands) -> None:
    text = site.ini.read_text("utf-8") + "\n[other]\nmedportal.tenants = hospital\n"
    site.ini.write_text(text, "utf-8")
    assert "nothing can be added to it" in site.refusal(*add())
    assert not file_of(site).exists()


# Stopped half way


STOPS = ["is written", "keys and certificates", "database is current", "is registered"]


@pytest.mark.parametrize("word", STOPS, ids=["file", "keys", "database", "admin"])
def test_whoever_is_killed_goes_on(site: Commands, word: str) -> None:
    status, said = site.stopped_at(word, signal.SIGKILL, *add())
    assert status == -signal.SIGKILL, said
    # What is half made is not served: nothing else notices it.
    settings, _raw = settings_of(site)
    assert set(settings.tenants) == set(TENANTS)
    assert site.run("tenant", "check").returncode == 0
    if word == STOPS[-1]:
        assert "says something else" in site.refusal(*add(name_en="Another"))
    (row,) = site.rows(*add())
    settings, _raw = settings_of(site)
    assert set(settings.tenants) == {*TENANTS, NAME}
    database = TenantRegistry(settings.tenants).database(NAME)
    with database.reader() as session:
        check_code(session, settings.tenant(NAME), ADMIN, row["activation_code"], utcnow())
        actions = session.scalars(select(AuditEvent.action)).all()
    database.dispose()
    assert actions.count(Action.TENANT_CREATED) == actions.count(Action.ACCOUNT_CREATED) == 1
    assert "served here already" in site.refusal(*add())


def test_the_first_institution_of_a_machine(site: Commands, tmp_path: Path) -> None:
    """An ini file that serves nobody yet is the one that production.ini is."""
    home = tmp_path / "empty"
    (home / "tenants").mkdir(parents=True)
    first = Commands(site.portal, home)
    lines = ["[app:main]", "use = egg:medportal", "medportal.production = true"]
    lines += ["medportal.tenants =", f"medportal.tenants_dir = {home / 'tenants'}"]
    lines += [f"medportal.state_dir = {home / 'state'}", ""]
    first.ini.write_text("\n".join(lines), "utf-8")
    done: Done = first.run(*add())
    assert done.returncode == 0, done.stderr
    assert "medportal.tenants = northlab\n" in first.ini.read_text("utf-8")
    assert first.rows("tenant", "check")[0]["tenant"] == NAME
    shutil.rmtree(home)


# The ini file


def test_lines_are_added_where_people_write_them() -> None:
    text = "[app:main]\nmedportal.tenants = a b  \n# why\nx = 1\n"
    assert ini_file.with_tenant(text, "c") == text.replace("a b  ", "a b c")
    assert ini_file.with_tenant("medportal.tenants =\n", "c") == "medportal.tenants = c\n"
    assert not ini_file.has_listeners(text)
    server = (
        "[server:main]\n# where\nlisten =\n    a = :1\n    b = :2\nworkers = 1\n[x]\nlisten =\n"
    )
    assert ini_file.with_listener(server, "c", "h:3") == server.replace(
        "b = :2\n", "b = :2\n    c = h:3\n"
    )
    assert ini_file.with_listener("[server:main]\nlisten =", "c", "h:3").endswith("\n    c = h:3")


@pytest.mark.parametrize("text", ["", "x = 1\n", "medportal.tenants = a\nmedportal.tenants = b\n"])
def test_what_has_no_line_of_its_own_is_told(text: str) -> None:
    with pytest.raises(ini_file.NoPlace):
        ini_file.with_tenant(text, "c")
    with pytest.raises(ini_file.NoPlace):
        ini_file.with_listener(text, "c", "h:3")


def test_the_ini_files_of_the_project_take_one_more() -> None:
    for name in ("production.ini", "development.ini"):
        text = (ROOT / name).read_text("utf-8")
        more = ini_file.with_listener(ini_file.with_tenant(text, "c"), "c", "h:3")
        assert "    c = h:3\n" in more
