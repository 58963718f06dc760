"""What people type, resend and swap by hand, through the pages and under them."""

import hashlib
from datetime import date
from typing import Any

import pytest
from functional_helpers import page_text
from installation import CARING, NUMBERS
from sqlalchemy import func, select

from medportal.access.care import assign
from medportal.access.models import CareKind
from medportal.core.clock import utcnow
from medportal.identity.people import Profile
from medportal.patients.service import Registration, register_patient
from medportal.records.models import Record, RecordVersion
from medportal.records.statement import SealedContent
from medportal.vault.models import Document

MARKER = "Zyxomorph fever"
SCRIPT = "<script>alert('x')</script>${7*7}"


def new_form(portal: Any, role: str, tenant: str, patient: str | None = None) -> Any:
    browser = portal.signed_in(role, tenant)
    patient = patient or portal.person("patient", tenant)
    return browser, browser.get(f"/patients/{patient}/records/new").forms["form"]


def enter(portal: Any, role: str, tenant: str, patient: str | None = None, **values: str) -> Any:
    browser, form = new_form(portal, role, tenant, patient)
    for name, value in values.items():
        form[name] = value
    answer = form.submit()
    assert answer.status_int == 303, page_text(answer)
    return browser, answer.follow()


def id_of(page: Any) -> str:
    return page.request.path.rsplit("/", 1)[1]


def count(portal: Any, tenant: str) -> int:
    with portal.session(tenant) as session:
        return session.scalar(select(func.count()).select_from(Record))


@pytest.fixture(scope="module")
def neighbour(portal: Any) -> str:
    """Register another patient of the same doctor; return the id."""
    with portal.session("hospital") as session, session.begin():
        found, _ = register_patient(
            session,
            Registration(
                "citizen-card",
                "21098765",
                Profile(name="Berta Vaz", birth_date=date(1980, 2, 3), sex="female", language="en"),
                ward="Cardiology",
                bed="14",
                destinations=(),
            ),
            portal.keys("hospital").partner_keys(),
            by=None,
            now=utcnow(),
        )
        assign(
            session,
            patient_id=found,
            staff_id=portal.person("doctor"),
            kind=CareKind.TREATING,
            assignable_roles=CARING,
            treating_roles=("doctor",),
            by=None,
            now=utcnow(),
        )
    return found


def test_script_is_shown_as_it_was_typed(portal: Any) -> None:
    _, page = enter(portal, "doctor", "hospital", diagnosis=SCRIPT, notes=SCRIPT)
    assert page_text(page).count(SCRIPT) == 2
    assert "<script>alert" not in page.text and "&lt;script&gt;" in page.text


def test_a_coded_diagnosis(portal: Any) -> None:
    enter(portal, "doctor", "hospital", diagnosis=MARKER, diagnosis_code="e11,9")
    browser, form = new_form(portal, "doctor", "hospital")
    form["diagnosis_code"] = "hypertension"
    answer = form.submit(expect_errors=True)
    assert answer.status_int == 422 and "Enter a code of ICD-10" in answer.text
    form["diagnosis_code"] = "I10"
    answer = form.submit(expect_errors=True)
    assert answer.status_int == 422 and "in words too" in answer.text
    assert answer.forms["form"]["diagnosis_code"].value == "I10"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"infection__malaria-antigen": ""}, "Enter at least one value or text."),
        ({"base-excess": "+2"}, "without a sign"),
        ({"base-excess": "-99"}, "possible are"),
        ({"urine-specific-gravity": "1015"}, "possible are"),
        ({"urine-specific-gravity": "1.01555"}, "at most 3 decimals"),
        ({"glucose": "1e2"}, "Enter a number"),
        ({"glucose": "9" * 39}, "Enter a number"),
        ({"glucose": "\u0661\u0668\u0660"}, "Enter a number"),
        ({"hiv": "negative", "ethanol": "12"}, "belong into two records"),
        ({"hiv": "negative", "category": "genetics"}, "belong into two records"),
    ],
)
def test_bad_values_change_nothing_and_are_kept_in_the_form(
    portal: Any, values: dict[str, str], words: str
) -> None:
    _, form = new_form(portal, "responsible", "laboratory")
    values = {name.rsplit("__", 1)[-1]: value for name, value in values.items()}
    for name, value in values.items():
        form[name] = value
    before = count(portal, "laboratory")
    answer = form.submit(expect_errors=True)
    assert answer.status_int == 422
    assert words in page_text(answer)
    for name, value in values.items():
        assert answer.forms["form"][name].value == value
    assert count(portal, "laboratory") == before


