"""What jobs do: file what arrived after checking it again, sign the log, keep house."""

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import delete, select

from medportal.audit.models import AuditEvent, AuditHead, AuditNode
from medportal.core import canonical
from medportal.core.clock import utcnow
from medportal.core.ids import new_id
from medportal.delivery.inbox import Arrival, Awaiting, awaiting_counts, register
from medportal.delivery.models import Inbox, Outbox
from medportal.delivery.parcel import Parcel, inbox_info, outbox_info
from medportal.delivery.states import DeliveryReason, Outcome
from medportal.identity.models import LoginSession, Person
from medportal.ops.audit import (
    export_tenant_log,
    verify_exported_log,
    verify_tenant_log,
)
from medportal.pki import ca
from medportal.pki.certificates import Validity, build_crl, build_leaf, generate_key
from medportal.pki.keyfiles import from_pem
from medportal.pki.profiles import Algorithm, Group, Purpose
from medportal.pki.signatures import Signed, sign_statement
from medportal.pki.signers import Signer
from medportal.records import intake
from medportal.records.models import Record


@pytest.fixture
def parcel(portal):
    """Give a genuine parcel from the laboratory, as its outbox holds it."""
    return another(portal)


def another(portal):
    """Enter a record at the laboratory and return its parcel."""
    browser = portal.signed_in("responsible", "laboratory")
    path = f"/patients/{portal.person('patient', 'laboratory')}/records/new"
    form = browser.get(path).forms["form"]
    form["effective"], form["body-temperature"] = "03/02/2026", "38.4"
    assert form.submit().status_int == 303
    with portal.session("laboratory") as session:
        row = session.scalars(select(Outbox).order_by(Outbox.created_at.desc())).first()
    opened = portal.keys("laboratory").open_outgoing(
        row.sealed, outbox_info("laboratory", "hospital", row.tid)
    )
    return Parcel.from_bytes(opened)


def deliver(portal, parcel, *, patient=None, sealed=None, sender="laboratory"):
    """Put a parcel into the hospital's inbox, as its receiver would; return the transfer id."""
    tid = new_id()
    keys = portal.keys("hospital")
    sealed = sealed or keys.sealer("inbox").seal(
        parcel.to_bytes(), inbox_info("hospital", sender, tid)
    )
    arrival = Arrival(
        sender=sender,
        tid=tid,
        digest=new_id().encode(),
        pseudonym=b"p" * 32,
        key_id="k",
        outcome=Outcome.REGISTERED,
        reason=DeliveryReason.REGISTERED,
        patient_id=patient or portal.person("patient"),
        sealed=sealed,
    )
    with portal.session("hospital") as session, session.begin():
        register(session, [arrival], utcnow())
    return tid


def inbox_row(portal, tid):
    with portal.session("hospital") as session:
        return session.scalars(select(Inbox).where(Inbox.tid == tid)).one()


def test_what_arrived_is_filed_and_read_by_the_patient(portal, parcel):
    tid = deliver(portal, parcel)
    portal.jobs("hospital").turn(utcnow())
    row = inbox_row(portal, tid)
    assert row.filed_at is not None and row.sealed is None
    page = portal.signed_in("patient").get(
        f"/patients/{portal.person('patient')}/records/{row.record_id}"
    )
    assert "38.4" in page.text and "came from" in page.text
    assert ("record-filed", "allowed") in {e[:2] for e in portal.events("hospital")}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("content", DeliveryReason.CONTENT_INVALID),
        ("value", DeliveryReason.SIGNATURE_INVALID),
        ("statement", DeliveryReason.SIGNATURE_INVALID),
        ("number", DeliveryReason.IDENTIFIER_MISMATCH),
        ("patient", DeliveryReason.IDENTIFIER_MISMATCH),
        ("seal", DeliveryReason.CANNOT_OPEN),
        ("sender", DeliveryReason.PARTNER_NOT_TRUSTED),
        ("name", DeliveryReason.IDENTIFIER_MISMATCH),
        ("registered-name", DeliveryReason.DEMOGRAPHICS_DIFFER),
    ],
)
def test_nothing_is_filed_on_the_receivers_word(portal, parcel, change, reason):
    """A receiver that was taken over forges; intake finds each of it and sets it aside."""
    kw = {}
    if change == "content":
        parcel = replace(parcel, content=b"{}")
    elif change == "value":
        parcel = replace(parcel, content=parcel.content.replace(b"38.4", b"36.4"))
    elif change == "statement":
        flipped = bytes([parcel.statement[-1] ^ 1])
        parcel = replace(parcel, statement=parcel.statement[:-1] + flipped)
    elif change == "number":
        parcel = replace(parcel, number="19573526")
    elif change == "patient":
        kw["patient"] = portal.person("doctor")
    elif change == "name":
        parcel = replace(parcel, name="Another Name")
    elif change == "registered-name":
        with portal.session("hospital") as session, session.begin():
            session.get(Person, portal.person("patient")).name = "Amanda Julieta"
    elif change == "seal":
        kw["sealed"] = (
            portal.keys("hospital").sealer("inbox").seal(parcel.to_bytes(), b"another place")
        )
    else:
        kw["sender"] = "elsewhere"
    with portal.session("hospital") as session:
        before = set(session.scalars(select(Record.id)))
    tid = deliver(portal, parcel, **kw)
    portal.jobs("hospital").turn(utcnow())
    with portal.session("hospital") as session, session.begin():
        session.get(Person, portal.person("patient")).name = "Amanda Júlio"
    row = inbox_row(portal, tid)
    assert row.filed_at is None and row.awaiting == Awaiting.PERSON and row.reason == reason
    with portal.session("hospital") as session:
        assert set(session.scalars(select(Record.id))) == before
        assert awaiting_counts(session)[Awaiting.PERSON] >= 1
    admin = portal.signed_in("admin").get("/deliveries")
    assert "Received, held for review" in admin.text


