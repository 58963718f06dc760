"""Broken ini and tenant files, and key files that do not fit: words for an operator, no trace."""

import json
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from medportal.cli import main
from medportal.ops.tenants import NO_MAIL
from medportal.tenancy.loader import load_tenants
from medportal.tenancy.tenant import OWN_ROLES, Tenant

ROOT = Path(__file__).resolve().parents[1]
SECRET = "hunter2hunter2"
INI = """[app:main]
use = egg:medportal
medportal.production = false
medportal.tenants = hospital laboratory
medportal.tenants_dir = %(here)s/tenants
medportal.state_dir = %(here)s/state
medportal.variable.exchange_port = 4000
medportal.variable.mail_port = 2525
medportal.variable.hospital_port = 8443
medportal.variable.laboratory_port = 8444
"""


class Place:
    """A directory with an ini file and two tenant files."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.ini = home / "portal.ini"
        self.ini.write_text(INI)
        shutil.copytree(ROOT / "tenants", home / "tenants")

    @property
    def hospital(self) -> Path:
        return self.home / "tenants" / "hospital.toml"

    def change(self, pattern: str, replacement: str) -> None:
        """Change a line of the hospital's file."""
        text = self.hospital.read_text("utf-8")
        changed = re.sub(pattern, replacement, text, count=1, flags=re.MULTILINE)
        assert changed != text
        self.hospital.write_text(changed, "utf-8")

    def run(self, *words: str) -> tuple[int, list[str]]:
        """Run the command line here; return the exit status and the lines of its complaint."""
        said = CliRunner().invoke(main, ["--config", str(self.ini), *words])
        assert SECRET not in said.output
        # Anything else would be shown as a trace.
        assert isinstance(said.exception, SystemExit | None), said.exc_info
        return said.exit_code, said.stderr.splitlines()

    def problems(self, *words: str) -> list[str]:
        """Return what a command that fails complains of, one problem a line."""
        status, lines = self.run(*(words or ("tenant", "check")))
        assert status == 2, lines
        assert all(line.startswith("medportal: ") for line in lines)
        return [line.removeprefix("medportal: ") for line in lines]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_files_in_order_pass(place: Place) -> None:
    assert place.run("tenant", "check") == (0, [])


def test_the_program_itself_says_so_too(place: Place) -> None:
    place.hospital.write_text(f'[database]\nurl = "postgresql://portal:{SECRET}@db/x')
    command = [sys.executable, "-m", "medportal.cli", "--config", str(place.ini), "tenant", "check"]
    said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert said.returncode == 2
    assert said.stdout == ""
    (line,) = said.stderr.splitlines()
    assert line.startswith("medportal: hospital.toml: is not TOML: Unterminated string")


def test_every_problem_of_every_file_is_told_at_once(place: Place) -> None:
    place.change("^url = .*", f'url = "mysql://portal:{SECRET}@db/x"')
    place.change("^digits = 8", f'digits = "{SECRET}"')
    place.change("^kind = .*", f'kind = "{SECRET}"')
    laboratory = place.home / "tenants" / "laboratory.toml"
    laboratory.write_text(f'id = "laboratory"\n{SECRET[:7]} = "{SECRET}"\n')
    found = place.problems()
    for file, key in (
        ("hospital", "database.url: must be a sqlite:/// or postgresql://"),
        ("hospital", "identifiers.digits: must be a whole number"),
        ("hospital", "kind: must be hospital or laboratory"),
        ("laboratory", "kind: must be hospital or laboratory"),
        ("laboratory", "hostnames: must name at least one host"),
        ("laboratory", "roles: must define at least one role"),
        ("laboratory", "hunter2: is not a known key"),
    ):
        assert any(line.startswith(f"{file}.toml: {key}") for line in found), key


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (f'[database]\nurl = "postgresql://portal:{SECRET}@db/x'.encode(), "is not TOML: Unterm"),
        (f"{SECRET}".encode(), "is not TOML: Expected"),
        (f'a = "{SECRET}\n"'.encode(), "is not TOML: Illegal character"),
        (b'a = "\xff"', "is not TOML: not a text in UTF-8"),
        (b"\x00" * 99, "is not TOML: Invalid statement"),
        (b"a = " + b"[" * 5000 + b"]" * 5000, "is not TOML: nested too deeply"),
    ],
)
def test_what_is_no_toml_is_named_with_the_place(place: Place, content: bytes, words: str) -> None:
    place.hospital.write_bytes(content)
    (problem,) = place.problems()
    assert problem.startswith(f"hospital.toml: {words}")


