"""A patient's page over HTTPS, against a bare page of the same server: one JSON line an engine.

Run as ``python -m bench.patient_page [--patients [N ...]]``. It needs ``wrk`` (a Debian package),
which is what asks: 16 connections, two workers of the server. The page is the whole of it: session,
decisions, twenty records opened and checked, the audit event durable before the reply. The bare
page has one trivial query and one durable audit event (:mod:`bench.bare`). ``ratio`` is the one by
the other, in one run, by turns. With ``--patients``, the same page with so many patients of ten
records each in the database (1,000 and 100,000 if it has no number); ``growth`` is the time of the
largest by that of the smallest; ``growth_to_bare`` is the same in bare pages of its own minutes.
"""

import argparse
import json
import os
import re
import secrets
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import text

from bench.bare import PATH
from bench.sign_ins import HOST, PASSWORD, ROOT, Portal, databases
from medportal.access.care import assign
from medportal.access.models import CareKind
from medportal.core.categories import Category
from medportal.core.clock import utcnow
from medportal.core.ids import new_id
from medportal.identity.credentials import set_password
from medportal.identity.people import Profile, register_person
from medportal.keys import TenantKeys
from medportal.patients.service import Registration, register_patient
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
from medportal.records.service import sign_and_file
from medportal.tenancy.registry import Database
from medportal.vault.stores import documents_of

SCHEME, DOCTOR = "citizen-card", "30000000"
#: Patients whose pages are asked for, and their records; the others only lie there.
OPENED, RECORDS = 50, 20
#: Patients in the database where ``--patients`` has no number.
SIZES = [1_000, 100_000]
CONNECTIONS, SECONDS, ROUNDS = 16, 8, 3
OTHERS_RECORDS = 10
BATCH = 2000
VALUES = (("8310-5", "36.9", "Cel"), ("8867-4", "71", "/min"), ("29463-7", "71.5", "kg"))


def fill(portal: Portal, opened: int = OPENED) -> list[str]:
    """Add a doctor and the patients whose pages are asked for; return the patients' ids."""
    keys = TenantKeys(portal.tenant, portal.settings.home(portal.tenant.id))
    database, now = Database(portal.tenant), utcnow()
    with database.writer() as session, session.begin():
        doctor = register_person(
            session,
            scheme=SCHEME,
            number=DOCTOR,
            profile=Profile("Some Doctor", date(1980, 2, 3), "female", language="en"),
            role="doctor",
            by=None,
            now=now,
        ).person_id
        session.flush()
        set_password(session, doctor, portal.tenant.passwords, PASSWORD, now)
    found = [_patient(portal, keys, database, doctor, place) for place in range(opened)]
    database.dispose()
    return found


def _patient(portal: Portal, keys: TenantKeys, database: Database, doctor: str, place: int) -> str:
    now, number = utcnow(), f"{40_000_000 + place}"
    profile = Profile(f"Patient {place}", date(1970, 2, 3), "female", language="en")
    with database.writer() as session, session.begin():
        patient, _new = register_patient(
            session, Registration(SCHEME, number, profile), keys.partner_keys(), by=None, now=now
        )
        assign(
            session,
            patient_id=patient,
            staff_id=doctor,
            kind=CareKind.TREATING,
            assignable_roles=("doctor",),
            treating_roles=("doctor",),
            by=None,
            now=now,
        )
        subject = Subject(SCHEME, number, profile.name, profile.birth_date, Sex.FEMALE)
        for turn in range(RECORDS):
            sign_and_file(
                session,
                documents_of(portal.tenant, session),
                keys,
                _record(portal.tenant.id, doctor, turn),
                subject,
                catalogues.load(),
                patient_id=patient,
                destinations=(),
                now=now,
            )
    return patient


def _record(institution: str, doctor: str, turn: int) -> ClinicalRecord:
    return ClinicalRecord(
        id=new_id(),
        version=1,
        kind=RecordKind.MEDICAL,
        category=Category.CLINICAL_NOTE,
        status=RecordStatus.FINAL,
        effective=date(2026, 1, 1) - timedelta(days=turn),
        author_id=doctor,
        author_name="Some Doctor",
        institution=institution,
        observations=tuple(
            Observation(code, Quantity(Decimal(value), unit)) for code, value, unit in VALUES
        ),
        diagnosis="Well.",
    )