def test_one_bad_item_does_not_hold_up_those_behind_it(portal, parcel):
    """The same record id with other content comes first; a good one comes after it."""
    first = deliver(portal, parcel)
    portal.jobs("hospital").turn(utcnow())
    again, other = deliver(portal, parcel), deliver(portal, another(portal))
    portal.jobs("hospital").turn(utcnow())
    assert inbox_row(portal, first).filed_at is not None
    assert inbox_row(portal, again).awaiting == Awaiting.PERSON
    assert inbox_row(portal, again).reason == DeliveryReason.DIGEST_CONFLICT
    assert inbox_row(portal, other).filed_at is not None


def test_a_fault_that_nobody_foresaw_holds_up_nobody(portal, parcel, monkeypatch):
    bad, good = deliver(portal, parcel), deliver(portal, another(portal))
    real, tries = intake.read, []

    def read_once_broken(content):
        tries.append(content)
        if len(tries) == 1:
            raise ZeroDivisionError("a bug")
        return real(content)

    monkeypatch.setattr(intake, "read", read_once_broken)
    portal.jobs("hospital").turn(utcnow())
    rows = [inbox_row(portal, tid) for tid in (bad, good)]
    assert sorted(str(row.awaiting) for row in rows) == ["None", str(Awaiting.PERSON)]


def test_keys_that_are_missing_blame_no_item(portal, parcel):
    """A machine without its inbox key files nothing, and everything goes on waiting."""
    tid = deliver(portal, parcel)
    key = portal.keys("hospital").places.vault / "inbox.key"
    away = key.rename(key.with_suffix(".away"))
    portal.jobs("hospital").turn(utcnow())
    assert inbox_row(portal, tid).awaiting == Awaiting.INTAKE
    away.rename(key)
    portal.jobs("hospital").turn(utcnow())
    assert inbox_row(portal, tid).filed_at is not None


def test_a_record_that_waited_for_weeks_is_filed_and_still_verifies(portal, parcel):
    """Its own revocation list is stale by then; the partner's newest one is kept with it."""
    places = portal.keys("laboratory").places
    authority = ca.read_ca(places.pki)
    passphrase = portal.keys("laboratory").passphrase(Group.CA)
    key = from_pem((places.pki / "ca.key").read_bytes(), passphrase, "ca.key")
    old = build_crl(key, authority, 0, utcnow() - timedelta(days=40), timedelta(days=7), [])
    signed = replace(Signed.from_bytes(parcel.statement), crl_der=old.public_bytes(Encoding.DER))
    tid = deliver(portal, replace(parcel, statement=signed.to_bytes()))
    portal.jobs("hospital").turn(utcnow())
    row = inbox_row(portal, tid)
    assert row.filed_at is not None, row.reason
    page = portal.signed_in("patient").get(
        f"/patients/{portal.person('patient')}/records/{row.record_id}"
    )
    assert "The signature is right." in page.text


def authority_of(portal, tenant):
    """Return an institution's directory, authority and the authority's key."""
    keys = portal.keys(tenant)
    key = from_pem((keys.places.pki / "ca.key").read_bytes(), keys.passphrase(Group.CA), "ca.key")
    return keys.places.pki, ca.read_ca(keys.places.pki), key


def test_a_record_whose_signers_certificate_lapsed_meanwhile_is_filed_and_verifies(portal, parcel):
    """The receiver takes such a record; what it receipted as registered is not set aside."""
    _, authority, ca_key = authority_of(portal, "laboratory")
    key, now = generate_key(Algorithm.ED25519), utcnow()
    # Authorities are dated back by some minutes: room for a certificate that is over already.
    end = now.replace(microsecond=0) - timedelta(seconds=10)
    lifetime = Validity(authority.not_valid_before_utc, end)
    leaf = build_leaf(
        ca_key, authority, key.public_key(), Purpose.RECORD, "laboratory", lifetime
    ).public_bytes(Encoding.DER)
    old = Signed.from_bytes(parcel.statement)
    signer = Signer.of("laboratory", Purpose.RECORD, key, (leaf,), old.crl_der)
    signed = sign_statement(signer, old.label, canonical.decode(old.payload))
    tid = deliver(portal, replace(parcel, statement=signed.to_bytes()))
    portal.jobs("hospital").turn(now)
    row = inbox_row(portal, tid)
    assert row.filed_at is not None, row.reason
    page = portal.signed_in("patient").get(
        f"/patients/{portal.person('patient')}/records/{row.record_id}"
    )
    assert "The signature is right." in page.text


