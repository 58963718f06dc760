"""Sign-ins a second through the portal, and what argon2 takes of them: one JSON line an engine.

Run as ``python -m bench.sign_ins``. One process, called as a server calls it (WSGI, no network
and no TLS), with the hash parameters of the demonstration's tenant file; one thread, then two.
On SQLite, and on PostgreSQL where its programs are installed. Also how long a wrong password
takes for a number that is known and for one that is not, by turns: the ratios should be near 1.
"""

import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import date
from itertools import count
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from webtest import TestApp

from bench import postgres
from medportal.config import make_app
from medportal.core.clock import utcnow
from medportal.identity.credentials import set_password
from medportal.identity.people import Profile, register_person
from medportal.ops.institution import create_keys
from medportal.settings import Settings, parse_settings
from medportal.tenancy.registry import Database
from medportal.tenancy.schema import migrate

ROOT = Path(__file__).resolve().parents[1]
PASSWORD = "quiet rivers carry small boats"
PEOPLE = 8
#: Sign-ins of each thread, after one that is not counted.
SIGN_INS = 30
PAIRS = 40
HOST = "hospital.localhost:8443"
_addresses = count(1)


def number_of(person: int) -> str:
    return f"{20_000_000 + person}"


class Portal:
    """A portal with some people, on a database of its own."""

    def __init__(self, directory: Path, url: str) -> None:
        text = (ROOT / "tenants" / "hospital.toml").read_text("utf-8")
        text = text.replace("sqlite:///{state}/hospital/portal.sqlite", url)
        (directory / "hospital.toml").write_text(text, "utf-8")
        raw = {
            "medportal.production": "false",
            "medportal.tenants": "hospital",
            "medportal.tenants_dir": str(directory),
            "medportal.state_dir": str(directory / "state"),
            "medportal.variable.exchange_port": "4000",
            "medportal.variable.mail_port": "2525",
            "medportal.variable.hospital_port": "8443",
            "medportal.variable.laboratory_port": "8444",
        }
        self.raw = raw
        self.settings = settings = parse_settings(raw)
        self.tenant = settings.tenant("hospital")
        create_keys(settings, self.tenant, utcnow())
        self._register(settings)
        self.app = make_app(raw)

    def _register(self, settings: Settings) -> None:
        database = Database(self.tenant)
        migrate(database.unchecked())
        with database.writer() as session, session.begin():
            for person in range(PEOPLE):
                profile = Profile(f"Person {person}", date(1980, 2, 3), "female", language="en")
                person_id = register_person(
                    session,
                    scheme=self.tenant.identifiers.scheme,
                    number=number_of(person),
                    profile=profile,
                    role="patient",
                    by=None,
                    now=utcnow(),
                ).person_id
                session.flush()
                set_password(session, person_id, self.tenant.passwords, PASSWORD, utcnow())
        database.dispose()

    def browser(self) -> TestApp:
        """Return a browser on a network of its own, with the sign-in page open."""
        at = next(_addresses)
        environ = {
            "HTTP_HOST": HOST,
            "wsgi.url_scheme": "https",
            "SERVER_PORT": "8443",
            "REMOTE_ADDR": f"10.{at >> 16 & 255}.{at >> 8 & 255}.{at & 255}",
        }
        return TestApp(self.app, extra_environ=environ)

    def sign_in(self, number: str, password: str) -> tuple[float, float, int]:
        """Send the sign-in form of a new browser; return its seconds, those of them that this
        thread computed, and the status.
        """
        form = self.browser().get("/sign-in").forms["form"]
        form["number"], form["password"] = number, password
        began, computed = time.perf_counter(), time.thread_time()
        answer = form.submit(expect_errors=True)
        took = time.perf_counter() - began, time.thread_time() - computed
        return *took, answer.status_int


def per_second(portal: Portal, threads: int) -> tuple[float, float]:
    """Return sign-ins a second (pages and forms, all of it) and the median seconds of a form."""
    taken: list[float] = []
    problems: list[int] = []

    def run(first: int) -> None:
        for turn in range(SIGN_INS):
            seconds, _computed, status = portal.sign_in(
                number_of((first + turn) % PEOPLE), PASSWORD
            )
            taken.append(seconds)
            if status != 303:
                problems.append(status)

    workers = [threading.Thread(target=run, args=(first,)) for first in range(threads)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if problems:
        raise SystemExit(f"sign-ins were refused: {sorted(set(problems))}")
    return len(taken) / (time.perf_counter() - began), statistics.median(taken)


@contextmanager
def argon2_timed() -> Iterator[list[float]]:
    """Give the list of the seconds that each comparison takes, wherever it is made."""
    taken: list[float] = []
    real = PasswordHasher.verify

    def verify(self: PasswordHasher, *given: Any) -> Any:
        began = time.perf_counter()
        try:
            return real(self, *given)
        finally:
            taken.append(time.perf_counter() - began)

    PasswordHasher.verify = verify  # type: ignore[method-assign]
    try:
        yield taken
    finally:
        PasswordHasher.verify = real  # type: ignore[method-assign]


def known_to_unknown(portal: Portal) -> dict[str, float]:
    """Return how much longer a wrong password takes for a known number than for an unknown one.

    In time, which also depends on what else the machine does, and in time computed.
    """
    known, unknown = [], []
    for turn in range(PAIRS):
        known.append(portal.sign_in(number_of(turn % PEOPLE), "a wrong one"))
        unknown.append(portal.sign_in(f"{90_000_000 + turn}", "a wrong one"))
    return {name: _ratio(known, unknown, at) for at, name in enumerate(("time", "computed"))}


def _ratio(
    these: list[tuple[float, float, int]], those: list[tuple[float, float, int]], at: int
) -> float:
    medians = [statistics.median(one[at] for one in several) for several in (these, those)]
    return round(medians[0] / medians[1], 3)


def bench(engine: str, url: str, directory: Path) -> dict[str, Any]:
    portal = Portal(directory, url)
    portal.sign_in(number_of(0), PASSWORD)
    policy = portal.tenant.passwords
    with argon2_timed() as compared:
        one, form = per_second(portal, 1)
    argon2 = statistics.median(compared)
    two, _form = per_second(portal, 2)
    return {
        "bench": "sign_ins",
        "engine": engine,
        "argon2": [policy.time_cost, policy.memory_kib, policy.parallelism],
        "per_second": {"1 thread": round(one, 1), "2 threads": round(two, 1)},
        "milliseconds": {"form": round(form * 1000, 1), "argon2": round(argon2 * 1000, 1)},
        "argon2_share": round(argon2 / form, 2),
        "known_to_unknown": known_to_unknown(portal),
    }


@contextmanager
def databases(directory: Path) -> Iterator[dict[str, str]]:
    """Give the addresses of empty databases by engine."""
    found = postgres.programs()
    with postgres.server(found) if found else nullcontext("") as url:
        yield {
            "sqlite": f"sqlite:///{directory}/portal.sqlite",
            **({"postgresql": url} if url else {}),
        }


def main() -> None:
    with tempfile.TemporaryDirectory() as name, databases(Path(name)) as urls:
        for engine, url in urls.items():
            directory = Path(name) / engine
            directory.mkdir()
            print(json.dumps(bench(engine, url, directory)), flush=True)


if __name__ == "__main__":
    main()