def crowd(portal: Portal, wanted: int, like: str) -> None:
    """Fill the tables up to so many patients, with rows like those of ``like``.

    Nobody opens them: their documents are random bytes of the usual length.
    """
    database = Database(portal.tenant)
    with database.engine.begin() as connection:
        names = {
            table: [column.name for column in _table(table).columns]
            for table in (
                "person",
                "patient",
                "patient_key",
                "record",
                "record_version",
                "document",
            )
        }
        have = connection.scalar(text("SELECT count(*) FROM patient")) or 0
        sample = _sample(connection, names, like)
    for first in range(have, wanted, BATCH):
        rows: dict[str, list[dict[str, Any]]] = {table: [] for table in names}
        for _ in range(first, min(first + BATCH, wanted)):
            _add_one(rows, sample)
        with database.engine.begin() as connection:
            for table in names:
                connection.execute(_table(table).insert(), rows[table])
    database.dispose()


def _table(name: str) -> Any:
    from medportal.models import Base

    return Base.metadata.tables[name]


def _sample(connection: Any, names: dict[str, list[str]], patient: str) -> dict[str, Any]:
    """Return one row of each table, as the models read it."""
    found = {}
    for table, key in (("person", "id"), ("patient", "person_id"), ("patient_key", "patient_id")):
        model = _table(table)
        row = connection.execute(model.select().where(model.c[key] == patient)).first()
        found[table] = dict(row._mapping)
    record = _table("record")
    row = connection.execute(record.select().where(record.c.patient_id == patient)).first()
    found["record"] = dict(row._mapping)
    version = _table("record_version")
    wanted = version.c.record_id == found["record"]["id"]
    found["record_version"] = dict(
        connection.execute(version.select().where(wanted)).first()._mapping
    )
    document = _table("document")
    wanted = document.c.id == found["record_version"]["document_id"]
    found["document"] = dict(connection.execute(document.select().where(wanted)).first()._mapping)
    return found


def _add_one(rows: dict[str, list[dict[str, Any]]], sample: dict[str, Any]) -> None:
    patient = new_id()
    rows["person"].append({**sample["person"], "id": patient})
    rows["patient"].append({**sample["patient"], "person_id": patient})
    rows["patient_key"].append({**sample["patient_key"], "patient_id": patient})
    length = len(sample["document"]["sealed"])
    for _ in range(OTHERS_RECORDS):
        record, document = new_id(), new_id()
        here = {"id": record, "origin_record_id": record, "patient_id": patient}
        rows["record"].append({**sample["record"], **here})
        rows["record_version"].append(
            {**sample["record_version"], "record_id": record, "document_id": document}
        )
        rows["document"].append(
            {**sample["document"], "id": document, "sealed": secrets.token_bytes(length)}
        )


@contextmanager
def served(portal: Portal, directory: Path, port: int) -> Iterator[int]:
    """Serve the portal and the bare page by two workers; give the number of their process."""
    ini = directory / "bench.ini"
    settings = "\n".join(f"{key} = {value}" for key, value in portal.raw.items())
    ini.write_text(
        f"[app:main]\npaste.app_factory = bench.bare:app_factory\n{settings}\n"
        "[server:main]\npaste.server_runner = medportal.server:run\n"
        f"listen = hospital = 127.0.0.1:{port}\nworkers = 2\n"
        "[loggers]\nkeys = root\n[handlers]\nkeys =\n[formatters]\nkeys =\n"
        "[logger_root]\nlevel = ERROR\nhandlers =\n",
        "utf-8",
    )
    quiet = "ignore:pkg_resources is deprecated:UserWarning"
    command = [sys.executable, "-W", quiet, "-m", "pyramid.scripts.pserve", str(ini)]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        _wait_for(port, process)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    trusting = ssl._create_unverified_context()  # noqa: S323  (our own server, on loopback)
    for _ in range(900):
        if process.poll() is not None:
            raise SystemExit("the server ended")
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as plain:
                trusting.wrap_socket(plain, server_hostname=HOST.split(":")[0]).close()
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("the server did not answer")


