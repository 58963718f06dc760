"""Two people change one record at once: the second is told, and loses nothing typed."""

import threading

import pytest
from functional_helpers import page_text
from version_helpers import amend, entered, events_about, record_of, retract, send, versions_of


def test_the_second_is_told_who_changed_what_and_keeps_what_was_typed(portal):
    path = entered(portal, height="171", weight="70")
    doctor, nurse = portal.signed_in("doctor"), portal.signed_in("nurse")
    late = nurse.get(f"{path}/amend")
    assert amend(doctor, path, height="161", change_reason="Measured again.").status_int == 303
    answer = send(late, weight="72,5", notes="Typed for long", change_reason="Scales.")
    assert answer.status_int == 422
    words = page_text(answer)
    assert "Somebody changed this record while you had the page open." in words
    assert "Changed by Person doctor" in words and "Measured again." in words
    shown = answer.html.find(id="now").get_text(" ", strip=True)
    assert "161" in shown and "171" not in shown
    form = answer.forms["form"]
    assert (form["weight"].value, form["notes"].value) == ("72,5", "Typed for long")
    assert (form["change_reason"].value, form["status"].value) == ("Scales.", "corrected")
    assert form["base"].value == "2"
    assert len(versions_of(portal, path)) == 2
    # Read, and saved on top of it: the form still says the height of before, as it was typed.
    done = form.submit()
    assert done.status_int == 303
    page = page_text(done.follow())
    assert "72.5" in page and "171" in page and "Typed for long" in page
    rows = versions_of(portal, path)
    assert [row.version for row in rows] == [1, 2, 3]
    assert rows[2].replaces == rows[1].content_digest
    history = page_text(nurse.get(f"{path}/versions"))
    assert "161" in history and "72.5" in history


def test_looking_at_what_the_other_wrote_is_in_the_log(portal):
    path = entered(portal, height="171")
    late = portal.signed_in("nurse").get(f"{path}/amend")
    amend(portal.signed_in("doctor"), path, height="161")
    before = len([e for e in events_about(portal, path) if e.action == "record-read"])
    send(late, weight="72")
    reads = [e for e in events_about(portal, path) if e.action == "record-read"]
    assert len(reads) > before and reads[-1].actor == portal.person("nurse")


def test_the_same_form_sent_twice_is_one_version(portal):
    path = entered(portal, height="171")
    page = portal.signed_in("doctor").get(f"{path}/amend")
    answers = [send(page, height="161", notes="Two\r\nlines") for _ in range(3)]
    assert [answer.status_int for answer in answers] == [303, 303, 303]
    assert len({answer.location for answer in answers}) == 1
    assert len(versions_of(portal, path)) == 2


def test_the_same_values_from_somebody_else_are_told(portal):
    path = entered(portal, height="171")
    late = portal.signed_in("nurse").get(f"{path}/amend")
    assert amend(portal.signed_in("doctor"), path, height="161").status_int == 303
    answer = send(late, height="161")
    assert answer.status_int == 422 and "while you had the page open" in answer.text
    again = answer.forms["form"].submit(expect_errors=True)
    assert again.status_int == 422 and "says what the record says already" in again.text
    assert len(versions_of(portal, path)) == 2


def test_one_who_takes_it_back_late_sees_first_what_it_says(portal):
    path = entered(portal, height="171")
    form = portal.signed_in("nurse").get(f"{path}/retract").forms["form"]
    amend(portal.signed_in("doctor"), path, height="161")
    form["change_reason"] = "Wrong day."
    answer = form.submit(expect_errors=True)
    assert answer.status_int == 422
    assert "161" in answer.html.find(id="now").get_text()
    assert answer.forms["form"]["change_reason"].value == "Wrong day."
    assert answer.forms["form"].submit().status_int == 303
    assert record_of(portal, path).status == "entered-in-error"
    assert len(versions_of(portal, path)) == 3


def test_one_who_corrects_what_was_taken_back_is_told(portal):
    path = entered(portal, height="171")
    late = portal.signed_in("nurse").get(f"{path}/amend")
    retract(portal.signed_in("doctor"), path)
    answer = send(late, height="161")
    assert answer.status_int == 303 and answer.location.endswith(path)
    assert len(versions_of(portal, path)) == 2


def test_a_page_whose_record_became_sensitive_meanwhile_shows_nothing_of_it(portal):
    marker = "Zyxomorph fever of the left knee"
    path = entered(portal, notes="Ordinary words")
    late = portal.signed_in("nurse").get(f"{path}/amend")
    amend(portal.signed_in("doctor"), path, notes=marker, category="mental-health")
    answer = send(late, notes="Other words")
    assert answer.status_int == 404 and marker not in answer.text
    assert len(versions_of(portal, path)) == 2


@pytest.mark.parametrize("base", ["2", "3"])
def test_a_version_that_does_not_exist_yet_is_no_beginning(portal, base):
    """A forged form that claims to know a later version than there is."""
    path = entered(portal, height="171")
    page = portal.signed_in("doctor").get(f"{path}/amend")
    page.forms["form"]["base"].force_value(base)
    answer = send(page, height="161")
    assert answer.status_int == 422 and "while you had the page open" in answer.text
    assert len(versions_of(portal, path)) == 1


def test_many_at_the_same_moment_make_one_version_each_or_none(portal):
    """Five people send at once: one is saved, and the others are told."""
    path = entered(portal, height="171")
    roles = ("doctor", "nurse", "doctor", "nurse", "doctor")
    pages = [portal.signed_in(role).get(f"{path}/amend") for role in roles]
    answers = []

    def save(page, height):
        answers.append(send(page, height=height).status_int)

    threads = [
        threading.Thread(target=save, args=(page, str(150 + number)))
        for number, page in enumerate(pages)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [303, 422, 422, 422, 422]
    assert [row.version for row in versions_of(portal, path)] == [1, 2]
    assert record_of(portal, path).current_version == 2
