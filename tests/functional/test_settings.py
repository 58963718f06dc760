"""The institution's settings: seen, changed and taken back by its admins, and by nobody else."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from functional_helpers import page_text
from pictures import END, SIGNATURE, chunk, header, pixels, png
from sqlalchemy import delete, insert, select, update
from webtest import TestApp, TestResponse, Upload

from medportal.audit.events import Event
from medportal.audit.models import AuditEvent
from medportal.config import make_app
from medportal.core.clock import utcnow
from medportal.identity.models import LoginSession
from medportal.tenancy.models import SettingsVersion
from medportal.tenancy.registry import TenantRegistry

TENANTS = ("hospital", "laboratory")
OTHERS = [
    ("hospital", "privacy_officer"),
    ("hospital", "auditor"),
    ("hospital", "doctor"),
    ("hospital", "nurse"),
    ("hospital", "ward_clerk"),
    ("hospital", "porter"),
    ("hospital", "patient"),
    ("laboratory", "responsible"),
    ("laboratory", "privacy_officer"),
    ("laboratory", "patient"),
]
PARTS = ("names", "colours", "logo", "contact", "passwords", "sessions", "second_factor")
PAGES = (
    "/settings",
    "/settings/versions/0",
    "/settings/edit",
    *(f"/settings/edit?part={part}" for part in PARTS),
)


class Hands:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(portal) -> Iterator[Hands]:
    """Stop the clock of the portal's looks at its settings; afterwards nothing is changed."""
    hands = Hands()
    before = portal.app.registry["tenants"]
    portal.app.registry["tenants"] = TenantRegistry(portal.settings.tenants, hands)
    yield hands
    for tenant in TENANTS:
        with portal.session(tenant) as session, session.begin():
            session.execute(delete(SettingsVersion))
    portal.app.registry["tenants"].dispose()
    portal.app.registry["tenants"] = before


@pytest.fixture
def admin(portal, clock) -> Any:
    return portal.signed_in("admin")


def change(browser: Any, part: str, **fields: Any) -> TestResponse:
    """Change a part of the settings as a browser does."""
    form = browser.get(f"/settings/edit?part={part}").forms["form"]
    for name, value in fields.items():
        form[name] = value
    return form.submit(expect_errors=True)


def upload(browser: Any, data: bytes, name: str = "logo.png") -> TestResponse:
    return change(browser, "logo", logo=Upload(name, data, "image/png"))


def versions(portal: Any, tenant: str = "hospital") -> list[SettingsVersion]:
    with portal.session(tenant) as session:
        return list(session.scalars(select(SettingsVersion).order_by(SettingsVersion.version)))


def changes(portal: Any, tenant: str = "hospital") -> dict[str, Any]:
    """Return what differs from the file now."""
    rows = versions(portal, tenant)
    found: dict[str, Any] = json.loads(rows[-1].changes) if rows else {}
    return found


def events_of(portal: Any, action: str, tenant: str = "hospital") -> list[Event]:
    with portal.session(tenant) as session:
        bodies = session.scalars(
            select(AuditEvent.body).where(AuditEvent.action == action).order_by(AuditEvent.at)
        ).all()
    return [Event.from_bytes(body) for body in bodies]


def header_of(page: TestResponse) -> str:
    return str(page.html.find("header").get_text(" ", strip=True))


def theme(page: TestResponse) -> str:
    """Return the address of a page's theme."""
    found = re.search(r'href="(/theme/[0-9a-f]+/theme\.css)"', page.text)
    assert found
    return found[1]


# What is seen, and by whom.


@pytest.mark.parametrize("tenant", TENANTS)
def test_an_admin_sees_how_the_institution_runs(portal, clock, tenant) -> None:
    page = portal.signed_in("admin", tenant).get("/settings")
    own = portal.settings.tenant(tenant)
    text = page_text(page)
    for expected in (
        *own.names.values(),
        *own.hostnames,
        *own.colours.values(),
        *own.staff_networks,
        *own.wards,
        own.contact.phone,
        own.contact.email,
        own.address,
        own.mail.server,
        own.mail.sender,
        own.time_zone,
        "15 characters",
        "30 minutes",
        "12 hours",
        "72 hours",
        "Demanded (STARTTLS)",
        *(f"{role.names['en']} ({role.id})" for role in own.roles.values()),
        "Write records",
        "For oneself: See a patient's name",
        "Nothing has been changed here yet",
    ):
        assert expected in text, expected
    assert page.text.count(">Change<") == len(PARTS)


