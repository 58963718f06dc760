"""The two institutions, set up by the product's own commands."""

import json
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.orm import Session

from faults import servers, world
from faults.processes import Process, run_command
from medportal.keys import TenantKeys
from medportal.settings import Settings, parse_settings
from medportal.tenancy.registry import Database

LABORATORY, HOSPITAL = "laboratory", "hospital"
HOUSES = (LABORATORY, HOSPITAL)
EXCHANGE_PORT = 4000
#: The laboratory's first sender; the others have a number: ``sender-2``.
SENDER = "sender"
_INI = """
[app:main]
use = egg:medportal
medportal.production = false
medportal.tenants = {house}
medportal.tenants_dir = {tenants}
medportal.state_dir = {state}
medportal.variable.mail_port = 9
medportal.variable.hospital_port = 8443
medportal.variable.laboratory_port = 8444
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an institution stands on: ``sqlite`` or ``postgresql``; ``sql`` or ``mongodb``."""

    database: str
    documents: str = "sql"


@dataclass
class House:
    """One institution: its directories, what it runs, and what reads its database."""

    id: str
    wanted: Wanted
    ini: Path
    logs: Path
    disks: dict[str, Path]
    processes: dict[str, Process] = field(default_factory=dict)
    url: str = ""
    _settings: Settings | None = None
    _keys: TenantKeys | None = None
    _database: Database | None = None

    @property
    def settings(self) -> Settings:
        """Return the settings that its processes have."""
        if self._settings is None:
            lines = (line.partition(" = ") for line in self.ini.read_text("utf-8").splitlines())
            self._settings = parse_settings({name: value for name, sep, value in lines if sep})
        return self._settings

    @property
    def keys(self) -> TenantKeys:
        """Return its keys, as the portal has them."""
        if self._keys is None:
            tenant = self.settings.tenant(self.id)
            self._keys = TenantKeys(tenant, self.settings.home(self.id))
        return self._keys

    @property
    def database(self) -> Database:
        """Return its database."""
        if self._database is None:
            self._database = Database(self.settings.tenant(self.id))
        return self._database

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Give a session that reads, of one moment."""
        with self.database.reader() as session, session.begin():
            yield session

    def words(self, *words: str) -> list[str]:
        """Return a command of the product for this institution."""
        program = [sys.executable, "-m", "medportal.cli", "--config", str(self.ini), "--json"]
        return [*program, *words]

    def command(self, *words: str) -> str:
        """Run a command of the product. Raises ``WorldError``."""
        return run_command(self.id, self.words(*words), self.logs / f"commands-{self.id}.log")

    def service(self, name: str, *words: str) -> Process:
        """Prepare a process of the product."""
        process = Process(name, self.id, self.words(*words), self.logs / f"{name}.log")
        self.processes[name] = process
        return process


def build(wanted: dict[str, Wanted], mebibytes: int, senders: int = 1) -> dict[str, House]:
    """Make both institutions, their disks of that size and their servers; start no service yet.

    More than one sender of the laboratory needs PostgreSQL there.
    """
    with ThreadPoolExecutor(len(HOUSES)) as pool:
        made = pool.map(lambda name: _found(name, wanted[name], mebibytes), HOUSES)
        houses = {house.id: house for house in made}
        said = dict(zip(HOUSES, pool.map(lambda name: _export(houses[name]), HOUSES), strict=True))
        list(pool.map(lambda name: _trust(houses[name], _other(name), said[_other(name)]), HOUSES))
    laboratory, hospital = houses[LABORATORY], houses[HOSPITAL]
    for name in [SENDER, *(f"{SENDER}-{number}" for number in range(2, senders + 1))]:
        laboratory.service(name, "transfer", "send", LABORATORY)
    hospital.service("receiver", "transfer", "receive", HOSPITAL)
    for house in HOUSES:
        houses[house].service(f"jobs-{house}", "jobs", house)
    return houses


def _descriptor(house: str) -> Path:
    return world.PLACE / f"{house}.descriptor"


def _other(house: str) -> str:
    return HOSPITAL if house == LABORATORY else LABORATORY


def _export(house: House) -> str:
    """Write an institution's descriptor; return the fingerprint that its people read out."""
    said = house.command("partner", "export", house.id, "--output", str(_descriptor(house.id)))
    return str(json.loads(said)["fingerprint"])


def _trust(house: House, other: str, fingerprint: str) -> None:
    file = str(_descriptor(other))
    house.command("partner", "trust", house.id, file, "--fingerprint", fingerprint)


def _found(name: str, wanted: Wanted, mebibytes: int) -> House:
    place, logs, state = world.PLACE / name, world.PLACE / "logs", world.PLACE / "state"
    logs.mkdir(exist_ok=True)
    disks = {"state": state / name}
    world.disk(state / name, mebibytes)
    house = House(name, wanted, place / "portal.ini", logs, disks)
    house.url = f"sqlite:///{state / name / 'portal.sqlite'}"
    if wanted.database == "postgresql":
        disks["database"] = world.PLACE / "databases" / name
        world.disk(disks["database"], mebibytes, servers.owner_of_database())
        process, house.url = servers.postgres(name, disks["database"], logs)
        house.processes[process.name] = process
    said = 'store = "sql"'
    if wanted.documents == "mongodb":
        disks["documents"] = world.PLACE / "documents" / name
        world.disk(disks["documents"], mebibytes)
        process, said = servers.documents(name, disks["documents"], logs)
        house.processes[process.name] = process
    (place / "tenants").mkdir(parents=True)
    (place / "tenants" / f"{name}.toml").write_text(_file(house, said), "utf-8")
    ini = _INI.format(house=name, tenants=place / "tenants", state=state)
    house.ini.write_text(ini, "utf-8")
    house.command("keys", "init", name)
    house.command("tenant", "migrate", name)
    return house


def _file(house: House, documents: str) -> str:
    """Return the demonstration's file of an institution with other places in it."""
    text = (world.ROOT / "tenants" / f"{house.id}.toml").read_text("utf-8")
    text = text.replace(f"sqlite:///{{state}}/{house.id}/portal.sqlite", house.url)
    text = text.replace('[documents]\nstore = "sql"', f"[documents]\n{documents}")
    port = EXCHANGE_PORT
    # The laboratory calls the middle, where the run stands in the way.
    near, far = world.CABLES[LABORATORY].middle, world.CABLES[HOSPITAL].end
    text = re.sub(r'(?m)^endpoint = ".*"$', f'endpoint = "{near}:{port}"', text)
    return re.sub(r'(?m)^listen = ".*"$', f'listen = "{far}:{port}"', text)
