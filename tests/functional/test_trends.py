"""Trends: every repeated measurement with its picture and table, and whose they are."""

from datetime import date

import pytest
from functional_helpers import page_text
from timeline_helpers import events_of, file, value

from medportal.audit.events import MAX_ITEMS, Action
from medportal.core.categories import Category
from medportal.records import timeline
from medportal.records.content import RecordStatus
from medportal.records.views import trends as view
from medportal.vault.models import Document

GLUCOSE, PRESSURE, WEIGHT, POTASSIUM = "2345-7", "85354-9", "29463-7", "2823-3"


@pytest.fixture(scope="module")
def filed(portal):
    """File measurements of three years, some of them in records of a sensitive category."""
    return [
        file(portal, date(2024, 1, 5), value("glucose", "90"), value("blood-pressure", "120/70")),
        file(portal, date(2025, 2, 6), value("glucose", "210"), value("blood-pressure", "190/80")),
        file(
            portal,
            date(2026, 3, 7),
            value("glucose", "45"),
            origin="laboratory",
            author="responsible",
            category=Category.LABORATORY,
        ),
        file(portal, date(2026, 3, 8), value("potassium", "4.1")),
        file(portal, date(2026, 3, 8), status=RecordStatus.ENTERED_IN_ERROR),
        *(
            file(
                portal,
                date(2026, 4, day),
                value("weight", f"{60 + day}.0"),
                category=Category.SUBSTANCE_USE,
            )
            for day in (1, 2)
        ),
    ]


def open_trends(browser, portal, key="", **kw):
    path = f"/patients/{portal.person('patient', browser.tenant)}/trends"
    return browser.get(f"{path}/{key}" if key else path, **kw)


def keys_on(page):
    return {link["href"].rsplit("/", 1)[1] for link in page.html.select("ul.trends a")}


def test_every_repeated_measurement_is_listed_with_its_newest_value(portal, filed):
    page = open_trends(portal.signed_in("doctor"), portal)
    assert keys_on(page) == {GLUCOSE, PRESSURE, WEIGHT}
    text = page_text(page)
    assert "190 / 80 mmHg" in text and "45 mg/dL" in text and "3 values" in text
    assert len(page.html.select("svg.trend--small[aria-hidden=true]")) == 3


def test_what_is_outside_its_range_now_stands_first(portal, filed):
    page = open_trends(portal.signed_in("doctor"), portal)
    titles = [one.get_text() for one in page.html.select("ul.trends h2")]
    assert titles.index("Weight") == len(titles) - 1


def test_a_trend_is_a_picture_and_the_same_values_as_a_table(portal, filed):
    page = open_trends(portal.signed_in("doctor"), portal, GLUCOSE)
    picture = page.html.select_one("div.chart__frame svg")
    assert picture["role"] == "img"
    named = picture["aria-labelledby"].split()
    assert [picture.find(id=each).name for each in named] == ["title", "desc"]
    assert "3 values." in picture.find("desc").text and "2 are outside" in picture.find("desc").text
    rows = [
        [cell.get_text(" ", strip=True) for cell in row.select("td")]
        for row in page.html.select("tbody tr")
    ]
    assert [row[0] for row in rows] == ["7 March 2026", "6 February 2025", "5 January 2024"]
    assert [row[1] for row in rows] == ["45 mg/dL", "210 mg/dL", "90 mg/dL"]
    assert "ow" in rows[0][3] and "igh" in rows[1][3] and rows[2][3].endswith("Normal")
    assert "Riverside Hospital" not in rows[0][4]
    links = [link["href"].rsplit("/", 1)[1] for link in page.html.select("tbody a")]
    assert links == [filed[2], filed[1], filed[0]]


def test_a_pressure_has_two_lines_and_one_row_for_both(portal, filed):
    page = open_trends(portal.signed_in("doctor"), portal, PRESSURE)
    lines = page.html.select("div.chart__frame path.trend__line")
    assert [line.get("stroke-dasharray") for line in lines] == [None, "7 5"]
    assert "190 / 80 mmHg" in page_text(page)
    assert len(page.html.select("tbody tr")) == 2


def test_nothing_in_the_picture_breaks_the_policy(portal, filed):
    page = open_trends(portal.signed_in("doctor"), portal, GLUCOSE)
    assert "unsafe-inline" not in page.headers["Content-Security-Policy"]
    assert not page.html.select("svg [style], svg style, svg script, svg foreignobject, svg image")
    assert not page.html.select("main [onclick], main [onload]")


def test_a_trend_speaks_portuguese(portal, filed):
    browser = portal.signed_in("doctor")
    browser.app.set_cookie("__Host-lang", "pt")
    page = open_trends(browser, portal, PRESSURE)
    assert page.html.find("h1").text == "Tensão arterial"
    assert "fevereiro" in page_text(page)