@pytest.mark.parametrize("tenant", TENANTS)
def test_nothing_secret_nor_where_it_lies_is_shown(portal, clock, tenant) -> None:
    own = portal.settings.tenant(tenant)
    browser = portal.signed_in("admin", tenant)
    for page in PAGES:
        answer = browser.get(page)
        for secret in (
            own.database_url,
            own.mail.password_file,
            own.mail.ca_file,
            str(portal.settings.state),
            "password_file",
            ".toml",
            ".sqlite",
        ):
            assert secret not in answer.text, (page, secret)


def test_in_portuguese_too(portal, admin) -> None:
    admin.app.set_cookie("__Host-lang", "pt")
    text = page_text(admin.get("/settings"))
    assert portal.settings.tenant("hospital").roles["doctor"].names["pt"] in text


@pytest.mark.parametrize(("tenant", "role"), OTHERS)
def test_nobody_else_sees_or_changes_anything(portal, clock, tenant, role) -> None:
    browser = portal.signed_in(role, tenant)
    for page in PAGES:
        answer = browser.get(page, expect_errors=True)
        assert answer.status_int == 404
        assert "Page not found" in answer.text
        posted = browser.post(page, {"version": "0", "en": "X", "pt": "X"}, expect_errors=True)
        assert posted.status_int == 404
    assert versions(portal, tenant) == []


def test_strangers_are_sent_to_the_sign_in(portal, clock) -> None:
    for page in PAGES:
        browser = portal.browser()
        assert "/sign-in" in browser.get(page, status=303).location
        browser.post(page, {"version": "0", "en": "X", "pt": "X"}, status=303)
    assert versions(portal) == []


@pytest.mark.parametrize(
    "page",
    [
        "/settings/edit?part=",
        "/settings/edit?part=roles",
        "/settings/edit?part=names&part=roles",
        "/settings/versions/1",
        "/settings/versions/-1",
        "/settings/versions/01",
        "/settings/versions/%D9%A3",
        "/settings/versions/9999999999999999999999",
        "/settings/versions/x",
        "/settings?before=x",
        "/settings?before=-1",
    ],
)
def test_what_is_not_there_is_not_found(admin, page) -> None:
    assert admin.get(page, status="*").status_int == 404


def test_an_address_that_names_no_part_shows_what_there_is(portal, admin, clock) -> None:
    page = admin.get("/settings/edit")
    for part in PARTS:
        assert f'href="/settings/edit?part={part}"' in page.text
    admin.post("/settings/edit", {"version": "0", "en": "X", "pt": "X"}, status=303)
    # Only the address names a part, never what is sent to it.
    sent = {"part": "names", "version": "0", "en": "X", "pt": "X"}
    assert admin.post("/settings/edit", sent, status="*").status_int == 404
    assert versions(portal) == []
    with_file(portal, clock, editable=frozenset())
    assert "leaves nothing to be changed here" in page_text(admin.get("/settings/edit"))


# Changes.


def test_a_change_counts_at_once_here_and_soon_in_another_process(portal, admin, clock) -> None:
    other = make_app(portal.raw)
    elsewhere = Hands()
    other.registry["tenants"].dispose()
    other.registry["tenants"] = TenantRegistry(portal.settings.tenants, elsewhere)
    there = TestApp(other, extra_environ=portal.browser().app.extra_environ)
    assert "Riverside Hospital" in there.get("/help").text

    assert (
        change(admin, "names", en="Hospital of the River", pt="Hospital do Rio").status_int == 303
    )
    page = admin.get("/settings")
    assert "Hospital of the River" in page.html.title.string
    assert "Hospital of the River" in header_of(page)
    assert "Hospital do Rio" in page_text(page)
    stranger = portal.browser().get("/sign-in", headers={"Accept-Language": "pt"})
    assert "Hospital do Rio" in header_of(stranger)

    assert "Riverside Hospital" in there.get("/help").text
    elsewhere.now += 2
    assert "Hospital of the River" in there.get("/help").text
    other.registry["tenants"].dispose()
    # The neighbour, on the same process, is who it was.
    neighbour = portal.browser("laboratory").get("/help")
    assert portal.settings.tenant("laboratory").names["en"] in header_of(neighbour)
    assert "River" not in neighbour.text


