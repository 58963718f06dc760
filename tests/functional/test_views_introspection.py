"""What is true of every view that there is, read from the application itself."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from pyramid.interfaces import IDefaultCSRFOptions
from pyramid.security import NO_PERMISSION_REQUIRED

from medportal.access.decisions import ABOUT_A_PATIENT
from medportal.config import NO_SUCH_PERMISSION
from medportal.core.permissions import Permission as P
from medportal.routes import PATIENTS, ROUTES

#: By hand: whoever holds one of these has come to look, and can change nothing by it.
READING = {
    P.HOME_VIEW,
    P.PATIENTS_LIST,
    P.PATIENT_SEE,
    P.PATIENT_BED,
    P.PATIENT_TRANSPORT,
    P.PATIENT_ALERTS,
    P.PATIENT_VITALS,
    P.PATIENT_DEMOGRAPHICS,
    P.RECORD_LIST,
    P.RECORD_READ,
    P.ACCESS_LOG_VIEW,
    P.DELIVERY_FOLLOW,
    P.DELIVERIES_VIEW,
    P.AUDIT_VIEW,
    P.AUDIT_EXPORT,
}
#: What is sent by POST all the same, so that what was sought stands in no address.
SEARCHES = {"audit-find", "audit-export", "record-find"}
#: Views about one patient under a permission that does not look at the patient: they ask
#: themselves whether the patient is there, and who they are.
WITHOUT_THE_PATIENT = {"patient-code", "erasure", "erasure-withdraw"}


@dataclass(frozen=True)
class View:
    """One view of ours: its route (empty for an exception's), methods, permission."""

    route: str
    methods: frozenset[str]
    permission: str
    function: Callable[..., Any]
    checks_token: object

    @property
    def name(self) -> str:
        return f"{self.route}: {self.function.__name__}"

    @property
    def is_unsafe(self) -> bool:
        return not self.methods or bool(self.methods - {"GET", "HEAD"})


def _methods(value: Any) -> frozenset[str]:
    if value is None:
        return frozenset()
    return frozenset([value] if isinstance(value, str) else value)


@pytest.fixture(scope="module")
def views(portal):
    found = []
    for item in portal.app.registry.introspector.get_category("views"):
        view = item["introspectable"]
        function = view["callable"]
        if not (getattr(function, "__module__", "") or "").startswith("medportal."):
            continue
        asked = [r["value"] for r in item["related"] if r.category_name == "permissions"]
        assert len(asked) == 1, function
        found.append(
            View(
                view["route_name"] or "",
                _methods(view["request_methods"]),
                str(asked[0]),
                function,
                view.get("require_csrf"),
            )
        )
    assert len(found) > 90
    return found


def test_every_view_of_a_page_names_a_permission_of_ours_or_says_that_it_is_public(views):
    ours = {str(p) for p in P} | {NO_PERMISSION_REQUIRED}
    for view in views:
        assert view.permission != NO_SUCH_PERMISSION, view.name
        assert view.permission in ours, view.name


def test_views_of_exceptions_are_the_only_ones_without_a_route(views):
    names = {view.function.__name__ for view in views if not view.route}
    assert names == {
        "ask_again",
        "erased",
        "forged",
        "missing",
        "refused",
        "sign_in_again",
        "undecodable",
    }


def test_every_route_leads_to_a_view_and_every_view_hangs_on_a_route_of_the_table(views):
    assert {view.route for view in views if view.route} == {name for name, *_ in ROUTES}


def test_no_unsafe_method_is_behind_a_permission_to_read(views):
    wrong = {
        view.name
        for view in views
        if view.permission in READING and view.is_unsafe and view.route not in SEARCHES
    }
    assert not wrong


def test_every_permission_that_is_not_for_reading_is_for_a_deed():
    """The list above is whole: whatever is new has to be put on one side."""
    deeds = {
        P.ACCOUNT_CHANGE,
        P.PATIENTS_REGISTER,
        P.PATIENTS_FIND,
        P.TEAMS_MANAGE,
        P.DEMOGRAPHICS_KEEP,
        P.SUPPORT_KEEP,
        P.CARE_MANAGE,
        P.RECORD_CREATE,
        P.RECORD_AMEND,
        P.RECORD_EXPORT,
        P.RESULT_ACKNOWLEDGE,
        P.HELD_DECIDE,
        P.ERASURE_DECIDE,
        P.GLASS_BREAK,
        P.RULES_MANAGE,
        P.COMPLAINT_MAKE,
        P.REVIEWS_DECIDE,
        P.COMPLAINTS_ANSWER,
        P.PEOPLE_MANAGE,
        P.APPROVALS_DECIDE,
        P.SETTINGS_MANAGE,
        P.PARTNERS_MANAGE,
    }
    assert not deeds & READING
    assert deeds | READING == set(P)


def test_public_views_that_take_a_form_are_those_for_getting_in(views):
    unsafe = {v.route for v in views if v.permission == NO_PERMISSION_REQUIRED and v.is_unsafe}
    assert unsafe - {""} == {
        "activate",
        "language",
        "reset",
        "reset-finish",
        "sign-in",
        "sign-in-passkey",
        "sign-in-passkey-options",
        "sign-in-second",
        "sign-out",
    }


def test_a_page_about_a_patient_asks_a_decision_that_looks_at_the_patient(views):
    about = {name for name, path, factory, _walk in ROUTES if "{patient}" in path}
    walked = {name for name, _path, factory, walk in ROUTES if factory == PATIENTS and walk}
    assert about == walked, "a page about a patient has the patient as its context"
    for view in views:
        if view.route in about - WITHOUT_THE_PATIENT:
            assert view.permission in ABOUT_A_PATIENT, view.name
        elif view.route not in about:
            assert view.permission not in ABOUT_A_PATIENT, view.name


def test_a_page_about_a_record_has_the_record_as_its_context(views):
    for _name, path, _factory, walk in ROUTES:
        assert ("{record}" in path) == (walk is not None and "{record}" in walk), path
    reading = {view.route for view in views if view.permission == P.RECORD_READ}
    assert reading
    for name, path, *_ in ROUTES:
        if name in reading:
            assert "{record}" in path, name


def test_no_view_waives_the_token_of_its_form(portal, views):
    assert portal.app.registry.queryUtility(IDefaultCSRFOptions).require_csrf is True
    for view in views:
        # What answers an exception must answer also where the token was what was wrong.
        assert not view.route or view.checks_token is not False, view.name


def test_no_number_and_no_name_of_anybody_stands_in_an_address():
    """Placeholders are ids, a ward, or parts of static files."""
    placeholders = {
        placeholder: {n for n, path, *_ in ROUTES if f"{{{placeholder}}}" in path}
        for _name, route, *_ in ROUTES
        for placeholder in re.findall(r"{(\w+)}", route)
    }
    assert not {"number", "email", "q"} & set(placeholders)
    assert placeholders["name"] == {"static", "theme", "authority-file"}
