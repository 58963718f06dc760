"""Who gets which page: a table written by hand and played against the application.

It is not derived from the roles' files or from the decision table: those are what it tests.
``+`` the page, ``-`` the one 404. The patient is looked after by one of each caring role;
``other_doctor`` looks after nobody.
"""

import pytest
from functional_helpers import page_text
from installation import TENANTS
from pyramid.security import NO_PERMISSION_REQUIRED
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from medportal.config import NO_SUCH_PERMISSION
from medportal.core.permissions import Permission
from medportal.delivery.models import Outbox
from medportal.records.models import Record

WORK = (
    "/patients",
    "/patients/register",
    "/patients/find",
    "/patients/{patient}",
    "/patients/{patient}/care",
    "/patients/{patient}/records/new",
    "/patients/{patient}/records/{record}",
    "/deliveries",
    "/audit",
    "/account",
)
ADMINISTRATION = (
    "/people",
    "/people/register",
    "/people/{staff}",
    "/approvals",
    "/settings",
    "/settings/edit",
    "/patients/{patient}/code",
    "/certificates",
    "/partners",
    "/partners/{partner}",
)
CARE = (
    "/wards",
    "/patients/{patient}/admission",
    "/patients/{patient}/support",
    "/patients/{patient}/details",
    "/patients/{patient}/representatives",
    "/patients/{patient}/glass",
)
OVERSIGHT = (
    "/patients/{patient}/rules",
    "/patients/{patient}/rules/new",
    "/patients/{patient}/access-log",
    "/oversight/reviews",
    "/oversight/complaints",
    "/oversight/people/{staff}",
    "/audit/find",
    "/audit/export",
    "/audit/proofs",
)
RECORDS = (
    "/results",
    "/held",
    "/erasures",
    "/patients/{patient}/trends",
    "/patients/{patient}/records/{record}/versions",
    "/patients/{patient}/records/{record}/versions/1",
    "/patients/{patient}/records/{record}/amend",
    "/patients/{patient}/records/{record}/retract",
    "/patients/{patient}/records/{record}/move",
    "/patients/{patient}/records/{record}/file",
    "/patients/{patient}/records/export",
    "/patients/{patient}/erasure",
)
PAGES = WORK + ADMINISTRATION + CARE + OVERSIGHT + RECORDS
#                          list reg  find page care new  rec  deliv audit account
HOSPITAL = {
    "admin":               "-    -    -    -    -    -    -    +    -    +",
    "privacy_officer":     "-    -    -    -    -    -    -    -    +    +",
    "auditor":             "-    -    -    -    -    -    -    -    +    +",
    "doctor":              "+    -    +    +    -    +    +    -    -    +",
    "other_doctor":        "+    -    +    -    -    -    -    -    -    +",
    "nurse":               "+    -    +    +    -    +    +    -    -    +",
    "ward_clerk":          "+    +    +    +    +    -    -    -    -    +",
    "porter":              "+    -    -    +    -    -    -    -    -    +",
    "volunteer":           "+    -    -    +    -    -    -    -    -    +",
    "patient_assistant":   "+    -    -    +    -    -    -    -    -    +",
    "clinical_assistant":  "+    -    -    +    -    -    -    -    -    +",
    "patient":             "-    -    -    +    -    -    +    -    -    +",
}  # fmt: skip
LABORATORY = {
    "admin":               "-    -    -    -    -    -    -    +    -    +",
    "privacy_officer":     "-    -    -    -    -    -    -    -    +    +",
    "auditor":             "-    -    -    -    -    -    -    -    +    +",
    "responsible":         "+    +    +    +    -    +    +    +    -    +",
    "patient":             "-    -    -    +    -    -    +    -    -    +",
}  # fmt: skip
#                          people reg person approvals settings edit code certif partners partner
HOSPITAL_ADMINISTRATION = {
    "admin":               "+    +    +    +    +    +    -    +    +    +",
    "privacy_officer":     "-    -    -    +    -    -    -    -    -    -",
    "auditor":             "-    -    -    -    -    -    -    -    -    -",
    "doctor":              "-    -    -    -    -    -    -    -    -    -",
    "other_doctor":        "-    -    -    -    -    -    -    -    -    -",
    "nurse":               "-    -    -    -    -    -    -    -    -    -",
    "ward_clerk":          "-    -    -    -    -    -    +    -    -    -",
    "porter":              "-    -    -    -    -    -    -    -    -    -",
    "volunteer":           "-    -    -    -    -    -    -    -    -    -",
    "patient_assistant":   "-    -    -    -    -    -    -    -    -    -",
    "clinical_assistant":  "-    -    -    -    -    -    -    -    -    -",
    "patient":             "-    -    -    -    -    -    -    -    -    -",
}  # fmt: skip
LABORATORY_ADMINISTRATION = {
    "admin":               "+    +    +    +    +    +    -    +    +    +",
    "privacy_officer":     "-    -    -    +    -    -    -    -    -    -",
    "auditor":             "-    -    -    -    -    -    -    -    -    -",
    "responsible":         "-    -    -    -    -    -    +    -    -    -",
    "patient":             "-    -    -    -    -    -    -    -    -    -",
}  # fmt: skip
#                          wards admission support details representatives glass
HOSPITAL_CARE = {
    "admin":               "-     -         -       -       -               -",
    "privacy_officer":     "-     -         -       -       -               -",
    "auditor":             "-     -         -       -       -               -",
    "doctor":              "-     -         +       -       -               +",
    "other_doctor":        "-     -         -       -       -               +",
    "nurse":               "-     -         +       -       -               +",
    "ward_clerk":          "+     +         +       +       +               -",
    "porter":              "-     -         -       -       -               -",
    "volunteer":           "-     -         -       -       -               -",
    "patient_assistant":   "-     -         -       -       -               -",
    "clinical_assistant":  "-     -         -       -       -               -",
    "patient":             "-     -         -       -       -               -",
}  # fmt: skip
LABORATORY_CARE = {
    "admin":               "-     -         -       -       -               -",
    "privacy_officer":     "-     -         -       -       -               -",
    "auditor":             "-     -         -       -       -               -",
    "responsible":         "-     -         -       +       +               -",
    "patient":             "-     -         -       -       -               -",
}  # fmt: skip
#                          rules new log  reviews complaints looked-at find export proofs
HOSPITAL_OVERSIGHT = {
    "admin":               "-     -   -    -       -          -         -    -      -",
    "privacy_officer":     "-     -   -    +       +          +         +    +      +",
    "auditor":             "-     -   -    -       -          +         +    +      +",
    "doctor":              "-     -   -    -       -          -         -    -      -",
    "other_doctor":        "-     -   -    -       -          -         -    -      -",
    "nurse":               "-     -   -    -       -          -         -    -      -",
    "ward_clerk":          "-     -   -    -       -          -         -    -      -",
    "porter":              "-     -   -    -       -          -         -    -      -",
    "volunteer":           "-     -   -    -       -          -         -    -      -",
    "patient_assistant":   "-     -   -    -       -          -         -    -      -",
    "clinical_assistant":  "-     -   -    -       -          -         -    -      -",
    "patient":             "+     +   +    -       -          -         -    -      -",
}  # fmt: skip
LABORATORY_OVERSIGHT = {
    "admin":               "-     -   -    -       -          -         -    -      -",
    "privacy_officer":     "-     -   -    +       +          +         +    +      +",
    "auditor":             "-     -   -    -       -          +         +    +      +",
    "responsible":         "-     -   -    -       -          -         -    -      -",
    "patient":             "+     +   +    -       -          -         -    -      -",
}  # fmt: skip
#               results held erasures trends versions one amend retract move file all erasure
HOSPITAL_RECORDS = {
    "admin":               "-  -  +  -  -  -  -  -  -  -  -  -",
    "privacy_officer":     "-  -  +  -  -  -  -  -  -  -  -  +",
    "auditor":             "-  -  -  -  -  -  -  -  -  -  -  -",
    "doctor":              "+  -  -  +  +  +  +  +  +  +  +  -",
    "other_doctor":        "+  -  -  -  -  -  -  -  -  -  -  -",
    "nurse":               "+  -  -  +  +  +  +  +  +  -  -  -",
    "ward_clerk":          "-  +  -  -  -  -  -  -  -  -  -  -",
    "porter":              "-  -  -  -  -  -  -  -  -  -  -  -",
    "volunteer":           "-  -  -  -  -  -  -  -  -  -  -  -",
    "patient_assistant":   "-  -  -  -  -  -  -  -  -  -  -  -",
    "clinical_assistant":  "-  -  -  -  -  -  -  -  -  -  -  -",
    "patient":             "-  -  -  +  +  +  -  -  -  +  +  -",
}  # fmt: skip
LABORATORY_RECORDS = {
    "admin":               "-  -  +  -  -  -  -  -  -  -  -  -",
    "privacy_officer":     "-  -  +  -  -  -  -  -  -  -  -  +",
    "auditor":             "-  -  -  -  -  -  -  -  -  -  -  -",
    "responsible":         "-  +  -  +  +  +  +  +  +  -  -  -",
    "patient":             "-  -  -  +  +  +  -  -  -  +  +  -",
}  # fmt: skip
PUBLIC = {
    "static",
    "theme",
    "sign-in",
    "sign-in-second",
    "sign-in-passkey",
    "sign-in-passkey-options",
    "reset",
    "reset-finish",
    "demonstration-mail",
    "demonstration-mail-one",
    "sign-out",
    "activate",
    "language",
    "healthz",
    "help",
    "privacy",
    "accessibility",
    "authority-file",
    # Answers the edge alone: tests/functional/test_edge_keys_page.py.
    "edge-keys",
}
CASES = [
    (tenant, role, pages, row)
    for tenant, pages, table in (
        ("hospital", WORK, HOSPITAL),
        ("laboratory", WORK, LABORATORY),
        ("hospital", ADMINISTRATION, HOSPITAL_ADMINISTRATION),
        ("laboratory", ADMINISTRATION, LABORATORY_ADMINISTRATION),
        ("hospital", CARE, HOSPITAL_CARE),
        ("laboratory", CARE, LABORATORY_CARE),
        ("hospital", OVERSIGHT, HOSPITAL_OVERSIGHT),
        ("laboratory", OVERSIGHT, LABORATORY_OVERSIGHT),
        ("hospital", RECORDS, HOSPITAL_RECORDS),
        ("laboratory", RECORDS, LABORATORY_RECORDS),
    )
    for role, row in table.items()
]


