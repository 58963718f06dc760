"""The files for the edge are given to the edge itself, and to nobody behind it."""

import pytest

from medportal.core.clock import utcnow
from medportal.ops.certificates import renew_edge_due
from medportal.ops.hosts import create_edge
from medportal.pki.carried import EDGE_FILES

EDGE = "10.0.0.4"


@pytest.fixture
def trusting(portal):
    """Let the application believe an edge for the time of a test."""
    registry = portal.app.registry
    before = registry.settings.get("medportal.trusted_edges")
    registry.settings["medportal.trusted_edges"] = EDGE
    yield portal
    if before is None:
        del registry.settings["medportal.trusted_edges"]
    else:
        registry.settings["medportal.trusted_edges"] = before


def get(portal, address, status, **headers):
    browser = portal.browser()
    environ = {"REMOTE_ADDR": address}
    return browser.get("/edge/keys", extra_environ=environ, headers=headers, status=status)


def test_the_edge_itself_gets_them(trusting):
    hospital = trusting.settings.tenant("hospital")
    # As for every page that is not there: whoever is not signed in is sent to sign in.
    assert get(trusting, EDGE, 303)
    create_edge(trusting.settings, hospital, ["localhost"], utcnow())
    renew_edge_due(trusting.settings, hospital, utcnow())
    answer = get(trusting, EDGE, 200)
    assert set(answer.json) == set(EDGE_FILES)
    assert answer.headers["Cache-Control"] == "no-store"
    assert "BEGIN PRIVATE KEY" not in answer.text
    assert ("edge-keys-given", "allowed", "process:edge", None) in trusting.events("hospital")
    assert answer.json["web.pem"].count("BEGIN ENCRYPTED PRIVATE KEY") == 1
    # A browser behind the edge: nginx says for whom it speaks, always.
    get(trusting, EDGE, 303, **{"X-Forwarded-For": "203.0.113.9"})
    get(trusting, EDGE, 303, **{"X-Forwarded-For": ""})
    get(trusting, EDGE, 303, **{"X-Forwarded-For": EDGE})
    # Whoever else there is, also one who is signed in.
    get(trusting, "203.0.113.9", 303)
    trusting.signed_in("admin").get("/edge/keys", status=404)


def test_without_trusted_edges_nobody_gets_them(portal):
    get(portal, EDGE, 303)
    get(portal, "127.0.0.1", 303)


def test_admins_see_how_the_keys_of_the_edge_stand(portal):
    create_edge(portal.settings, portal.settings.tenant("hospital"), ["localhost"], utcnow())
    text = portal.signed_in("admin").get("/certificates").text
    for words in (
        "The portal, for the edge",
        "From the edge to the portal",
        "between the edge and",
    ):
        assert words in text
