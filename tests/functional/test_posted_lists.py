"""A revocation list reaches hosts with copies of the keys through the database; no other does."""

import shutil
import time
from datetime import timedelta

import pytest
from sqlalchemy import select, update
from structlog.testing import capture_logs

from medportal.core.clock import utcnow
from medportal.delivery import lists
from medportal.delivery.lists import PostedList
from medportal.ops.lists import keeping_lists, look
from medportal.pki import ca as authority
from medportal.pki.certificates import crl_number
from medportal.pki.layout import Layout
from medportal.pki.profiles import Group, Purpose
from medportal.tenancy.registry import Database


@pytest.fixture
def database(portal):
    """The hospital's database, as a process on another host opens it."""
    found = Database(portal.settings.tenant("hospital"))
    yield found
    found.dispose()


@pytest.fixture
def copy(portal, tmp_path):
    """What a host with copies has of the hospital's authority: no key."""
    directory = portal.keys("hospital").places.pki
    for path in (Layout(directory).ca_certificate, Layout(directory).crl):
        shutil.copy(path, tmp_path / path.name)
    return tmp_path


def number(directory):
    return crl_number(authority.read_crl(directory))


def renewed(portal):
    """Let the jobs make, and post, the next list; return its number."""
    directory = portal.keys("hospital").places.pki
    made = authority.make_crl(
        directory, ca_passphrase=portal.keys("hospital").passphrase(Group.CA), now=utcnow()
    )
    portal.jobs("hospital").turn(utcnow())
    return crl_number(made)


def test_a_list_that_jobs_made_is_taken_up_elsewhere(portal, database, copy):
    assert renewed(portal) > number(copy)
    with capture_logs() as logs:
        (taken,) = look(database, copy)
    assert taken == number(copy) == number(portal.keys("hospital").places.pki)
    assert (logs[0]["event"], logs[0]["number"]) == ("revocation list taken up", taken)
    assert look(database, copy) == []


def test_jobs_post_a_list_once(portal, database):
    renewed(portal)
    with database.reader() as session:
        before = session.execute(select(PostedList.number, PostedList.at)).all()
        assert lists.unposted(session, portal.keys("hospital").places.pki) == []
    portal.jobs("hospital").turn(utcnow())
    with database.reader() as session:
        assert session.execute(select(PostedList.number, PostedList.at)).all() == before


def test_the_neighbours_list_is_no_list_of_ours(portal, database, copy):
    """Who can write to the database puts another authority's list, or an older one, there."""
    at = number(copy)
    older = Layout(portal.keys("hospital").places.pki).crl.read_bytes()
    latest = renewed(portal)
    other = Layout(portal.keys("laboratory").places.pki).crl.read_bytes()
    before = Layout(copy).crl.read_bytes()
    for false in (other, older[:-1], older[:-1] + bytes([older[-1] ^ 1]), b"", b"\x30" * 40):
        with portal.session("hospital") as session, session.begin():
            session.execute(update(PostedList).values(der=false, number=latest + 5))
        with capture_logs() as logs:
            assert look(database, copy) == []
        assert [entry["event"] for entry in logs] == ["revocation list not taken up"]
        assert Layout(copy).crl.read_bytes() == before
    with portal.session("hospital") as session, session.begin():
        session.execute(update(PostedList).values(number=at))
    portal.jobs("hospital").turn(utcnow())
    assert look(database, copy) == [latest]


def test_a_list_from_tomorrow_is_left(portal, database, copy):
    before = Layout(copy).crl.read_bytes()
    renewed(portal)
    assert look(database, copy, lambda: utcnow() - timedelta(days=2)) == []
    assert Layout(copy).crl.read_bytes() == before


def test_a_database_that_cannot_be_asked_stops_nothing(portal, database, copy, monkeypatch):
    renewed(portal)
    before = Layout(copy).crl.read_bytes()
    with portal.session("hospital") as session, session.begin():
        session.execute(update(PostedList).values(authority="0" * 16))
    assert look(database, copy) == []
    assert Layout(copy).crl.read_bytes() == before
    portal.jobs("hospital").turn(utcnow())
    with keeping_lists(database, copy, every_seconds=0.01):
        for _ in range(3000):
            if Layout(copy).crl.read_bytes() != before:
                break
            time.sleep(0.01)
    assert number(copy) == number(portal.keys("hospital").places.pki)


def test_a_copy_takes_up_what_its_process_then_sends(portal, database, copy):
    """The key store reads the files anew, so the next handshake carries the list."""
    keys = portal.keys("hospital")
    renewed(portal)
    sent = keys.keystore.signer(Purpose.EXCHANGE).crl_der
    look(database, copy)
    assert Layout(copy).crl.read_bytes() == sent