def test_colours_reach_browsers_at_once_though_they_keep_the_old_ones(portal, admin) -> None:
    old = theme(admin.get("/help"))
    assert "immutable" in admin.get(old).headers["Cache-Control"]
    response = change(admin, "colours", brand=" #ABC ", brand_text="000000", accent="#123456")
    assert response.status_int == 303
    new = theme(admin.get("/help"))
    assert new != old
    sheet = admin.get(new)
    assert "--brand: #aabbcc;" in sheet.text
    assert "immutable" in sheet.headers["Cache-Control"]
    # A page of before gets the new look, and does not keep it under the old name.
    assert admin.get(old).headers["Cache-Control"] == "no-store"
    assert "#aabbcc" in admin.get("/settings").text
    assert theme(portal.browser("laboratory").get("/help")) != new


def test_a_logo_stands_beside_the_name_until_it_is_taken_away(portal, admin) -> None:
    own = png(120, 40, more=chunk(b"tEXt", b"Author\0somebody")) + b"<script>"
    assert upload(admin, own, "../../<script>.svg").status_int == 303
    page = portal.browser().get("/help")
    image = page.html.find("header").find("img")
    assert image["alt"] == ""
    answer = portal.browser().get(image["src"], headers={"Accept-Encoding": "gzip"})
    assert answer.body == png(120, 40)
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "immutable" in answer.headers["Cache-Control"]
    assert "Content-Encoding" not in answer.headers
    assert "120 by 40 pixels" in page_text(admin.get("/settings"))
    # The neighbour has none, under whatever address.
    neighbour = portal.browser("laboratory")
    assert neighbour.get("/help").html.find("header").find("img") is None
    assert neighbour.get(image["src"], status="*").status_int == 404

    assert change(admin, "logo", remove=True).status_int == 303
    assert admin.get("/help").html.find("header").find("img") is None
    assert admin.get(image["src"], status="*").status_int == 404
    assert [bool(row.logo) for row in versions(portal)] == [True, False]


def test_people_find_how_to_reach_the_institution(portal, admin) -> None:
    response = change(
        admin,
        "contact",
        phone="+351 211 (000) 111",
        email="ask+us%3F@river.example",
        address="Rua Nova 2",
    )
    assert response.status_int == 303
    page = portal.browser().get("/help")
    for place in (page.html.find("footer"), page.html.find("main")):
        links = {link["href"] for link in place.find_all("a")}
        assert {"tel:+351211000111", "mailto:ask+us%253F@river.example"} <= links
        assert "Rua Nova 2" in place.get_text()
    assert change(admin, "contact", phone="", email="", address="").status_int == 303
    page = portal.browser().get("/help")
    assert "How to reach us" not in page.text
    assert "mailto:" not in page.text


def test_stricter_times_act_on_open_sessions(portal, admin) -> None:
    nurse = portal.signed_in("nurse")
    nurse.get("/account", status=200)
    with portal.session("hospital") as session, session.begin():
        session.execute(
            update(LoginSession)
            .where(LoginSession.person_id == portal.person("nurse"))
            .values(last_used_at=utcnow() - timedelta(minutes=9))
        )
    assert change(admin, "sessions", idle_minutes="8").status_int == 303
    assert "/sign-in" in nurse.get("/account", status=303).location
    # What keeps house knows it too: the session is deleted, long before the file would.
    portal.jobs("hospital").turn(utcnow())
    with portal.session("hospital") as session:
        people = set(session.scalars(select(LoginSession.person_id)))
    assert portal.person("nurse") not in people


def test_a_second_proof_for_staff_who_are_elsewhere(portal, admin) -> None:
    doctor = portal.signed_in("doctor")
    doctor.app.extra_environ["REMOTE_ADDR"] = "203.0.113.9"
    doctor.get("/patients", status=200)
    assert change(admin, "second_factor", remote_staff=True).status_int == 303
    assert doctor.get("/patients", status="*").status_int == 404
    doctor.app.extra_environ["REMOTE_ADDR"] = "127.0.0.1"
    doctor.get("/patients", status=200)


def test_nobody_shuts_themselves_out_with_it(portal, admin) -> None:
    admin.app.extra_environ["REMOTE_ADDR"] = "203.0.113.9"
    answer = change(admin, "second_factor", remote_staff=True)
    assert answer.status_int == 422
    assert "this would close your own pages" in page_text(answer)
    assert versions(portal) == []


def test_longer_passwords(portal, admin) -> None:
    assert change(admin, "passwords", minimum_length="21").status_int == 303
    assert "21" in page_text(portal.signed_in("porter").get("/account/password"))


