"""The timeline: what a card tells and to whom, searching, narrowing, and damage on the way."""

from datetime import date

import pytest
from functional_helpers import page_text
from sqlalchemy import event, update
from timeline_helpers import cards, events_of, file, value

from medportal.audit.events import Action, Outcome
from medportal.core.categories import Category
from medportal.records import opening, timeline
from medportal.records.content import RecordStatus
from medportal.records.models import Record, RecordVersion
from medportal.vault.models import Document

SECRET = "Quixotic melancholy"


@pytest.fixture(scope="module")
def filed(portal):
    """File one record of each kind, and enough others for two pages."""
    made = {
        "pressure": file(
            portal,
            date(2026, 3, 1),
            value("blood-pressure", "190/95"),
            value("body-temperature", "36.6"),
            value("heart-rate", "120"),
            value("glucose", "300"),
            value("potassium", "2.1"),
            diagnosis="Hipertensão arterial\nSecond line that no card shows",
            notes="Needs rest",
        ),
        "usual": file(
            portal, date(2026, 3, 2), value("body-temperature", "36.6"), notes="Feels well"
        ),
        "foreign": file(
            portal,
            date(2026, 3, 3),
            value("glucose", "90"),
            category=Category.LABORATORY,
            origin="laboratory",
            author="responsible",
        ),
        "secret": file(portal, date(2026, 3, 4), category=Category.MENTAL_HEALTH, diagnosis=SECRET),
        "back": file(portal, date(2026, 3, 5), status=RecordStatus.ENTERED_IN_ERROR),
    }
    for day in range(1, 29):
        made[f"old-{day}"] = file(portal, date(2024, 1, day), notes=f"Visit of day {day:02}")
    return made


def find(browser, portal, **fields):
    path = f"/patients/{portal.person('patient', browser.tenant)}/records/find"
    return browser.post(path, fields, expect_errors=True)


def test_a_card_tells_what_stands_in_a_record(portal, filed):
    browser = portal.signed_in("doctor")
    found = cards(browser.get(f"/patients/{portal.person('patient')}"))
    card = found[filed["pressure"]]
    assert "Hipertensão arterial" in card and "Second line" not in card
    assert "5 values" in card and "outside the usual range" in card
    assert "Potassium : 2.1" in card.replace("Potassium:", "Potassium :")
    assert "Critically" in card and "and 2 more" in card
    assert "Person doctor" in card and "Riverside Hospital" in card
    assert "none outside the usual range" in found[filed["usual"]]
    assert "Feels well" in found[filed["usual"]]
    assert "Person responsible" in found[filed["foreign"]]


def test_what_was_taken_back_says_so_and_nothing_else(portal, filed):
    browser = portal.signed_in("doctor")
    card = cards(browser.get(f"/patients/{portal.person('patient')}"))[filed["back"]]
    assert "Taken back" in card and "value" not in card


def test_cards_speak_portuguese(portal, filed):
    browser = portal.signed_in("doctor")
    browser.app.set_cookie("__Host-lang", "pt")
    card = cards(browser.get(f"/patients/{portal.person('patient')}"))[filed["pressure"]]
    assert "Temperatura" in card or "Potássio" in card
    assert "2,1" in card


def test_a_nurse_finds_nothing_of_what_is_closed_to_her(portal, filed):
    """Neither in cards nor by words, categories, counts or the way the search goes on."""
    nurse, patient = portal.signed_in("nurse"), portal.person("patient")
    assert filed["secret"] not in cards(nurse.get(f"/patients/{patient}"))
    found = find(nurse, portal, words="quixotic")
    assert SECRET not in found.text and "Nothing was found." in found.text
    narrowed = nurse.get(f"/patients/{patient}?category=mental-health")
    assert "No record fits." in narrowed.text and filed["secret"] not in narrowed.text
    looked = [e for e in events_of(portal, Action.RECORDS_LISTED) if "part" in e.details]
    assert all(filed["secret"] not in " ".join(map(str, e.details.values())) for e in looked)
    everybody = portal.signed_in("doctor")
    assert list(cards(find(everybody, portal, words="quixotic"))) == [filed["secret"]]
    opened_by_nurse = looked[-1].details["opened"]
    opened_by_doctor = events_of(portal, Action.RECORDS_LISTED)[-1].details["opened"]
    assert opened_by_doctor == opened_by_nurse + 1


@pytest.mark.parametrize("role", ["porter", "volunteer", "ward_clerk", "admin", "auditor"])
def test_who_may_see_no_records_may_search_none(portal, filed, role):
    browser = portal.signed_in(role)
    answer = find(browser, portal, words="rest")
    assert answer.status_int == 404 and "Needs rest" not in answer.text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("hipertensao", ["pressure"]),
        ("  ARTERIAL   rest ", ["pressure"]),
        ("second line", ["pressure"]),
        ("potassium", ["pressure"]),
        ("arterial quixotic", []),
        ("%", []),
        ("<script>", []),
    ],
)
def test_words_are_looked_for_in_texts_and_names(portal, filed, words, expected):
    browser = portal.signed_in("doctor")
    page = find(browser, portal, words=words)
    assert list(cards(page)) == [filed[name] for name in expected]
    assert "words=" not in page.request.url and "<script>" not in page.text