def test_a_tenant_file_that_is_not_there_or_no_file(place: Place) -> None:
    place.hospital.unlink()
    assert place.problems() == ["hospital.toml: there is no such tenant file"]
    place.hospital.mkdir()
    assert place.problems() == ["hospital.toml: cannot be read: Is a directory"]


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://portal:{SECRET}@[::1/x",
        f"postgresql://portal@db:{SECRET}/x",
        f"postgresql://portal:{SECRET}/x@db:{SECRET}/x",
        f"http://portal:{SECRET}@db/x",
        SECRET,
        "",
    ],
)
def test_an_address_of_a_database_that_is_none(place: Place, url: str) -> None:
    place.change("^url = .*", f'url = "{url}"')
    (problem,) = place.problems()
    assert problem.startswith("hospital.toml: database.url: must be a sqlite:///")


@pytest.mark.parametrize(
    "brace", ["{nope}", "{", "{state.__class__}", "{state[0]}", "{0}", "{state!r:>{state}}"]
)
def test_variables_that_are_none_are_refused(place: Place, brace: str) -> None:
    place.change("^url = .*", f'url = "postgresql://portal:{SECRET}{brace}@db/x"')
    (problem,) = place.problems()
    assert problem.startswith("hospital.toml: database.url: holds an unknown {variable}")


def test_a_database_that_does_not_answer_is_told_without_its_password(place: Place) -> None:
    place.change("^url = .*", f'url = "postgresql://portal:{SECRET}@127.0.0.1:1/x"')
    (problem,) = place.problems("tenant", "migrate", "hospital")
    assert problem.startswith("a database cannot be reached or used (OperationalError)")
    assert "database.url" in problem


def test_a_database_where_nothing_can_be_written(place: Place) -> None:
    place.change("^url = .*", 'url = "sqlite:////dev/null/portal.sqlite"')
    (problem,) = place.problems("tenant", "migrate", "hospital")
    assert "/dev/null" in problem
    assert "directory" in problem


@pytest.mark.parametrize(
    ("ini", "words"),
    [
        (b"", "No section 'main'"),
        (b"nonsense", "no section headers"),
        (b"\xff\xfe\x00", "is not a text in UTF-8"),
        (INI.replace("use = egg:medportal\n", "").encode(), "No loader given"),
        (INI.replace("egg:medportal", "egg:nowhere").encode(), "names a package that is not"),
        (INI.replace("%(here)s/state", f"%({SECRET})s").encode(), "state_dir: a variable is unkn"),
        (INI.replace("%(here)s/state", f"%{SECRET}").encode(), "state_dir: a variable is unknown"),
        ((INI + INI).encode(), "section 'app:main' already exists"),
        ((INI + "medportal.tenants = x\n").encode(), "medportal.tenants' in section 'app:main' al"),
        (INI.replace("= false", f"= {SECRET}").encode(), "medportal.production must be true or"),
        (INI.replace("%(here)s/tenants", "").encode(), "ini: medportal.tenants_dir is missing"),
        (INI.replace("hospital lab", "nowhere lab").encode(), "nowhere.toml: there is no such"),
        (INI.replace("= false", "= true").encode(), "a production portal serves no demonstration"),
    ],
)
def test_broken_ini_files(place: Place, ini: bytes, words: str) -> None:
    place.ini.write_bytes(ini)
    problems = place.problems()
    assert any(words in problem for problem in problems), problems


def test_several_problems_of_an_ini_file_are_told_at_once(place: Place) -> None:
    place.ini.write_text("[app:main]\nuse = egg:medportal\nmedportal.hsts = perhaps\n")
    problems = place.problems()
    for key in ("tenants", "tenants_dir", "state_dir"):
        assert f"ini: medportal.{key} is missing" in problems
    assert "ini: medportal.hsts must be true or false" in problems


# --- What a tenant file names ---


def row_of(place: Place) -> dict[str, str]:
    """Return what the check says about the hospital."""
    command = ["--config", str(place.ini), "--json", "tenant", "check"]
    said = CliRunner().invoke(main, command)
    assert said.exit_code == 0, said.output
    found: dict[str, str]
    (found,) = [
        row for row in map(json.loads, said.stdout.splitlines()) if row["tenant"] == "hospital"
    ]
    assert found["state"] == "ok"
    assert SECRET not in said.output
    return found


def mail_of(place: Place) -> str:
    """Return what the check says about the hospital's mail."""
    return row_of(place)["mail"]


def _certificate() -> bytes:
    """Return any certificate that can be an authority."""
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mail authority")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = (
        builder.not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, None)
    )
    return made.public_bytes(Encoding.PEM)