@pytest.mark.parametrize(
    ("name", "value"), [("category", "laboratory"), ("category", "x"), ("hiv", "maybe")]
)
def test_what_no_list_offers_is_refused(portal: Any, name: str, value: str) -> None:
    _, form = new_form(portal, "responsible", "laboratory")
    form["glucose"] = "90"
    form[name].force_value(value)
    before = count(portal, "laboratory")
    assert form.submit(expect_errors=True).status_int == 422
    assert count(portal, "laboratory") == before


def test_a_sensitive_result_makes_a_sensitive_record(portal: Any) -> None:
    _, page = enter(portal, "responsible", "laboratory", hiv="positive", potassium="4.1")
    with portal.session("laboratory") as session:
        assert session.get(Record, id_of(page)).category == "sexual-health"
    assert "Not as usual" in page_text(page)


def test_a_doctor_says_that_a_record_is_sensitive(portal: Any) -> None:
    _, page = enter(portal, "doctor", "hospital", notes=MARKER, category="mental-health")
    with portal.session("hospital") as session:
        assert session.get(Record, id_of(page)).category == "mental-health"
    nurse = portal.signed_in("nurse")
    answer = nurse.get(page.request.path, expect_errors=True)
    assert answer.status_int == 404 and MARKER not in answer.text


def test_critical_answers_and_values_say_so_in_words(portal: Any) -> None:
    _, page = enter(
        portal, "responsible", "laboratory", **{"malaria-antigen": "positive", "potassium": "6,9"}
    )
    text = page_text(page)
    assert "!! Critical" in text and "\u2191\u2191 Critically high" in text


def test_the_same_form_twice_is_one_record_and_another_text_changes_nothing(portal: Any) -> None:
    _, form = new_form(portal, "doctor", "hospital")
    form["notes"] = "First"
    before = count(portal, "hospital")
    first = form.submit()
    form["notes"] = "Second"
    second = form.submit()
    assert first.location == second.location
    assert count(portal, "hospital") == before + 1
    text = page_text(second.follow())
    assert "First" in text and "Second" not in text


def test_a_form_with_the_id_of_anothers_record_writes_and_shows_nothing(
    portal: Any, neighbour: str
) -> None:
    _, page = enter(portal, "doctor", "hospital", neighbour, notes=MARKER)
    browser, form = new_form(portal, "nurse", "hospital")
    form["record_id"] = id_of(page)
    form["notes"] = "Mine"
    before = count(portal, "hospital")
    answer = form.submit(expect_errors=True)
    while answer.status_int in (302, 303):
        answer = answer.follow(expect_errors=True)
    assert answer.status_int == 404 and MARKER not in answer.text
    assert count(portal, "hospital") == before


@pytest.mark.parametrize("record_id", ["", "x", "0" * 31, "../../etc", "A" * 32])
def test_a_form_with_an_id_that_is_none(portal: Any, record_id: str) -> None:
    _, form = new_form(portal, "doctor", "hospital")
    form["record_id"], form["notes"] = record_id, "Mine"
    before = count(portal, "hospital")
    assert form.submit(expect_errors=True).status_int == 422
    assert count(portal, "hospital") == before


def test_a_form_that_waited_until_its_session_ended(portal: Any) -> None:
    browser, form = new_form(portal, "doctor", "hospital")
    form["notes"] = "Late"
    browser.get("/")
    browser.app.reset()
    before = count(portal, "hospital")
    answer = form.submit(expect_errors=True)
    assert answer.status_int in (303, 400, 403)
    assert count(portal, "hospital") == before


