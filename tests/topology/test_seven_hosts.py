"""The seven hosts: the main job through them, every way between them, what each can open."""

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from e2e_helpers import activate, fresh_number, register, sign_in
from playwright.sync_api import expect

from deploy.topology.demonstration import wait_for
from deploy.topology.network import move
from deploy.topology.plan import PATIENT, ROUTER
from deploy.topology.walk import walk

pytestmark = [pytest.mark.root, pytest.mark.browser, pytest.mark.timeout(600)]
HOSPITAL = "https://portal.hospital.example:8443"
#: Chromium tells its connections of a new address after a pause of its own.
SETTLE_SECONDS = 3
SYSTEMCTL = ("/opt/medportal/deploy/topology/bin/systemctl",)
LABORATORY = "https://portal.laboratory.example:8443"


def account(seven, tenant, role):
    return next(a._asdict() for a in seven.accounts if (a.tenant, a.role) == (tenant, role))


def carry_patient(seven, network):
    """Move the patient's machine; a browser breaks off what it loads while its network changes."""
    move(seven.world, seven.plan, network)
    time.sleep(SETTLE_SECONDS)


def test_a_result_entered_at_the_laboratory_is_read_by_the_patient_from_outside(
    seven, new_page, tmp_path
):
    number, name = fresh_number(), "Zulmira do Amaral"
    carry_patient(seven, "hospital")
    clerk = new_page()
    sign_in(clerk, HOSPITAL, account(seven, "hospital", "ward_clerk"))
    code = register(clerk, HOSPITAL, number, name, tmp_path, "clerk", ward="Cardiology")

    carry_patient(seven, "laboratory")
    responsible = new_page()
    sign_in(responsible, LABORATORY, account(seven, "laboratory", "responsible"))
    register(responsible, LABORATORY, number, name, tmp_path, "lab", send_to="Riverside Hospital")
    responsible.get_by_role("link", name="Go to the patient").click()
    responsible.get_by_role("link", name="New record").click()
    responsible.get_by_label("Body temperature").fill("37,2")
    responsible.get_by_label("Date of the observations").fill("03/02/2026")
    responsible.get_by_role("button", name="Sign and save").click()
    state = responsible.locator("[data-poll-url], .live .tag").first
    expect(state).to_have_text("Delivered", timeout=60_000)

    carry_patient(seven, "remote")
    patient = new_page()
    activate(patient, HOSPITAL, number, code, "five cats under one table", tmp_path)
    patient.get_by_label("Citizen card number").fill(number)
    patient.get_by_label("Password").fill("five cats under one table")
    patient.get_by_role("button", name="Sign in").click()
    expect(patient.get_by_role("heading", level=1)).to_have_text("My record")
    # It stands among what is new and in the timeline.
    patient.get_by_role("link", name=re.compile("Laboratory results")).first.click()
    expect(patient.locator("main")).to_contain_text("37.2")
    expect(patient.locator("#signature")).to_contain_text("The signature is right.")


def test_staff_are_on_site_only_in_their_own_network(seven, new_page):
    clerk = account(seven, "hospital", "ward_clerk")
    seen = {}
    for network in ("hospital", "laboratory", "remote"):
        carry_patient(seven, network)
        page = new_page()
        # What a browser says of where it is counts for nothing.
        page.set_extra_http_headers({"X-Forwarded-For": "10.0.0.130"})
        sign_in(page, HOSPITAL, clerk)
        page.goto(f"{HOSPITAL}/patients/register")
        seen[network] = page.get_by_role("button", name="Register").count()
    assert seen == {"hospital": 1, "laboratory": 0, "remote": 0}


@pytest.mark.parametrize(
    ("host", "directory"),
    [("hosf", "/etc/medportal/edge"), ("labf", "/etc/medportal/edge")],
)
def test_an_edge_holds_two_keys_and_no_other(seven, host, directory):
    names = seven.world.script(f"cd {directory}; ls", host).split()
    assert names == ["edge-ca.crl", "edge-ca.crt", "edge.pem", "web.pem"]
    assert seven.world.script("ls /etc/medportal/credentials", host).split() == ["edge.passphrase"]
    assert seven.world.script("ls -A /var/lib/medportal* 2>/dev/null || true", host).strip() == ""


HOLDINGS = {
    "hosf": ("hospital", "hosb"),
    "hosbs": ("hospital", "hosb"),
    "labf": ("laboratory", "labb"),
}


