"""The page of certificates, the authority's public files, and what jobs do about both."""

from datetime import timedelta

import pytest
from cryptography import x509
from functional_helpers import page_text
from sqlalchemy import select, update

from medportal.core.clock import utcnow
from medportal.identity.models import Person
from medportal.mail.kinds import MailKind
from medportal.mail.models import OutgoingMail
from medportal.ops.certificates import admins
from medportal.pki import ca as authority
from medportal.pki.layout import Layout
from medportal.pki.profiles import Purpose
from medportal.pki.requests import grouped


def serial_of(portal, purpose):
    found = authority.inventory(portal.keys("hospital").places.pki)
    return next(f"{info.serial:040x}" for info in found if info.purpose is purpose)


def test_admins_see_how_certificates_stand(portal):
    text = page_text(portal.signed_in("admin").get("/certificates"))
    for words in ("Signatures of records", "In use", "List of withdrawn certificates", "364 days"):
        assert words in text
    assert grouped(serial_of(portal, Purpose.RECORD)) in text
    assert "Trusted" in text
    assert ("certificates-viewed", "allowed") in {e[:2] for e in portal.events("hospital")}


@pytest.mark.parametrize("role", ["doctor", "nurse", "patient", "auditor", "privacy_officer"])
def test_nobody_else_does(portal, role):
    portal.signed_in(role).get("/certificates", status=(403, 404))


def test_the_authoritys_files_are_for_everybody(portal):
    browser, directory = portal.browser(), portal.keys("hospital").places.pki
    answer = browser.get("/pki/ca.crt")
    assert answer.content_type == "application/pkix-cert"
    assert x509.load_der_x509_certificate(answer.body) == authority.read_ca(directory)
    answer = browser.get("/pki/ca.crl")
    assert answer.content_type == "application/pkix-crl"
    assert answer.headers["Cache-Control"] == "public, max-age=3600"
    assert x509.load_der_x509_crl(answer.body) == authority.read_crl(directory)
    again = browser.get(
        "/pki/ca.crl", headers={"If-None-Match": answer.headers["ETag"]}, status=304
    )
    assert again.body == b""
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    "name", ["ca.key", "ca.pem", "ca", "other.crt", "..%2Fca.crt", "%2e%2e%2fsecrets.crt", ".crt"]
)
def test_and_no_others_are(portal, name):
    # As for every page that is not there: whoever is not signed in is sent to sign in.
    answer = portal.browser().get(f"/pki/{name}", status=303)
    assert answer.location.split("?")[0].endswith("/sign-in")
    portal.signed_in("admin").get(f"/pki/{name}", status=404)


def mails(portal, kind):
    with portal.session("hospital") as session:
        return len(session.scalars(select(OutgoingMail.id).where(OutgoingMail.kind == kind)).all())


def test_jobs_renew_what_is_due(portal):
    """Before a third of the lifetime is left, with the authority's key at hand."""
    directory = portal.keys("hospital").places.pki
    before = {info.purpose: info.serial for info in authority.inventory(directory)}
    portal.jobs("hospital").turn(utcnow())
    assert {i.purpose: i.serial for i in authority.inventory(directory)} == before
    portal.jobs("hospital").turn(utcnow() + timedelta(days=365 - 121))
    after = {info.purpose: info.serial for info in authority.inventory(directory)}
    assert {p for p in after if after[p] != before[p]} >= {Purpose.WEB, Purpose.RECORD}
    assert after[Purpose.HEAD] == before[Purpose.HEAD]
    issued = [e for e in portal.events("hospital") if e[0] == "certificate-issued"]
    assert len(issued) >= 5
    assert mails(portal, MailKind.CERTIFICATE_ENDS) == 0


def test_without_the_key_admins_are_told_once(portal):
    directory, now = portal.keys("hospital").places.pki, utcnow()
    Layout(directory).ca_key.rename(directory / "away")
    try:
        crl = authority.read_crl(directory).last_update_utc
        with portal.session("hospital") as session, session.begin():
            people = admins(session, portal.keys("hospital").tenant)
            session.execute(
                update(Person).where(Person.id.in_(people)).values(email="admin@example.test")
            )
        count = len(people)
        assert portal.person("admin") in people
        for _ in range(3):
            portal.jobs("hospital").turn(max(now, crl) + timedelta(days=8))
        assert mails(portal, MailKind.CERTIFICATE_ENDS) == count
        text = page_text(portal.signed_in("admin").get("/certificates"))
        assert "kept elsewhere" in text
    finally:
        (directory / "away").rename(Layout(directory).ca_key)