def test_words_are_in_no_event_and_every_record_shown_is_named(portal, filed):
    browser = portal.signed_in("doctor")
    find(browser, portal, words="hipertensao")
    last = events_of(portal, Action.RECORDS_LISTED)[-1]
    assert last.details["count"] == 1 and last.details["records-1"] == filed["pressure"]
    assert last.details["part"] == "search"
    assert "hipertens" not in last.to_bytes().decode("latin-1").casefold()


def test_a_page_of_cards_is_one_event_that_names_them(portal, filed):
    browser = portal.signed_in("doctor")
    before = len(events_of(portal, Action.RECORDS_LISTED))
    page = browser.get(f"/patients/{portal.person('patient')}")
    listed = events_of(portal, Action.RECORDS_LISTED)
    assert len(listed) == before + 1
    named = " ".join(str(v) for k, v in listed[-1].details.items() if k.startswith("records-"))
    assert named.split() == list(cards(page))


def test_without_words_the_form_narrows_the_page(portal, filed):
    browser, patient = portal.signed_in("doctor"), portal.person("patient")
    answer = find(browser, portal, origin="laboratory", words=" ")
    assert answer.status_int == 303
    page = answer.follow()
    assert page.request.path_qs == f"/patients/{patient}?origin=laboratory"
    assert list(cards(page)) == [filed["foreign"]]
    assert page.html.find("select", id="origin").find(selected=True)["value"] == "laboratory"
    page = browser.get(f"/patients/{patient}?from=2026-03-01&until=2026-03-02")
    assert list(cards(page)) == [filed["usual"], filed["pressure"]]
    assert "Show all records again" in page_text(page)


def test_older_pages_stay_narrowed(portal, filed):
    browser, patient = portal.signed_in("doctor"), portal.person("patient")
    page = browser.get(f"/patients/{patient}?until=2024-12-31&category=clinical-note")
    first = list(cards(page))
    second = list(cards(page.click("Older records")))
    assert first + second == [filed[f"old-{day}"] for day in range(28, 0, -1)]
    assert len(first) == 20


def test_a_search_goes_on_where_it_stopped(portal, filed, monkeypatch):
    """A search opens a bounded number of records and says how to go on."""
    monkeypatch.setattr(timeline, "LOOKED_THROUGH", 10)
    monkeypatch.setattr(timeline, "BATCH", 5)
    browser = portal.signed_in("doctor")
    page, found, pages = find(browser, portal, words="visit", until="2024-12-31"), [], 0
    while True:
        found += cards(page)
        pages += 1
        assert pages < 10
        more = [f for f in page.forms.values() if "before" in f.fields]
        if not more:
            break
        page = more[0].submit()
    assert found == [filed[f"old-{day}"] for day in range(28, 0, -1)] and pages == 3


def test_a_full_page_of_hits_ends_where_it_is_full(portal, filed):
    browser = portal.signed_in("doctor")
    page = find(browser, portal, words="visit")
    assert list(cards(page)) == [filed[f"old-{day}"] for day in range(28, 8, -1)]
    more = next(f for f in page.forms.values() if "before" in f.fields)
    assert list(cards(more.submit())) == [filed[f"old-{day}"] for day in range(8, 0, -1)]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"words": "x" * 101}, 422),
        ({"words": "x", "from": "yesterday"}, 422),
        ({"words": "x", "from": "2026-02-01", "until": "2026-01-01"}, 422),
        ({"words": "x", "from": "0001-01-01"}, 422),
        ({"words": "x", "category": "secrets"}, 404),
        ({"words": "x", "origin": "elsewhere"}, 404),
        ({"words": "x", "origin": "../laboratory"}, 404),
        ({"words": "x", "before": "now"}, 404),
        ({"words": "x", "before": "2026-01-01.' or 1=1"}, 404),
        ({"words": "\u202exy"}, 200),
        ({"words": "x\x00y"}, 400),
    ],
)
def test_clumsy_and_hostile_searches(portal, filed, fields, status):
    browser = portal.signed_in("doctor")
    answer = find(browser, portal, **fields)
    assert answer.status_int == status
    if status == 422:
        assert not cards(answer)


@pytest.mark.parametrize("query", ["category=secrets", "origin=elsewhere", "before=now"])
def test_addresses_that_nobody_offered(portal, filed, query):
    browser = portal.signed_in("doctor")
    browser.get(f"/patients/{portal.person('patient')}?{query}", status=404)