@pytest.mark.parametrize("host", HOLDINGS)
def test_who_faces_others_holds_nothing_that_opens_a_stored_record(seven, host, tmp_path):
    """With every secret of the host in hand, and the backend's own key files besides."""
    from medportal.pki.errors import WrongPassphrase as WrongForKey
    from medportal.pki.files import read_private
    from medportal.pki.keyfiles import from_pem
    from medportal.vault import boxes, keystore
    from medportal.vault.errors import VaultError

    tenant, backend = HOLDINGS[host]
    world = seven.world
    secrets = held(world, host)
    assert secrets
    for name, place in (
        ("tenant.keystore", "vault"),
        ("inbox.key", "vault"),
        ("record.pem", "pki/keys"),
        ("head.pem", "pki/keys"),
    ):
        stolen = copy(world, backend, f"/var/lib/medportal/{tenant}/{place}/{name}", tmp_path)
        for secret in secrets:
            with pytest.raises((VaultError, WrongForKey)):
                if name == "tenant.keystore":
                    keystore.load(stolen, secret)
                elif name == "inbox.key":
                    boxes.load_private(tmp_path, "inbox", secret)
                else:
                    from_pem(read_private(stolen), secret, name)
    # The control: with the backend's own passphrase it does open.
    (portal,) = (copy(world, backend, "/etc/medportal/credentials/portal.passphrase", tmp_path),)
    assert keystore.load(tmp_path / "tenant.keystore", portal.read_bytes().strip()).versions
    # And no file of a vault lies there under any name.
    vaults = world.script("find /var/lib /etc/medportal -name '*.keystore' -o -name '*.key'", host)
    assert [line for line in vaults.split() if "/ssl/" not in line] == []


def held(world, host) -> list[bytes]:
    """Return every passphrase and password that lies on a host."""
    found = world.script(
        "cd /; cat /etc/medportal/credentials/*;"
        " find /var/lib -name '*.passfile' -exec sed 's/.*://' {} +",
        host,
    )
    return [line.encode() for line in found.split()]


def copy(world, host, path: str, to: Path) -> Path:
    target = to / Path(path).name
    done = subprocess.run(world.command(["cat", path], host), capture_output=True, check=True)
    target.write_bytes(done.stdout)
    target.chmod(0o600)
    return target


def test_the_receivers_role_reads_no_people_and_no_records(seven):
    """The role, from its own host, with its own password."""
    ask = (
        "PGPASSFILE=/var/lib/medportal-receiver/database.passfile psql -XAtq"
        " 'host=hosb.hospital.example dbname=hospital user=medportal_receiver sslmode=verify-full"
        " sslrootcert=/etc/medportal/database-ca.crt' -c "
    )
    tables = seven.world.script(
        f"""{ask} "SELECT tablename FROM pg_tables WHERE schemaname = 'public'" """, "hosbs"
    ).split()
    readable = set()
    for table in tables:
        done = seven.world.attempt(
            ["sh", "-c", f"""{ask} 'SELECT 1 FROM "{table}" LIMIT 1'"""], "hosbs"
        )
        if done.returncode == 0:
            readable.add(table)
        else:
            assert "permission denied" in done.stderr
    from medportal.ops.grants import ProcessRole, rights_of

    assert readable == set(rights_of(ProcessRole.RECEIVER)) & set(tables)
    assert not readable & {"person", "patient", "record", "document", "patient_key", "account"}


def test_a_database_role_comes_from_its_own_host_only(seven):
    """Stolen from the portal's host, its password opens nothing from the receiver's."""
    password = seven.world.run(["cat", "/var/lib/medportal/database/portal.passfile"], "hosb")
    script = (
        "umask 077; cat >/run/stolen; PGPASSFILE=/run/stolen psql -XAtq 'host=hosb.hospital.example"
        " dbname=hospital user=medportal_portal sslmode=require' -c 'SELECT 1'"
    )
    said = seven.world.attempt(["sh", "-c", script], "hosbs", text=password)
    assert said.returncode != 0
    assert "no pg_hba.conf entry" in said.stderr


def test_the_portal_answers_to_the_edges_certificate_alone(seven):
    """From the edge's own host, whose rules let it: without, with another, with the right one."""
    ask = (
        "curl -s -o /dev/null -w '%{http_code}' --cacert /etc/medportal/edge/edge-ca.crt"
        " https://hosb.hospital.example:3000/healthz -H 'Host: portal.hospital.example:8443'"
    )
    pair = (
        "--cert /etc/medportal/edge/{0}.pem --key /etc/medportal/edge/{0}.pem"
        " --pass $(cat /etc/medportal/credentials/edge.passphrase)"
    )
    answers = {
        "none": ask,
        "web": f"{ask} {pair.format('web')}",
        "edge": f"{ask} {pair.format('edge')}",
    }
    said = {
        name: seven.world.attempt(["sh", "-c", line], "hosf").stdout
        for name, line in answers.items()
    }
    assert said == {"none": "000", "web": "000", "edge": "200"}