def version_of(session: Any, record_id: str, version: int = 1) -> RecordVersion:
    wanted = RecordVersion.record_id == record_id, RecordVersion.version == version
    return session.scalars(select(RecordVersion).where(*wanted)).one()


def pin(session: Any, version: RecordVersion, document: str, other: RecordVersion) -> None:
    """Let a version's row say what another's says, as a thief with the database might."""
    version.document_id = document
    version.document_digest = other.document_digest
    version.content_digest = other.content_digest


def distrusted(portal: Any, role: str, path: str, *hidden: str) -> None:
    answer = portal.signed_in(role).get(path)
    assert "This record cannot be trusted" in answer.text
    assert "The signature is right." not in answer.text
    for words in hidden:
        assert words not in page_text(answer)


def test_another_patients_document_is_not_shown(portal: Any, neighbour: str) -> None:
    _, mine = enter(portal, "doctor", "hospital", notes="Belongs to Amanda")
    _, other = enter(portal, "doctor", "hospital", neighbour, notes="Belongs to Berta")
    with portal.session("hospital") as session, session.begin():
        first, second = (version_of(session, id_of(page)) for page in (mine, other))
        document, second.document_id = second.document_id, "e" * 32
        session.flush()
        pin(session, first, document, second)
    distrusted(portal, "patient", mine.request.path, "Belongs to Amanda", "Belongs to Berta")


def test_a_record_is_not_rolled_back_to_an_older_version(portal: Any) -> None:
    browser, page = enter(portal, "doctor", "hospital", notes="Before it was mended")
    form = browser.get(f"{page.request.path}/amend").forms["form"]
    form["notes"], form["status"] = "After it was mended", "corrected"
    form["change_reason"] = "A slip."
    answer = form.submit()
    assert answer.status_int == 303, page_text(answer)
    with portal.session("hospital") as session, session.begin():
        old, new = (version_of(session, id_of(page), version) for version in (1, 2))
        document, old.document_id = old.document_id, "d" * 32
        session.flush()
        pin(session, new, document, old)
    hidden = "Before it was mended", "After it was mended"
    distrusted(portal, "patient", page.request.path, *hidden)


@pytest.mark.parametrize(
    "stored",
    [b"", b"\x00", b"[" * 20_000, b'{"resourceType":"Bundle"}', b"\xff" * 700_000],
    ids=["empty", "nul", "deep", "bundle", "large"],
)
@pytest.mark.parametrize("sealed", [False, True])
def test_a_stored_document_of_any_kind_is_told_and_not_shown(
    portal: Any, stored: bytes, sealed: bool
) -> None:
    """Even one that was sealed with the right key, and whose pins were set to fit."""
    _, page = enter(portal, "doctor", "hospital", notes=MARKER)
    patient, record = portal.person("patient"), id_of(page)
    with portal.session("hospital") as session, session.begin():
        version = version_of(session, record)
        data = stored
        if sealed:
            content = SealedContent(stored, b"no statement").to_bytes()
            vault = portal.keys("hospital").vault
            data = vault.seal_record(session, patient, record, 1, content)
            version.content_digest = hashlib.sha256(stored).digest()
        version.document_digest = hashlib.sha256(data).digest()
        session.get(Document, version.document_id).sealed = data
    distrusted(portal, "patient", page.request.path, MARKER)


def test_the_form_helps_without_a_script(portal: Any) -> None:
    """Units and what is usual stand beside the inputs, and Enter does not sign."""
    browser, form = new_form(portal, "responsible", "laboratory")
    page = browser.get(form.action)
    unit = page.html.find(id="unit-form-kidney-potassium").get_text()
    assert unit == "mmol/L (3.5\u20135.1)"
    parts = [link["href"] for link in page.html.select(".entry__parts a")]
    assert "#form-urine" in parts
    assert all(page.html.find(id=part[1:]) is not None for part in parts)
    first = page.html.find("button", attrs={"form": "form"})
    assert first.has_attr("disabled") and first.has_attr("hidden")
    assert "kept apart" in page.html.find(id="form-sexual-health").get_text()
    assert NUMBERS["patient"] not in str(page.html.select(".entry"))