@pytest.fixture(scope="module")
def records(portal):
    """Give one record at each institution."""
    made = {}
    for tenant, role in (("hospital", "doctor"), ("laboratory", "responsible")):
        browser = portal.signed_in(role, tenant)
        path = f"/patients/{portal.person('patient', tenant)}/records/new"
        form = browser.get(path).forms["form"]
        form["effective"], form["body-temperature"] = "03/02/2026", "37.1"
        assert form.submit().status_int == 303
        with portal.session(tenant) as session:
            made[tenant] = session.scalars(select(Record.id)).one()
    return made


@pytest.mark.parametrize(("tenant", "role", "pages", "row"), CASES)
def test_the_table(portal, records, tenant, role, pages, row):
    browser = portal.signed_in(role, tenant)
    names = {"patient": portal.person("patient", tenant), "record": records[tenant]}
    names["staff"] = portal.person("auditor", tenant)
    names["partner"] = next(each for each in TENANTS if each != tenant)
    got = []
    for page in pages:
        answer = browser.get(page.format(**names), expect_errors=True)
        assert answer.status_int in (200, 404), (page, answer.status)
        got.append("+" if answer.status_int == 200 else "-")
    assert got == row.split()


# Who may do what, by POST: everybody else gets the one 404, also with a genuine token.
DEEDS = {
    "/patients/register": {"ward_clerk"},
    "/patients/find": {"doctor", "other_doctor", "nurse", "ward_clerk"},
    "/patients/{patient}/care": {"ward_clerk"},
    "/patients/{patient}/care/{assignment}/end": {"ward_clerk"},
    "/patients/{patient}/records/new": {"doctor", "nurse"},
    "/patients/{patient}/code": {"ward_clerk"},
    "/patients/{patient}/records/find": {"doctor", "nurse", "patient"},
    "/patients/{patient}/records/export": {"doctor", "patient"},
    "/patients/{patient}/records/{record}/file": {"doctor", "patient"},
    "/patients/{patient}/records/{record}/amend": {"doctor", "nurse"},
    "/patients/{patient}/records/{record}/retract": {"doctor", "nurse"},
    "/patients/{patient}/records/{record}/move": {"doctor", "nurse"},
    "/patients/{patient}/records/{record}/acknowledge": {"doctor", "nurse"},
    "/patients/{patient}/erasure": {"privacy_officer"},
    "/patients/{patient}/erasure/withdraw": {"privacy_officer"},
    "/erasures": {"privacy_officer"},
    "/erasures/{assignment}": {"admin", "privacy_officer"},
    "/held/laboratory/{assignment}": {"ward_clerk"},
    "/patients/{patient}/support": {"doctor", "nurse", "ward_clerk"},
    "/patients/{patient}/admission": {"ward_clerk"},
    "/patients/{patient}/details": {"ward_clerk"},
    "/patients/{patient}/details/{assignment}/agree": {"ward_clerk"},
    "/patients/{patient}/details/{assignment}/withdraw": {"ward_clerk"},
    "/patients/{patient}/representatives": {"ward_clerk"},
    "/patients/{patient}/representatives/{assignment}/agree": {"ward_clerk"},
    "/patients/{patient}/representatives/{assignment}/end": {"ward_clerk"},
    "/patients/{patient}/glass": {"doctor", "other_doctor", "nurse"},
    "/patients/{patient}/glass/{assignment}/end": {"doctor", "other_doctor", "nurse"},
    "/patients/{patient}/rules/new": {"patient"},
    "/patients/{patient}/rules/{assignment}": {"patient"},
    "/patients/{patient}/rules/{assignment}/end": {"patient"},
    "/patients/{patient}/access-log/{assignment}": {"patient"},
    "/wards/Cardiology/team": {"ward_clerk"},
    "/wards/Cardiology/team/{assignment}/end": {"ward_clerk"},
    "/oversight/reviews/{assignment}": {"privacy_officer"},
    "/oversight/complaints/{assignment}": {"privacy_officer"},
    "/audit/find": {"privacy_officer", "auditor"},
    "/audit/export": {"privacy_officer", "auditor"},
    "/people": {"admin"},
    "/people/find": {"admin"},
    "/people/register": {"admin"},
    "/people/{staff}/roles/add": {"admin"},
    "/people/{staff}/roles/remove": {"admin"},
    "/people/{staff}/suspend": {"admin"},
    "/people/{staff}/reinstate": {"admin"},
    "/people/{staff}/code": {"admin"},
    "/people/{staff}/link": {"admin"},
    "/people/{staff}/email": {"admin"},
    "/people/{staff}/email/cancel": {"admin"},
    "/people/{staff}/second-factor": {"admin"},
    "/people/{staff}/sessions/end": {"admin"},
    "/approvals/{approval}": {"admin", "privacy_officer"},
    "/settings/edit": {"admin"},
    "/partners/laboratory/hold": {"admin"},
    "/partners/laboratory/let-go": {"admin"},
    "/partners/laboratory/again": {"admin"},
}


