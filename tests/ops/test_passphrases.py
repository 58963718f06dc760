"""A new passphrase for a group: everything opens with it, nothing with the old one, at any moment
something opens it.
"""

import itertools
import os
import secrets
import shutil
import subprocess
import sys

import pytest

from medportal.core.clock import utcnow
from medportal.core.errors import MedportalError
from medportal.keys import Places, TenantKeys
from medportal.ops.edges import prepare
from medportal.ops.hosts import create_edge
from medportal.ops.institution import create_keys
from medportal.ops.passphrases import DoesNotOpen, UnfitPassphrase, change, files_of
from medportal.pki.keystore import KeyStore
from medportal.pki.layout import PROFILES
from medportal.pki.passphrases import load_passphrases, passphrase_path, read_passphrase
from medportal.pki.profiles import Group, Purpose
from medportal.settings import parse_settings
from medportal.vault import boxes, keystore
from medportal.vault.errors import KeysBusy
from medportal.vault.passphrase import Cost

CHEAP = Cost(iterations=1, lanes=1, memory_kib=8)
INI = {
    "medportal.production": "false",
    "medportal.tenants": "hospital",
    "medportal.variable.exchange_port": "4000",
    "medportal.variable.mail_port": "2525",
    "medportal.variable.hospital_port": "8443",
    "medportal.variable.laboratory_port": "8444",
}
FILES = {
    Group.CA: {"pki/ca.key", "edge/ca.key"},
    Group.PORTAL: {
        "vault/tenant.keystore",
        "pki/keys/web.pem",
        "pki/keys/record.pem",
        "edge/keys/web.pem",
    },
    Group.PAIR: {"pki/keys/pair.pem"},
    Group.EXCHANGE: {"pki/keys/channel.pem", "pki/keys/exchange.pem", "pki/keys/receipt.pem"},
    Group.OUTBOX: {"vault/outbox.key"},
    Group.JOBS: {
        "pki/keys/head.pem",
        "pki/keys/head-pq.pem",
        "vault/inbox.key",
        "vault/inbox-ID.key",
    },
    Group.EDGE: {"edge/keys/edge.pem"},
}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Make every key of an institution, an edge's and an older private half of a box too."""
    state = tmp_path_factory.mktemp("passphrases")
    raw = {**INI, "medportal.tenants_dir": str(PROFILES.parents[1] / "tenants")}
    settings = parse_settings({**raw, "medportal.state_dir": str(state)})
    tenant = settings.tenant("hospital")
    create_keys(settings, tenant, utcnow())
    create_edge(settings, tenant, ["localhost"], utcnow())
    places = Places(settings.home("hospital"))
    jobs = read_passphrase(passphrase_path(places.secrets, Group.JOBS))
    boxes.renew(places.vault, "inbox", jobs, CHEAP)
    return settings


@pytest.fixture
def places(original, tmp_path):
    shutil.copytree(original.home("hospital"), tmp_path / "hospital")
    return Places(tmp_path / "hospital")


@pytest.fixture
def new(tmp_path):
    return written(tmp_path / "new.passphrase", secrets.token_urlsafe(32))


def written(path, text):
    path.write_text(text + "\n")
    path.chmod(0o600)
    return path


def names(places, group):
    found = {str(each.path.relative_to(places.home)) for each in files_of(places, group)}
    kept = {f"vault/{path.name}" for path in boxes.retired(places.vault, "inbox")}
    return {"vault/inbox-ID.key" if name in kept else name for name in found}


def held(places, group, passphrase):
    """Return what every file of a group holds, ``None`` where the passphrase is another's."""
    return {
        each.path.name: each.opens(each.path.read_bytes(), passphrase)
        for each in files_of(places, group)
    }


def renew(places, group, new_file):
    return change(places, group, passphrase_path(places.secrets, group), new_file, CHEAP)


def every_byte(places):
    return {
        str(path.relative_to(places.home)): path.read_bytes()
        for path in places.home.rglob("*")
        if path.is_file() and not path.name.endswith(".lock")
    }