def test_only_what_differs_is_kept_and_a_change_back_is_a_version_too(portal, admin) -> None:
    assert change(admin, "passwords", minimum_length="0020 ").status_int == 303
    assert changes(portal) == {"passwords": {"minimum_length": 20}}
    assert change(admin, "names", en="  River   Hospital ").status_int == 303
    assert changes(portal) == {
        "passwords": {"minimum_length": 20},
        "names": {"en": "River Hospital"},
    }
    assert change(admin, "passwords", minimum_length="15").status_int == 303
    assert changes(portal) == {"names": {"en": "River Hospital"}}
    again = change(admin, "names")
    assert again.status_int == 422
    assert "Nothing is different" in again.text
    assert change(admin, "logo").status_int == 422
    assert [row.version for row in versions(portal)] == [1, 2, 3]


# Input that is hostile, or merely clumsy.

TEN_MEGABYTES = "x" * 10_000_000
BAD = [
    # Less strict than the file.
    ("passwords", {"minimum_length": "14"}, "keep to the given range"),
    ("passwords", {"minimum_with_second_factor": "1"}, "Check how this is written"),
    ("passwords", {"minimum_length": "25"}, "keep to the given range"),
    ("passwords", {"minimum_length": "65"}, "Check how this is written"),
    ("passwords", {"minimum_length": "1e2"}, "whole number"),
    ("passwords", {"minimum_length": "２０"}, "whole number"),
    ("passwords", {"minimum_length": "-20"}, "whole number"),
    ("passwords", {"minimum_length": "2_0"}, "whole number"),
    ("passwords", {"minimum_length": "9" * 500}, "whole number"),
    ("passwords", {"minimum_length": ""}, "Fill this in"),
    ("sessions", {"idle_minutes": "31"}, "keep to the given range"),
    ("sessions", {"idle_minutes": "4"}, "keep to the given range"),
    ("sessions", {"absolute_minutes": "721"}, "keep to the given range"),
    ("sessions", {"idle_minutes": "0"}, "Check how this is written"),
    # Names.
    ("names", {"en": ""}, "Fill this in"),
    ("names", {"en": " \u00a0 "}, "Fill this in"),
    ("names", {"en": "<script>alert(1)</script>"}, "Latin letters"),
    ("names", {"pt": "Hospitаl da Ribeira"}, "Latin letters"),
    ("names", {"en": "Hospital \u202elatipsoH"}, "Check how this is written"),
    ("names", {"en": "x" * 121}, "120"),
    ("names", {"en": "x" * 19_000}, "120"),
    # Colours.
    ("colours", {"brand": "red"}, "Write a colour as #"),
    ("colours", {"brand": "#12345g"}, "Write a colour as #"),
    ("colours", {"accent": "url(//x)"}, "7"),
    ("colours", {"brand_text": "}*{"}, "Write a colour as #"),
    ("colours", {"brand_text": "#0b5f7c"}, "the contrast is 1.3, and 4.5 is needed. #ffffff"),
    ("colours", {"brand": "#ffffff"}, "the contrast is 1.0, and 4.5 is needed. #000000"),
    ("colours", {"accent": "#888888"}, "the contrast is 3.5, and 4.5 is needed. #747474"),
    # Contact.
    ("contact", {"phone": "javascript:alert(1)"}, "as it is dialled"),
    ("contact", {"phone": "1"}, "as it is dialled"),
    ("contact", {"phone": "+351 210 000 000" * 3}, "40"),
    ("contact", {"email": "help@river.example\r\nBcc: x@y.example"}, "Write an email address"),
    ("contact", {"email": "help"}, "Write an email address"),
    ("contact", {"email": "help@river.example?cc=x@y.example"}, "Write an email address"),
    ("contact", {"address": "<img src=x>"}, "Latin letters"),
    ("contact", {"address": "x" * 201}, "200"),
]


@pytest.mark.parametrize(("part", "fields", "words"), BAD)
def test_what_does_not_fit_is_told_at_its_field(portal, admin, part, fields, words) -> None:
    answer = change(admin, part, **fields)
    assert answer.status_int == 422
    (name,) = fields
    assert words in page_text(answer)
    field = "brand_text" if "contrast" in words and name == "brand" else name
    assert f'href="#form-{field}"' in answer.text, "the summary leads to the field"
    assert "<script>alert" not in answer.text
    assert "<img src=x>" not in answer.text
    assert versions(portal) == []