@pytest.mark.parametrize("role", HOSPITAL)
@pytest.mark.parametrize("deed", DEEDS)
def test_deeds_of_others_are_not_there(portal, records, role, deed):
    browser = portal.signed_in(role)
    names = {"assignment": "0" * 32, "approval": "0" * 32}
    names["record"] = records["hospital"]
    path = deed.format(patient=portal.person("patient"), staff=portal.person("porter"), **names)
    answer = browser.post(path, {"__formid__": "form"}, expect_errors=True)
    if role in DEEDS[deed] and "{assignment}" not in deed and "{approval}" not in deed:
        # Allowed, and told what is missing in an empty form; a deed without one is done.
        assert answer.status_int in (200, 303, 422)
    else:
        assert answer.status_int == 404


def test_delivery_states_are_for_those_who_follow_them(portal, records):
    patient = portal.person("patient", "laboratory")
    with portal.session("laboratory") as session:
        tid = session.scalars(select(Outbox.tid)).one()
    path = f"/patients/{patient}/records/{records['laboratory']}/delivery/{tid}"
    told = portal.signed_in("responsible", "laboratory").get(path).json
    assert told["state"] == "waiting" and told["final"] is False
    for role in ("patient", "admin", "auditor"):
        portal.signed_in(role, "laboratory").get(path, status=404)
    portal.signed_in("responsible", "laboratory").get(path[:-1] + "x", status=404)
    portal.signed_in("doctor").get(path, status=404)