UNITS = {
    "hosf": {"medportal-edge": "medportal-edge"},
    "hosb": {"medportal-portal": "medportal", "medportal-jobs": "medportal"},
    "hosbs": {"medportal-receiver": "medportal-receiver"},
    "labf": {"medportal-edge": "medportal-edge"},
    "labb": {
        "medportal-portal": "medportal",
        "medportal-jobs": "medportal",
        "medportal-sender": "medportal-sender",
    },
}


@pytest.mark.parametrize("host", UNITS)
def test_each_process_runs_as_its_user_without_any_right(seven, host):
    for unit, user in UNITS[host].items():
        said = seven.world.script(
            f"pid=$(cat /run/mp-units/{unit}.service); cat /proc/$pid/status; id -u {user};"
            f" grep -i core /proc/$pid/limits",
            host,
        )
        uid = re.search(r"^(\d+)$", said, re.MULTILINE)[1]
        assert re.search(r"^Uid:\s+(.*)$", said, re.MULTILINE)[1].split() == [uid] * 4
        assert re.search(r"^NoNewPrivs:\s+1$", said, re.MULTILINE)
        for kind in ("Prm", "Eff", "Bnd", "Inh", "Amb"):
            assert re.search(rf"^Cap{kind}:\s+0+$", said, re.MULTILINE)
        assert re.search(r"Max core file size\s+0\s+0", said)


def test_nothing_of_it_is_in_the_machines_own_network(seven):
    own = subprocess.run(["ip", "-o", "addr"], capture_output=True, text=True, check=True).stdout
    assert "10.0.0." not in own and "10.100.0." not in own and "192.168.50." not in own
    names = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    assert "mp-" not in names
    assert ROUTER not in Path("/etc/passwd").read_text()
    assert "medportal" not in Path("/etc/passwd").read_text()


def served(world) -> str:
    """Return the serial number of the certificate that the patient is shown."""
    ask = "openssl s_client -connect portal.hospital.example:8443 -servername"
    return world.script(
        f"{ask} portal.hospital.example </dev/null 2>/dev/null | openssl x509 -noout -serial",
        PATIENT,
    ).strip()


def channel(world) -> str:
    """Return the serial number that labb sees at the receiver, which asks for a certificate."""
    ask = "openssl s_client -connect hosbs.hospital.example:4000 </dev/null 2>/dev/null || true"
    return world.script(f"({ask}) | openssl x509 -noout -serial", "labb").strip()


def newer(ask: Callable[[], Any], than: Any) -> Any:
    """Return another answer than the one before, or that one if there is none for two minutes.

    A server that loads a new certificate lets those who are connected to its old processes go on,
    and lists are looked for once a minute.
    """
    for _ in range(120):
        found = ask()
        if found and found != than:
            return found
        time.sleep(1)
    return than


def list_number(world, host: str, path: str) -> int:
    said = world.script(f"openssl crl -inform DER -in {path} -noout -crlnumber", host)
    return int(said.rpartition("=")[2], 16)


# The last: from here on the hospital's authority is not at hand.
def test_the_authority_kept_elsewhere_as_the_document_says(seven):
    world = seven.world
    move(world, seven.plan, "remote")
    own = "/var/lib/medportal-receiver/hospital/pki/ca.crl"
    sent = "/var/lib/medportal-sender/laboratory/pki/ca.crl"
    portal, exchange = served(world), channel(world)
    ours, theirs = list_number(world, "hosbs", own), list_number(world, "labb", sent)
    walk(world, print, later=True)
    wait_for(world, "hospital")
    assert newer(lambda: served(world), portal) != portal
    assert newer(lambda: channel(world), exchange) != exchange
    # Nobody carried the lists: they came through the database, to the sender and the receiver.
    assert newer(lambda: list_number(world, "hosbs", own), ours) > ours
    assert newer(lambda: list_number(world, "labb", sent), theirs) > theirs
    # Nothing that could certify is left, and what runs goes on without it.
    kept = "find /etc /root /var/lib /run -xdev -name ca.key -o -name ca.passphrase"
    assert set(world.script(kept, "hosb").split()) == {"/var/lib/medportal/hospital/edge/ca.key"}
    for unit in ("medportal-portal", "medportal-jobs"):
        assert world.attempt([*SYSTEMCTL, "is-active", unit], "hosb").returncode == 0
