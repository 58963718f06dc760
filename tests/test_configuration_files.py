"""Broken ini and tenant files, and key files that do not fit: words for an operator, no trace."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from medportal.cli import main

ROOT = Path(__file__).resolve().parents[1]
SECRET = "hunter2hunter2"
INI = """[app:main]
use = egg:medportal
medportal.production = false
medportal.tenants = hospital laboratory
medportal.tenants_dir = %(here)s/tenants
medportal.state_dir = %(here)s/state
medportal.variable.exchange_port = 4000
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