@pytest.mark.parametrize("group", list(FILES), ids=str)
def test_every_file_of_a_group_opens_with_the_new_passphrase_alone(places, new, group):
    assert names(places, group) == FILES[group]
    old, fresh = read_passphrase(passphrase_path(places.secrets, group)), read_passphrase(new)
    before, others = held(places, group, old), every_byte(places)
    done = renew(places, group, new)
    assert (done.changed, done.files) == (len(FILES[group]), len(FILES[group]))
    assert held(places, group, fresh) == before
    assert set(held(places, group, old).values()) == {None}
    assert read_passphrase(passphrase_path(places.secrets, group)) == fresh
    # Nothing else was touched, nothing is left beside, and no copy of what was there before.
    after = every_byte(places)
    assert set(after) == set(others)
    changed = {name for name in after if after[name] != others[name]}
    retired = {f"vault/{path.name}" for path in boxes.retired(places.vault, "inbox")}
    assert {"vault/inbox-ID.key" if name in retired else name for name in changed} == {
        *FILES[group],
        f"secrets/{group}.passphrase",
    }
    for each in files_of(places, group):
        assert each.path.stat().st_mode & 0o777 == 0o600


def test_no_group_is_forgotten():
    from medportal.cli.keys import _GROUPS

    assert set(FILES) == set(Group)
    assert set(_GROUPS) == {str(group) for group in Group}


def test_the_processes_of_a_group_start_with_it(places, original, new):
    for group in (Group.PORTAL, Group.JOBS, Group.EXCHANGE):
        renew(places, group, written(new.with_name(f"{group}.new"), secrets.token_urlsafe(32)))
    held = load_passphrases(places.secrets)
    store = KeyStore(places.pki, held)
    for purpose in (Purpose.RECORD, Purpose.HEAD, Purpose.HEAD_PQ, Purpose.EXCHANGE):
        assert store.signer(purpose).sign(b"x")
    assert store.credentials(Purpose.WEB)
    assert keystore.load(places.keyring, held[Group.PORTAL]).current == 1
    assert boxes.Unsealer(places.vault, "inbox", held[Group.JOBS])


def test_what_waits_for_its_certificate_and_former_authorities_come_along(places, new):
    from medportal.pki import rollover

    old = read_passphrase(passphrase_path(places.secrets, Group.CA))
    rollover.roll(places.pki, ca_passphrase=old, now=utcnow())
    assert len(names(places, Group.CA)) == 3
    assert renew(places, Group.CA, new).changed == 3
    assert None not in held(places, Group.CA, read_passphrase(new)).values()


@pytest.mark.parametrize(
    "text",
    [
        "short and not sweet",
        "x" * 23,
        "x" * 64,
        "abcabcabcabcabcabcabcabcabcabc",
        "",
    ],
)
def test_a_weak_passphrase_is_refused(places, new, text):
    before = every_byte(places)
    with pytest.raises(MedportalError) as refused:
        renew(places, Group.PORTAL, written(new, text))
    assert text not in str(refused.value) or not text
    assert every_byte(places) == before


def test_the_same_and_another_groups_are_refused(places, new):
    before = every_byte(places)
    for group, why in ((Group.PORTAL, "already"), (Group.JOBS, "of the group jobs")):
        new.write_bytes(passphrase_path(places.secrets, group).read_bytes())
        with pytest.raises(UnfitPassphrase, match=why):
            renew(places, Group.PORTAL, new)
    assert every_byte(places) == before


def test_a_file_that_others_may_read_is_refused(places, new):
    new.chmod(0o644)
    with pytest.raises(MedportalError, match="open to others"):
        renew(places, Group.PORTAL, new)


def test_what_neither_opens_stops_it_before_anything_changed(places, new):
    foreign = places.pki / "keys" / "record.pem"
    foreign.write_bytes((places.pki / "keys" / "head.pem").read_bytes())
    before = every_byte(places)
    with pytest.raises(DoesNotOpen, match="record.pem"):
        renew(places, Group.PORTAL, new)
    assert every_byte(places) == before


def test_who_changes_keys_keeps_others_out(places, new):
    with keystore.changing(places.keyring), pytest.raises(KeysBusy):
        renew(places, Group.PORTAL, new)


def test_an_authority_that_is_being_changed_comes_first(places, new):
    (places.pki / "rolling").mkdir()
    with pytest.raises(MedportalError, match="pki roll"):
        renew(places, Group.PORTAL, new)