def test_what_is_of_the_future_by_a_clock_that_went_back_waits_until_it_is_right(portal, parcel):
    tid = deliver(portal, parcel)
    portal.jobs("hospital").turn(utcnow() - timedelta(days=1))
    row = inbox_row(portal, tid)
    assert row.awaiting == Awaiting.INTAKE and row.filed_at is None
    portal.jobs("hospital").turn(utcnow())
    assert inbox_row(portal, tid).filed_at is not None


def test_a_list_that_anybody_can_have_made_holds_up_nothing(portal, parcel):
    """A revocation list without a number, put beside a genuine statement on its way."""
    _, authority, _ = authority_of(portal, "laboratory")
    lists = x509.CertificateRevocationListBuilder().issuer_name(authority.subject)
    lists = lists.last_update(utcnow()).next_update(utcnow() + timedelta(days=1))
    bare = lists.sign(generate_key(Algorithm.P256), SHA256()).public_bytes(Encoding.DER)
    signed = replace(Signed.from_bytes(parcel.statement), crl_der=bare)
    tid = deliver(portal, replace(parcel, statement=signed.to_bytes()))
    portal.jobs("hospital").turn(utcnow())
    row = inbox_row(portal, tid)
    assert row.awaiting == Awaiting.PERSON
    assert row.reason == DeliveryReason.SIGNATURE_INVALID


def test_the_log_is_signed_and_verifies(portal):
    portal.signed_in("porter")
    jobs = portal.jobs("hospital")
    while jobs.turn(utcnow()):
        pass
    tenant = portal.settings.tenant("hospital")
    result = verify_tenant_log(portal.settings, tenant, portal.registry.database("hospital"))
    assert result.is_whole and result.report.size > 0 and result.report.pending == 0


def test_no_head_is_signed_by_a_clock_that_went_back(portal):
    """It would be older than its certificate, and the log would never verify again."""
    portal.signed_in("porter")
    database = portal.registry.database("hospital")
    portal.jobs("hospital").turn(utcnow() - timedelta(days=1))
    tenant = portal.settings.tenant("hospital")
    before = verify_tenant_log(portal.settings, tenant, database)
    assert before.is_whole and before.report.pending > 0
    jobs = portal.jobs("hospital")
    while jobs.turn(utcnow()):
        pass
    after = verify_tenant_log(portal.settings, tenant, database)
    assert after.is_whole and after.report.pending == 0


def test_an_exported_log_is_checked_without_the_database(portal, tmp_path):
    for role in ("porter", "nurse", "auditor"):
        portal.signed_in(role)
    jobs = portal.jobs("hospital")
    while jobs.turn(utcnow()):
        pass
    tenant = portal.settings.tenant("hospital")
    file = tmp_path / "log.jsonl"
    export_tenant_log(tenant, portal.registry.database("hospital"), file)
    authority = portal.keys("hospital").places.pki / "ca.crt"
    assert verify_exported_log(file, authority).is_whole
    lines = file.read_text("utf-8").splitlines(keepends=True)
    events = [n for n, line in enumerate(lines) if '"type":"event"' in line.replace(" ", "")]
    del lines[events[1]]
    file.write_text("".join(lines), "utf-8")
    result = verify_exported_log(file, authority)
    assert not result.is_whole and result.row["first_bad_event"] == "1"


def test_a_log_that_was_begun_anew_gets_no_signature(portal):
    """With the database in hand somebody drops heads and numbers; the pinned head tells."""
    portal.signed_in("volunteer")
    jobs = portal.jobs("laboratory")
    portal.signed_in("admin", "laboratory")
    while jobs.turn(utcnow()):
        pass
    with portal.session("laboratory") as session, session.begin():
        session.execute(delete(AuditHead))
        session.execute(delete(AuditNode))
        for event in session.scalars(select(AuditEvent)):
            event.sequence = None
    fresh = portal.jobs("laboratory")
    fresh.turn(utcnow())
    with portal.session("laboratory") as session:
        assert session.scalars(select(AuditHead)).all() == []


def test_stale_sessions_are_forgotten(portal):
    portal.signed_in("auditor")
    portal.jobs("hospital").turn(utcnow() + timedelta(days=2))
    with portal.session("hospital") as session:
        assert session.scalars(select(LoginSession)).all() == []