def test_a_search_without_its_token_does_nothing(portal, filed):
    browser = portal.signed_in("doctor")
    before = len(events_of(portal, Action.RECORDS_LISTED))
    path = f"/patients/{portal.person('patient')}/records/find"
    answer = browser.app.post(path, {"words": "rest"}, expect_errors=True)
    assert answer.status_int >= 400 and "Needs rest" not in answer.text
    assert len(events_of(portal, Action.RECORDS_LISTED)) == before


def test_going_back_to_a_search_leads_to_the_timeline(portal, filed):
    browser, patient = portal.signed_in("doctor"), portal.person("patient")
    answer = browser.get(f"/patients/{patient}/records/find")
    assert answer.status_int == 303 and answer.location.endswith(f"/patients/{patient}")


def test_a_long_timeline_is_opened_with_one_query(portal, filed):
    browser = portal.signed_in("doctor")
    engine = portal.app.registry["tenants"].database("hospital").engine
    statements = []
    listener = lambda *args: statements.append(args[2])  # noqa: E731
    event.listen(engine, "before_cursor_execute", listener)
    try:
        page = browser.get(f"/patients/{portal.person('patient')}")
    finally:
        event.remove(engine, "before_cursor_execute", listener)
    assert len(cards(page)) == 20
    assert sum("FROM document" in statement for statement in statements) == 1
    assert sum("FROM patient_key" in statement for statement in statements) <= 2


def damage(portal, record_id, what):
    """Change what is stored of a record, as somebody with the database in hand could."""
    with portal.session("hospital") as session, session.begin():
        version = session.get(RecordVersion, (record_id, 1))
        document = session.get(Document, version.document_id)
        if what == "bytes":
            changed = bytes([document.sealed[-1] ^ 1])
            document.sealed = document.sealed[:-1] + changed
        elif what == "gone":
            session.delete(document)
        elif what == "index":
            record = session.get(Record, record_id)
            record.effective_on = version.effective_on = date(2026, 3, 9)
        elif what == "category":
            session.execute(
                update(Record).where(Record.id == record_id).values(category="laboratory")
            )
            version.category = "laboratory"


@pytest.mark.parametrize("what", ["bytes", "gone", "index", "category"])
def test_damage_is_told_on_the_card_and_spoils_no_other(portal, filed, what):
    """Also after the record was proved before: what was remembered is of the bytes."""
    victim = file(portal, date(2026, 3, 8), notes=f"Before the damage {what}")
    browser, path = portal.signed_in("doctor"), f"/patients/{portal.person('patient')}"
    assert f"Before the damage {what}" in cards(browser.get(path))[victim]
    damage(portal, victim, what)
    found = cards(browser.get(path))
    assert "Cannot be trusted" in found[victim] and "Before the damage" not in found[victim]
    assert "Feels well" in found[filed["usual"]]
    failed = [e for e in events_of(portal, Action.RECORD_READ) if e.outcome is Outcome.FAILED]
    assert victim in {e.object for e in failed} and all(e.details["damaged"] for e in failed)
    sought = find(browser, portal, words="before the damage")
    assert victim not in cards(sought) and "cannot be trusted" in sought.text


def test_a_record_that_was_swapped_for_another_does_not_show(portal, filed):
    """The documents of two records of one patient, exchanged with their digests in the index."""
    one = file(portal, date(2026, 3, 10), notes="One of two")
    two = file(portal, date(2026, 3, 10), notes="Two of two")
    browser, path = portal.signed_in("doctor"), f"/patients/{portal.person('patient')}"
    browser.get(path)
    with portal.session("hospital") as session, session.begin():
        first, second = (session.get(RecordVersion, (each, 1)) for each in (one, two))
        pins = second.document_digest, second.content_digest
        document = session.get(Document, first.document_id)
        document.sealed = session.get(Document, second.document_id).sealed
        first.document_digest, first.content_digest = pins
    found = cards(browser.get(path))
    assert "Cannot be trusted" in found[one] and "Two of two" in found[two]


def test_proofs_are_remembered_within_bounds():
    proven = opening._Proven(2)
    for proof in (b"a", b"b"):
        proven.add(proof)
    assert proven.has(b"a")
    proven.add(b"c")
    assert proven.has(b"a") and proven.has(b"c") and not proven.has(b"b")


def test_patients_see_their_own_and_the_other_institution_shows_nothing_of_it(portal, filed):
    own = portal.signed_in("patient")
    page = own.get(f"/patients/{portal.person('patient')}")
    assert page_text(page).startswith("My record") and filed["pressure"] in cards(page)
    elsewhere = portal.signed_in("patient", "laboratory")
    other = elsewhere.get(f"/patients/{portal.person('patient', 'laboratory')}")
    assert not set(cards(other)) & set(filed.values())
    elsewhere.get(f"/patients/{portal.person('patient')}", status=404)