@pytest.fixture
def mailing(place: Place) -> Path:
    """Give the directory in which the hospital's file has its mail password and authority."""
    home = place.home / "state" / "demo" / "mail"
    home.mkdir(parents=True)
    (home / "password").write_text(SECRET)
    (home / "password").chmod(0o600)
    (home / "certificate.pem").write_bytes(_certificate())
    return home


def test_what_mail_needs_is_there(place: Place, mailing: Path) -> None:
    assert mail_of(place) == "ok"
    place.change("^(ca_file|user|password_file) = .*", "")
    place.change("^(ca_file|user|password_file) = .*", "")
    place.change("^(ca_file|user|password_file) = .*", "")
    shutil.rmtree(mailing)
    assert mail_of(place) == "ok", "a server that asks for no password, under a public authority"


def test_where_mail_goes_is_said_and_not_who_signs_in_there(place: Place, mailing: Path) -> None:
    place.change("^user = .*", f'user = "{SECRET}"')
    assert row_of(place)["mail_server"] == "127.0.0.1:2525 (STARTTLS)"
    place.change(r"^\[mail\]$", "[mail]\nimplicit_tls = true")
    assert row_of(place)["mail_server"] == "127.0.0.1:2525 (TLS)"


def test_a_mail_password_that_is_not_there(place: Place, mailing: Path) -> None:
    (mailing / "password").unlink()
    assert mail_of(place) == f"password_file: {mailing / 'password'} is missing"
    (mailing / "password").mkdir()
    assert mail_of(place) == f"password_file: {mailing / 'password'} cannot be read"


def test_a_mail_password_that_others_can_read(place: Place, mailing: Path) -> None:
    (mailing / "password").chmod(0o644)
    problem = f"password_file: {mailing / 'password'} is open to others: chmod 600 it"
    assert mail_of(place) == problem


def test_a_mail_password_that_is_empty(place: Place, mailing: Path) -> None:
    (mailing / "password").write_text("\n")
    assert mail_of(place) == f"password_file: {mailing / 'password'} is empty"


def test_an_authority_that_is_not_there_or_none(place: Place, mailing: Path) -> None:
    certificate = mailing / "certificate.pem"
    certificate.write_text(SECRET)
    assert mail_of(place) == f"ca_file: {certificate} holds no certificate"
    certificate.unlink()
    (mailing / "password").unlink()
    assert mail_of(place) == (
        f"password_file: {mailing / 'password'} is missing; "
        f"ca_file: {certificate}: No such file or directory"
    )


def test_an_institution_that_sends_no_mail_is_told_what_that_means(place: Place) -> None:
    place.change(r"^\[mail\](\n\w+ = .*)+", "")
    assert mail_of(place) == NO_MAIL
    assert row_of(place)["mail_server"] == ""
    assert "a code from the desk alone" in NO_MAIL


# --- The template of a production file ---


@pytest.fixture
def production(tmp_path: Path) -> Path:
    """Give production.ini as an operator fills it in, with the template as its only file."""
    text = (ROOT / "production.ini").read_text("utf-8")
    for key, value in {
        "medportal.tenants": "hospital",
        "medportal.tenants_dir": "%(here)s/tenants",
        "medportal.state_dir": "%(here)s/state",
    }.items():
        text, changed = re.subn(rf"^{key} =.*$", f"{key} = {value}", text, flags=re.MULTILINE)
        assert changed == 1
    (tmp_path / "tenants").mkdir()
    shutil.copy(ROOT / "deploy" / "tenant-template.toml", tmp_path / "tenants" / "hospital.toml")
    ini = tmp_path / "production.ini"
    ini.write_text(text, "utf-8")
    return ini


def template(directory: Path, name: str = "hospital") -> Tenant:
    variables = {"state": str(directory), "exchange_port": "4000"}
    return load_tenants(directory, [name], variables)[name]


def test_the_template_is_a_file_that_a_production_portal_takes(production: Path) -> None:
    said = CliRunner().invoke(main, ["--config", str(production), "--json", "tenant", "check"])
    assert said.exit_code == 0, said.output
    row = json.loads(said.stdout)
    assert (row["tenant"], row["state"]) == ("hospital", "ok")
    assert row["mail"].endswith("mail.password is missing")