def test_what_is_sensitive_makes_no_trend_for_a_nurse(portal, filed):
    nurse = portal.signed_in("nurse")
    page = open_trends(nurse, portal)
    assert keys_on(page) == {GLUCOSE, PRESSURE} and "62.0" not in page.text
    hidden = open_trends(nurse, portal, WEIGHT, status=404)
    missing = open_trends(nurse, portal, "718-7", status=404)
    assert page_text(hidden) == page_text(missing)


def test_a_value_that_was_measured_once_is_no_trend(portal, filed):
    open_trends(portal.signed_in("doctor"), portal, POTASSIUM, status=404)


@pytest.mark.parametrize("key", ["2345-8", "glucose", "<b>", "%00", "2345-7%20", "9" * 200])
def test_keys_that_name_nothing(portal, filed, key):
    browser = portal.signed_in("doctor")
    answer = open_trends(browser, portal, key, expect_errors=True)
    assert answer.status_int in (400, 404)


@pytest.mark.parametrize("role", ["porter", "volunteer", "ward_clerk", "admin", "auditor"])
def test_who_may_see_no_records_sees_no_trends(portal, filed, role):
    browser = portal.signed_in(role)
    open_trends(browser, portal, status=404)
    open_trends(browser, portal, GLUCOSE, status=404)


def test_patients_see_their_own_trends_at_their_own_institution(portal, filed):
    assert GLUCOSE in keys_on(open_trends(portal.signed_in("patient"), portal))
    elsewhere = portal.signed_in("patient", "laboratory")
    page = open_trends(elsewhere, portal)
    assert "Nothing was measured more than once yet." in page_text(page)
    elsewhere.get(f"/patients/{portal.person('patient')}/trends", status=404)


def test_looking_at_trends_names_every_record_and_not_what_was_measured(portal, filed):
    browser = portal.signed_in("doctor")
    before = len(events_of(portal, Action.RECORDS_LISTED))
    open_trends(browser, portal, GLUCOSE)
    noted = events_of(portal, Action.RECORDS_LISTED)
    assert len(noted) == before + 1
    assert noted[-1].details["part"] == "trends" and noted[-1].details["count"] == len(filed)
    assert noted[-1].reasons and GLUCOSE not in map(str, noted[-1].details.values())
    assert set(named_in(noted[-1:])) == set(filed)


def named_in(events):
    """Return the ids of the records that events about lists name."""
    details = [item for event in events for item in event.details.items()]
    return [each for name, ids in details if name.startswith("records-") for each in ids.split()]


def test_of_many_records_each_is_named_a_few_in_an_event(portal, filed, monkeypatch):
    monkeypatch.setattr(view, "BATCH", 3)
    browser = portal.signed_in("doctor")
    before = len(events_of(portal, Action.RECORDS_LISTED))
    open_trends(browser, portal)
    noted = events_of(portal, Action.RECORDS_LISTED)[before:]
    # All of one moment: which of them comes first in the log says nothing.
    assert sorted(event.details["count"] for event in noted) == [1, 3, 3]
    assert sorted(named_in(noted)) == sorted(filed)
    assert {event.details["part"] for event in noted} == {"trends"}


def test_that_there_was_nothing_to_see_is_noted_too(portal, filed):
    browser = portal.signed_in("patient", "laboratory")
    before = len(events_of(portal, Action.RECORDS_LISTED, "laboratory"))
    open_trends(browser, portal)
    noted = events_of(portal, Action.RECORDS_LISTED, "laboratory")[before:]
    assert [(event.details["count"], event.details["part"]) for event in noted] == [(0, "trends")]


def test_trends_open_a_bounded_number_of_records_and_say_so(portal, filed, monkeypatch):
    monkeypatch.setattr(view, "MOST", 4)
    monkeypatch.setattr(view, "BATCH", 2)
    page = open_trends(portal.signed_in("doctor"), portal)
    assert "the 4 newest records" in page_text(page)
    assert keys_on(page) == {WEIGHT}


def test_damage_is_told_and_left_out(portal, filed):
    victim = file(portal, date(2026, 5, 1), value("glucose", "444"))
    browser = portal.signed_in("doctor")
    # With its unit: the ids in addresses may hold the same digits.
    assert "444 mg/dL" in page_text(open_trends(browser, portal, GLUCOSE))
    with portal.session("hospital") as session, session.begin():
        from medportal.records.models import RecordVersion

        version = session.get(RecordVersion, (victim, 1))
        session.get(Document, version.document_id).sealed = b"something else"
    page = open_trends(browser, portal, GLUCOSE)
    assert "444 mg/dL" not in page_text(page)
    assert "1 record cannot be trusted and is left out here" in page_text(page)


def test_a_full_batch_fits_into_one_event(portal):
    """An event holds so many details and no more: the largest batch has to be within that."""
    groups = -(-view.BATCH // timeline.IDS_IN_A_DETAIL)
    assert groups + len(("count", "part")) <= MAX_ITEMS