def test_nothing_typed_is_lost_with_a_mistake(admin) -> None:
    answer = change(admin, "contact", phone="1", email="new@river.example", address="Rua Nova 2")
    form = answer.forms["form"]
    assert (form["phone"].value, form["email"].value) == ("1", "new@river.example")
    assert form["address"].value == "Rua Nova 2"


def test_a_name_in_composed_letters_whatever_the_keyboard(portal, admin) -> None:
    assert change(admin, "names", pt="Hospital Sa\u0303o Joa\u0303o").status_int == 303
    assert changes(portal) == {"names": {"pt": "Hospital São João"}}


@pytest.mark.parametrize("part", ["names", "colours", "contact"])
@pytest.mark.parametrize(
    ("value", "status"), [(TEN_MEGABYTES, 413), ("x" * 30_000, 400), ("a\x00b", 400)]
)
def test_what_no_page_of_ours_sends(portal, admin, part, value, status) -> None:
    field = {"names": "en", "colours": "brand", "contact": "phone"}[part]
    assert change(admin, part, **{field: value}).status_int == status
    assert versions(portal) == []


@pytest.mark.parametrize("version", ["", "x", "-1", "1.0", "٣", "9" * 30, "0 OR 1=1"])
def test_a_version_that_no_page_of_ours_sends(portal, admin, version) -> None:
    fields = {"version": version, "en": "X", "pt": "X"}
    assert admin.post("/settings/edit?part=names", fields, status="*").status_int in {400, 422}
    answer = admin.post("/settings/versions/0", {"seen": version}, status="*")
    assert answer.status_int == 400
    assert versions(portal) == []


PICTURES = [
    (b"", "Nothing is different"),
    (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "no PNG"),
    (b"GIF89a" + bytes(100), "no PNG"),
    (b"<!doctype html><script>alert(1)</script>" + png(), "no PNG"),
    (png()[:-4], "damaged or unusual"),
    (png().replace(b"IDAT", b"iDAT"), "damaged or unusual"),
    (SIGNATURE + header(60_000, 60_000) + pixels() + END, "too many pixels"),
    (png(8, 8), "too small"),
    (png() + bytes(64 * 1024), "too large"),
]


@pytest.mark.parametrize(("data", "words"), PICTURES)
def test_pictures_that_are_not_taken(portal, admin, data, words) -> None:
    answer = upload(admin, data)
    assert answer.status_int == 422
    assert words in page_text(answer)
    assert versions(portal) == []


def test_a_picture_with_many_ampersands_is_a_picture(portal, admin) -> None:
    """Forms are counted by their ampersands before they are read; files are not."""
    data = SIGNATURE + header() + pixels(value=ord("&"), level=0) + END
    assert upload(admin, data).status_int == 303
    assert versions(portal)[0].logo == data


@pytest.mark.parametrize(
    ("fields", "files"),
    [
        ({"logo": "text in place of a file"}, []),
        ({"logo": ""}, [("version", "v", b"0")]),
        ({}, [("logo", "a.png", png()), ("other", "b.png", png())]),
        ({}, [("logo", f"{n}.png", b"x") for n in range(30)]),
    ],
)
def test_files_where_no_browser_sends_them(portal, admin, fields, files) -> None:
    fields = {"csrf_token": admin.token(), "version": "0", **fields}
    answer = admin.app.post(
        "/settings/edit?part=logo", fields, upload_files=files, expect_errors=True
    )
    assert answer.status_int in {400, 422}
    assert versions(portal) == []


def test_a_file_is_taken_nowhere_else(portal, admin) -> None:
    answer = admin.app.post(
        "/settings/edit?part=names",
        {"csrf_token": admin.token(), "version": "0", "pt": "X"},
        upload_files=[("en", "a.png", png())],
        expect_errors=True,
    )
    assert answer.status_int == 400
    assert versions(portal) == []


def test_a_form_of_elsewhere_changes_nothing(portal, admin) -> None:
    fields = {"version": "0", "en": "X", "pt": "X"}
    assert admin.app.post("/settings/edit?part=names", fields, status="*").status_int == 403
    token = {"csrf_token": admin.token(), **fields}
    crossed = {"Sec-Fetch-Site": "cross-site"}
    answer = admin.app.post("/settings/edit?part=names", token, headers=crossed, status="*")
    assert answer.status_int == 403
    assert versions(portal) == []


# Two admins at once.