@pytest.mark.parametrize("page", PAGES)
def test_nobody_gets_the_sign_in_whether_it_exists_or_not(portal, records, page):
    names = {"patient": portal.person("patient"), "record": records["hospital"]}
    names |= {"staff": portal.person("porter"), "partner": "laboratory"}
    there = portal.browser().get(page.format(**names), status=303)
    absent = portal.browser().get("/no/such/page", status=303)
    assert there.location.split("?")[0] == absent.location.split("?")[0]
    assert "/sign-in" in there.location


@pytest.mark.parametrize("page", PAGES)
def test_nothing_of_the_neighbour_is_reached(portal, records, page):
    """Ids and cookies of the laboratory at the hospital are like things that do not exist."""
    browser = portal.signed_in("doctor")
    names = {"patient": portal.person("patient", "laboratory"), "record": records["laboratory"]}
    names |= {"staff": portal.person("auditor", "laboratory"), "partner": "laboratory"}
    if "{" in page:
        foreign = browser.get(page.format(**names), expect_errors=True)
        nobody = {"patient": "0" * 32, "record": "0" * 32, "staff": "0" * 32, "partner": "nobody"}
        absent = browser.get(page.format(**nobody), expect_errors=True)
        assert foreign.status_int == absent.status_int == 404
    visitor = portal.signed_in("responsible", "laboratory")
    stranger = portal.browser("hospital")
    for name, value in visitor.cookies.items():
        stranger.app.set_cookie(name, value)
        stranger.app.set_cookie(name.replace("laboratory", "hospital"), value)
    answer = stranger.get(page.format(**names), expect_errors=True)
    assert answer.status_int == 303 and "/sign-in" in answer.location


