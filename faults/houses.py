"""The institutions, set up by the product's own commands."""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sqlalchemy.orm import Session

from faults import clocked, servers, world
from faults.cast import HOSPITAL, LABORATORY, Role, Way
from faults.processes import Process, run_command
from medportal.core.clock import utcnow
from medportal.keys import TenantKeys
from medportal.settings import Settings, parse_settings
from medportal.tenancy.registry import Database

#: Where a receiver listens at its institution's own address.
EXCHANGE_PORT = 4000
_AT_ONCE = 2
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
    #: Where it stands by how much its clock is ahead, if that can go wrong.
    clock: Path | None = None
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

    def now(self) -> datetime:
        """Return the time by its own clock."""
        return utcnow() + clocked.read(self.clock) if self.clock else utcnow()

    def _words(self, *words: str) -> list[str]:
        program = [sys.executable, "-m", "medportal.cli", "--config", str(self.ini), "--json"]
        return [*program, *words]

    def command(self, *words: str) -> str:
        """Run a command of the product, by the right time. Raises ``WorldError``."""
        log = self.logs / f"commands-{self.id}.log"
        return run_command(self.id, self._words(*words), log)

    def service(self, role: Role, *words: str, number: int = 1) -> None:
        """Prepare a process of the product."""
        process = Process(role, self.id, self._words(*words, self.id), self.logs, number)
        if self.clock:
            process.environment["PYTHONPATH"] = f"{self.clock.parent}:{world.ROOT}"
        self.processes[process.name] = process


def build(
    wanted: Mapping[str, Wanted],
    ways: Sequence[Way],
    mebibytes: int,
    senders: int = 1,
    *,
    with_clocks: bool = False,
) -> dict[str, House]:
    """Make institutions that trust each other, with servers and disks of that size.

    No service is started yet. More than one sender of a laboratory needs PostgreSQL there. With
    clocks, each institution's can be set.
    """
    called = {way.receiver for way in ways}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        made = pool.map(lambda name: _found(name, wanted[name], mebibytes, called), wanted)
        houses = {house.id: house for house in made}
        said = dict(zip(houses, pool.map(_export, houses.values()), strict=True))
        list(pool.map(lambda house: _trust(house, ways, said), houses.values()))
    for house in houses.values():
        if with_clocks:
            house.clock = clocked.set_up(world.PLACE / house.id / "clock")
        _serve(house, ways, 1 if house.id == HOSPITAL else senders)
    return houses


def _serve(house: House, ways: Sequence[Way], senders: int) -> None:
    """Prepare what an institution runs for the ways that begin or end there."""
    if any(way.sender == house.id for way in ways):
        for number in range(1, senders + 1):
            house.service(Role.SENDER, "transfer", "send", number=number)
    if any(way.receiver == house.id for way in ways):
        house.service(Role.RECEIVER, "transfer", "receive")
    house.service(Role.JOBS, "jobs")


def _descriptor(house: str) -> Path:
    return world.PLACE / f"{house}.descriptor"


def _export(house: House) -> str:
    """Write an institution's descriptor; return the fingerprint that its people read out."""
    said = house.command("partner", "export", house.id, "--output", str(_descriptor(house.id)))
    return str(json.loads(said)["fingerprint"])


def _trust(house: House, ways: Sequence[Way], said: Mapping[str, str]) -> None:
    """Let an institution trust everybody to whom it sends, or who sends to it."""
    pairs = [{way.sender, way.receiver} for way in ways]
    for other in sorted({*said} - {house.id}):
        if {house.id, other} in pairs:
            file = str(_descriptor(other))
            house.command("partner", "trust", house.id, file, "--fingerprint", said[other])


def _found(name: str, wanted: Wanted, mebibytes: int, called: Set[str]) -> House:
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
    (place / "tenants" / f"{name}.toml").write_text(_file(house, said, name in called), "utf-8")
    ini = _INI.format(house=name, tenants=place / "tenants", state=state)
    house.ini.write_text(ini, "utf-8")
    house.command("keys", "init", name)
    house.command("tenant", "migrate", name)
    return house


def _file(house: House, documents: str, is_called: bool) -> str:
    """Return the demonstration's file of an institution of its kind with other places in it."""
    kind = HOSPITAL if house.id == HOSPITAL else LABORATORY
    text = (world.ROOT / "tenants" / f"{kind}.toml").read_text("utf-8")
    text = text.replace(f'\nid = "{kind}"\n', f'\nid = "{house.id}"\n')
    text = text.replace(f"sqlite:///{{state}}/{kind}/portal.sqlite", house.url)
    text = text.replace('[documents]\nstore = "sql"', f"[documents]\n{documents}")
    text = re.sub(r"(?ms)^\[exchange\]\n.*?\n\n", "", text)
    if not is_called:
        return text
    cable = world.CABLES[house.id]
    # The others call the middle, where the run stands in the way.
    (near, port), far = cable.door, f"{cable.end}:{EXCHANGE_PORT}"
    return f'{text}\n[exchange]\nendpoint = "{near}:{port}"\nlisten = "{far}"\n'