def test_of_two_admins_the_second_is_told_and_loses_nothing(portal, admin) -> None:
    second = portal.signed_in("admin")
    form = second.get("/settings/edit?part=contact").forms["form"]
    assert change(admin, "contact", phone="+351 211 111 111").status_int == 303
    form["phone"], form["address"] = "+351 222 222 222", "Rua Nova 2"
    answer = form.submit(expect_errors=True)
    assert answer.status_int == 422
    text = page_text(answer)
    assert "Somebody else changed this while you had the page open" in text
    assert "+351 211 111 111" in text
    assert "Person admin" in text
    assert len(versions(portal)) == 1
    typed = answer.forms["form"]
    assert (typed["phone"].value, typed["address"].value) == ("+351 222 222 222", "Rua Nova 2")
    # Whoever has seen what is in force now may save again.
    assert typed.submit().status_int == 303
    assert changes(portal) == {"contact": {"phone": "+351 222 222 222", "address": "Rua Nova 2"}}
    (refused,) = [e for e in events_of(portal, "settings-changed") if e.outcome == "denied"][-1:]
    assert refused.reasons == ("overtaken",)


def test_a_double_click_saves_once(portal, admin) -> None:
    form = admin.get("/settings/edit?part=names").forms["form"]
    form["en"] = "River Hospital"
    assert form.submit().status_int == 303
    # The back button shows the old page again, and sends what it showed.
    assert form.submit(expect_errors=True).status_int == 422
    assert len(versions(portal)) == 1


def test_what_others_change_elsewhere_is_kept(portal, admin) -> None:
    second = portal.signed_in("admin")
    form = second.get("/settings/edit?part=contact").forms["form"]
    assert change(admin, "names", en="River Hospital").status_int == 303
    form["phone"] = "+351 222 222 222"
    assert form.submit().status_int == 303
    assert changes(portal) == {
        "names": {"en": "River Hospital"},
        "contact": {"phone": "+351 222 222 222"},
    }


def test_a_logo_that_somebody_else_changed_meanwhile(portal, admin) -> None:
    second = portal.signed_in("admin")
    form = second.get("/settings/edit?part=logo").forms["form"]
    assert upload(admin, png(100, 100)).status_int == 303
    form["logo"] = Upload("b.png", png(50, 50), "image/png")
    answer = form.submit(expect_errors=True)
    assert answer.status_int == 422
    assert "100 by 100 pixels" in page_text(answer)
    assert versions(portal)[-1].logo == png(100, 100)