def test_where_the_passphrase_lies_with_the_service_manager_it_is_not_touched(
    places, new, tmp_path
):
    given = tmp_path / "credentials"
    shutil.move(places.home / "secrets", given)
    before = {path.name: path.read_bytes() for path in given.iterdir()}
    elsewhere = Places(places.home, given)
    done = renew(elsewhere, Group.PORTAL, new)
    assert not done.is_passphrase_file_replaced
    assert {path.name: path.read_bytes() for path in given.iterdir()} == before
    assert None not in held(elsewhere, Group.PORTAL, read_passphrase(new)).values()
    # Run again before the file was put in its place: there is nothing left to do.
    assert renew(elsewhere, Group.PORTAL, new).changed == 0


def test_copies_for_the_edge_do_not_stay_behind(places, original, new):
    keys = TenantKeys(original.tenant("hospital"), places.home, (Group.PORTAL, Group.EDGE))
    prepare(keys)
    carried = places.edge / "carry"
    assert (carried / "edge.pem").exists()
    renew(places, Group.EDGE, new)
    assert sorted(path.name for path in carried.iterdir()) == ["edge-ca.crl", "edge-ca.crt"]
    prepare(TenantKeys(original.tenant("hospital"), places.home, (Group.PORTAL, Group.EDGE)))
    assert (carried / "edge.pem").exists()


#: Ends itself, as by SIGKILL, at the deed given: before it (0) or right after it (1).
DIES = """
import os, sys
from pathlib import Path
from medportal.keys import Places
from medportal.ops.passphrases import change
from medportal.pki.passphrases import passphrase_path
from medportal.pki.profiles import Group
from medportal.vault.passphrase import Cost

home, group, new = Path(sys.argv[1]), Group(sys.argv[2]), Path(sys.argv[3])
at, after = map(int, sys.argv[4:])
done = 0

def dying(deed):
    def does(*arguments, **more):
        global done
        done += 1
        if done == at and not after:
            os.kill(os.getpid(), 9)
        found = deed(*arguments, **more)
        if done == at:
            os.kill(os.getpid(), 9)
        return found
    return does

os.replace = dying(os.replace)  # that of pathlib too
places = Places(home)
change(places, group, passphrase_path(places.secrets, group), new, Cost(1, 1, 8))
print(done)
"""


def dying(places, new, at, after):
    words = [sys.executable, "-c", DIES, places.home, Group.JOBS, new, at, after]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        list(map(str, words)), capture_output=True, text=True, timeout=60, env=environment
    )


def test_killed_at_any_deed_every_file_opens_and_the_next_run_ends_it(places, new, tmp_path):
    whole = tmp_path / "whole"
    shutil.copytree(places.home, whole)
    counted = dying(places, new, 0, 0)
    assert counted.returncode == 0, counted.stderr
    deeds = int(counted.stdout)
    assert deeds == len(FILES[Group.JOBS]) + 1
    old_file = passphrase_path(Places(whole).secrets, Group.JOBS)
    old, fresh = read_passphrase(old_file), read_passphrase(new)
    secret = held(Places(whole), Group.JOBS, old)
    for at, after in itertools.product(range(1, deeds + 1), (0, 1)):
        shutil.rmtree(places.home)
        shutil.copytree(whole, places.home)
        killed = dying(places, new, at, after)
        assert killed.returncode == -9, killed.stderr
        by_old, by_new = held(places, Group.JOBS, old), held(places, Group.JOBS, fresh)
        assert {name: by_old[name] or by_new[name] for name in secret} == secret
        if read_passphrase(passphrase_path(places.secrets, Group.JOBS)) == fresh:
            # The last step: by then everything is under the new one, so that it is all that counts.
            assert by_new == secret
            with pytest.raises(UnfitPassphrase, match="already"):
                renew(places, Group.JOBS, new)
            continue
        renew(places, Group.JOBS, new)
        assert held(places, Group.JOBS, fresh) == secret
        left = [path for path in places.home.rglob(".*") if not path.name.endswith("lock")]
        assert left == []


def test_another_new_passphrase_after_an_interruption_loses_nothing(places, new, tmp_path):
    killed = dying(places, new, 2, 1)
    assert killed.returncode == -9
    before = every_byte(places)
    other = written(tmp_path / "other", secrets.token_urlsafe(32))
    with pytest.raises(DoesNotOpen, match="same new passphrase file"):
        renew(places, Group.JOBS, other)
    assert every_byte(places) == before
    renew(places, Group.JOBS, new)