def test_the_template_asks_all_staff_for_a_second_proof(production: Path) -> None:
    tenant = template(production.parent / "tenants")
    staff = [role for role in tenant.roles.values() if role.id not in OWN_ROLES]
    assert all(role.second_factor for role in staff)
    assert tenant.second_factor.remote_staff
    assert not tenant.staff_networks
    assert tenant.mail is not None
    for role in staff:
        assert role.sessions is not None
        assert role.sessions.idle < tenant.sessions.idle
        if role.clinical:
            assert role.sessions.idle <= min(r.sessions.idle for r in staff if r.sessions)


def test_the_roles_of_the_template_may_what_they_may_in_the_demonstration(
    production: Path,
) -> None:
    variables = {"state": "x", "exchange_port": "4000", "mail_port": "2525"}
    variables |= {"hospital_port": "8443", "laboratory_port": "8444"}
    shown = load_tenants(ROOT / "tenants", ["hospital", "laboratory"], variables)
    own = template(production.parent / "tenants")
    assert {role.id: role.grants for role in own.roles.values()} == {
        role.id: role.grants for role in shown["hospital"].roles.values()
    }
    # And the part for a laboratory, which stands there as a comment.
    path = production.parent / "tenants" / "hospital.toml"
    _before, _line, commented = path.read_text("utf-8").partition("# [roles.responsible]\n")
    role = "".join(line.removeprefix("#").lstrip() for line in commented.splitlines(keepends=True))
    with path.open("a", encoding="utf-8") as file:
        file.write(f"[roles.responsible]\n{role}")
    added = template(production.parent / "tenants").roles["responsible"]
    assert added.grants == shown["laboratory"].roles["responsible"].grants
    assert added.second_factor


def test_every_key_of_a_tenant_file_stands_in_the_template(production: Path) -> None:
    """With those that are comments: an operator shall not have to read the code."""
    text = (production.parent / "tenants" / "hospital.toml").read_text("utf-8")
    for name in ("hospital", "laboratory"):
        shown = (ROOT / "tenants" / f"{name}.toml").read_text("utf-8")
        for key in re.findall(r"^\[?(\w+)", shown, re.MULTILINE):
            assert re.search(rf"^(# )?[\[`]?{key}\b|`{key} = ", text, re.MULTILINE), key


# --- Key files ---


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the hospital's keys once."""
    home = tmp_path_factory.mktemp("keys")
    made = Place(home)
    assert made.run("keys", "init", "hospital")[0] == 0
    return home / "state"


@pytest.fixture
def keyed(place: Place, keys: Path) -> Place:
    shutil.copytree(keys, place.home / "state")
    return place


def export(place: Place) -> tuple[str, ...]:
    return ("partner", "export", "hospital", "--output", str(place.home / "descriptor"))


def secret(place: Place, group: str = "exchange") -> Path:
    return place.home / "state" / "hospital" / "secrets" / f"{group}.passphrase"


def test_with_its_passphrases_a_command_works(keyed: Place) -> None:
    assert keyed.run(*export(keyed)) == (0, [])


def test_a_missing_passphrase_file_is_named_with_what_to_do(keyed: Place) -> None:
    secret(keyed).unlink()
    (problem,) = keyed.problems(*export(keyed))
    assert "exchange" in problem
    assert "passphrase" in problem


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o666])
def test_a_passphrase_file_that_others_can_read_is_refused(keyed: Place, mode: int) -> None:
    secret(keyed).chmod(mode)
    (problem,) = keyed.problems(*export(keyed))
    assert problem == f"{secret(keyed)} is open to others: chmod 600 it"


def test_a_wrong_passphrase_is_told_with_the_file_that_it_does_not_open(keyed: Place) -> None:
    secret(keyed).write_text(SECRET * 2)
    (problem,) = keyed.problems(*export(keyed))
    assert "passphrase" in problem
    assert re.search(r"keys/\w+\.pem", problem)


@pytest.mark.parametrize("content", ["", "short\n"])
def test_a_passphrase_that_is_none(keyed: Place, content: str) -> None:
    secret(keyed).write_text(content)
    (problem,) = keyed.problems(*export(keyed))
    assert problem == f"{secret(keyed)} holds fewer than 16 characters"


def test_a_key_file_that_others_can_read_is_refused(keyed: Place) -> None:
    path = keyed.home / "state" / "hospital" / "pki" / "keys" / "exchange.pem"
    path.chmod(0o644)
    (problem,) = keyed.problems(*export(keyed))
    assert problem == f"{path} is open to others: chmod 600 it"


def test_a_key_file_that_is_none(keyed: Place) -> None:
    path = keyed.home / "state" / "hospital" / "pki" / "keys" / "exchange.pem"
    path.write_bytes(SECRET.encode() * 9)
    (problem,) = keyed.problems(*export(keyed))
    assert str(path) in problem