def test_porter_and_volunteer_see_what_they_may_and_no_more(portal, records):
    path = f"/patients/{portal.person('patient')}"
    porter = page_text(portal.signed_in("porter").get(path))
    volunteer = page_text(portal.signed_in("volunteer").get(path))
    assert "Amanda Júlio" in porter and "Cardiology" in porter and "Bed 12" in porter
    assert "Amanda Júlio" in volunteer and "Cardiology" in volunteer and "Bed" not in volunteer
    for page in (porter, volunteer):
        assert "1980" not in page and "17645234" not in page and "Records" not in page


def test_denials_are_audited_with_their_reason(portal, records):
    browser = portal.signed_in("other_doctor")
    browser.get(f"/patients/{portal.person('patient')}", status=404)
    browser.get(f"/patients/{'0' * 32}", status=404)
    browser.get("/nothing/here", status=404)
    mine = [e for e in portal.events("hospital") if e[2] == portal.person("other_doctor")]
    denied = [e for e in mine if e[:2] == ("access-denied", "denied")]
    assert {e[3] for e in denied[-3:]} == {portal.person("patient"), "0" * 32, None}


def test_a_denial_that_cannot_be_written_is_503(portal, records, monkeypatch):
    def broken(session, event):
        raise OperationalError("insert", {}, OSError("full"))

    browser = portal.signed_in("other_doctor")
    monkeypatch.setattr("medportal.access.denials.append", broken)
    answer = browser.get(f"/patients/{portal.person('patient')}", expect_errors=True)
    assert answer.status_int == 503


def test_every_view_names_a_permission(portal):
    """A view that forgets asks for one that nobody has; the signed-in ones name one of ours."""
    introspector = portal.app.registry.introspector
    found = {}
    for item in introspector.get_category("views"):
        view = item["introspectable"]
        module = getattr(view["callable"], "__module__", "") or ""
        if module.startswith("medportal.") and view["route_name"]:
            asked = [r["value"] for r in item["related"] if r.category_name == "permissions"]
            key = (view["route_name"], view["request_methods"], view["callable"].__name__)
            found[key] = asked
    assert len(found) > 15
    assert not [key for key, asked in found.items() if asked == [NO_SUCH_PERMISSION]]
    public = {key[0] for key, asked in found.items() if asked == [NO_PERMISSION_REQUIRED]}
    assert public == PUBLIC
    ours = {str(permission) for permission in Permission}
    assert {str(a) for asked in found.values() for a in asked} <= ours | {NO_PERMISSION_REQUIRED}