def test_two_who_save_at_the_same_moment(portal, clock) -> None:
    """The database lets one of them through; the other is tried again and then told."""
    forms = [
        portal.signed_in("admin").get("/settings/edit?part=names").forms["form"] for _ in range(4)
    ]
    barrier = threading.Barrier(len(forms))
    statuses: list[int] = []

    def send(form: Any, name: str) -> None:
        form["en"] = name
        barrier.wait(60)
        statuses.append(form.submit(expect_errors=True).status_int)

    threads = [
        threading.Thread(target=send, args=(form, f"River Hospital {number}"))
        for number, form in enumerate(forms)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(statuses) == [303, 422, 422, 422]
    assert len(versions(portal)) == 1


# Versions.


def test_every_version_says_who_changed_what_and_can_be_taken_back(portal, admin) -> None:
    change(admin, "names", en="First Name")
    change(admin, "names", en="Second Name")
    change(admin, "sessions", idle_minutes="10", absolute_minutes="600")
    upload(admin, png(120, 40))
    page = page_text(admin.get("/settings"))
    assert "Person admin" in page
    assert "Signed out at the latest after, Signed out after this time without use" in page
    second = page_text(admin.get("/settings/versions/2"))
    assert "First Name" in second
    assert "Second Name" in second
    assert "Saved by Person admin" in second
    fourth = admin.get("/settings/versions/4")
    assert "A picture, 120 by 40 pixels" in page_text(fourth)
    assert "In force now" in page_text(fourth)
    assert "Use these settings again" not in fourth.text

    form = next(f for f in admin.get("/settings/versions/1").forms.values() if "seen" in f.fields)
    assert form.submit().status_int == 303
    assert changes(portal) == {"names": {"en": "First Name"}}
    assert versions(portal)[-1].logo is None
    assert "First Name" in header_of(admin.get("/help"))
    assert len(versions(portal)) == 5, "nothing is lost: it is a version of its own"
    last = events_of(portal, "settings-changed")[-1]
    assert dict(last.details) == {
        "version": 5,
        "names": "en",
        "sessions": "absolute_minutes idle_minutes",
        "logo": "logo",
        "taken-back": 1,
    }


def test_everything_taken_back_is_the_file(portal, admin) -> None:
    change(admin, "names", en="First Name")
    page = admin.get("/settings/versions/0")
    assert "without any change made here" in page_text(page)
    form = next(f for f in page.forms.values() if "seen" in f.fields)
    assert form.submit().status_int == 303
    assert changes(portal) == {}
    assert "Riverside Hospital" in header_of(admin.get("/help"))
    # Twice is once.
    answer = admin.post("/settings/versions/0", {"seen": "2"}, status=303)
    assert answer.location.endswith("/settings/versions/0")
    assert "Nothing is different" in admin.get("/settings/versions/0").text
    assert len(versions(portal)) == 2


def test_nothing_is_taken_back_that_somebody_else_changed_meanwhile(portal, admin) -> None:
    change(admin, "names", en="First Name")
    change(admin, "names", en="Second Name")
    form = next(f for f in admin.get("/settings/versions/1").forms.values() if "seen" in f.fields)
    change(portal.signed_in("admin"), "names", en="Third Name")
    assert form.submit().status_int == 303
    assert changes(portal) == {"names": {"en": "Third Name"}}
    assert "Somebody else changed the settings meanwhile" in admin.get("/settings").text
    assert admin.post("/settings/versions/7", {"seen": "3"}, status="*").status_int == 404


def test_versions_are_paged(portal, admin) -> None:
    by = portal.person("admin")
    with portal.session("hospital") as session, session.begin():
        session.execute(
            insert(SettingsVersion),
            [
                {
                    "version": number,
                    "changes": json.dumps({"names": {"en": f"Name {number}"}}),
                    "logo": None,
                    "by": by,
                    "at": utcnow(),
                }
                for number in range(1, 46)
            ],
        )
    page, seen = admin.get("/settings"), list[str]()
    while True:
        seen += re.findall(r'/settings/versions/(\d+)"', page.text)
        older = re.search(r'href="(/settings\?before=\d+)#versions"', page.text)
        if older is None:
            break
        page = admin.get(older[1])
    assert seen == [str(number) for number in range(45, -1, -1)]


# Proof of who it is, and the log.


def make_stale(portal: Any, minutes: int) -> None:
    with portal.session("hospital") as session, session.begin():
        session.execute(
            update(LoginSession)
            .where(LoginSession.person_id == portal.person("admin"))
            .values(confirmed_at=utcnow() - timedelta(minutes=minutes))
        )


def test_who_it_is_is_asked_again_before_anything_is_changed(portal, admin) -> None:
    page = admin.get("/settings/edit?part=names")
    change(admin, "colours", accent="#123456")
    version = next(
        f for f in admin.get("/settings/versions/0").forms.values() if "seen" in f.fields
    )
    make_stale(portal, 31)
    for answer, back in (
        (admin.get("/settings/edit?part=names"), "part%3Dnames"),
        (page.forms["form"].submit(), "part%3Dnames"),
        (version.submit(), "versions%2F0"),
    ):
        assert answer.status_int == 303
        assert "/account/confirm" in answer.location
        assert back in answer.location
    assert len(versions(portal)) == 1
    # Looking is not changing.
    admin.get("/settings", status=200)
    admin.get("/settings/versions/1", status=200)


def test_every_look_and_every_change_is_in_the_log_without_values(portal, admin) -> None:
    before = len(events_of(portal, "settings-viewed")), len(events_of(portal, "settings-changed"))
    change(admin, "names", en="Marker Hospital")
    admin.get("/settings")
    admin.get("/settings/versions/1")
    change(admin, "passwords", minimum_length="9")
    views = events_of(portal, "settings-viewed")[before[0] :]
    assert [dict(event.details) for event in views] == [
        {"part": "names"},
        {},
        {"version": 1},
        {"part": "passwords"},
    ]
    done, refused = events_of(portal, "settings-changed")[before[1] :]
    assert dict(done.details) == {"version": 1, "names": "en"}
    assert (refused.outcome, refused.reasons) == ("denied", ("looser-than-file",))
    assert dict(refused.details) == {"key": "passwords.minimum_length"}
    for event in (*views, done, refused):
        assert event.actor == portal.person("admin")
        assert b"Marker" not in event.to_bytes()


# What the file says, and what is broken.


def with_file(portal: Any, clock: Hands, tenant: str = "hospital", **fields: Any) -> None:
    """Let the portal run with another file, as after a restart."""
    tenants = dict(portal.settings.tenants)
    tenants[tenant] = replace(tenants[tenant], **fields)
    portal.app.registry["tenants"].dispose()
    portal.app.registry["tenants"] = TenantRegistry(tenants, clock)


def test_only_what_the_file_leaves_to_admins_is_edited(portal, admin, clock) -> None:
    change(admin, "names", en="River Hospital")
    change(admin, "contact", phone="+351 222 222 222")
    with_file(portal, clock, editable=frozenset({"contact"}))
    page = admin.get("/settings")
    assert "no longer leaves this to you" in page_text(page)
    assert page.text.count(">Change<") == 1
    assert "Riverside Hospital" in header_of(page)
    assert "+351 222 222 222" in page_text(page)
    for part in PARTS:
        expected = 200 if part == "contact" else 404
        assert admin.get(f"/settings/edit?part={part}", status="*").status_int == expected
        if part != "contact":
            fields = {"version": "2", "en": "X", "pt": "X"}
            answer = admin.post(f"/settings/edit?part={part}", fields, status="*")
            assert answer.status_int == 404
    assert "would not count today" in page_text(admin.get("/settings/versions/1"))


def test_a_file_that_asks_for_a_second_proof_leaves_no_choice(portal, admin, clock) -> None:
    policy = replace(portal.settings.tenant("hospital").second_factor, remote_staff=True)
    with_file(portal, clock, second_factor=policy)
    assert admin.get("/settings/edit?part=second_factor", status="*").status_int == 404
    fields = {"version": "0"}
    answer = admin.post("/settings/edit?part=second_factor", fields, status="*")
    assert answer.status_int == 404
    assert admin.get("/settings").text.count(">Change<") == len(PARTS) - 1


@pytest.mark.parametrize("broken", ["", "{", '{"names": 3}', "[" * 3000])
def test_settings_broken_in_the_database_are_the_files_and_said_so(portal, admin, broken) -> None:
    change(admin, "names", en="River Hospital")
    with portal.session("hospital") as session, session.begin():
        session.execute(
            insert(SettingsVersion).values(
                version=2, changes=broken, logo=png(), by=portal.person("admin"), at=utcnow()
            )
        )
    portal.app.registry["tenants"].effective("hospital").saved(2)
    page = admin.get("/settings")
    assert "cannot be read from the database" in page_text(page)
    assert "Riverside Hospital" in header_of(page)
    assert "cannot be read" in page_text(admin.get("/settings/versions/2"))
    # Any change mends it, also one back to what an older version said.
    form = next(f for f in admin.get("/settings/versions/1").forms.values() if "seen" in f.fields)
    assert form.submit().status_int == 303
    assert changes(portal) == {"names": {"en": "River Hospital"}}
    assert "cannot be read" not in admin.get("/settings").text


def test_a_broken_version_is_mended_by_the_file_as_well(portal, admin) -> None:
    with portal.session("hospital") as session, session.begin():
        session.execute(
            insert(SettingsVersion).values(
                version=1, changes="{", logo=None, by=portal.person("admin"), at=utcnow()
            )
        )
    form = next(f for f in admin.get("/settings/versions/0").forms.values() if "seen" in f.fields)
    assert form.submit().status_int == 303
    assert changes(portal) == {}


def test_a_name_of_the_file_is_shown_as_it_is_whatever_it_holds(portal, admin, clock) -> None:
    with_file(portal, clock, names={"en": "<b>A & B</b>", "pt": "<b>A & B</b>"})
    page = admin.get("/settings")
    assert "<b>A" not in page.text
    assert "<b>A & B</b>" in header_of(page)


# Without a database.


@pytest.fixture
def gone(portal, clock) -> Callable[[], None]:
    """Give a function that takes the hospital's database away."""

    def take() -> None:
        url = "sqlite:////dev/null/portal.sqlite"
        with_file(portal, clock, database_url=url)

    return take


def test_pages_that_need_no_database_do_without_it(portal, gone) -> None:
    stranger = portal.browser()
    page = stranger.get("/help")
    gone()
    assert "--brand" in stranger.get(theme(page)).text
    static = re.search(r'href="(/static/[^"]+)"', page.text)
    assert static
    stranger.get(static[1], status=200)
    failed = stranger.get("/healthz", status="*")
    assert failed.status_int >= 500
    assert "Riverside Hospital" in failed.text, "the error page looks like the institution's"


def test_an_unknown_host_is_refused_without_one(portal, gone) -> None:
    gone()
    stranger = portal.browser()
    stranger.app.extra_environ["HTTP_HOST"] = "evil.example"
    assert stranger.get("/", status="*").status_int == 421