def cookie_of(portal: Portal) -> str:
    """Sign the doctor in; the session is in the database, so the server knows it too."""
    app = portal.browser()
    form = app.get("/sign-in").forms["form"]
    form["number"], form["password"] = DOCTOR, PASSWORD
    if form.submit(expect_errors=True).status_int != 303:
        raise SystemExit("the doctor could not sign in")
    return "; ".join(f"{cookie.name}={cookie.value}" for cookie in app.cookiejar)


def asked(port: int, cookie: str, paths: list[str], directory: Path) -> dict[str, float]:
    """Let wrk ask for paths by turns; return requests a second, p50 and p99 in milliseconds."""
    script = directory / "paths.lua"
    listed = ", ".join(f'"{path}"' for path in paths)
    script.write_text(
        f"local paths = {{{listed}}}\nlocal turn = 0\n"
        "request = function() turn = turn + 1\n"
        "return wrk.format('GET', paths[turn % #paths + 1]) end\n",
        "utf-8",
    )
    host = f"{HOST.split(':')[0]}:{port}"
    command = [
        "wrk",
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{SECONDS}s",
        "--timeout",
        "30s",
        "--latency",
        "-s",
        str(script),
    ]
    command += ["-H", f"Cookie: {cookie}", "-H", f"Host: {host}", f"https://127.0.0.1:{port}/"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise SystemExit(f"pages were refused:\n{said}")
    return {
        "per_second": float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1]),
        "p50": _milliseconds(re.search(r"(?m)^ +50% +(\S+)", said)[1]),
        "p99": _milliseconds(re.search(r"(?m)^ +99% +(\S+)", said)[1]),
    }


def _milliseconds(told: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", told).groups()
    return float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]


def median_of(found: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.median(one[name] for one in found), 2) for name in found[0]}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _memory(server: int) -> int:
    """Return the resident memory in MiB of the largest process of a server, by its id."""
    said = subprocess.run(
        ["ps", "-eo", "pid,ppid,rss"], check=True, capture_output=True, text=True
    ).stdout
    sizes, family = [0], {server}
    # A process has a larger number than its parent, until numbers begin anew; each is asked twice.
    rows = [tuple(map(int, line.split())) for line in said.splitlines()[1:]] * 2
    for process, parent, size in rows:
        if process in family or parent in family:
            family.add(process)
            sizes.append(size)
    return max(sizes) // 1024


def bench(engine: str, url: str, directory: Path, sizes: list[int]) -> dict[str, Any]:
    portal, port = Portal(directory, url), _free_port()
    patients = fill(portal)
    paths = [f"/patients/{patient}" for patient in patients]
    cookie = cookie_of(portal)
    by_size: dict[str, Any] = {}
    for size in sizes or [OPENED]:
        crowd(portal, size, patients[0])
        page: list[dict[str, float]] = []
        bare: list[dict[str, float]] = []
        with served(portal, directory, port) as server:
            asked(port, cookie, paths, directory)
            for _ in range(ROUNDS):
                page.append(asked(port, cookie, paths, directory))
                bare.append(asked(port, cookie, [PATH], directory))
            memory = _memory(server)
        one, other = median_of(page), median_of(bare)
        by_size[str(size)] = {
            "page": one,
            "bare": other,
            "ratio": round(one["per_second"] / other["per_second"], 4),
            "worker_mib": memory,
        }
    found = list(by_size.values())
    growths = {
        "growth": round(found[0]["page"]["per_second"] / found[-1]["page"]["per_second"], 3),
        # The sizes are measured minutes apart, and the machine is shared: the bare page tells.
        "growth_to_bare": round(found[0]["ratio"] / found[-1]["ratio"], 3),
    }
    return {
        "bench": "patient_page",
        "engine": engine,
        "patients": by_size,
        **(growths if len(found) > 1 else {}),
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--patients",
        type=int,
        nargs="*",
        default=None,
        metavar="N",
        help=f"with so many patients in the database; without a number {SIZES}",
    )
    asked_for = parser.parse_args(arguments).patients
    sizes = [] if asked_for is None else sorted(asked_for or SIZES)
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed, and it is what asks for the pages")
    with tempfile.TemporaryDirectory() as name, databases(Path(name)) as urls:
        for engine, url in urls.items():
            directory = Path(name) / engine
            directory.mkdir()
            print(json.dumps(bench(engine, url, directory, sizes)), flush=True)


if __name__ == "__main__":
    main()
